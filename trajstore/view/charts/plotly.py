"""Charts drawn by plotly, for pages: hover shows the step itself, the value and its interval.

`figure` gives a plotly figure, `page` a whole offline HTML document with plotly.js inside (4.8 MB).
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.view.charts.chart import density_ticks, is_right, mark_rows, wrapped
from trajstore.view.charts.colors import density_scale, rgba

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from trajstore.analysis.comparison import Density
    from trajstore.view.charts.chart import Chart, Series, StepAxis

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
    "showSendToCloud": False,
    "plotlyServerURL": "",
}
"""Options for plotly.js: no link to its makers, no button that uploads the chart, and as wide as the page."""

OFFLINE = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""Content security policy of a page: what is in the file runs, and nothing is requested from anywhere."""

_SYMBOLS = {"dot": "circle", "ring": "circle-open", "square": "square", "diamond": "diamond-open"}
_MARKER_PX = {"small": 5, "medium": 6, "large": 11}
_AXIS_LOOK = {
    "gridcolor": "#e6e6e6",
    "zeroline": False,
    "linecolor": "#888",
    "ticks": "outside",
    "tickcolor": "#888",
}
_ROW_PX = {1: 380, 2: 300}
_MANY_ROWS_PX = 250
_LEGEND_PX = 900
_NOTE_LETTERS = 150
_TITLE_LETTERS, _TITLE_LINE_PX = 85, 22
"""Beside a title plotly.js has its buttons."""
_PAGE_PX, _LETTER_PX = 1000, 7.5
_MARK_LETTER_PX, _MARK_ROW_PX = 6.5, 16


def figure(chart: Chart) -> go.Figure:
    """The chart as a plotly figure."""
    from plotly.subplots import make_subplots

    rows, columns = chart.grid
    plots = rows * _row_px(chart)
    between_rows = (_title_px(chart) + _below_px(chart) + 23) / plots
    made = make_subplots(
        rows,
        columns,
        subplot_titles=[_lines(panel.title, _letters(chart)) for panel in chart.panels],
        shared_yaxes="all" if chart.share_y else False,
        horizontal_spacing=_between(chart) if columns > 1 else 0,
        vertical_spacing=min(between_rows, 0.9 / (rows - 1)) if rows > 1 else 0,
    )
    axis = chart.axis() if chart.step_axis else None
    colors = chart.colors()
    seen: set[str] = set()
    for i, panel in enumerate(chart.panels):
        cell = {"row": i // columns + 1, "col": i % columns + 1}
        if panel.density is not None:
            made.add_trace(_cells(panel.density, f"coloraxis{i + 1}"), **cell)
            made.update_layout({f"coloraxis{i + 1}": _color_bar(made, panel.density, cell)})
        for series in panel.series:
            first = series.in_legend and series.name not in seen
            seen |= {series.name} if first else set()
            for trace in _traces(series, colors[series.color_key], axis, first, panel.band_alpha):
                made.add_trace(trace, **cell)
        _set_axes(made, chart, i, cell)
        if axis:
            _add_marks(made, chart, axis, cell)
    _set_layout(made, chart, plots)
    return made


def _between(chart: Chart) -> float:
    """The room between two panels, with their labels, as a share of the width."""
    if any(panel.density is not None for panel in chart.panels):
        return 0.3 / chart.grid[1]
    return 0.04 if chart.share_y else 0.075


def page(charts: Sequence[Chart]) -> str:
    """One HTML document that opens offline and shows the charts one under the other."""
    parts = [
        figure(chart).to_html(full_html=False, include_plotlyjs=i == 0, config=CONFIG, default_width="100%")
        for i, chart in enumerate(charts)
    ]
    title = html.escape(charts[0].title if charts else "")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{OFFLINE}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title></head>\n'
        f'<body style="margin:1rem auto;max-width:72rem;background:#fff">\n{"".join(parts)}\n</body>\n</html>\n'
    )


def _cells(density: Density, axis: str) -> Any:
    """A density's cells, empty where no point lies."""
    import plotly.graph_objects as go

    counts = np.array(density.counts, dtype=np.float64)
    with np.errstate(divide="ignore"):
        shown = np.where(counts > 0, np.log10(counts), np.nan)
    text = "%{x:.4~g}, %{y:.4~g}<br>%{customdata:,.0f} " + _text(density.unit) + "<extra></extra>"
    return go.Heatmap(
        x=np.array(density.x),
        y=np.array(density.y),
        z=shown,
        customdata=counts,
        hovertemplate=text,
        coloraxis=axis,
        hoverongaps=False,
    )


