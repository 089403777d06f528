"""Trajectories: a group's mean loss by step, or a difference of such means, with an interval over units of text.

A mean is over tokens: the sum of all losses by their number. A difference between two groups is that of their means
over the contexts that have tokens of both; one between two models is over the same tokens at the same steps. Losses
are nats a token. A step without all of its losses has no row: missing is absent. How intervals are found, and what
they do not cover, stands in `bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import Draws, Interval, Ratio, Stratum, estimate, resampled
from trajstore.arguments.choices import By
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError, listed
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.context_sums import ContextSums, Units

if TYPE_CHECKING:
    from trajstore.store.matrix.matrix import LossMatrix

SCHEMA = {
    "model": pl.String,
    "dataset": pl.String,
    "step": pl.Int64,
    "tokens": pl.Int64,
    "contexts": pl.Int64,
    "unit": pl.String,
    "units": pl.Int64,
    "interval": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "skewness": pl.Float64,
}
"""Columns of a trajectory: what its mean is of (tokens, contexts), what was resampled (unit, how many units) and how
(interval: bootstrap, t, studentised or none), mean, low and high in nats a token, and how skewed the mean is
over choices of text (null without an interval)."""


@dataclass(frozen=True)
class Comparison:
    """The curves to compare: what is pooled, and what is subtracted."""

    by: By | None = None
    """One curve for each model and dataset (None), for each model, its datasets pooled, or for each dataset, the
    mean of its models."""
    minus: str | None = None
    """A group whose mean is taken from that of each group."""
    minus_model: str | None = None
    """A model whose mean is taken from that of each other model."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.by not in (None, "dataset", "model"):
            raise BadOption("by", self.by, "dataset or model")


def group_trajectory(
    matrix: LossMatrix, interval: Interval | None = None, units: Mapping[str, Units] | None = None
) -> pl.DataFrame:
    """Mean loss of the matrix's columns by model, dataset and step, with the columns of `SCHEMA`.

    `units` are those of its datasets; by default contexts. Raises `TrajstoreError` for a matrix aligned by item,
    which does not say which losses are of one context.
    """
    if "context" not in matrix.columns.columns:
        raise TrajstoreError(
            "A trajectory needs the contexts of its losses, and a matrix aligned by item does not have them. Pull the "
            f"matrix without {option('align', 'item')}."
        )
    sums = {
        ("", dataset): _by_context(matrix, dataset, (units or {}).get(dataset))
        for dataset in matrix.columns["dataset"].unique(maintain_order=True)
    }
    return trajectories(sums, [""], interval=interval).drop("group")


def trajectories(
    sums: Mapping[tuple[str, str], ContextSums],
    groups: Sequence[str],
    comparison: Comparison | None = None,
    interval: Interval | None = None,
    progress: Progress = SILENT,
    draws: Draws | None = None,
) -> pl.DataFrame:
    """The curves of these groups, with `group` before the columns of `SCHEMA`, from sums by (group, dataset).

    All checkpoints, groups and models of a dataset are resampled together, by the `draws` of another call if given. A
    curve of several datasets or models has the steps that each of them has; `progress` is told which are left out.
    Groups, models and datasets come in the order in which they are given. The frame is empty where nothing can be
    compared.
    """
    how, drawn = comparison or Comparison(), draws or Draws(interval or Interval())
    frames = [
        _frame(group, curve, steps, how, drawn)
        for group, curve, steps in _asked_for(sums, groups, how, progress)
    ]
    return pl.concat(frames) if frames else pl.DataFrame(schema={"group": pl.String, **SCHEMA})


@dataclass(frozen=True)
class ResampledCurve:
    """One curve in each resample of its texts."""

    group: str
    """As in a trajectory's column, so for model and dataset."""
    model: str
    dataset: str
    steps: np.ndarray
    """int64 (steps,)."""
    means: np.ndarray
    """float64 (steps,), nats a token."""
    resampled: np.ndarray
    """float64 (resamples, steps); all as `means` where there is but one unit of text."""


def resampled_trajectories(
    sums: Mapping[tuple[str, str], ContextSums],
    groups: Sequence[str],
    comparison: Comparison | None = None,
    interval: Interval | None = None,
    progress: Progress = SILENT,
) -> list[ResampledCurve]:
    """The curves of `trajectories` in each resample, whole units drawn however few there are."""
    how, draws = comparison or Comparison(), Draws(interval or Interval())
    curves = []
    for group, curve, steps in _asked_for(sums, groups, how, progress):
        strata, signs = _terms(curve, steps, how)
        means = estimate(strata, signs, Draws(Interval("none"))).mean
        frame = (group_label(group, how.minus), model_label(curve.models, how.minus_model))
        curves.append(
            ResampledCurve(*frame, _dataset_label(curve), steps, means, resampled(strata, signs, draws))
        )
    return curves


