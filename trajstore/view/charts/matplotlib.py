"""Charts drawn by matplotlib's Agg into PNG files: needs no browser, no display and no global state."""

from __future__ import annotations

import io
import itertools
import math
from typing import TYPE_CHECKING, Any

from trajstore.view.charts.chart import (
    FEW_POINTS,
    MOST_MARKERS,
    band_alpha,
    bars_range,
    density_scale,
    is_right,
    mark_rows,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from trajstore.analysis.comparison import Density
    from trajstore.view.charts.chart import Chart, Panel, Series, StepAxis

DPI = 150
"""Pixels an inch."""

_SYMBOLS = {"dot": "o", "ring": "o", "square": "s", "diamond": "D"}
_HOLLOW = ("ring", "diamond")
_WIDE, _NARROW = {1: 7.5, 2: 5.0}, 3.8
"""Inches of a panel, by the number of columns."""
_NOTE_INCHES = 0.42
_NOTE_LINE_INCHES, _NOTE_LETTER_INCHES = 0.165, 0.069
_TITLE_LINE_INCHES, _TITLE_LETTER_INCHES = 0.195, 0.1
_LABEL_LETTER_INCHES = 0.076
"""Of axis titles, panels' titles and the legend."""
_MARK_LETTER_INCHES, _MARK_ROOM = 0.062, 0.09
_ENTRY_INCHES = 0.6
"""Of the legend beside its words."""


def picture(charts: Sequence[Chart], kind: str = "png") -> bytes:
    """The charts one under the other as one png, pdf or svg; the same charts give the same bytes."""
    import matplotlib as mpl

    made = figure(charts)
    buffer = io.BytesIO()
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "trajstore", "pdf.fonttype": 42}):
        made.savefig(buffer, format=kind, dpi=DPI, metadata=undated)
    return buffer.getvalue()


