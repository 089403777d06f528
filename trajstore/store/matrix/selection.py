"""Selections of losses, resolved in a store: checkpoints as rows, and sites of its datasets as columns.

What is named is meant, and lacking it is an error; what a glob takes in, or nobody chose, gives the losses it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trajstore.arguments.aliases import also_named
from trajstore.arguments.choices import Align, Missing
from trajstore.arguments.spelling import option
from trajstore.display import Brief, count, of_checkpoints, of_names
from trajstore.errors import NothingChosen, NotScored, TrajstoreError, UnknownStep, listed
from trajstore.progress import Progress
from trajstore.schema import GROUP_NAME
from trajstore.store.files.datasets import Dataset
from trajstore.store.matrix.blocks import SliceBlocks
from trajstore.store.matrix.checkpoints import Scored, checkpoints, named
from trajstore.store.matrix.matrix import Sites, check_align, choose_sites, context_range


class GroupMembers(Protocol):
    """The groups of a store."""

    def members(self, group: str, dataset: Dataset, /) -> np.ndarray:
        """Rows of the dataset's tokens.parquet that are in a group or an expression of groups, int64, ascending."""


class LossStore(Protocol):
    """A store, as far as a selection looks at it."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def groups(self) -> GroupMembers:
        """Its groups."""

    def dataset_names(self) -> list[str]:
        """Names of the datasets, sorted."""

    def dataset(self, name: str, /) -> Dataset:
        """A dataset; raises `UnknownName`."""

    def scored(self, patterns: Sequence[str] | None = None, /) -> Scored:
        """Steps by dataset by model, of these models; raises `UnknownName`."""


@dataclass(frozen=True)
class Selection:
    """A selection of losses; None is all there are. `dataset` and `model` may be given for `datasets` and `models`."""

    datasets: Sequence[str] | None = None
    models: Sequence[str] | None = None
    """Names or globs."""
    steps: str = "all"
    """A SPEC, resolved for each model."""
    contexts: str | None = None
    """FIRST:END, as in Python."""
    align: Align = "predict"
    """The losses of a group's tokens, or of the tokens after them."""
    group: str | None = None
    """A group's name, a macro's call, or an expression of both."""

    def __post_init__(self) -> None:
        """One name stands for a list of it."""
        for name in ("datasets", "models"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, [value])

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it; a group only where there is one."""
        lists = {
            name: None if value is None else list(value)
            for name, value in (("datasets", self.datasets), ("models", self.models))
        }
        group = {} if self.group is None else {"group": self.group}
        return {**lists, "steps": self.steps, "contexts": self.contexts, "align": self.align, **group}

    @property
    def matrix_facts(self) -> dict[str, Any]:
        """As JSON has it where one matrix is made of it, with a group or null."""
        return {**self.facts, "group": self.group}

    def within(self, groups: Sequence[str]) -> list[str]:
        """Groups, or expressions of their tokens that are in the selection's group as well."""
        if self.group is None:
            return list(groups)
        return [f"({group}) & ({self.group})" for group in groups] or [self.group]

    def with_model(self, name: str) -> Selection:
        """The selection with another model beside those it has."""
        return self if self.models is None else replace(self, models=[*self.models, name])


Selection.__init__ = also_named(dataset="datasets", model="models")(Selection.__init__)  # type: ignore[method-assign]


@dataclass(frozen=True, repr=False)
class Inputs(Brief):
    """The rows and columns of a matrix that a selection comes to."""

    selection: Selection
    checkpoints: list[tuple[str, int]]
    """(model, step) of the rows."""
    sites: list[Sites]
    """Of each dataset, in order of the columns."""

    def brief(self) -> str:
        """Models, steps, datasets and the number of tokens."""
        tokens = count(sum(len(chosen.tokens) for chosen in self.sites), "token")
        on = of_names((chosen.dataset.name for chosen in self.sites), "dataset")
        return ", ".join([of_checkpoints(self.checkpoints), on, tokens])

    def blocks(self, store: LossStore, missing: bool, progress: Progress, limit: int) -> SliceBlocks:
        """The losses, to be read block by block."""
        lacking: Missing = "nan" if missing else "error"
        return SliceBlocks(store.path, self.checkpoints, self.sites, lacking, progress, limit)


