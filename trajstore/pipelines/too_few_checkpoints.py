"""What has too few checkpoints for an analysis: it is left out and said, and an error only where nothing else is left.

Counts checkpoints and nothing else; how many it takes is the analysis's to say.
"""

from __future__ import annotations

from trajstore.errors import TrajstoreError, listed
from trajstore.progress import Progress
from trajstore.spelling import option


class Enough:
    """Tells what has enough checkpoints, and remembers what has not."""

    def __init__(self, least: int, what: str) -> None:
        """`least` checkpoints are needed to tell `what`."""
        self._least, self._what = least, what
        self._short: list[str] = []

    def has(self, what: str, checkpoints: int) -> bool:
        """Whether so many checkpoints of something are enough."""
        if checkpoints < self._least:
            self._short.append(f"{what} ({checkpoints})")
        return checkpoints >= self._least

    def say(self, progress: Progress, others: bool) -> None:
        """Say what is left out; raises `TrajstoreError` unless there are others."""
        if not self._short:
            return
        few = f"Too few checkpoints to tell {self._what}, which takes {self._least}: {listed(self._short, 6)}"
        if not others:
            raise TrajstoreError(f"{few}. Choose more with {option('steps')}, or score them: trajstore score")
        progress.say(f"{few}; left out.")
