"""Measures by step as small multiples: a panel for each layer and head, a colour for each model."""

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