def _asked_for(
    sums: Mapping[tuple[str, str], ContextSums],
    groups: Sequence[str],
    comparison: Comparison,
    progress: Progress,
) -> list[tuple[str, _Curve, np.ndarray]]:
    """(group, curve, steps) of all that is there; `progress` is told what is left out."""
    curves, notes = [], list[str]()
    for group in groups:
        for curve in _curves(_cells(sums, group, comparison, notes), comparison):
            steps = _shared_steps(curve, comparison, notes)
            if len(steps):
                curves.append((group, curve, steps))
    for note in dict.fromkeys(notes):
        progress.say(note)
    return curves


@dataclass(frozen=True)
class _Cell:
    """A group on one dataset, and where a group is subtracted, that one as well, over the contexts of both."""

    dataset: str
    unit: str
    n_units: int
    contexts: int
    units: np.ndarray
    """Numbers of the units with tokens, int64 (units,)."""
    tokens: tuple[np.ndarray, ...]
    """By unit, float64 (units,), of each of the groups."""
    models: Mapping[str, tuple[np.ndarray, tuple[np.ndarray, ...]]]
    """By model: its steps (steps,) and, for each group, sums by unit, float64 (steps, units)."""


@dataclass(frozen=True)
class _Curve:
    """The models and datasets whose mean is one curve."""

    models: tuple[str, ...]
    cells: tuple[_Cell, ...]


def _cells(
    sums: Mapping[tuple[str, str], ContextSums], group: str, comparison: Comparison, notes: list[str]
) -> list[_Cell]:
    """A group's cells, by dataset; none on a dataset without what is subtracted, which `notes` get to say."""
    cells = []
    for (name, dataset), own in sums.items():
        if name != group:
            continue
        parts, contexts = [own], own.contexts
        if comparison.minus is not None:
            if (comparison.minus, dataset) not in sums:
                notes.append(f"{comparison.minus} has no token with a loss on {dataset}, which is left out.")
                continue
            parts.append(sums[comparison.minus, dataset])
            contexts = np.intersect1d(contexts, parts[1].contexts, assume_unique=True)
            if not len(contexts):
                notes.append(f"No context of {dataset} has tokens of both {group} and {comparison.minus}.")
                continue
        cell = _cell(parts, contexts)
        if comparison.minus_model is not None and comparison.minus_model not in cell.models:
            notes.append(f"{comparison.minus_model} has no losses on {dataset}, which is left out.")
            continue
        cells.append(cell)
    return cells


def _cell(parts: Sequence[ContextSums], contexts: np.ndarray) -> _Cell:
    """Sums by unit over these contexts, which all parts have."""
    own = parts[0]
    summed = [part.by_unit(contexts) for part in parts]
    units, by_unit = summed[0][0], [sums for _, _, sums in summed]
    complete = np.all([np.isfinite(of_part).all(axis=1) for of_part in by_unit], axis=0)
    of_row, step = own.rows["model"].to_numpy(), own.rows["step"].to_numpy()
    models = {}
    for model in own.rows["model"].unique(maintain_order=True):
        rows = np.flatnonzero(complete & (of_row == model))
        rows = rows[np.argsort(step[rows])]
        models[model] = step[rows], tuple(of_part[rows] for of_part in by_unit)
    tokens = tuple(of_part for _, of_part, _ in summed)
    return _Cell(own.dataset, own.units.kind, own.units.count, len(contexts), units, tokens, models)


def _curves(cells: Sequence[_Cell], comparison: Comparison) -> list[_Curve]:
    """The curves of one group, models before datasets."""
    names = list(dict.fromkeys(model for cell in cells for model in cell.models))
    of_model = {
        model: tuple(cell for cell in cells if model in cell.models)
        for model in names
        if model != comparison.minus_model
    }
    if comparison.by == "model":
        return [_Curve((model,), mine) for model, mine in of_model.items()]
    if comparison.by == "dataset":
        curves = [_Curve(tuple(m for m in of_model if m in cell.models), (cell,)) for cell in cells]
        return [curve for curve in curves if curve.models]
    return [_Curve((model,), (cell,)) for cell in cells for model in of_model if model in cell.models]