def resolve(store: LossStore, selection: Selection, pad_first: bool = False) -> Inputs:
    """The matrix that a selection comes to: rows of which each has every column, but for slices that are missing.

    A step counts as there where the model has it on any of the datasets. Raises `UnknownName`, `GroupError`,
    `NothingChosen`, `NotScored`, `UnknownStep`, `BadSteps`.
    """
    on = datasets_of(store, selection)
    sites = [sites_in(store, selection, name, pad_first=pad_first) for name in on]
    require_sites(store, selection, sites)
    return Inputs(replace(selection, datasets=on), joint_checkpoints(store, selection, on), sites)


def datasets_of(store: LossStore, selection: Selection) -> list[str]:
    """The datasets chosen, or all on which any of the models has losses; raises `UnknownName` and `NotScored`."""
    if selection.datasets is not None:
        return list(dict.fromkeys(selection.datasets))
    scored = store.scored(selection.models)
    known = {name for on in scored.values() for name in on}
    if not known:
        raise NotScored(list(scored), store.dataset_names(), scored)
    return [name for name in store.dataset_names() if name in known]


def sites_in(
    store: LossStore, selection: Selection, dataset: str, groups: Sequence[str] = (), pad_first: bool = False
) -> Sites:
    """The columns of one dataset: of the tokens in the selection those of any of the groups, all if there are none.

    Raises `UnknownName`, `GroupError`, and `NothingChosen` for contexts beyond the last.
    """
    of = store.dataset(dataset)
    members = None
    if groups:
        members = np.concatenate([store.groups.members(group, of) for group in groups])
    if selection.group is not None:
        within = store.groups.members(selection.group, of)
        members = within if members is None else members[np.isin(members, within)]
    return choose_sites(of, members, selection.contexts, selection.align, pad_first)


def sites_by_group(
    store: LossStore, selection: Selection, dataset: str, groups: Sequence[str]
) -> dict[str, Sites]:
    """The columns in a dataset of each group that has a token with a loss there.

    Raises as `sites_in`, and `NothingChosen` where none has.
    """
    sites = {group: sites_in(store, selection, dataset, [group]) for group in groups}
    if not (kept := {group: chosen for group, chosen in sites.items() if len(chosen.tokens)}):
        raise none_with_loss(store, selection, groups, [dataset])
    return kept


def sites_by_dataset(
    store: LossStore,
    selection: Selection,
    datasets: Collection[str],
    groups: Sequence[str],
    skipped: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[str, dict[str, Sites]]]:
    """(dataset, `sites_by_group`) of each dataset in which a group has a token with a loss; `skipped` hears the others.

    Raises as `sites_in`, and `NothingChosen` after the last where none of the datasets has any.
    """
    reasons = []
    for dataset in datasets:
        try:
            sites = sites_by_group(store, selection, dataset, groups)
        except NothingChosen as error:
            reasons.append(error)
            skipped(dataset)
        else:
            yield dataset, sites
    if len(reasons) == len(datasets):
        raise reasons[0] if len(reasons) == 1 else none_with_loss(store, selection, groups, list(datasets))


def none_with_loss(
    store: LossStore, selection: Selection, groups: Sequence[str], datasets: Sequence[str]
) -> NothingChosen:
    """The error where none of the groups has a token with a loss."""
    return NothingChosen(
        f"No token of {', '.join(groups)} in {', '.join(datasets)} has a loss"
        f"{_why_none(store, selection, groups, datasets)}. See their sizes: trajstore group list"
    )


def require_sites(store: LossStore, selection: Selection, sites: Sequence[Sites]) -> None:
    """Raise `NothingChosen` where nothing at all was chosen."""
    if any(len(chosen.tokens) for chosen in sites):
        return
    datasets = [chosen.dataset.name for chosen in sites]
    names = ", ".join(datasets)
    if (group := selection.group) is None:
        raise NothingChosen(f"No token of {names} was chosen.")
    show = (
        f"its size in each dataset: trajstore group show {group}"
        if GROUP_NAME.fullmatch(group)
        else "sizes: trajstore group list"
    )
    why = _why_none(store, selection, [group], datasets)
    raise NothingChosen(f"The group {group!r} has no token with a loss in {names}{why}. See {show}")


