"""Tables of findings, cut to what a page holds."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

ROWS_SHOWN = 50
"""Rows of a finding's table that the page holds."""

IN_CONTEXT = pl.format("{}[{}]{}", "before", "marked", "after").alias("token in its context")
"""A column of tokens as `with_context` gives them, with a little of their context."""

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class PageTable:
    """Some rows of a finding."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    more: int = 0
    """Rows that are not shown."""

    @classmethod
    def of(cls, title: str, frame: pl.DataFrame) -> PageTable:
        """The first rows of a frame."""
        shown = frame.head(ROWS_SHOWN).with_columns(pl.selectors.float().fill_nan(None))
        return cls(
            title, frame.columns, [list(row) for row in shown.iter_rows()], frame.height - shown.height
        )


Tables = tuple[str, tuple[PageTable, ...]]
"""A sentence, and tables."""
