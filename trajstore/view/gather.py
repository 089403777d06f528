"""What a view shows, gathered from a store: several groups' trajectories in one frame, a PCA with its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.pca import PCAResult, pca
from trajstore.analysis.trajectories import trajectory
from trajstore.errors import NothingChosen, NotScored, TrajstoreError, UnknownStep
from trajstore.store.excerpts import with_context
from trajstore.store.matrix import Align, Sites, check_align, choose_sites, context_range
from trajstore.store.progress import SILENT, Progress
from trajstore.store.selection import Scored, checkpoints, named
from trajstore.store.sums import context_sums

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
    check_align(chosen.align)
    names = list(dict.fromkeys(groups))
    for group in names:
        store.groups.definition(group)
    rows = _checkpoints(store, chosen)
    found: dict[tuple[str, str], pl.DataFrame] = {}
    reasons: list[NothingChosen] = []
    progress.start("trajectories", sum(map(len, rows.values())), "slices")
    try:
        for dataset, of_dataset in rows.items():
            try:
                sites = _sites(store, names, dataset, chosen)
            except NothingChosen as error:
                reasons.append(error)
                progress.advance(len(of_dataset), dataset)
                continue
            for group, sums in context_sums(store.path, of_dataset, sites, progress=progress).items():
                found[group, dataset] = trajectory(sums).select(pl.lit(group).alias("group"), pl.all())
    finally:
        progress.stop()
    if not found:
        raise reasons[0] if len(reasons) == 1 else _nothing(names, list(rows))
    return pl.concat(found[key] for key in product(names, rows) if key in found)


def _sites(store: Store, groups: Sequence[str], dataset: str, chosen: Selection) -> dict[str, Sites]:
    """Sites in a dataset of each group that has a token with a loss there; raises `NothingChosen` where none has."""
    here = store.dataset(dataset)
    sites = {
        group: choose_sites(
            here, store.groups.members(group, here), chosen.contexts, chosen.align, pad_first=False
        )
        for group in groups
    }
    if not (kept := {group: each for group, each in sites.items() if len(each.tokens)}):
        raise _nothing(groups, [dataset])
    return kept


def _nothing(groups: Sequence[str], datasets: Sequence[str]) -> NothingChosen:
    return NothingChosen(
        f"No token of {', '.join(groups)} in {', '.join(datasets)} has a loss (within these contexts). See their "
        "sizes: trajstore group list"
    )


def _checkpoints(store: Store, chosen: Selection) -> dict[str, list[tuple[str, int]]]:
    """(model, step) of the checkpoints meant, by dataset."""
    scored = store.scored(chosen.models)
    if chosen.datasets:
        if chosen.contexts is not None:
            for dataset in chosen.datasets:
                context_range(chosen.contexts, store.dataset(dataset).n_contexts)
        models = dict.fromkeys(chosen.datasets, chosen.models)
    else:
        models = _models_by_dataset(store, chosen, scored)
    lenient = not chosen.datasets and not named(chosen.models)
    rows = {}
    reason: UnknownStep | None = None
    for dataset, on in models.items():
        store.dataset(dataset)
        try:
            rows[dataset] = checkpoints(scored, [dataset], on, chosen.steps)
        except UnknownStep as error:
            if not lenient:
                raise
            reason = error
    if reason is not None and not rows:
        raise reason
    return rows


def _models_by_dataset(store: Store, chosen: Selection, scored: Scored) -> dict[str, Sequence[str] | None]:
    """The datasets with losses of the models meant, each with the names or globs of models to ask for on it."""
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
