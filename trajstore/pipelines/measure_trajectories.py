"""Measures of checkpoints by step, from a store: one curve for each model, dataset, layer, head and params.

Where a measure has a row for each context, its mean is taken over them and its interval by resampling whole units of
text, as that of a group's mean loss; where it has one number a checkpoint, the interval is that of its standard error,
if it has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import Draws, Interval
from trajstore.analysis.trajectories import resampled_trajectories, trajectories
from trajstore.arguments.choices import Missing
from trajstore.arguments.spelling import option
from trajstore.display import Drawn, of_checkpoints, of_names
from trajstore.errors import NothingChosen, UnknownName, listed
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
            frame = self._of_numbers(draws.interval)
        return frame.with_columns(pl.lit(value).alias(name) for name, value in own.items()).select(
            pl.col(name).cast(kind) for name, kind in SCHEMA.items()
        )

    def _of_numbers(self, interval: Interval) -> pl.DataFrame:
        """Values with the intervals of their standard errors."""
        half = NormalDist().inv_cdf((1 + interval.level) / 2) * self.stderr
        if interval.kind == "none":
            half = np.full_like(half, np.nan)
        frame = pl.DataFrame(
            {"step": self.steps, "value": self.values, "low": self.values - half, "high": self.values + half}
        )
        kind = pl.when(pl.col("low").is_nan()).then(pl.lit("none")).otherwise(pl.lit("stderr"))
        nothing = (pl.lit(None).alias(name) for name in ("contexts", "unit", "units"))
        return frame.with_columns(kind.alias("interval"), *nothing).with_columns(
            pl.col("low", "high").fill_nan(None)
        )


@dataclass(frozen=True, repr=False)
class MeasureTrajectory(Drawn):
    """Measures by step with their intervals."""

    drawn_by = "trajstore.view.figures.measures:charts_of_measures"

    frame: pl.DataFrame
    """The columns of `SCHEMA`."""
    level: float

    def brief(self) -> str:
        """Measures, models and steps."""
        checkpoints = self.frame.select("model", "step").iter_rows()
        return f"{of_names(self.frame['measure'], 'measure')}, {of_checkpoints(checkpoints)}"

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The curves."""
        yield "curves", self.frame


def measure_trajectory(
    store: Store,
    measures: str | Sequence[str],
    selection: Selection | None = None,
    *,
    layer: int | None = None,
    head: int | None = None,
    interval: Interval | None = None,
) -> MeasureTrajectory:
    """The trajectories of measures, of one layer or head where that is given; raises as `measure_curves`."""
    how = interval or Interval()
    draws = Draws(how)
    names = [measures] if isinstance(measures, str) else measures
    curves = measure_curves(store, names, selection or Selection(), layer, head)
    return MeasureTrajectory(pl.concat([curve.frame(draws) for curve in curves]), how.level)


@dataclass(frozen=True)
class MeasureMatrix:
    """Measures of checkpoints side by side."""

    values: np.ndarray
    """float32 (rows, columns); NaN where nothing is and that was allowed."""
    rows: pl.DataFrame
    """model, step."""
    columns: pl.DataFrame
    """measure, dataset, layer, head, params."""


def measure_matrix(
    store: Store,
    measures: str | Sequence[str],
    selection: Selection | None = None,
    *,
    missing: Missing = "error",
) -> MeasureMatrix:
    """Measures over all contexts as a matrix: rows (model, step), columns by layer and head.

    Raises as `measure_curves`, and `NothingChosen` where a checkpoint lacks one, unless `missing` is "nan".
    """
    chosen = selection or Selection()
    curves = measure_curves(store, [measures] if isinstance(measures, str) else measures, chosen)
    rows = {(curve.model, int(step)): 0 for curve in curves for step in curve.steps}
    order = {model: number for number, model in enumerate(store.models(chosen.models))}
    rows = {row: number for number, row in enumerate(sorted(rows, key=lambda row: (order[row[0]], row[1])))}
    columns: dict[tuple[Any, ...], int] = {}
    for curve in curves:
        key = (curve.measure, curve.dataset, curve.layer, curve.head, curve.params)
        columns.setdefault(key, len(columns))
    values = np.full((len(rows), len(columns)), np.nan, np.float32)
    for curve in curves:
        key = (curve.measure, curve.dataset, curve.layer, curve.head, curve.params)
        values[[rows[curve.model, int(step)] for step in curve.steps], columns[key]] = curve.values
    if missing == "error" and np.isnan(values).any():
        row, column = np.argwhere(np.isnan(values))[0]
        (model, step), (name, dataset, *_) = list(rows)[row], list(columns)[column]
        on = f" on {dataset}" if dataset else ""
        raise NothingChosen(
            f"{model} at step {step} has no {name}{on} as others have it. Measure it: "
            f"trajstore measure {name} -m {model}; or have such be NaN: {option('missing', 'nan')}"
        )
    names = ("measure", "dataset", "layer", "head", "params")
    return MeasureMatrix(
        values,
        pl.DataFrame(list(rows), schema={"model": pl.String, "step": pl.Int64}, orient="row"),
        pl.DataFrame(list(columns), schema={name: SCHEMA[name] for name in names}, orient="row"),
    )


def measure_curves(
    store: Store,
    names: Sequence[str],
    selection: Selection,
    layer: int | None = None,
    head: int | None = None,
) -> list[MeasureCurve]:
    """A curve for each model, dataset, layer, head and params of each measure, at the steps chosen.

    Raises `UnknownName` for a measure that no model has, `NothingChosen` where none is of that layer and head, and as
    `resolve`.
    """
    curves: list[MeasureCurve] = []
    for name in dict.fromkeys(names):
        frame = store.measures(selection.models, name)
        if selection.datasets is not None:
            frame = frame.filter(pl.col("dataset").is_in(selection.datasets) | pl.col("dataset").is_null())
        if frame.is_empty():
            known = sorted(set(store.measures()["name"]))
            raise UnknownName("measure of these models", name, known, "See: FROM measures")
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
