"""What a view shows, gathered from a store: several groups' trajectories in one frame, a PCA with its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.pca import PCAResult, pca
from trajstore.analysis.trajectories import group_trajectory
from trajstore.errors import NothingChosen, NotScored, TrajstoreError, UnknownStep
from trajstore.store.excerpts import with_context
from trajstore.store.matrix import Align, context_range
from trajstore.store.progress import SILENT, Progress
from trajstore.store.selection import named

if TYPE_CHECKING:
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Selection:
    """Which losses are meant; None is all there are."""

    datasets: Sequence[str] | None = None
    models: Sequence[str] | None = None
    """Names or globs."""
    steps: str = "all"
    """A SPEC, resolved for each model."""
    contexts: str | None = None
    """FIRST:END, as in Python."""
    align: Align = "predict"


def trajectories(
    store: Store, groups: Sequence[str], selection: Selection | None = None, progress: Progress = SILENT
) -> pl.DataFrame:
    """Mean loss by step of each group, with `group` before the columns of `trajectories.SCHEMA`.

    A dataset in which a group has no token with a loss gives no rows. Where no datasets are given, neither does one on
    which none of the models has losses, or that has none of the contexts, or of the steps where no model is named in
    full. Raises `NothingChosen` where no rows are left, otherwise as `Store.matrix`.
    """
    chosen = selection or Selection()
    models = _models_by_dataset(store, chosen)
    sizes = {group: store.groups.show(group).sizes for group in groups}
    if chosen.datasets and chosen.contexts is not None:
        for dataset in models:
            context_range(chosen.contexts, store.dataset(dataset).n_contexts)
    parts = []
    lenient = not chosen.datasets and not named(chosen.models)
    reason: TrajstoreError | None = None
    progress.start("trajectories", len(sizes) * len(models), "curves")
    try:
        for group, of_group in sizes.items():
            for dataset, on in models.items():
                if of_group.get(dataset):
                    try:
                        matrix = store.matrix(
                            dataset, on, group, chosen.steps, chosen.contexts, align=chosen.align
                        )
                        parts.append(group_trajectory(matrix).select(pl.lit(group).alias("group"), pl.all()))
                    except NothingChosen as error:
                        reason = error
                    except UnknownStep as error:
                        if not lenient:
                            raise
                        reason = error
                progress.advance(1, f"{group} on {dataset}")
    finally:
        progress.stop()
    if not parts:
        if isinstance(reason, UnknownStep) or (reason is not None and len(sizes) * len(models) == 1):
            raise reason
        raise NothingChosen(
            f"No token of {', '.join(sizes)} in {', '.join(models)} has a loss (within these contexts). See their "
            "sizes: trajstore group list"
        )
    return pl.concat(parts)


def _models_by_dataset(store: Store, chosen: Selection) -> dict[str, Sequence[str] | None]:
    """The datasets meant, each with the names or globs of models to ask for on it."""
    if chosen.datasets:
        return dict.fromkeys(chosen.datasets, chosen.models)
    scored = store.scored(chosen.models)
    if not any(scored.values()):
        every = store.scored()
        if not any(every.values()):
            raise TrajstoreError(
                "The store has no losses yet. Score a model: trajstore score MODEL --dataset D"
            )
        raise NotScored(list(scored), store.dataset_names(), every)
    if lacking := [name for name in named(chosen.models) if not scored[name]]:
        raise NotScored(lacking, store.dataset_names(), scored)
    found: dict[str, Sequence[str] | None] = {}
    for dataset in store.dataset_names():
        if any(dataset in on for on in scored.values()):
            asked = [chosen.models] if isinstance(chosen.models, str) else chosen.models
            absent = [name for name in named(asked) if dataset not in scored[name]]
            found[dataset] = asked and [each for each in asked if each not in absent]
    return found


def components(
    store: Store,
    datasets: Sequence[str],
    selection: Selection | None = None,
    group: str | None = None,
    n: int = 10,
    top: int = 5,
) -> tuple[PCAResult, pl.DataFrame]:
    """A joint PCA over models and datasets, and its highest and lowest tokens with `before` and `after`."""
    chosen = selection or Selection()
    matrix = store.matrix(datasets, chosen.models, group, chosen.steps, chosen.contexts, align=chosen.align)
    result = pca(matrix, n)
    return result, with_context(store, result.top_tokens(top))
