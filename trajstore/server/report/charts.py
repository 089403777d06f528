"""A chart as plain values from which the page draws it: places on its axes, ticks, and colours by their number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from trajstore.view.charts.chart import Chart, Panel, Series, is_right, mark_rows
from trajstore.view.charts.colors import MOST_DISTINCT

_LETTERS = 90
"""Letters of marks' labels that fit beside each other over a panel of full width."""


def drawing(chart: Chart) -> dict[str, Any]:
    """A chart as JSON has it; values that are not there are null."""
    axis = chart.axis() if chart.step_axis else None
    keys = chart.colors()
    few = len(keys) <= MOST_DISTINCT
    colors = {key: number if few else color for number, (key, color) in enumerate(keys.items())}
    marks: list[dict[str, Any]] = []
    if axis is not None:
        rows = mark_rows(chart.marks, axis, _LETTERS / chart.grid[1])
        marks = [
            {"at": axis.position(mark.step), "label": mark.label, "right": is_right(mark, axis), "row": row}
            for mark, row in zip(chart.marks, rows, strict=True)
        ]
    return {
        "title": chart.title,
        "note": chart.note,
        "columns": chart.grid[1],
        "zero": chart.zero,
        "shareY": chart.share_y,
        "panels": [_panel(chart, panel, number, colors) for number, panel in enumerate(chart.panels)],
        "marks": marks,
    }


def _panel(chart: Chart, panel: Panel, number: int, colors: dict[str, Any]) -> dict[str, Any]:
    x_axis = chart.x_axis(panel)
    density = panel.density
    return {
        "title": panel.title,
        "xLabel": panel.x_label or chart.x_label,
        "yLabel": chart.y_label_of(number),
        "ends": x_axis and list(x_axis[0]),
        "ticks": x_axis and [list(tick) for tick in zip(x_axis[1], x_axis[2], strict=True)],
        "density": density
        and {
            "x": _places(density.x),
            "y": _places(density.y),
            "counts": density.counts,
            "unit": density.unit,
        },
        "series": [_series(chart, series, colors) for series in panel.series],
    }


def _series(chart: Chart, series: Series, colors: dict[str, Any]) -> dict[str, Any]:
    axis = chart.axis() if chart.step_axis else None
    return {
        "name": series.name,
        "colour": colors[series.color_key],
        "x": _places(axis.position(step) for step in series.x) if axis else _places(series.x),
        "y": _places(series.y),
        "low": _places(series.low),
        "high": _places(series.high),
        "steps": list(series.steps or (series.x if axis else ())),
        "bars": series.mode == "bars",
        "line": series.mode in ("lines", "lines+markers"),
        "markers": {"small": 2.5, "medium": 3, "large": 5}[series.marker_size] if series.has_markers else 0,
        "ring": series.symbol in ("ring", "diamond"),
        "square": series.symbol in ("square", "diamond"),
        "upright": series.upright,
        "faint": series.faint,
        "note": series.note,
        "legend": series.in_legend,
    }


def _places(values: Iterable[float]) -> list[float | None]:
    """Values to seven digits, null where there is none."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values]
