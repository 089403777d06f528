"""Whether the slices that are there are of a kind with those to be made: of the same tokens, in the same format.

Reads footers only. A slice whose footer cannot be read is left to `trajstore check`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from trajstore.errors import DamagedFile, SlicesDiffer, UnknownName, runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajstore.store.files.datasets import Dataset
    from trajstore.store.files.slices import Provenance, SliceFacts
    from trajstore.store.store import Store


def check_same_tokens(store: Store, model: str, dataset: Dataset) -> None:
    """Raises `SlicesDiffer` where the model has losses of other tokens under the dataset's name."""
    stale = [
        facts.step
        for facts in _slices(store, model, dataset.name)
        if facts.tokens_sha256 != dataset.tokens_sha256
    ]
    if stale:
        raise SlicesDiffer(
            f"The losses of {model} on {dataset.name} at the steps {runs(stale)} are of other tokens than "
            f"{dataset.name} has now: it was removed and made anew. Remove them, then score again: "
            f"trajstore drop -m {model} -d {dataset.name}"
        )


def check_same_format(
    store: Store, model: str, dataset: str, new: Provenance, *, first_only: bool = False
) -> None:
    """Raises `SlicesDiffer` where the model has losses on the dataset in another dtype or over another vocabulary.

    With `first_only` it reads the slice of the lowest step alone, as before each publication, for the sake of jobs
    that began at the same time: of two that differ one goes on, since both look at the same slice.
    """
    for facts in itertools.islice(_slices(store, model, dataset), 1 if first_only else None):
        for what, there, here in (
            ("dtype", facts.provenance.dtype, new.dtype),
            ("vocab", facts.provenance.vocab, new.vocab),
        ):
            if there != here:
                raise SlicesDiffer(
                    f"The losses of {model} on {dataset} that are there (step {facts.step}) have {what} {there}, these "
                    f"would have {here}: one trajectory would hold both. Score with {there}, give these a name of "
                    f"their own (--name NAME), or remove those that are there: trajstore drop -m {model} -d {dataset}"
                )


def _slices(store: Store, model: str, dataset: str) -> Iterator[SliceFacts]:
    """What the footers of a model's slices on a dataset say, in order of step."""
    for step in store.steps(model, dataset):
        try:
            yield store.slice_facts(model, dataset, step)
        except (DamagedFile, UnknownName):
            continue
