"""Progress that keeps what it is told, for tests."""

from __future__ import annotations

from trajstore.progress import Progress


class Heard(Progress):
    """The lines that were said, the bars that were started, and how far they moved."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[tuple[str, int, str]] = []
        self.done = 0
        self.open = 0

    def start(self, label: str, total: int, unit: str) -> None:
        self.bars.append((label, total, unit))
        self.open += 1

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount

    def stop(self) -> None:
        self.open -= 1

    def say(self, message: str) -> None:
        self.lines.append(message)

    def __contains__(self, words: str) -> bool:
        return any(words in line for line in self.lines)

    @property
    def total(self) -> int:
        """The length of the last bar."""
        return self.bars[-1][1]