def _color_bar(made: go.Figure, density: Density, cell: dict[str, int]) -> dict[str, Any]:
    """A density's colour axis, with its bar beside the panel."""
    most, ticks = density_ticks(density)
    plot = next(made.select_xaxes(**cell)).domain, next(made.select_yaxes(**cell)).domain
    return {
        "colorscale": density_scale(),
        "cmin": 0,
        "cmax": math.log10(most),
        "colorbar": {
            "title": {"text": _text(density.unit), "side": "right", "font": {"size": 12}},
            "tickvals": [math.log10(tick) for tick in ticks],
            "ticktext": [f"{tick:,}" for tick in ticks],
            "thickness": 12,
            "x": plot[0][1],
            "xpad": 4,
            "y": sum(plot[1]) / 2,
            "len": plot[1][1] - plot[1][0],
        },
    }


def _traces(series: Series, color: str, axis: StepAxis | None, in_legend: bool, alpha: float) -> list[Any]:
    """The band, if there is one, and the curve, points or bars over it."""
    import plotly.graph_objects as go

    x = np.array([axis.position(step) for step in series.x] if axis else series.x, dtype=np.float64)
    shared: dict[str, Any] = {"x": x, "y": np.array(series.y, dtype=np.float64), "name": _text(series.name)}
    shared |= {"legendgroup": series.name, "showlegend": in_legend}
    shared |= {"customdata": _hover_data(series), "hovertemplate": _hover_text(series, axis is not None)}
    if series.mode == "bars":
        return [go.Bar(**shared, marker_color=color)]
    curve = go.Scatter(
        **shared,
        mode=series.mode if series.has_markers else "lines",
        line={"color": color, "width": 1 if series.faint else 1.8},
        opacity=0.6 if series.faint else 1,
        marker={
            "color": color,
            "size": _MARKER_PX[series.marker_size],
            "symbol": _SYMBOLS[series.symbol],
            "line": {"color": color, "width": 2},
        },
    )
    band = _band(series, x)
    if band is None:
        return [curve]
    if series.upright:
        y, low, high = (np.array(values, dtype=np.float64) for values in (series.y, series.low, series.high))
        ends = {"symmetric": False, "array": high - y, "arrayminus": y - low, "width": 0}
        return [curve.update(error_y={"type": "data", "color": color, "thickness": 1.8, **ends})]
    fill = {"fill": "toself", "fillcolor": rgba(color, alpha), "mode": "lines"}
    hidden = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "legendgroup": series.name}
    return [go.Scatter(x=band[0], y=band[1], **fill, **hidden), curve]


def _band(series: Series, x: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Any, Any] | None:
    """Outline (x, y) of the interval where it is known: along the lower ends, back along the upper ones."""
    if not series.low:
        return None
    low, high = np.array(series.low, dtype=np.float64), np.array(series.high, dtype=np.float64)
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return None
    x, low, high = x[known], low[known], high[known]
    return np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])


def _hover_data(series: Series) -> Any:
    """Columns for the hover text: step, lower end, upper end (points × 1 or 3)."""
    columns = [series.steps or series.x] + ([series.low, series.high] if series.low else [])
    return np.array(columns, dtype=np.float64).T


def _hover_text(series: Series, on_steps: bool) -> str:
    """Plotly's template for one point."""
    lines = [f"<b>{_text(series.name)}</b>"]
    if on_steps or series.steps:
        lines.append("step %{customdata[0]:.15~g}")
    lines.append("%{y:.4~g}" if on_steps or series.mode == "bars" else "%{x:.4~g}, %{y:.4~g}")
    if series.low:
        lines[-1] += " (%{customdata[1]:.4~g} to %{customdata[2]:.4~g})"
    if series.note:
        lines.append(_text(series.note))
    return "<br>".join(lines) + "<extra></extra>"


def _set_axes(made: go.Figure, chart: Chart, i: int, cell: dict[str, int]) -> None:
    """Sets titles, ticks, ends and colours of a panel's axes."""
    panel = chart.panels[i]
    x_title = _axis_title(panel.x_label or chart.x_label, _letters(chart))
    y_title = _axis_title(chart.y_label_of(i), _row_px(chart) / _LETTER_PX)
    made.update_xaxes(**_AXIS_LOOK, title=x_title, **cell)
    made.update_yaxes(**_AXIS_LOOK, title=y_title, **cell)
    if chart.zero:
        made.add_hline(0, line={"color": "#666", "width": 1}, **cell)
    if panel.has_bars:
        made.update_yaxes(rangemode="tozero", **cell)
    if x_axis := chart.x_axis(panel):
        ends, ticks, labels = x_axis
        tilt = {"tickangle": -30} if chart.names else {}
        texts = list(map(_text, labels))
        made.update_xaxes(range=list(ends), tickvals=list(ticks), ticktext=texts, **tilt, **cell)


