"""The time that scoring takes: a job's budget, its own pace, and the pace of earlier jobs in the store.

Paces are tokens a second of wall time, with loading, downloading and writing in it. A slice's footer says when it was
finished and by which run, not how long it took, so an earlier pace is that between a run's first and last slice.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from trajstore.errors import BadOption, DamagedFile, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trajstore.store.files.slices import Provenance
    from trajstore.store.store import Store

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

SHORTEST_SPAN = 5.0
"""Seconds from a run's first slice to its last under which their times, whole seconds, tell no pace."""


def parse_duration(time: str | float, argument: str = "budget") -> float:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `1.5d`; raises `BadOption` with the argument's name."""
    if not isinstance(time, str):
        return float(time)
    match = _DURATION.fullmatch(time.strip())
    if match is None:
        raise BadOption(argument, time, "seconds, or a number with s, m, h or d, as in 90s, 15m, 2h, 1.5d")
    return float(match[1]) * _SECONDS[match[2]]


class Budget:
    """The time that a job may use, and whether more work fits into what is left of it at the job's pace."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` from now on; None for all the time there is."""
        self._seconds, self._clock = seconds, clock
        self._begin = clock()
        self._work: float | None = None
        self._tokens = 0

    def begin_work(self) -> None:
        """Begin to count time for the pace."""
        self._work = self._clock()

    def did(self, tokens: int) -> None:
        """Tokens that were scored."""
        self._tokens += tokens

    def allows(self, tokens: int) -> bool:
        """Return whether so many more tokens can be scored; before a pace is known, whether time is left."""
        if self._seconds is None:
            return True
        now = self._clock()
        left = self._seconds - (now - self._begin)
        if self._work is None or not self._tokens:
            return left > 0
        return left >= tokens * (now - self._work) / self._tokens


@dataclass(frozen=True)
class Pace:
    """The pace of an earlier run of a model."""

    tokens_per_second: float
    device: str | None
    dtype: str


def recorded_pace(store: Store, model: str) -> Pace | None:
    """Return the pace of the last run whose slices of the model tell one, or None."""
    runs: dict[str, list[tuple[datetime, int, Provenance]]] = {}
    for tokens, provenance in _provenances(store, model):
        if provenance.run is not None and provenance.time is not None:
            finished = datetime.fromisoformat(provenance.time)
            runs.setdefault(provenance.run, []).append((finished, tokens, provenance))
    paces = []
    for slices in runs.values():
        slices.sort(key=lambda entry: entry[0])
        first, last = slices[0], slices[-1]
        span = (last[0] - first[0]).total_seconds()
        if span >= SHORTEST_SPAN:
            tokens = sum(tokens for _, tokens, _ in slices[1:])  # the first one's beginning is not known
            paces.append((last[0], Pace(tokens / span, last[2].device, last[2].dtype)))
    return max(paces, key=lambda entry: entry[0])[1] if paces else None


def _provenances(store: Store, model: str) -> Iterator[tuple[int, Provenance]]:
    """Yield (tokens, provenance) of each slice of a model whose footer can be read."""
    for dataset in store.dataset_names():
        steps = store.steps(model, dataset)
        tokens = store.dataset(dataset).n_tokens if steps else 0
        for step in steps:
            try:
                yield tokens, store.slice_facts(model, dataset, step).provenance
            except (DamagedFile, UnknownName):
                continue
