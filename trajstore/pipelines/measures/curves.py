"""Values of measures along the checkpoints of models, from a store, with those of contexts where there are some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import Draws, Interval
from trajstore.analysis.trajectories import resampled_trajectories, trajectories
from trajstore.errors import NothingChosen, listed
from trajstore.pipelines.measures.unmeasured import not_measured
from trajstore.store.matrix.context_sums import ContextSums, Units
from trajstore.store.matrix.selection import Selection
from trajstore.store.matrix.steps import resolve

if TYPE_CHECKING:
    from trajstore.store.store import Store

SCHEMA = {
    "measure": pl.String,
    "layer": pl.Int32,
    "head": pl.Int32,
    "params": pl.String,
    "model": pl.String,
    "dataset": pl.String,
    "step": pl.Int64,
    "contexts": pl.Int64,
    "unit": pl.String,
    "units": pl.Int64,
    "interval": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
"""Columns of a measure's trajectory: contexts, unit and units are those that were resampled (null where none were),
interval is bootstrap, t, studentised, stderr or none."""


@dataclass(frozen=True)
class MeasureCurve:
    """The values of a measure along the checkpoints of a model."""

    label: str
    """The measure with its layer and head, and with its params where there are several."""
    measure: str
    layer: int | None
    head: int | None
    params: str | None
    model: str
    dataset: str | None
    steps: np.ndarray
    """int64 (checkpoints,), ascending."""
    values: np.ndarray
    """float64 (checkpoints,): over all contexts."""
    stderr: np.ndarray
    """float64 (checkpoints,); NaN where there is none."""
    by_context: ContextSums | None
    """The values of contexts, as sums of one each; None where not all of these checkpoints have them."""

    @property
    def place(self) -> tuple[str, str | None, int | None, int | None, str | None]:
        """measure, dataset, layer, head, params."""
        return self.measure, self.dataset, self.layer, self.head, self.params

    def resampled(self, interval: Interval) -> np.ndarray | None:
        """The means over contexts in each resample of the text, (resamples, checkpoints); None without contexts."""
        if self.by_context is None or self.dataset is None:
            return None
        sums = {(self.label, self.dataset): self.by_context}
        (curve,) = resampled_trajectories(sums, [self.label], interval=interval)
        return curve.resampled

    def frame(self, draws: Draws) -> pl.DataFrame:
        """The curve with the columns of `SCHEMA`."""
        own: dict[str, Any] = {
            name: getattr(self, name) for name in ("measure", "layer", "head", "params", "model", "dataset")
        }
        if self.by_context is not None and self.dataset is not None:
            sums = {(self.label, self.dataset): self.by_context}
            frame = trajectories(sums, [self.label], draws=draws).rename({"mean": "value"})
        else:
            numbers = {"step": self.steps, "value": self.values, "variance": self.stderr**2}
            nothing = (pl.lit(None).alias(name) for name in ("contexts", "unit", "units"))
            frame = with_normal_intervals(pl.DataFrame(numbers), draws.interval).with_columns(*nothing)
        return frame.with_columns(pl.lit(value).alias(name) for name, value in own.items()).select(
            pl.col(name).cast(kind) for name, kind in SCHEMA.items()
        )


def with_normal_intervals(rows: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """Rows with low, high and interval by their value and variance, which may be NaN."""
    half = NormalDist().inv_cdf((1 + interval.level) / 2) * pl.col("variance").sqrt()
    half = half.fill_nan(None) if interval.kind != "none" else pl.lit(None, pl.Float64)
    kind = pl.when(half.is_null()).then(pl.lit("none")).otherwise(pl.lit("stderr"))
    return rows.with_columns(
        (pl.col("value") - half).alias("low"), (pl.col("value") + half).alias("high"), kind.alias("interval")
    )


def measured(
    store: Store, name: str, models: Sequence[str] | None, datasets: Sequence[str] | None
) -> pl.DataFrame:
    """The values of a measure on datasets, and those that are on none; raises `NotMeasured` where there are none."""
    frame = store.measures(models, name)
    if datasets is not None:
        frame = frame.filter(pl.col("dataset").is_in(datasets) | pl.col("dataset").is_null())
    if frame.is_empty():
        raise not_measured(store, name, store.models(models), datasets)
    return frame


def measure_curves(
    store: Store,
    names: Sequence[str],
    selection: Selection,
    layer: int | None = None,
    head: int | None = None,
) -> list[MeasureCurve]:
    """A curve for each model, dataset, layer, head and params of each measure, at the steps chosen.

    Raises `NotMeasured` for a measure that no model has, `NothingChosen` where none is of that layer and head, and as
    `resolve`.
    """
    curves: list[MeasureCurve] = []
    for name in dict.fromkeys(names):
        frame = measured(store, name, selection.models, selection.datasets)
        chosen = frame.filter(
            *(pl.col(key) == at for key, at in (("layer", layer), ("head", head)) if at is not None)
        )
        if chosen.is_empty():
            places = [f"{key} {listed(frame[key].unique().sort())}" for key in ("layer", "head")]
            raise NothingChosen(f"{name} has no such layer or head; it has: {'; '.join(places)}.")
        several = chosen["params"].n_unique() > 1
        steps_of = {
            str(model): resolve(selection.steps, part["step"].unique().to_list(), f"{model} with {name}")
            for (model,), part in chosen.group_by("model")
        }
        labels = ["model", "dataset", "layer", "head", "params"]
        for (model, dataset, at_layer, at_head, params), part in chosen.group_by(labels, maintain_order=True):
            words = [f"{key} {at}" for key, at in (("layer", at_layer), ("head", at_head)) if at is not None]
            label = ", ".join([name, *words, *([str(params)] if several and params else [])])
            steps = steps_of[str(model)]
            of_all = part.filter(pl.col("step").is_in(steps), pl.col("context").is_null()).sort("step")
            if of_all.is_empty():
                continue
            curves.append(
                MeasureCurve(
                    label,
                    name,
                    at_layer,
                    at_head,
                    params,
                    str(model),
                    dataset,
                    of_all["step"].to_numpy(),
                    of_all["value"].to_numpy().astype(np.float64),
                    of_all["stderr"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
                    _by_context(store, str(model), dataset, of_all["step"], part),
                )
            )
    if not curves:
        raise NothingChosen(f"{listed(names)}: there are values of contexts, but none over all of them.")
    return curves


def _by_context(
    store: Store, model: str, dataset: str | None, steps: pl.Series, part: pl.DataFrame
) -> ContextSums | None:
    """The values of contexts; None where there are none, or where some have none at some of these steps."""
    rows = part.filter(pl.col("context").is_not_null(), pl.col("step").is_in(steps.implode()))
    if dataset is None or rows.is_empty():
        return None
    table = rows.pivot("context", index="step", values="value").sort("step")
    contexts = np.array(sorted(int(column) for column in table.columns if column != "step"), np.int64)
    if table.height < len(steps) or any(table.null_count().row(0)):
        return None
    values = table.select(str(context) for context in contexts).to_numpy().astype(np.float64)
    checkpoints = pl.DataFrame({"model": [model] * table.height, "step": table["step"]})
    units = Units.of(store.dataset(dataset))
    return ContextSums(dataset, units, checkpoints, contexts, np.ones(len(contexts), np.int64), values)
