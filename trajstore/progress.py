"""The protocol by which long work reports its progress, silent unless a front end shows it."""

from __future__ import annotations

from typing import Protocol


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