def _shared_steps(curve: _Curve, comparison: Comparison, notes: list[str]) -> np.ndarray:
    """The steps that all of a curve's models have on all of its datasets, int64 (steps,); `notes` get the others."""
    names = list(curve.models)
    if comparison.minus_model is not None:
        names.append(comparison.minus_model)
    steps_of = [set(cell.models[name][0].tolist()) for cell in curve.cells for name in names]
    shared = set.intersection(*steps_of)
    if left := sorted(set.union(*steps_of) - shared):
        where = listed(cell.dataset for cell in curve.cells)
        notes.append(
            f"Left out, as not all of {listed(names)} on {where} have them: steps {listed(left, 6)}."
        )
    return np.array(sorted(shared), dtype=np.int64)


def _frame(
    group: str, curve: _Curve, steps: np.ndarray, comparison: Comparison, draws: Draws
) -> pl.DataFrame:
    """One curve's rows."""
    strata, signs = _terms(curve, steps, comparison)
    estimated = estimate(strata, signs, draws)
    cells = curve.cells
    kinds = sorted({cell.unit for cell in cells})
    columns = {
        "group": group_label(group, comparison.minus),
        "model": model_label(curve.models, comparison.minus_model),
        "dataset": _dataset_label(curve),
        "tokens": int(sum(cell.tokens[0].sum() for cell in cells)),
        "contexts": sum(cell.contexts for cell in cells),
        "unit": kinds[0] if len(kinds) == 1 else "unit",
        "units": sum(len(cell.units) for cell in cells),
        "interval": estimated.kind,
    }
    frame = pl.DataFrame(
        {"step": steps, "mean": estimated.mean, "low": estimated.low, "high": estimated.high}
    )
    frame = frame.with_columns(skewness=pl.Series(estimated.skewness))
    frame = frame.with_columns(pl.col("low", "high", "skewness").fill_nan(None))
    return frame.with_columns(pl.lit(value).alias(name) for name, value in columns.items()).select(
        pl.col("group"), *(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    )


def _terms(curve: _Curve, steps: np.ndarray, comparison: Comparison) -> tuple[list[Stratum], list[int]]:
    """The means that a curve is made of, and their signs."""
    signs = [1] if comparison.minus is None else [1, -1]
    if comparison.minus_model is not None:
        signs += [-sign for sign in signs]
    return [_stratum(cell, curve.models, steps, comparison.minus_model) for cell in curve.cells], signs


def _dataset_label(curve: _Curve) -> str:
    """Return the text of a curve's column dataset."""
    cells = curve.cells
    return cells[0].dataset if len(cells) == 1 else f"{len(cells)} datasets"


def group_label(group: str, minus: str | None) -> str:
    """Return the text of a curve's column group."""
    return group if minus is None else f"{group} − {minus}"


def model_label(models: Sequence[str], minus_model: str | None) -> str:
    """Return the text of a curve's column model."""
    own = models[0] if len(models) == 1 else f"mean of {len(models)} models"
    return own if minus_model is None else f"{own} − {minus_model}"


def _stratum(cell: _Cell, models: Sequence[str], steps: np.ndarray, minus_model: str | None) -> Stratum:
    """A cell's sums at these steps: of the mean of the models, then of the model that is subtracted."""
    ratios = []
    for whose in [models] if minus_model is None else [models, [minus_model]]:
        for k, tokens in enumerate(cell.tokens):
            of_models = []
            for model in whose:
                own_steps, sums = cell.models[model]
                of_models.append(sums[k][np.searchsorted(own_steps, steps)])
            ratios.append(Ratio(tokens, np.mean(of_models, axis=0) if len(of_models) > 1 else of_models[0]))
    return Stratum(cell.dataset, cell.n_units, cell.units, tuple(ratios))


def _by_context(matrix: LossMatrix, dataset: str, units: Units | None) -> ContextSums:
    """Sums over one dataset's columns, which lie side by side in order of context."""
    inside = np.flatnonzero((matrix.columns["dataset"] == dataset).to_numpy())
    first, end = int(inside[0]), int(inside[-1]) + 1
    context = matrix.columns["context"].to_numpy()[first:end].astype(np.int64)
    starts = np.flatnonzero(np.diff(context, prepend=context[0] - 1))
    sums = np.empty((len(matrix.values), len(starts)))
    for row, losses in enumerate(matrix.values):
        np.add.reduceat(losses[first:end], starts, dtype=np.float64, out=sums[row])
    tokens = np.diff(np.append(starts, end - first))
    of_dataset = units or Units("context", np.arange(int(context[-1]) + 1))
    return ContextSums(dataset, of_dataset, matrix.rows, context[starts], tokens, sums)
