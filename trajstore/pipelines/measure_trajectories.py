"""Measures of checkpoints by step, from a store: one curve for each model, dataset, layer, head and params.

Where a measure has a row for each context, its mean is taken over them and its interval by resampling whole units of
text, as that of a group's mean loss; where it has one number a checkpoint, the interval is that of its standard error,
if it has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import Draws, Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.arguments.choices import Missing, X
from trajstore.arguments.spelling import option
from trajstore.display import Drawn, of_checkpoints, of_names
from trajstore.errors import BadOption, NothingChosen
from trajstore.pipelines.measures.comparison import compared
from trajstore.pipelines.measures.curves import SCHEMA, measure_curves
from trajstore.pipelines.training_progress import check_x, with_training
from trajstore.pipelines.trajectories import with_model
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store


@dataclass(frozen=True, repr=False)
class MeasureTrajectory(Drawn):
    """Measures by step with their intervals."""

    drawn_by = "trajstore.view.figures.measures:charts_of_measures"

    frame: pl.DataFrame
    """The columns of `SCHEMA`; along tokens or FLOPs with `tokens_seen` or `flops` after step."""
    level: float
    x: X = "step"

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
    comparison: Comparison | None = None,
    x: X = "step",
    interval: Interval | None = None,
    progress: Progress = SILENT,
) -> MeasureTrajectory:
    """The trajectories of measures, of one layer or head where that is given, or their differences and means.

    `comparison` says what is pooled and what is subtracted: `minus` is a measure, of the same layer and head or of
    none. Raises `BadOption`, and as `measure_curves`, `compared` and `with_training`.
    """
    check_x(x)
    how, compare = interval or Interval(), comparison or Comparison()
    draws = Draws(how)
    names = [measures] if isinstance(measures, str) else list(measures)
    if compare.minus in names:
        raise BadOption("minus", compare.minus, "another measure than those that it is taken from")
    chosen = with_model(store, selection or Selection(), compare.minus_model)
    curves = measure_curves(store, names, chosen, layer, head)
    if compare == Comparison():
        frame = pl.concat([curve.frame(draws) for curve in curves])
    else:
        subtracted = measure_curves(store, [compare.minus], chosen) if compare.minus is not None else []
        frame = compared(curves, subtracted, compare, draws, progress)
        missing = (pl.lit(None).alias(name) for name in SCHEMA if name not in frame.columns)
        frame = frame.with_columns(*missing).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    steps_of: dict[str, set[int]] = {}
    for curve in curves:
        steps_of.setdefault(curve.model, set()).update(curve.steps.tolist())
    return MeasureTrajectory(with_training(store, frame, x, chosen, compare, steps_of), how.level, x)


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
        columns.setdefault(curve.place, len(columns))
    values = np.full((len(rows), len(columns)), np.nan, np.float32)
    for curve in curves:
        values[[rows[curve.model, int(step)] for step in curve.steps], columns[curve.place]] = curve.values
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
