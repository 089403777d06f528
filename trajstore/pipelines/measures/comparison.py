"""Differences and means of measures' curves: between two measures, two models, over models or over datasets.

Where all curves concerned have values of contexts, means are over the contexts that they share, which are resampled
together, as the tokens of groups are. Otherwise curves are added up as numbers, with the standard error that
independent ones have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import Draws
from trajstore.analysis.trajectories import Comparison, group_label, model_label, trajectories
from trajstore.errors import NothingChosen
from trajstore.pipelines.measures.curves import MeasureCurve, with_normal_intervals
from trajstore.progress import Progress
from trajstore.store.matrix.context_sums import ContextSums


def compared(
    curves: Sequence[MeasureCurve],
    subtracted: Sequence[MeasureCurve],
    comparison: Comparison,
    draws: Draws,
    progress: Progress,
) -> pl.DataFrame:
    """The curves that a comparison makes of these, all columns but `params` cast as in a measure's trajectory.

    `subtracted` are those of the measure `comparison.minus`: of the same layer and head, or of none. Raises
    `NothingChosen` where nothing can be compared.
    """
    places: dict[str, list[MeasureCurve]] = {}
    for curve in curves:
        places.setdefault(curve.label, []).append(curve)
    frames = []
    for mine in places.values():
        taken = _same_place(mine[0], subtracted)
        if comparison.minus is not None and not taken:
            progress.say(f"{comparison.minus} has no value at {mine[0].label}, which is left out.")
            continue
        if all(curve.by_context is not None for curve in (*mine, *taken)):
            frame = _of_contexts(mine, taken, comparison, draws, progress)
        else:
            frame = _of_numbers(mine, taken, comparison, draws)
        first = mine[0]
        own = {"layer": first.layer, "head": first.head, "params": first.params}
        name = group_label(first.measure, comparison.minus)
        if not frame.is_empty():
            columns = (pl.lit(value).alias(key) for key, value in {"measure": name, **own}.items())
            frames.append(frame.with_columns(*columns))
    if not frames:
        raise NothingChosen(
            "No checkpoint has all that is to be compared. See what is there: FROM measures, or trajstore model show M"
        )
    return pl.concat(frames, how="diagonal_relaxed")


def _same_place(curve: MeasureCurve, others: Sequence[MeasureCurve]) -> list[MeasureCurve]:
    """The curves of another measure at the layer and head of one, else of its layer, else of no layer.

    Raises `NothingChosen` where there are several at that place, by their params.
    """
    for place in ((curve.layer, curve.head), (curve.layer, None), (None, None)):
        if chosen := [other for other in others if (other.layer, other.head) == place]:
            if len({other.label for other in chosen}) > 1:
                raise NothingChosen(
                    f"{chosen[0].measure} is there with several params, so which to subtract is not clear: "
                    f"{'; '.join(sorted({other.label for other in chosen}))}."
                )
            return chosen
    return []


def _of_contexts(
    mine: Sequence[MeasureCurve],
    taken: Sequence[MeasureCurve],
    comparison: Comparison,
    draws: Draws,
    progress: Progress,
) -> pl.DataFrame:
    """A comparison of means over contexts."""
    minus = None if comparison.minus is None else taken[0].label
    named = [(mine[0].label, mine), *([(minus, taken)] if minus is not None else [])]
    sums = {
        (label, str(dataset)): _stacked([curve for curve in part if curve.dataset == dataset])
        for label, part in named
        for dataset in dict.fromkeys(curve.dataset for curve in part)
    }
    for label, dataset in list(sums) if minus is not None else ():
        if label == minus or (minus, dataset) not in sums:
            continue
        own, other = sums[label, dataset], sums[str(minus), dataset]
        sums[label, dataset] = _at(own, other.rows)
        sums[str(minus), dataset] = _at(other, own.rows)
    how = Comparison(comparison.by, minus, comparison.minus_model)
    frame = trajectories(sums, [mine[0].label], how, draws=draws, progress=progress)
    return frame.rename({"mean": "value"}).drop("group", "tokens", "skewness")


def _stacked(curves: Sequence[MeasureCurve]) -> ContextSums:
    """The values of several models on one dataset, over the contexts that all have."""
    parts = [curve.by_context for curve in curves if curve.by_context is not None]
    contexts = parts[0].contexts
    for part in parts[1:]:
        contexts = np.intersect1d(contexts, part.contexts, assume_unique=True)
    values = np.concatenate([part.sums[:, np.searchsorted(part.contexts, contexts)] for part in parts])
    rows = pl.concat([part.rows for part in parts])
    return ContextSums(
        parts[0].dataset, parts[0].units, rows, contexts, np.ones(len(contexts), np.int64), values
    )


def _at(sums: ContextSums, rows: pl.DataFrame) -> ContextSums:
    """The values at the checkpoints that others have as well, in an order that both share."""
    numbered = sums.rows.with_row_index("row").join(rows, on=["model", "step"], how="semi")
    numbered = numbered.sort("model", "step")
    return replace(sums, rows=numbered.drop("row"), sums=sums.sums[numbered["row"].to_numpy()])


def _of_numbers(
    mine: Sequence[MeasureCurve], taken: Sequence[MeasureCurve], comparison: Comparison, draws: Draws
) -> pl.DataFrame:
    """A comparison of numbers, each of a checkpoint as a whole."""
    rows = _numbers(mine)
    if comparison.minus is not None:
        rows = _subtracted(rows, _numbers(taken), ["model", "dataset", "step"])
    if (other := comparison.minus_model) is not None:
        rows = _subtracted(
            rows.filter(pl.col("model") != other),
            rows.filter(pl.col("model") == other).drop("model"),
            ["dataset", "step"],
        )
    if comparison.by is not None:
        pooled = "dataset" if comparison.by == "model" else "model"
        rows = rows.with_columns(members=pl.col(pooled).n_unique().over(comparison.by))
        names = rows.group_by(comparison.by).agg(pl.col(pooled).unique(maintain_order=True).alias("names"))
        rows = (
            rows.group_by(comparison.by, "step", maintain_order=True)
            .agg(
                pl.col("value").mean(),
                (pl.col("variance").sum() / pl.len() ** 2).alias("variance"),
                (pl.len() == pl.col("members").first()).alias("whole"),
            )
            .filter("whole")
            .join(names, on=comparison.by, nulls_equal=True, maintain_order="left")
        )
        labels = [_pooled_label(pooled, members) for members in rows["names"].to_list()]
        rows = rows.with_columns(pl.Series(pooled, labels, pl.String))
    if other is not None:
        rows = rows.with_columns(pl.format("{} − {}", "model", pl.lit(other)).alias("model"))
    rows = with_normal_intervals(rows, draws.interval).sort("model", "dataset", "step", maintain_order=True)
    return rows.select("model", "dataset", "step", "value", "low", "high", "interval")


def _pooled_label(pooled: str, members: list[str | None]) -> str | None:
    """The name of what is pooled: of models, or of datasets."""
    if pooled == "model":
        return model_label([str(member) for member in members], None)
    return members[0] if len(members) == 1 else f"{len(members)} datasets"


def _numbers(curves: Sequence[MeasureCurve]) -> pl.DataFrame:
    """A row for each checkpoint of the curves: model, dataset, step, value, variance (NaN where not known)."""
    kinds = {"model": pl.String, "dataset": pl.String}
    return pl.concat(
        pl.DataFrame(
            {"step": curve.steps, "value": curve.values, "variance": curve.stderr**2},
            schema={"step": pl.Int64, "value": pl.Float64, "variance": pl.Float64},
        ).with_columns(pl.lit(getattr(curve, name), kind).alias(name) for name, kind in kinds.items())
        for curve in curves
    )


def _subtracted(rows: pl.DataFrame, others: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Rows less those of the same model, dataset and step; rows of others without a dataset go with any."""
    if "dataset" in by and others["dataset"].is_null().all() and not rows["dataset"].is_null().all():
        others, by = others.drop("dataset"), [name for name in by if name != "dataset"]
    joined = rows.join(others, on=by, nulls_equal=True, suffix="_other", maintain_order="left")
    return joined.with_columns(
        pl.col("value") - pl.col("value_other"), pl.col("variance") + pl.col("variance_other")
    ).select(rows.columns)
