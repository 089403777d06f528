"""Contenders that take turns, and the rows of the table that come of it.

Each round runs every contender once, one after another, so that a ratio is taken between neighbours in time. A
figure is the median over rounds, a ratio the median of the rounds' ratios, its spread their lowest and highest;
bytes are averaged over slices.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

Say = Callable[[str], None]
Unit = Literal["seconds", "bytes", "bytes a row"]
T = TypeVar("T")


class WrongAnswer(Exception):
    """A contender's answer is not the expected one, so its time means nothing."""


@dataclass(frozen=True)
class Rounds:
    """The numbers of rounds in which contenders take turns."""

    append: int
    """For appends, which are quick and whose fsync takes what the disk will."""
    usual: int
    slow: int
    """For peers that take seconds, and for processes whose memory is measured."""
    slowest: int
    """For the peer that takes a minute."""


@dataclass(frozen=True)
class Contender:
    """One way to do a piece of work."""

    name: str
    once: Callable[[], float]
    """Does the work and returns its seconds; raises `WrongAnswer`."""
    threads: int = 1
    runs: int | None = None
    """Rounds it takes part in, for a slow one; it then gets no unmeasured run first."""


@dataclass(frozen=True)
class Row:
    """One line of the table: ours beside a peer's."""

    what: str
    ours: Sequence[float]
    """By round, in `unit`."""
    peer: str
    theirs: Sequence[float]
    """By round, paired with `ours` from the first on; may be shorter."""
    unit: Unit = "seconds"
    threads: str = ""
    """Ours and the peer's."""

    @property
    def ratios(self) -> list[float]:
        """Ours over the peer's, by round; below 1 is faster or smaller than the peer."""
        return [our / their for our, their in zip(self.ours, self.theirs, strict=False)]

    @property
    def ratio(self) -> float:
        """Median of the ratios; of bytes, which do not vary from run to run, the ratio of all to all."""
        if self.unit == "bytes a row":
            return sum(self.ours) / sum(self.theirs)
        return statistics.median(self.ratios)

    def called(self, what: str) -> Row:
        """The same row under another name."""
        return replace(self, what=what)

    @property
    def cells(self) -> list[str]:
        """The row as text, in the order of `HEADER`."""
        return [
            self.what,
            self.threads,
            show(_middle(self.ours, self.unit), self.unit),
            self.peer,
            show(_middle(self.theirs, self.unit), self.unit),
            f"{self.ratio:.3g}",
            f"{min(self.ratios):.3g} to {max(self.ratios):.3g}",
            str(len(self.ratios)),
        ]


HEADER = ["What", "Threads", "trajstore", "Peer", "Peer's figure", "Ratio", "Spread", "Runs"]


def show(value: float, unit: Unit) -> str:
    """A figure with three digits and its unit."""
    if unit == "bytes a row":
        return f"{value:.2f} B"
    if unit == "bytes":
        return f"{value / 1e6:,.0f} MB" if value >= 1e8 else f"{value / 1e6:.1f} MB"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def _middle(values: Sequence[float], unit: Unit) -> float:
    """The figure that stands for several: their median; the mean of bytes a row, slices having equally many rows."""
    return statistics.mean(values) if unit == "bytes a row" else statistics.median(values)


def clocked(work: Callable[[], T], check: Callable[[T], bool]) -> Callable[[], float]:
    """A contender's `once`: the work on the clock, its answer checked off it."""

    def once() -> float:
        start = time.perf_counter()
        answer = work()
        seconds = time.perf_counter() - start
        if not check(answer):
            raise WrongAnswer(f"{work} gave a wrong answer")
        return seconds

    return once


def compare(what: str, pairs: Sequence[tuple[Contender, Contender]], rounds: int, say: Say) -> list[Row]:
    """A row for each pair of ours and a peer; all contenders take turns, after one unmeasured run of the quick ones."""
    contenders = list(dict.fromkeys(contender for pair in pairs for contender in pair))
    for contender in contenders:
        if contender.runs is None:
            contender.once()
    seconds: dict[Contender, list[float]] = {contender: [] for contender in contenders}
    for number in range(rounds):
        say(f"{what}: round {number + 1} of {rounds}")
        for contender in contenders:
            if contender.runs is None or number < contender.runs:
                seconds[contender].append(contender.once())
    return [
        Row(what, seconds[ours], peer.name, seconds[peer], threads=f"{ours.threads} / {peer.threads}")
        for ours, peer in pairs
    ]