def _axis_title(words: str, letters: float) -> dict[str, Any]:
    return {"text": _lines(words, letters), "font": {"size": 13}, "standoff": 6}


def _letters(chart: Chart) -> float:
    """Return the number of letters that have room beside each other in a panel."""
    return 0.9 * _PAGE_PX / chart.grid[1] / _LETTER_PX


def _lines(words: str, letters: float) -> str:
    return "<br>".join(map(_text, wrapped(words, letters)))


def _add_marks(made: go.Figure, chart: Chart, axis: StepAxis, cell: dict[str, int]) -> None:
    """Adds a dashed line a mark; its label in the upper row of panels, on the side with more room."""
    rows = mark_rows(chart.marks, axis, 0.9 * _PAGE_PX / chart.grid[1] / _MARK_LETTER_PX)
    for mark, row in zip(chart.marks, rows, strict=True):
        at = axis.position(mark.step)
        made.add_vline(at, line={"color": "#666", "width": 1, "dash": "dash"}, **cell)
        if cell["row"] > 1 or not mark.label:
            continue
        right = is_right(mark, axis)
        made.add_annotation(
            x=at,
            y=1,
            yref="y domain",
            text=_text(mark.label),
            showarrow=False,
            xanchor="right" if right else "left",
            yanchor="top",
            yshift=-_MARK_ROW_PX * row,
            bgcolor="rgba(255,255,255,0.75)",
            font={"size": 11, "color": "#444"},
            **cell,
        )


def _set_layout(made: go.Figure, chart: Chart, plots: int) -> None:
    """Sets sizes in pixels: `plots` for the panels, and round them what title, axis and legend need."""
    names = chart.legend_names()
    legend_rows = math.ceil(sum(len(name) * 7 + 55 for name in names) / _LEGEND_PX) if len(names) > 1 else 0
    notes, titles = wrapped(chart.note, _NOTE_LETTERS), wrapped(chart.title, _TITLE_LETTERS)
    top = 28 + _title_px(chart) + _TITLE_LINE_PX * len(titles) + 20 * len(notes)
    below = _below_px(chart)
    margin = {"l": 64, "r": 16, "t": top, "b": below + 4 + 22 * legend_rows}
    made.update_layout(
        template="none",
        height=plots + margin["t"] + margin["b"],
        margin=margin,
        font={"family": FONT, "size": 13, "color": "#222"},
        paper_bgcolor="#fff",
        plot_bgcolor="#fff",
        bargap=0.4,
        hovermode="closest",
        hoverlabel={"bgcolor": "#fff", "font": {"color": "#222"}},
        showlegend=legend_rows > 0,
        legend={"orientation": "h", "x": 0, "y": -below / plots, "yanchor": "top"},
    )
    made.update_annotations(font_size=13)
    text = f"<b>{'<br>'.join(map(_text, titles))}</b>"
    note = {"text": "<br>".join(map(_text, notes)), "font": {"size": 12, "color": "#555"}}
    place = {"x": 0, "xref": "paper", "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 14}}
    made.update_layout(title={"text": text, "subtitle": note, "font": {"size": 16}, **place})


def _row_px(chart: Chart) -> int:
    """Height of a panel."""
    return _ROW_PX.get(chart.grid[0], _MANY_ROWS_PX)


def _title_px(chart: Chart) -> int:
    """Return the room that panels' titles need above a panel."""
    lines = max((len(wrapped(panel.title, _letters(chart))) for panel in chart.panels), default=0)
    return 8 + 16 * lines if lines else 0


def _below_px(chart: Chart) -> int:
    """Return the room that the labels of the x axis need below a panel."""
    labels = [panel.x_label or chart.x_label for panel in chart.panels]
    lines = max((len(wrapped(label, _letters(chart))) for label in labels), default=1)
    return 32 + 16 * lines + 44 * bool(chart.names)


def _text(words: str) -> str:
    """Text in which plotly sees no tags and no template fields."""
    return html.escape(words, quote=False).replace("%{", "%&#123;")
