"""The order in which a run's steps are scored, and the steps of one shard.

Coarse to fine means: the two ends, then always the step nearest to the middle of the widest gap that is left. Gaps
are measured in the logarithm of the step, as curves over training are drawn, so that a part of the work is a curve
with fewer points and not a piece of one.
"""

from __future__ import annotations

import heapq
import math
import re
from typing import TYPE_CHECKING, get_args

from trajstore.arguments.spelling import option
from trajstore.errors import BadOption
from trajstore.scoring.options import Order

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


def in_order(steps: Sequence[int], order: str, shard: str | None = None) -> list[int]:
    """Return the steps of a shard `I/N` (all without one), ascending (`forward`) or coarse to fine (`bisect`).

    `steps` are ascending, each once. Which of them belong to a shard depends on `steps` and on nothing else, so
    shards may differ in order, start at any time and run again, and together they have every step. Raises `BadOption`.
    """
    if order not in get_args(Order):
        raise BadOption("order", order, f"one of {', '.join(get_args(Order))}")
    ranked = coarse_to_fine(steps)
    if shard is not None:
        number, count = _shard(shard)
        ranked = ranked[number::count]
    return ranked if order == "bisect" else sorted(ranked)


def coarse_to_fine(steps: Sequence[int]) -> list[int]:
    """Return ascending steps reordered so that every beginning of the list covers their range in log evenly."""
    last = len(steps) - 1
    if last < 1:
        return list(steps)
    place = [math.log1p(step) for step in steps]
    order = [0, last]
    gaps = [(0.0, 0, last)]  # (minus its width, ends): the widest comes first, of equals the lowest
    while gaps:
        _, low, high = heapq.heappop(gaps)
        if high - low < 2:
            continue
        target = (place[low] + place[high]) / 2
        middle = min(range(low + 1, high), key=lambda number: abs(place[number] - target))
        order.append(middle)
        for a, b in ((low, middle), (middle, high)):
            heapq.heappush(gaps, (round(place[a] - place[b], 9), a, b))
    return [steps[number] for number in order]


def _shard(text: str) -> tuple[int, int]:
    """Return (number, count) of a shard `I/N`; raises `BadOption`."""
    match = _SHARD.fullmatch(text.strip())
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if number >= count:
        raise BadOption(
            "shard",
            text,
            "I/N with I from 0 to N-1, as in 0/40 to 39/40 (with SLURM: --array=0-39 and "
            f"{option('shard', '$SLURM_ARRAY_TASK_ID/40')})",
        )
    return number, count
