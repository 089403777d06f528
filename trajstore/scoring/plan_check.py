"""Checks of a plan before anything is scored: the slices there, the tokenizers, and what the model has room for.

Loads no weights and writes nothing; of a repository on the Hub it may download a tokenizer, as the run itself would.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trajstore.checkpoints.completeness import why_incomplete
from trajstore.datasets.tokenizers import check_tokenizer, tokenizer_of
from trajstore.errors import CheckpointError, TokenizerMismatch, TrajstoreError, UnfitContext
from trajstore.forward.losses import check_contexts
from trajstore.scoring.backfill import check_columns_there
from trajstore.scoring.compatibility import check_same_format
from trajstore.scoring.settings import choose_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.losses import Ids
    from trajstore.progress import Progress
    from trajstore.scoring.options import ScoringOptions
    from trajstore.scoring.plan import Plan
    from trajstore.scoring.settings import PassSettings
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store


def foresee(
    store: Store, plan: Plan, options: ScoringOptions, *, on_cluster: bool, progress: Progress
) -> list[tuple[int, str]]:
    """Return (step, reason) of the checkpoints that a run of the plan would not score, as far as files tell.

    Raises what the run would raise before it scores anything: `DeviceError`, `SlicesDiffer`, `TokenizerMismatch`. The
    device is not looked at where the work is done `on_cluster`, or in processes of their own.
    """
    settings = choose_settings(replace(options, device="cpu", devices=()) if on_cluster else options)
    tokenizers = check_plan(store, plan, settings, progress)
    failures = [(step, reason) for (step, _), reason in tokenizers.unfit.items()]
    for pending in plan.pending:
        checkpoint = pending.checkpoint
        if checkpoint.local:
            folder = checkpoint.folder()
            if (reason := why_incomplete(folder)) is not None:
                failures.append((checkpoint.step, f"{folder}: {reason}"))
    return sorted(dict.fromkeys(failures))


def check_plan(store: Store, plan: Plan, settings: PassSettings, progress: Progress) -> Tokenizers:
    """Check the format of the slices there, their columns and the tokenizers, before a checkpoint is loaded.

    Raises `SlicesDiffer` and `TokenizerMismatch` as `run` does; says so where there is no tokenizer to compare.
    """
    check_format(store, plan, _known_settings(plan, settings))
    check_columns_there(store, plan, settings.columns)
    names = dict.fromkeys(name for pending in plan.pending for name in pending.all_datasets)
    tokenizers = check_tokenizers(plan, {name: store.dataset(name) for name in names})
    if tokenizers.unchecked:
        progress.say(
            f"{plan.model}: no tokenizer beside the weights; that it is the dataset's could not be checked."
        )
    return tokenizers


def _known_settings(plan: Plan, settings: PassSettings) -> PassSettings:
    """The settings with the dtype of the first of the plan's checkpoints on this disk that says its own."""
    wanted = set(plan.steps)
    for checkpoint in plan.source.checkpoints:
        if settings.dtype is None and checkpoint.step in wanted and (folder := checkpoint.present()):
            with contextlib.suppress(CheckpointError):  # it will fail to load, with the same reason
                settings = settings.for_checkpoint(folder)
    return settings


def check_format(store: Store, plan: Plan, settings: PassSettings) -> None:
    """Raises `SlicesDiffer` where slices are there in another dtype or over another vocabulary."""
    if settings.dtype is not None:
        for dataset in plan.datasets:
            check_same_format(store, plan.model, dataset, settings.provenance)


@dataclass(frozen=True)
class Tokenizers:
    """The agreement of the tokenizers beside the weights with the datasets'."""

    name: str | None
    """The folder or repository of the first one; None where there is none."""
    unchecked: bool
    """True where a checkpoint has none, so that whether the datasets are made with its tokenizer is not known."""
    unfit: dict[tuple[int, str], str]
    """(step, dataset) → why the checkpoint cannot be scored on it."""


def check_tokenizers(plan: Plan, datasets: Mapping[str, Dataset]) -> Tokenizers:
    """Compare the checkpoints' own tokenizers with the datasets'; raises where a dataset fits none of them.

    Of a Hub repository only the first checkpoint is looked at, since looking means downloading.
    """
    tokenizer_names: list[str | None] = []
    unfit: dict[tuple[int, str], TrajstoreError] = {}
    sample = plan.pending if plan.source.local else plan.pending[:1]
    for pending in sample:
        try:
            own = tokenizer_of(pending.checkpoint)
        except CheckpointError:
            continue  # it will fail to load, with the same reason
        except TrajstoreError as error:
            unfit |= {(pending.checkpoint.step, name): error for name in pending.all_datasets}
            continue
        tokenizer_names.append(own.name if own else None)
        if own is None:
            continue
        for name in pending.all_datasets:
            try:
                check_tokenizer(own, datasets[name])
            except TokenizerMismatch as error:
                unfit[pending.checkpoint.step, name] = error
    for name in datasets:
        steps = [pending.checkpoint.step for pending in sample if name in pending.all_datasets]
        if steps and all((step, name) in unfit for step in steps):
            raise unfit[steps[0], name]
    reasons = {place: str(error) for place, error in unfit.items()}
    return Tokenizers(next(filter(None, tokenizer_names), None), None in tokenizer_names, reasons)


def unfit_datasets(model: PreTrainedModel, ids: Mapping[str, Sequence[Ids]]) -> dict[str, UnfitContext]:
    """Return the datasets that the model cannot score, with the reason; raises it where that is all of them."""
    unfit: dict[str, UnfitContext] = {}
    for name, contexts in ids.items():
        try:
            check_contexts(model, contexts)
        except UnfitContext as error:
            unfit[name] = UnfitContext(f"The dataset {name} does not fit the model. {error}")
    if unfit and len(unfit) == len(ids):
        raise UnfitContext(" ".join(map(str, unfit.values())))
    return unfit
