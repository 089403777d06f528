"""Columns, titles and helpers that several figures share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from trajstore.view.charts.chart import Panel, Series

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


def numbers(values: Iterable[Any]) -> tuple[float, ...]:
    """A column, an array or a list as floats, NaN for null."""
    return tuple(math.nan if value is None else float(value) for value in values)


def panels(names: Iterable[str], series: Callable[[str], Iterable[Series]]) -> tuple[Panel, ...]:
    """A panel for each name with its series, titled by it where there are several."""
    distinct_names = list(dict.fromkeys(names))
    several = len(distinct_names) > 1
    return tuple(Panel(name if several else "", tuple(series(name))) for name in distinct_names)
