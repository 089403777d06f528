"""Measures by step as small multiples, a panel for each layer and head; and differences of two checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from trajstore.errors import PlotError, listed
from trajstore.measures.definitions import available
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.figures.axes import ALONG, NAMED, X_COLUMNS, distinct, numbers

if TYPE_CHECKING:
    from trajstore.arguments.choices import X
    from trajstore.pipelines.measure_trajectories import MeasureTrajectory
    from trajstore.pipelines.measures.checkpoint_comparison import MeasureComparison

MOST_PANELS = 64
_WIDEST = 8


def charts_of_measures(trajectory: MeasureTrajectory) -> list[Chart]:
    """A chart for each measure; raises `PlotError` for one with too many layers and heads."""
    frame = trajectory.frame
    return [
        _chart(frame.filter(measure=name), name, trajectory.level, trajectory.x)
        for name in distinct(frame, "measure")
    ]


def _chart(frame: pl.DataFrame, name: str, level: float, x: X) -> Chart:
    """The chart of a measure."""
    by = ["layer", "head", "dataset"]
    places = frame.select(by).unique().sort(by, nulls_last=True)
    if places.height > MOST_PANELS:
        raise PlotError(
            f"{name} has {places.height} curves side by side, and {MOST_PANELS} are the most. Choose by layer, head or "
            "dataset."
        )
    datasets = distinct(frame, "dataset")
    column, x_label = X_COLUMNS[x]
    panels = []
    for place in places.iter_rows(named=True):
        part = frame.filter(pl.col(key).eq_missing(pl.lit(value)) for key, value in place.items())
        words = [f"{key} {place[key]}" for key in ("layer", "head") if place[key] is not None]
        words += [str(place["dataset"])] if len(datasets) > 1 else []
        panels.append(Panel(" · ".join(words), _series(part, column)))
    heads = frame["head"].drop_nulls().n_unique()
    several = places["layer"].n_unique() > 1
    on = (
        listed((dataset for dataset in datasets if dataset is not None), NAMED)
        if any(datasets)
        else "no dataset"
    )
    return Chart(
        title=f"{name} by {ALONG[x]} on {on}: {listed(distinct(frame, 'model'), NAMED)}",
        x_label=x_label,
        y_label=f"{name}{_unit(name)}",
        panels=tuple(panels),
        note=_note(frame, level),
        columns=heads if several and 1 < heads <= _WIDEST and len(datasets) == 1 else 0,
    )


def _series(part: pl.DataFrame, column: str) -> tuple[Series, ...]:
    """A series for each model, and for each of its params where there are several."""
    several = part["params"].n_unique() > 1
    series = []
    for model, params in dict.fromkeys(part.select("model", "params").iter_rows()):
        mine = part.filter(pl.col("model") == model, pl.col("params").eq_missing(pl.lit(params))).sort("step")
        series.append(
            Series(
                name=f"{model} {params}" if several and params else model,
                x=numbers(mine[column]),
                y=numbers(mine["value"]),
                low=numbers(mine["low"]),
                high=numbers(mine["high"]),
            )
        )
    return tuple(series)


def _unit(name: str) -> str:
    """The unit of a measure, or of a difference of two, in brackets; empty where it has none or is not known."""
    name, *_ = name.split(" − ")
    units = {
        entry.definition.name: entry.definition.unit
        for entry in available()[0]
        if name == entry.definition.name or name.startswith(f"{entry.definition.name}_")
    }
    unit = units[max(units, key=len)] if units else "1"
    return "" if unit == "1" else f" ({unit})"


def _note(frame: pl.DataFrame, level: float) -> str:
    """Explain the band."""
    kinds = set(frame["interval"].unique()) - {"none"}
    if not kinds:
        return ""
    over = "its standard error" if kinds == {"stderr"} else "contexts, for the choice of text, not of seed"
    return f"Band: {100 * level:.3g} % interval over {over}."


def charts_of_differences(comparison: MeasureComparison) -> list[Chart]:
    """A chart of the differences of each measure, by layer and head; raises `PlotError` for too many of them."""
    frame = comparison.frame
    charts = []
    for name in distinct(frame, "measure"):
        part = frame.filter(measure=name)
        datasets = distinct(part, "dataset")
        if part.height > MOST_PANELS * len(datasets):
            raise PlotError(
                f"{name} has {part.height} values side by side, and {MOST_PANELS} are the most. "
                "Choose by layer or head."
            )
        places = list(dict.fromkeys(part.select("layer", "head").iter_rows()))
        panels = []
        for dataset in datasets:
            own = part.filter(pl.col("dataset").eq_missing(pl.lit(dataset)))
            at = [places.index(place) + 1 for place in own.select("layer", "head").iter_rows()]
            low, high = numbers(own["low"]), numbers(own["high"])
            series = Series("difference", numbers(at), numbers(own["difference"]), low, high, mode="markers")
            panels.append(Panel(dataset or "", (series,)))
        charts.append(
            Chart(
                title=f"{name}: {' − '.join(comparison.sides)}",
                x_label="layer" if all(head is None for _, head in places) else "layer.head",
                y_label=f"difference{_unit(name)}",
                panels=tuple(panels),
                step_axis=False,
                note=_note(part, comparison.level).replace("Band", "Bars"),
                zero=True,
                names=tuple(".".join(str(at) for at in place if at is not None) or name for place in places),
            )
        )
    return charts
