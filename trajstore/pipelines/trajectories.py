"""Trajectories of groups from a store: several groups, models and datasets in one frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison, ResampledCurve, group_label
from trajstore.analysis.trajectories import resampled_trajectories as resampled_curves
from trajstore.analysis.trajectories import trajectories as curves
from trajstore.errors import NothingChosen, UnknownName, listed
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.context_sums import ContextSums, context_sums
from trajstore.store.matrix.selection import Selection, checkpoints_by_dataset, sites_by_dataset

if TYPE_CHECKING:
    from trajstore.store.store import Store


def trajectories(
    store: Store,
    groups: Sequence[str],
    selection: Selection | None = None,
    progress: Progress = SILENT,
    comparison: Comparison | None = None,
    interval: Interval | None = None,
) -> pl.DataFrame:
    """Mean loss by step of each group, or differences, with `group` before the columns of `trajectories.SCHEMA`.

    A group may be an expression, `position_is(500)`. `comparison` says what is pooled and what is subtracted; a model
    that is subtracted need not be in the selection. A dataset in which a group has no token with a loss gives no rows.
    Where no datasets are given, neither does one on which none of the models has losses, or that has none of the
    contexts, or of the steps where no model is named in full. Raises `NothingChosen` where no rows are left, otherwise
    as `Store.matrix`.
    """
    how = comparison or Comparison()
    names = list(dict.fromkeys(groups))
    batches = _gathered(store, names, selection or Selection(), how, progress)
    frame = pl.concat([curves(sums, names, how, interval, progress) for sums in batches])
    if frame.is_empty():
        raise NothingChosen(_incomparable(how))
    place = {group_label(group, how.minus): n for n, group in enumerate(names)}
    return frame.sort(pl.col("group").replace_strict(place, return_dtype=pl.Int64), maintain_order=True)


def resampled_trajectories(
    store: Store,
    groups: Sequence[str],
    selection: Selection | None = None,
    progress: Progress = SILENT,
    comparison: Comparison | None = None,
    interval: Interval | None = None,
) -> list[ResampledCurve]:
    """The curves of `trajectories` in each resample of their texts; raises as `trajectories`."""
    how = comparison or Comparison()
    names = list(dict.fromkeys(groups))
    batches = _gathered(store, names, selection or Selection(), how, progress)
    curves = [curve for sums in batches for curve in resampled_curves(sums, names, how, interval, progress)]
    if not curves:
        raise NothingChosen(_incomparable(how))
    return curves


def _gathered(
    store: Store, names: Sequence[str], chosen: Selection, comparison: Comparison, progress: Progress
) -> Iterator[dict[tuple[str, str], ContextSums]]:
    """Sums by (group, dataset) of what is compared together: a dataset's, or all; raises as `trajectories`."""
    every = list(dict.fromkeys([*names, *([comparison.minus] if comparison.minus else [])]))
    store.groups.check(*every)
    rows = checkpoints_by_dataset(store, with_model(store, chosen, comparison.minus_model))
    empty = set(every)
    together: dict[tuple[str, str], ContextSums] = {}
    waiting, started = sum(map(len, rows.values())), False

    def skipped(dataset: str) -> None:
        nonlocal waiting
        waiting -= len(rows[dataset])
        if started:
            progress.advance(len(rows[dataset]), dataset)

    try:
        for dataset, sites in sites_by_dataset(store, chosen, rows, every, skipped):
            if not started:
                progress.start("trajectories", waiting, "slices")
                started = True
            sums = context_sums(store.path, rows[dataset], sites, progress=progress)
            empty -= set(sums)
            sums_of_dataset = {(group, dataset): of_group for group, of_group in sums.items()}
            if comparison.by == "model":
                together |= sums_of_dataset
            else:
                yield sums_of_dataset
        if together:
            yield together
    finally:
        if started:
            progress.stop()
    for group in filter(empty.__contains__, every):
        progress.say(f"{group} has no token with a loss in {listed(rows)}, and is left out.")


def with_model(store: Store, chosen: Selection, model: str | None) -> Selection:
    """The selection with a model, by its name, whose losses are needed as well."""
    if model is None:
        return chosen
    if model not in (known := store.model_names()):
        raise UnknownName("model", model, known, "Score it: trajstore score MODEL --dataset D")
    return chosen.with_model(model)


def _incomparable(comparison: Comparison) -> str:
    """Why there is nothing where there are losses of all groups."""
    if comparison.minus is not None:
        return f"No context has tokens with a loss of both the group and {comparison.minus}, so there is no difference."
    if comparison.minus_model is not None:
        return (
            f"No other model asked for has a step in common with {comparison.minus_model}. See what is there: "
            "trajstore status"
        )
    return "No step is there for all that should be pooled. See what is there: trajstore status"
