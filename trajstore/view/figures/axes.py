"""Columns, titles and helpers that several figures share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

X_COLUMNS = {
    "step": ("step", "step"),
    "tokens": ("tokens_seen", "tokens seen in training"),
    "flops": ("flops", "FLOPs (6 · parameters outside embeddings · tokens seen)"),
}
"""Column and axis title by what x is."""
ALONG = {"step": "step", "tokens": "tokens seen", "flops": "FLOPs"}
NAMED = 4
"""Models, datasets or groups that a title names, before it counts the rest."""


def distinct(frame: pl.DataFrame, column: str) -> list[str]:
    """A column's values in order of appearance."""
    return list(dict.fromkeys(frame[column].to_list()))


def numbers(column: pl.Series) -> tuple[float, ...]:
    """A column as floats, NaN for null."""
    return tuple(math.nan if value is None else float(value) for value in column.to_list())
