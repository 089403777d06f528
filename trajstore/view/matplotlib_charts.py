"""Charts drawn by matplotlib's Agg into PNG files: needs no browser, no display and no global state."""

from __future__ import annotations

import io
import math
import textwrap
from typing import TYPE_CHECKING, Any

from trajstore.view.charts import MOST_MARKERS, density_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from trajstore.view.charts import Chart, Density, Panel, Series, StepAxis

DPI = 150
"""Pixels an inch."""

_SYMBOLS = {"dot": "o", "ring": "o", "square": "s", "diamond": "D"}
_HOLLOW = ("ring", "diamond")
_WIDE, _NARROW = {1: 7.5, 2: 5.0}, 3.8
"""Inches of a panel, by the number of columns."""
_NOTE_INCHES = 0.42
_NOTE_LINE_INCHES, _NOTE_LETTER_INCHES = 0.165, 0.069


def png(charts: Sequence[Chart]) -> bytes:
    """The charts one under the other as one PNG."""
    made = figure(charts)
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def figure(charts: Sequence[Chart]) -> Figure:
    """The charts one under the other as a matplotlib figure on an Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes = [_inches(chart) for chart in charts]
    made = Figure(
        figsize=(max(width for width, _ in sizes), sum(height for _, height in sizes)),
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(made)
    parts = made.subfigures(len(charts), 1, height_ratios=[height for _, height in sizes], squeeze=False)
    for part, chart in zip(parts[:, 0], charts, strict=True):
        _draw(part, chart)
    return made


def _inches(chart: Chart) -> tuple[float, float]:
    """(width, height) that gives each panel room for its ticks."""
    rows, columns = chart.grid
    wide = _WIDE.get(columns, _NARROW)
    tall = 3.6 if rows == 1 else 2.7
    legend = 0.25 * math.ceil(len(_legend_names(chart)) / (2 * columns + 1))
    notes = _NOTE_LINE_INCHES * max(0, len(_note_lines(chart)) - 1)
    return wide * columns, tall * rows + 0.7 + legend + notes


def _note_lines(chart: Chart) -> list[str]:
    """The note in lines that the chart has room for."""
    columns = chart.grid[1]
    return textwrap.wrap(chart.note, int(_WIDE.get(columns, _NARROW) * columns / _NOTE_LETTER_INCHES))


def _legend_names(chart: Chart) -> list[str]:
    names = [series.name for panel in chart.panels for series in panel.series if series.in_legend]
    return list(dict.fromkeys(names))


def _draw(part: SubFigure, chart: Chart) -> None:
    rows, columns = chart.grid
    grid = part.subplots(rows, columns, squeeze=False, sharey=chart.share_y)
    axis = chart.axis() if chart.step_axis else None
    colors = chart.colors()
    entries: dict[str, Any] = {}
    for i, axes in enumerate(grid.flat):
        if i >= len(chart.panels):
            axes.set_axis_off()
            continue
        panel = chart.panels[i]
        if panel.density is not None:
            _draw_density(part, axes, panel.density)
        for series in panel.series:
            drawn = _draw_series(axes, series, colors[series.color_key], axis)
            if series.in_legend:
                entries.setdefault(series.name, drawn)
        _set_axes(axes, chart, panel, axis, first_column=i % columns == 0)
        if axis:
            _draw_marks(axes, chart, axis, labelled=i < columns)
    if chart.marks and axis:
        for axes in grid.flat[: 1 if chart.share_y else min(columns, len(chart.panels))]:
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.09 * (high - low))  # room for the marks' labels above the curves
    title = part.suptitle(_plain(chart.title), fontsize=12, fontweight="bold", x=0.01, ha="left")
    if notes := _note_lines(chart):
        title.set_text(_plain(chart.title) + "\n" * len(notes))
        part.text(
            0.01,
            1 - (_NOTE_INCHES + _NOTE_LINE_INCHES * (len(notes) - 1)) / _inches(chart)[1],
            _plain("\n".join(notes)),
            fontsize=9,
            color="#555555",
            ha="left",
            va="bottom",
        )
    if len(entries) > 1:
        names = [_plain(name) for name in entries]
        part.legend(
            list(entries.values()),
            names,
            loc="outside lower left",
            ncols=2 * columns + 1,
            frameon=False,
            fontsize=9,
        )


def _draw_density(part: SubFigure, axes: Axes, density: Density) -> None:
    """The cells, and their colours' meaning beside them."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    counts = np.array(density.counts, dtype=np.float64)
    most = max(counts.max(initial=1), 2)
    cells = axes.pcolormesh(
        density.x,
        density.y,
        np.ma.masked_equal(counts, 0),
        cmap=LinearSegmentedColormap.from_list("density", density_scale()),
        norm=LogNorm(1, most),
        rasterized=True,
    )
    bar = part.colorbar(
        cells, ax=axes, label=_plain(density.unit), ticks=LogLocator(10, (1, 2, 5), numticks=6)
    )
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bar.ax.tick_params(labelsize=8)


def _draw_series(axes: Axes, series: Series, color: str, axis: StepAxis | None) -> Any:
    """Draws the band and the curve; returns what the legend shows."""
    x = [axis.position(step) for step in series.x] if axis else list(series.x)
    if series.mode == "bars":
        return axes.bar(x, series.y, width=0.6, color=color)
    if series.low:
        axes.fill_between(x, series.low, series.high, color=color, alpha=0.18, linewidth=0)
    points_only = series.mode == "markers"
    markers = points_only or (series.mode != "lines" and len(x) <= MOST_MARKERS)
    (line,) = axes.plot(
        x,
        series.y,
        color=color,
        linestyle="none" if points_only else "-",
        linewidth=1.4,
        marker=_SYMBOLS[series.symbol] if markers else "none",
        markersize=8 if points_only else 3,
        markerfacecolor="none" if series.symbol in _HOLLOW else color,
    )
    return line


def _set_axes(axes: Axes, chart: Chart, panel: Panel, axis: StepAxis | None, first_column: bool) -> None:
    axes.set_title(_plain(panel.title), fontsize=10)
    axes.set_xlabel(_plain(panel.x_label or chart.x_label), fontsize=9)
    if first_column or not chart.share_y:
        axes.set_ylabel(_plain(panel.y_label or chart.y_label), fontsize=9)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    if chart.zero:
        axes.axhline(0, color="#666666", linewidth=0.9, zorder=1)
    axes.tick_params(labelsize=8, color="#888888")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")
    if axis:
        axes.set_xlim(axis.low, axis.high)
        axes.set_xticks(axis.tick_positions, axis.tick_labels)
    elif any(series.mode == "bars" for series in panel.series):
        axes.set_xticks(sorted({x for series in panel.series for x in series.x}))


def _draw_marks(axes: Axes, chart: Chart, axis: StepAxis, labelled: bool) -> None:
    """A dashed line a mark; the label beside it at the top, on the side with more room."""
    for mark in chart.marks:
        at = axis.position(mark.step)
        axes.axvline(at, color="#666666", linewidth=0.9, linestyle="--", zorder=1)
        if not labelled:
            continue
        right = at > (axis.low + axis.high) / 2
        axes.annotate(
            _plain(mark.label),
            (at, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-3 if right else 3, -2),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            fontsize=8,
            color="#444444",
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
        )


def _plain(words: str) -> str:
    """Text in which matplotlib sees no formula."""
    return words.replace("$", r"\$")
