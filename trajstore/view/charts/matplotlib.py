"""Charts drawn by matplotlib into .png, .pdf and .svg files: needs no browser, no display and no global state."""

from __future__ import annotations

import io
import itertools
import math
from typing import TYPE_CHECKING, Any

from trajstore.view.charts.chart import density_ticks, is_right, mark_rows, wrapped
from trajstore.view.charts.colors import density_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from trajstore.analysis.comparison import Density
    from trajstore.view.charts.chart import Chart, Series, StepAxis

DPI = 150
"""Pixels an inch."""

_SYMBOLS = {"dot": "o", "ring": "o", "square": "s", "diamond": "D"}
_HOLLOW = ("ring", "diamond")
_MARKER_POINTS = {"small": 3, "medium": 4.5, "large": 8}
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
    """The charts one under the other as one png, pdf or svg.

    The same charts give the same png and pdf. Names of clipping regions in an svg can differ: they are digests of
    positions whose last bits matplotlib's constrained layout leaves open.
    """
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
    made = Figure(figsize=(wide, sum(heights)), layout="constrained", facecolor="white")
    FigureCanvasAgg(made)
    parts = made.subfigures(len(charts), 1, height_ratios=heights, squeeze=False)
    for part, chart in zip(parts[:, 0], charts, strict=True):
        _draw(part, chart, wide)
    return made


def _height(chart: Chart, wide: float) -> float:
    """Inches that give each panel room for its ticks in a chart of this width."""
    rows = chart.grid[0]
    names = chart.legend_names()
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
    """Draws a chart with its title, note and legend on a part of the figure, which is so many inches wide."""
    rows, columns = chart.grid
    grid = part.subplots(rows, columns, squeeze=False, sharey=chart.share_y)
    axis = chart.axis() if chart.step_axis else None
    colors = chart.colors()
    rows_of_marks = mark_rows(chart.marks, axis, 0.85 * wide / columns / _MARK_LETTER_INCHES) if axis else []
    entries: dict[str, Any] = {}
    panels = list(grid.flat)[: len(chart.panels)]
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for i, (axes, panel) in enumerate(zip(panels, chart.panels, strict=True)):
        if panel.density is not None:
            _draw_density(part, axes, panel.density)
        for series in panel.series:
            drawn = _draw_series(axes, series, colors[series.color_key], axis, panel.band_alpha)
            if series.in_legend:
                entries.setdefault(series.name, drawn)
        _set_axes(axes, chart, i, wide / columns)
        if axis:
            _draw_marks(axes, chart, axis, rows_of_marks, labelled=i < columns)
    if rows_of_marks:
        room = _MARK_ROOM * (1 + max(rows_of_marks))
        for axes in panels[: 1 if chart.share_y else columns]:
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + room * (high - low))  # room for the marks' labels above the curves
    _draw_title(part, chart, wide)
    if len(entries) > 1:
        part.legend(
            list(entries.values()),
            list(map(_plain, entries)),
            loc="outside lower left",
            ncols=_legend_columns(list(entries), wide),
            frameon=False,
            fontsize=9,
        )


def _draw_title(part: SubFigure, chart: Chart, wide: float) -> None:
    """Draws the title, and the note under it in room that empty lines of the title keep free."""
    titles, notes = _title_lines(chart, wide), _note_lines(chart, wide)
    words = _plain("\n".join(titles)) + "\n" * len(notes)
    part.suptitle(words, fontsize=12, fontweight="bold", x=0.01, ha="left")
    if notes:
        above = _NOTE_INCHES + _NOTE_LINE_INCHES * (len(notes) - 1) + _TITLE_LINE_INCHES * (len(titles) - 1)
        look: dict[str, Any] = {"fontsize": 9, "color": "#555555", "ha": "left", "va": "bottom"}
        part.text(0.01, 1 - above / _height(chart, wide), _plain("\n".join(notes)), **look)


def _draw_density(part: SubFigure, axes: Axes, density: Density) -> None:
    """Draws the cells, and what their colours mean beside them."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, LogNorm
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    most, ticks = density_ticks(density)
    cells = axes.pcolormesh(
        density.x,
        density.y,
        np.ma.masked_equal(np.array(density.counts, dtype=np.float64), 0),
        cmap=LinearSegmentedColormap.from_list("density", density_scale()),
        norm=LogNorm(1, most),
        rasterized=True,
    )
    bar = part.colorbar(cells, ax=axes, label=_plain(density.unit), ticks=ticks)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    bar.ax.tick_params(labelsize=8)


def _draw_series(axes: Axes, series: Series, color: str, axis: StepAxis | None, alpha: float) -> Any:
    """Draws the band and the curve, points or bars over it; returns what the legend shows."""
    x = [axis.position(step) for step in series.x] if axis else list(series.x)
    if series.mode == "bars":
        return axes.bar(x, series.y, width=0.6, color=color)
    if series.low and series.upright:
        axes.vlines(x, series.low, series.high, color=color, linewidth=1.4)
    elif series.low:
        axes.fill_between(x, series.low, series.high, color=color, alpha=alpha, linewidth=0)
    (line,) = axes.plot(
        x,
        series.y,
        color=color,
        linestyle="none" if series.mode == "markers" else "-",
        linewidth=0.8 if series.faint else 1.4,
        alpha=0.6 if series.faint else 1,
        marker=_SYMBOLS[series.symbol] if series.has_markers else "none",
        markersize=_MARKER_POINTS[series.marker_size],
        markerfacecolor="none" if series.symbol in _HOLLOW else color,
    )
    return line


def _set_axes(axes: Axes, chart: Chart, i: int, inches: float) -> None:
    """Sets titles, ticks, ends and colours of a panel's axes, which are so many inches wide."""
    across, up = (0.85 * size / _LABEL_LETTER_INCHES for size in (inches, _panel_height(chart)))
    panel = chart.panels[i]
    axes.set_title(_lines(panel.title, across), fontsize=10)
    axes.set_xlabel(_lines(panel.x_label or chart.x_label, across), fontsize=9)
    axes.set_ylabel(_lines(chart.y_label_of(i), up), fontsize=9)
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    if chart.zero:
        axes.axhline(0, color="#666666", linewidth=0.9, zorder=1)
    axes.tick_params(labelsize=8, color="#888888")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    if x_axis := chart.x_axis(panel):
        ends, ticks, labels = x_axis
        axes.set_xlim(*ends)
        tilt: dict[str, Any] = {"rotation": 30, "ha": "right"} if chart.names else {}
        axes.set_xticks(ticks, labels, **tilt)


def _draw_marks(axes: Axes, chart: Chart, axis: StepAxis, rows: Sequence[int], labelled: bool) -> None:
    """Draws a dashed line a mark; the label beside it at the top, on the side with more room."""
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


def _lines(words: str, letters: float) -> str:
    """Words in lines of at most so many letters."""
    return _plain("\n".join(wrapped(words, letters)))


def _plain(words: str) -> str:
    """Text in which matplotlib sees no formula."""
    return words.replace("$", r"\$")
