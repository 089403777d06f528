"""Reports of long work: its progress, silent unless a front end shows it, and the time that its stages took."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Progress(Protocol):
    """The progress display of a front end; one bar at a time."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Begin a bar of `total` units."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Move the bar by `amount`; `note` says what is being done now."""

    def stop(self) -> None:
        """Take the bar away; called also when the work failed."""

    def say(self, message: str) -> None:
        """A line of talk, never data."""


class _Silent:
    """Progress that nobody watches."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Nothing."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""


SILENT: Progress = _Silent()
"""The library's default."""


@contextmanager
def bar(progress: Progress, label: str, total: int, unit: str) -> Iterator[None]:
    """The block has a bar of `total` units, if there are any."""
    if total:
        progress.start(label, total, unit)
    try:
        yield
    finally:
        progress.stop()


class StageTimes:
    """The seconds that a thread's work took by stage; of a stage inside another, only the inner one's count."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._inside = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside the block, the stages of this thread count here."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """The block is a stage."""
        start, outside, self._inside = time.perf_counter(), self._inside, 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - start
            self.add({name: took - self._inside})
            self._inside = outside + took

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what was measured elsewhere."""
        with self._lock:
            for name, took in seconds.items():
                self._seconds[name] = self._seconds.get(name, 0.0) + took

    def take(self) -> dict[str, float]:
        """Return the seconds by stage since the last time, in any thread."""
        with self._lock:
            seconds, self._seconds = self._seconds, {}
        return seconds


_current: ContextVar[StageTimes | None] = ContextVar("stage_times", default=None)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The block is a stage of the thread's work, measured where somebody keeps its times."""
    times = _current.get()
    if times is None:
        yield
        return
    with times.measured(name):
        yield
