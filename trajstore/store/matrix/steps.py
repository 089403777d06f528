"""The SPEC of steps: which of the checkpoints that exist are meant.

`all`; `last`; `log` (0, then for each power of two the existing step nearest to it in log, each once, and the
last); numbers; inclusive ranges of existing steps `A:B`, `A:`, `:B`, with a stride in steps `A:B:EVERY`. Commas
join them. A number that does not exist is an error that lists near ones: nothing is ever replaced by a neighbour.
"""

from __future__ import annotations

import bisect
import math
import operator
from collections.abc import Iterable, Sequence

from trajstore.errors import BadSteps, UnknownStep


def resolve(
    spec: str | int | Sequence[int],
    existing: Sequence[int],
    where: str,
    hint: str = "",
    argument: str = "steps",
) -> list[int]:
    """The steps meant, sorted and each once.

    `existing` are the steps there are, `where` names what they belong to in messages ("pythia-70m on docs"), `hint`
    what mends it, `argument` how the SPEC was given. Raises `BadSteps` for a text that cannot be read and `UnknownStep`
    for one that matches nothing.
    """
    steps = sorted(set(existing))
    chosen: set[int] = set()
    for part in parts(spec):
        try:
            hits, first = _steps_of_part(part, steps)
        except ValueError:
            raise BadSteps(part, argument) from None
        if not hits:
            raise UnknownStep(part, where, [] if first is None else near(first, steps), hint, argument)
        chosen.update(hits)
    return sorted(chosen)


def parts(spec: str | int | Sequence[int]) -> list[str]:
    """Return what stands between the commas of a SPEC; integers may be numpy's. Raises `BadSteps` for an empty one."""
    if isinstance(spec, str):
        return [part.strip() for part in spec.split(",")]
    try:
        texts = [] if isinstance(spec, bool) else [str(operator.index(spec))]  # type: ignore[arg-type]
    except TypeError:
        texts = [str(step) for step in spec] if isinstance(spec, Iterable) else []
    if not texts:
        raise BadSteps(str(spec))
    return texts


def spec_of(steps: str | int | Sequence[int]) -> str:
    """The SPEC of steps given in any form; raises `BadSteps` for none."""
    return ",".join(parts(steps))


def log_steps(steps: Sequence[int]) -> list[int]:
    """Step 0 if it exists, the existing step nearest in log to each power of two, and the last."""
    positive = sorted(step for step in steps if step > 0)
    chosen = {step for step in steps if step == 0}
    if positive:
        for power in range(positive[-1].bit_length()):
            # min keeps the first of equals: of two steps equally far the smaller
            chosen.add(min(positive, key=lambda step: abs(math.log2(step) - power)))
        chosen.add(positive[-1])
    return sorted(chosen)


def _steps_of_part(part: str, steps: list[int]) -> tuple[list[int], int | None]:
    """The existing steps of one part between commas, and the number it begins with; raises `ValueError`.

    A range `A:B:EVERY` with a stride has only those at A + k · EVERY.
    """
    if part == "log":
        return log_steps(steps), None
    if part in ("all", "last"):
        return steps if part == "all" else steps[-1:], None
    if ":" not in part:
        step = int(part)
        return [step] if step in steps else [], step
    ends = part.split(":")
    first = int(ends[0] or 0)
    last = int(ends[1]) if ends[1] else math.inf
    every = int(ends[2]) if len(ends) > 2 else 1
    if len(ends) > 3 or every < 1:
        raise ValueError
    return [step for step in steps if first <= step <= last and (step - first) % every == 0], first


def near(step: int, steps: list[int]) -> list[int]:
    """Up to three existing steps, which are rising, on either side of the one asked for."""
    at = bisect.bisect(steps, step)
    return steps[max(0, at - 3) : at + 3]
