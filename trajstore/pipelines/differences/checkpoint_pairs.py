"""Pairs of checkpoints to compare: each step of a model with the one before, two models, or the same items in two
prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.differences import Pair, pairs_of_models, stepwise
from trajstore.arguments.spelling import option
from trajstore.errors import NothingChosen, TrajstoreError, UnknownName, listed
from trajstore.pipelines.differences.differences import ComparedColumns, DifferenceInputs
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.context_sums import Units
from trajstore.store.matrix.items import align_items
from trajstore.store.matrix.matrix import Sites, column_labels, union_of
from trajstore.store.matrix.selection import (
    Selection,
    checkpoints_by_dataset,
    none_with_loss,
    sites_by_dataset,
)
from trajstore.store.matrix.steps import resolve

if TYPE_CHECKING:
    from trajstore.store.store import Store

EVERY = ("every_token",)
"""The groups where none is given."""


def of_steps(
    store: Store, groups: Sequence[str] = EVERY, selection: Selection | None = None
) -> DifferenceInputs:
    """Each chosen step of each model minus the one before it among those chosen.

    Raises as `trajectories`, and `NothingChosen` where no model has two of the steps.
    """
    chosen = selection or Selection()
    store.groups.check(*groups)
    rows = checkpoints_by_dataset(store, chosen)
    pairs = {dataset: stepwise(of_dataset) for dataset, of_dataset in rows.items()}
    if not any(pairs.values()):
        raise NothingChosen(
            f"{option('steps', chosen.steps)} takes in a single step of each model, where a difference needs two. Give "
            f"more: {option('steps', '512,1000')} or {option('steps', 'log')}"
        )
    return _of_datasets(
        store, groups, chosen, {name: pairs_there for name, pairs_there in pairs.items() if pairs_there}
    )


def of_models(
    store: Store,
    first: str,
    second: str,
    groups: Sequence[str] = EVERY,
    selection: Selection | None = None,
    progress: Progress = SILENT,
) -> DifferenceInputs:
    """The second model minus the first, at the chosen ones of the steps that both have.

    Raises `UnknownName`, `UnknownStep`, `BadSteps`, `NothingChosen` where the two share no dataset or step, and
    `TrajstoreError` where they are the same.
    """
    if first == second:
        raise TrajstoreError(f"Two models are compared here, and {first} is one.")
    chosen = selection or Selection()
    store.groups.check(*groups)
    pairs = {
        dataset: pairs_of_models(steps, first, second)
        for dataset, steps in shared_steps(store, [first, second], chosen, progress).items()
    }
    return _of_datasets(store, groups, chosen, pairs)


def shared_steps(
    store: Store, models: Sequence[str], selection: Selection, progress: Progress = SILENT
) -> dict[str, list[int]]:
    """The chosen ones of the steps that all models have, by dataset; `progress` is told which not all have.

    Raises `UnknownName`, `UnknownStep`, `BadSteps`, and `NothingChosen` where they share no dataset or no step.
    """
    known = store.model_names()
    for model in models:
        if model not in known:
            raise UnknownName("model", model, known, "Score it: trajstore score MODEL --dataset D")
    datasets = [store.dataset(name).name for name in selection.datasets or store.dataset_names()]
    by_dataset: dict[str, list[int]] = {}
    empty = []
    for dataset in datasets:
        by_model = {model: set(store.steps(model, dataset)) for model in models}
        shared = set.intersection(*by_model.values())
        if not shared:
            empty.append(dataset)
            continue
        for model, steps in by_model.items():
            if alone := sorted(steps - shared):
                progress.say(
                    f"Left out on {dataset}, as not all have them: steps {listed(alone, 6)} of {model}."
                )
        by_dataset[dataset] = resolve(selection.steps, sorted(shared), f"{' and '.join(models)} on {dataset}")
        _tell_unlike(store, models, dataset, by_dataset[dataset][-1], progress)
    if not by_dataset or (empty and selection.datasets):
        raise NothingChosen(
            f"{listed(models)} have no step in common on {listed(empty)}. See what is there: trajstore status"
        )
    return by_dataset


def _tell_unlike(store: Store, models: Sequence[str], dataset: str, step: int, progress: Progress) -> None:
    """Say where models were scored in ways that move losses by more than their rounding."""
    made = {model: store.slice_facts(model, dataset, step).provenance for model in models}
    for what, of in (
        ("dtypes", {model: provenance.dtype for model, provenance in made.items()}),
        ("vocabularies of the softmax", {model: provenance.vocab for model, provenance in made.items()}),
    ):
        if len(set(of.values())) > 1:
            values = listed(f"{model} {value}" for model, value in of.items())
            progress.say(
                f"On {dataset} the {what} differ ({values}), and part of what differs in the losses is theirs."
            )


def _of_datasets(
    store: Store, groups: Sequence[str], selection: Selection, pairs: dict[str, list[Pair]]
) -> DifferenceInputs:
    """The tokens of any of the groups in each dataset."""
    parts = []
    for dataset, sites in sites_by_dataset(store, selection, pairs, groups):
        every = union_of(list(sites.values()))
        columns = {group: np.searchsorted(every.tokens, of_group.tokens) for group, of_group in sites.items()}
        units, context = Units.of(every.dataset), every.contexts
        parts.append(ComparedColumns(dataset, every, every, pairs[dataset], columns, units, context))
    return DifferenceInputs(parts, pl.concat(column_labels(part.sites) for part in parts))


def of_prompts(
    store: Store,
    first: str,
    second: str,
    groups: Sequence[str] = EVERY,
    models: Sequence[str] | None = None,
    steps: str = "all",
    all_items: bool = False,
    progress: Progress = SILENT,
) -> DifferenceInputs:
    """The losses on the second dataset minus those on the first, at the places that both have, item by item.

    Items with the same tokens before them in both, as a few-shot problem without an example, are left out unless
    `all_items`, since their differences are exactly 0; `progress` is told how many.

    A place is in a group if its token is in it in either dataset. What is resampled is that of the dataset whose
    texts are the larger pieces. Raises as `Store.matrix` with align "item", and `NothingChosen` where all items have
    the same tokens before them.
    """
    store.groups.check(*groups)
    if first == second:
        raise TrajstoreError(f"Two prompts are two datasets, and {first} is one.")
    datasets = [store.dataset(name) for name in (first, second)]
    sites, columns = align_items(datasets, None)
    if not all_items:
        sites, columns = _prompted_apart(sites, columns, progress)
    masks = {}
    for group in groups:
        inside = [
            np.isin(chosen.tokens, store.groups.members(group, chosen.dataset), assume_unique=True)
            for chosen in sites
        ]
        masks[group] = inside[0] | inside[1]
    any_of = np.any(list(masks.values()), axis=0)
    if not any_of.any():
        raise none_with_loss(store, Selection(), groups, [first, second])
    kept = np.flatnonzero(any_of)
    before, after = (_some(chosen, kept) for chosen in sites)
    within = {group: np.flatnonzero(mask[kept]) for group, mask in masks.items() if mask.any()}
    scored = store.scored(list(models) if models is not None else None)
    pairs = [
        Pair(model, step, model, step)
        for model, step in checkpoints(scored, [first, second], models, steps)
        if all(step in scored[model].get(name, ()) for name in (first, second))
    ]
    if not pairs:
        raise NothingChosen(
            f"No model has one of these steps on both {first} and {second}. See what is there: trajstore status"
        )
    units = [Units.of(dataset) for dataset in datasets]
    coarser = int(units[1].count < units[0].count)
    context = (before, after)[coarser].contexts
    part = ComparedColumns(f"{second} − {first}", after, before, pairs, within, units[coarser], context)
    return DifferenceInputs([part], columns[kept], (first, second))


def _prompted_apart(
    sites: Sequence[Sites], columns: pl.DataFrame, progress: Progress
) -> tuple[list[Sites], pl.DataFrame]:
    """The places of items whose contexts differ before them."""
    same = _same_so_far(*sites)
    if not same.any():
        return list(sites), columns
    first, second = (of_dataset.dataset.name for of_dataset in sites)
    items, every = columns.filter(pl.Series(same))["item"].n_unique(), columns["item"].n_unique()
    if same.all():
        raise NothingChosen(
            f"Every item has the same tokens before it in {first} and {second}, so that all differences are exactly 0. "
            f"Show them: {option('all_items', True)}"
        )
    progress.say(
        f"Left out: {items:,} of {every:,} items, which have the same tokens before them in {first} and {second}, as "
        "few-shot problems without an example; their differences are exactly 0. Keep them: "
        f"{option('all_items', True)}."
    )
    kept = np.flatnonzero(~same)
    return [_some(of_dataset, kept) for of_dataset in sites], columns[kept]


def _same_so_far(before: Sites, after: Sites) -> np.ndarray:
    """Return whether all tokens of a context up to a place are the same in both datasets, bool (places,)."""
    contexts = np.stack([side.contexts for side in (before, after)])
    offsets = [side.dataset.offsets for side in (before, after)]
    ids = [side.dataset.frame(["token"])["token"].to_numpy() for side in (before, after)]
    positions = np.stack(
        [
            side.tokens - offset[context]
            for side, offset, context in zip((before, after), offsets, contexts, strict=True)
        ]
    )
    pairs, of_place = np.unique(contexts, axis=1, return_inverse=True)
    shared = np.zeros(pairs.shape[1], dtype=np.int64)
    for number, pair in enumerate(pairs.T.tolist()):
        texts = [
            of[offset[context] : offset[context + 1]]
            for of, offset, context in zip(ids, offsets, pair, strict=True)
        ]
        least = min(map(len, texts))
        unlike = np.flatnonzero(texts[0][:least] != texts[1][:least])
        shared[number] = unlike[0] if len(unlike) else least
    same: np.ndarray = (positions[0] == positions[1]) & (positions[0] < shared[of_place.ravel()])
    return same


def _some(sites: Sites, kept: np.ndarray) -> Sites:
    """Return the sites with these numbers."""
    assert sites.take is not None
    return Sites(sites.dataset, sites.tokens[kept], sites.take[kept])
