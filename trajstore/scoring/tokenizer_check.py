"""Whether a plan's datasets fit its checkpoints: by their tokenizers before anything is loaded, then by the model.

Writes nothing; of a repository on the Hub it may download a tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.datasets.tokenizers import check_tokenizer, tokenizer_of
from trajstore.errors import CheckpointError, TokenizerMismatch, TrajstoreError, UnfitContext
from trajstore.forward.losses import check_contexts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.losses import Ids
    from trajstore.scoring.plan import Plan
    from trajstore.store.files.datasets import Dataset


@dataclass(frozen=True)
class Tokenizers:
    """What the tokenizers beside the weights say."""

    name: str | None
    """The folder or repository of the first one; None where there is none."""
    unchecked: bool
    """Whether a checkpoint has none, so that whether the datasets are made with its tokenizer is not known."""
    unfit: dict[tuple[int, str], str]
    """(step, dataset) → why the checkpoint cannot be scored on it."""


def check_tokenizers(plan: Plan, datasets: Mapping[str, Dataset]) -> Tokenizers:
    """Compare the checkpoints' own tokenizers with the datasets'; raises where a dataset fits none of them.

    Of a Hub repository only the first checkpoint is looked at, since looking means downloading.
    """
    found: list[str | None] = []
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
        found.append(own.name if own else None)
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
    return Tokenizers(next(filter(None, found), None), None in found, reasons)


def unfit_datasets(model: PreTrainedModel, ids: Mapping[str, Sequence[Ids]]) -> dict[str, UnfitContext]:
    """The datasets whose contexts the model cannot score, with the reason; raises it where that is all of them."""
    unfit: dict[str, UnfitContext] = {}
    for name, contexts in ids.items():
        try:
            check_contexts(model, contexts)
        except UnfitContext as error:
            unfit[name] = UnfitContext(f"The dataset {name} does not fit the model. {error}")
    if unfit and len(unfit) == len(ids):
        raise UnfitContext(" ".join(map(str, unfit.values())))
    return unfit
