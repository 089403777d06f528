"""What a view shows, gathered from a store: several groups' trajectories in one frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison, ResampledCurve, group_label
from trajstore.analysis.trajectories import resampled_trajectories as resampled_curves
from trajstore.analysis.trajectories import trajectories as curves
from trajstore.argument_names import also_named
from trajstore.errors import NothingChosen, NotScored, TrajstoreError, UnknownName, UnknownStep, listed
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.checkpoints import Scored, checkpoints, named
from trajstore.store.matrix.context_sums import ContextSums, context_sums
from trajstore.store.matrix.matrix import Align, Sites, check_align, choose_sites, context_range

if TYPE_CHECKING:
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Selection:
    """Which losses are meant; None is all there are. `dataset` and `model` may be given for `datasets` and `models`."""

    datasets: Sequence[str] | None = None
    models: Sequence[str] | None = None
    """Names or globs."""
    steps: str = "all"
    """A SPEC, resolved for each model."""
    contexts: str | None = None
    """FIRST:END, as in Python."""
    align: Align = "predict"

    def __post_init__(self) -> None:
        """One name stands for a list of it."""
        for name in ("datasets", "models"):
            if isinstance(asked := getattr(self, name), str):
                object.__setattr__(self, name, [asked])


Selection.__init__ = also_named(dataset="datasets", model="models")(Selection.__init__)  # type: ignore[method-assign]


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
    asked = comparison or Comparison()
    names = list(dict.fromkeys(groups))
    batches = _gathered(store, names, selection or Selection(), asked, progress)
    frame = pl.concat([curves(sums, names, asked, interval, progress) for sums in batches])
    if frame.is_empty():
        raise NothingChosen(_incomparable(asked))
    place = {group_label(group, asked.minus): n for n, group in enumerate(names)}
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
    asked = comparison or Comparison()
    names = list(dict.fromkeys(groups))
    batches = _gathered(store, names, selection or Selection(), asked, progress)
    found = [curve for sums in batches for curve in resampled_curves(sums, names, asked, interval, progress)]
    if not found:
        raise NothingChosen(_incomparable(asked))
    return found


def _gathered(
    store: Store, names: Sequence[str], chosen: Selection, asked: Comparison, progress: Progress
) -> Iterator[dict[tuple[str, str], ContextSums]]:
    """Sums by (group, dataset) of what is compared together: a dataset's, or all; raises as `trajectories`."""
    check_align(chosen.align)
    every = list(dict.fromkeys([*names, *([asked.minus] if asked.minus else [])]))
    store.groups.check(*every)
    rows = checkpoints_by_dataset(store, _with_model(store, chosen, asked.minus_model))
    empty = set(every)
    reasons: list[NothingChosen] = []
    together: dict[tuple[str, str], ContextSums] = {}
    progress.start("trajectories", sum(map(len, rows.values())), "slices")
    try:
        for dataset, of_dataset in rows.items():
            try:
                sites = sites_by_group(store, every, dataset, chosen)
            except NothingChosen as error:
                reasons.append(error)
                progress.advance(len(of_dataset), dataset)
                continue
            sums = context_sums(store.path, of_dataset, sites, progress=progress)
            empty -= set(sums)
            found = {(group, dataset): each for group, each in sums.items()}
            if asked.by == "model":
                together |= found
            else:
                yield found
        if together:
            yield together
    finally:
        progress.stop()
    if len(reasons) == len(rows):
        raise reasons[0] if len(reasons) == 1 else nothing_in(every, list(rows))
    for group in filter(empty.__contains__, every):
        progress.say(f"{group} has no token with a loss in {listed(rows)}, and is left out.")


def _with_model(store: Store, chosen: Selection, model: str | None) -> Selection:
    """The selection with a model, by its name, whose losses are needed as well."""
    if model is None:
        return chosen
    if model not in (known := store.model_names()):
        raise UnknownName("model", model, known, "Score it: trajstore score MODEL --dataset D")
    if chosen.models is None:
        return chosen
    asked = [chosen.models] if isinstance(chosen.models, str) else list(chosen.models)
    return replace(chosen, models=[*asked, model])


def _incomparable(asked: Comparison) -> str:
    """Why there is nothing where there are losses of all groups."""
    if asked.minus is not None:
        return f"No context has tokens with a loss of both the group and {asked.minus}, so there is no difference."
    if asked.minus_model is not None:
        return (
            f"No other model asked for has a step in common with {asked.minus_model}. See what is there: "
            "trajstore status"
        )
    return "No step is there for all that should be pooled. See what is there: trajstore status"


def sites_by_group(store: Store, groups: Sequence[str], dataset: str, chosen: Selection) -> dict[str, Sites]:
    """Sites in a dataset of each group that has a token with a loss there; raises `NothingChosen` where none has."""
    here = store.dataset(dataset)
    sites = {}
    for group in groups:
        inside = store.groups.members(group, here)
        sites[group] = choose_sites(here, inside, chosen.contexts, chosen.align, pad_first=False)
    if not (kept := {group: each for group, each in sites.items() if len(each.tokens)}):
        raise nothing_in(groups, [dataset])
    return kept


def nothing_in(groups: Sequence[str], datasets: Sequence[str]) -> NothingChosen:
    """What to say where none of the groups has a token."""
    return NothingChosen(
        f"No token of {', '.join(groups)} in {', '.join(datasets)} has a loss (within these contexts). See their "
        "sizes: trajstore group list"
    )


def checkpoints_by_dataset(store: Store, chosen: Selection) -> dict[str, list[tuple[str, int]]]:
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