def figure(charts: Sequence[Chart]) -> Figure:
    """The charts one under the other as a matplotlib figure on an Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide = max(_WIDE.get(chart.grid[1], _NARROW) * chart.grid[1] for chart in charts)
    heights = [_height(chart, wide) for chart in charts]
    made = Figure(
        figsize=(wide, sum(heights)),
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(made)
    parts = made.subfigures(len(charts), 1, height_ratios=heights, squeeze=False)
    for part, chart in zip(parts[:, 0], charts, strict=True):
        _draw(part, chart, wide)
    return made


def _height(chart: Chart, wide: float) -> float:
    """Inches that give each panel room for its ticks in a chart of this width."""
    rows = chart.grid[0]
    names = _legend_names(chart)
    legend = 0.25 * math.ceil(len(names) / _legend_columns(names, wide))
    notes = _NOTE_LINE_INCHES * max(0, len(_note_lines(chart, wide)) - 1)
    titles = _TITLE_LINE_INCHES * (len(_title_lines(chart, wide)) - 1)
    kinds = 0.5 * rows if chart.names else 0
    return _panel_height(chart) * rows + 0.7 + legend + notes + titles + kinds


def _panel_height(chart: Chart) -> float:
    return 3.6 if chart.grid[0] == 1 else 2.7


def _title_lines(chart: Chart, wide: float) -> list[str]:
    return wrapped(chart.title, wide / _TITLE_LETTER_INCHES) or [""]


def _note_lines(chart: Chart, wide: float) -> list[str]:
    """The note in lines that the chart has room for."""
    return wrapped(chart.note, wide / _NOTE_LETTER_INCHES)


def _legend_names(chart: Chart) -> list[str]:
    names = [series.name for panel in chart.panels for series in panel.series if series.in_legend]
    return list(dict.fromkeys(names))


def _legend_columns(names: Sequence[str], inches: float) -> int:
    """As many columns as there is room for, filled as matplotlib does, the first ones with one entry more."""
    for columns in range(len(names), 1, -1):
        rows, longer = divmod(len(names), columns)
        ends = itertools.accumulate([rows + 1] * longer + [rows] * (columns - longer), initial=0)
        widest = [max(map(len, names[a:b])) for a, b in itertools.pairwise(ends)]
        if sum(_ENTRY_INCHES + _LABEL_LETTER_INCHES * letters for letters in widest) <= inches:
            return columns
    return 1


def _draw(part: SubFigure, chart: Chart, wide: float) -> None:
    rows, columns = chart.grid
    grid = part.subplots(rows, columns, squeeze=False, sharey=chart.share_y)
    axis = chart.axis() if chart.step_axis else None
    colors = chart.colors()
    rows_of_marks = mark_rows(chart.marks, axis, 0.85 * wide / columns / _MARK_LETTER_INCHES) if axis else []
    entries: dict[str, Any] = {}
    for i, axes in enumerate(grid.flat):
        if i >= len(chart.panels):
            axes.set_axis_off()
            continue
        panel = chart.panels[i]
        if panel.density is not None:
            _draw_density(part, axes, panel.density)
        for series in panel.series:
            drawn = _draw_series(axes, series, colors[series.color_key], axis, band_alpha(panel))
            if series.in_legend:
                entries.setdefault(series.name, drawn)
        _set_axes(axes, chart, panel, axis, wide / columns, first_column=i % columns == 0)
        if axis:
            _draw_marks(axes, chart, axis, rows_of_marks, labelled=i < columns)
    if chart.marks and axis:
        room = _MARK_ROOM * (1 + max(rows_of_marks))
        for axes in grid.flat[: 1 if chart.share_y else min(columns, len(chart.panels))]:
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + room * (high - low))  # room for the marks' labels above the curves
    titles = _title_lines(chart, wide)
    title = part.suptitle(_plain("\n".join(titles)), fontsize=12, fontweight="bold", x=0.01, ha="left")
    if notes := _note_lines(chart, wide):
        title.set_text(_plain("\n".join(titles)) + "\n" * len(notes))
        above = _NOTE_INCHES + _NOTE_LINE_INCHES * (len(notes) - 1) + _TITLE_LINE_INCHES * (len(titles) - 1)
        part.text(
            0.01,
            1 - above / _height(chart, wide),
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
            ncols=_legend_columns(list(entries), wide),
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


def _draw_series(axes: Axes, series: Series, color: str, axis: StepAxis | None, alpha: float) -> Any:
    """Draws the band and the curve; returns what the legend shows."""
    x = [axis.position(step) for step in series.x] if axis else list(series.x)
    if series.mode == "bars":
        return axes.bar(x, series.y, width=0.6, color=color)
    if series.low and series.upright:
        axes.vlines(x, series.low, series.high, color=color, linewidth=1.4)
    elif series.low:
        axes.fill_between(x, series.low, series.high, color=color, alpha=alpha, linewidth=0)
    points_only = series.mode == "markers"
    markers = points_only or (series.mode != "lines" and len(x) <= MOST_MARKERS)
    (line,) = axes.plot(
        x,
        series.y,
        color=color,
        linestyle="none" if points_only else "-",
        linewidth=0.8 if series.faint else 1.4,
        alpha=0.6 if series.faint else 1,
        marker=_SYMBOLS[series.symbol] if markers else "none",
        markersize=3 if not points_only else 8 if len(x) <= FEW_POINTS else 4.5,
        markerfacecolor="none" if series.symbol in _HOLLOW else color,
    )
    return line


def _set_axes(
    axes: Axes, chart: Chart, panel: Panel, axis: StepAxis | None, inches: float, first_column: bool
) -> None:
    wide, tall = (0.85 * each / _LABEL_LETTER_INCHES for each in (inches, _panel_height(chart)))
    axes.set_title(_plain("\n".join(wrapped(panel.title, wide))), fontsize=10)
    axes.set_xlabel(_plain("\n".join(wrapped(panel.x_label or chart.x_label, wide))), fontsize=9)
    if first_column or not chart.share_y:
        axes.set_ylabel(_plain("\n".join(wrapped(panel.y_label or chart.y_label, tall))), fontsize=9)
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
    elif chart.names:
        axes.set_xlim(0.5, len(chart.names) + 0.5)
        axes.set_xticks(range(1, len(chart.names) + 1), chart.names, rotation=30, ha="right")
    elif any(series.mode == "bars" for series in panel.series):
        numbers = sorted({x for series in panel.series for x in series.x})
        axes.set_xticks(numbers)
        axes.set_xlim(*bars_range(numbers))


def _draw_marks(axes: Axes, chart: Chart, axis: StepAxis, rows: Sequence[int], labelled: bool) -> None:
    """A dashed line a mark; the label beside it at the top, on the side with more room."""
    for mark, row in zip(chart.marks, rows, strict=True):
        at = axis.position(mark.step)
        axes.axvline(at, color="#666666", linewidth=0.9, linestyle="--", zorder=1)
        if not labelled:
            continue
        right = is_right(mark, axis)
        axes.annotate(
            _plain(mark.label),
            (at, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(-3 if right else 3, -2 - 13 * row),
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
