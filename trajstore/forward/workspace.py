"""The findings of a job's passes that hold for all its checkpoints, whose weights differ in values alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


class Workspace:
    """The state that passes hand on to later ones, of whatever weights: batch budgets that a device had room for."""

    def __init__(self) -> None:
        self._budgets: dict[frozenset[str], tuple[int, int]] = {}

    def budget(self, columns: Collection[str], longest: int) -> int | None:
        """The tokens of a batch that had room with these columns; None for contexts longer than any so far."""
        length, budget = self._budgets.get(frozenset(columns), (0, 0))
        return budget if longest <= length else None

    def keep_budget(self, columns: Collection[str], longest: int, budget: int) -> None:
        """Keep the tokens of a batch that had room at the end of a pass over contexts of this length."""
        key = frozenset(columns)
        length = self._budgets.get(key, (0, 0))[0]
        self._budgets[key] = max(longest, length), budget