def _why_none(store: LossStore, selection: Selection, groups: Sequence[str], datasets: Sequence[str]) -> str:
    """Return why none of the groups has a token with a loss, where that is known."""
    if not any(
        len(store.groups.members(group, store.dataset(name))) for group in groups for name in datasets
    ):
        return f": the group{' is' if len(groups) == 1 else 's are'} empty there"
    return "" if selection.contexts is None else " (within these contexts)"


def joint_checkpoints(
    store: LossStore, selection: Selection, datasets: Sequence[str]
) -> list[tuple[str, int]]:
    """(model, step) of the rows that the datasets share.

    Raises `UnknownName`, `NotScored`, `UnknownStep` and `BadSteps`.
    """
    return checkpoints(store.scored(selection.models), datasets, selection.models, selection.steps)


def checkpoints_by_dataset(store: LossStore, selection: Selection) -> dict[str, list[tuple[str, int]]]:
    """(model, step) of the checkpoints meant, by dataset.

    Where no datasets are given, one on which none of the models has losses, or of the steps where no model is named in
    full, is left out. Raises as `joint_checkpoints`.
    """
    check_align(selection.align)
    scored = store.scored(selection.models)
    if selection.datasets:
        if selection.contexts is not None:
            for dataset in selection.datasets:
                context_range(selection.contexts, store.dataset(dataset).n_contexts)
        models = dict.fromkeys(selection.datasets, selection.models)
    else:
        models = _models_by_dataset(store, selection, scored)
    lenient = not selection.datasets and not named(selection.models)
    rows = {}
    reason: UnknownStep | None = None
    for dataset, on in models.items():
        store.dataset(dataset)
        try:
            rows[dataset] = checkpoints(scored, [dataset], on, selection.steps)
        except UnknownStep as error:
            if not lenient:
                raise
            reason = error
    if reason is not None and not rows:
        checkpoints(
            scored, list(models), selection.models, selection.steps
        )  # raises for all datasets at once
        raise reason
    return rows


def _models_by_dataset(
    store: LossStore, selection: Selection, scored: Scored
) -> dict[str, Sequence[str] | None]:
    """The datasets with losses of the models meant, each with the names or globs of models to ask for on it."""
    if not any(scored.values()):
        every = store.scored()
        if not any(every.values()):
            raise TrajstoreError(
                "The store has no losses yet. Score a model: trajstore score MODEL --dataset D"
            )
        raise NotScored(list(scored), store.dataset_names(), every)
    if lacking := [name for name in named(selection.models) if not scored[name]]:
        raise NotScored(lacking, store.dataset_names(), scored)
    models: dict[str, Sequence[str] | None] = {}
    for dataset in store.dataset_names():
        if any(dataset in on for on in scored.values()):
            absent = [name for name in named(selection.models) if dataset not in scored[name]]
            models[dataset] = selection.models and [name for name in selection.models if name not in absent]
    return models


class LeastCheckpoints:
    """The least number of checkpoints that an analysis takes: what has fewer is left out, and said."""

    def __init__(self, least: int, analysis: str) -> None:
        """So many checkpoints are needed to tell `analysis`, as in "shapes"."""
        self._least, self._analysis = least, analysis
        self._short: list[str] = []

    def reached(self, curve: str, checkpoints: int) -> bool:
        """Return whether a curve has as many checkpoints; one that has not is remembered."""
        if checkpoints < self._least:
            self._short.append(f"{curve} ({checkpoints})")
        return checkpoints >= self._least

    def say(self, progress: Progress, others: bool) -> None:
        """Say what is left out; raises `TrajstoreError` unless there are others."""
        if not self._short:
            return
        few = f"Too few checkpoints to tell {self._analysis}, which takes {self._least}: {listed(self._short, 6)}"
        if not others:
            raise TrajstoreError(f"{few}. Choose more with {option('steps')}, or score them: trajstore score")
        progress.say(f"{few}; left out.")
