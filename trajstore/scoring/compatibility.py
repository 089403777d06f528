"""Checks that what is to be scored fits what the store has under the same names: the same run, tokens and format.

A model's name alone says nothing: two folders may bear it, and a folder may be trained anew. What tells runs apart are
their weights, by the fingerprint that each slice carries. Step 0 is left out, since runs can share it. Of slices only
the footers are read; one whose footer cannot be read is left to `trajstore check`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from trajstore.arguments.spelling import option
from trajstore.checkpoints.loading import weights_fingerprint
from trajstore.checkpoints.revisions import parse_revision
from trajstore.errors import CheckpointError, DamagedFile, ModelMismatch, SlicesDiffer, UnknownName, runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajstore.checkpoints.runs import CheckpointSource
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.files.models import ModelFacts
    from trajstore.store.files.slices import Provenance, SliceFacts
    from trajstore.store.store import Store


def check_same_run(store: Store, name: str, source: CheckpointSource) -> None:
    """Raises `ModelMismatch` where the store's model of that name is another run than `source`.

    The weights of the highest step that both have, and that can be read, must be equal. Without such a step, or
    for a repository on the Hub, the same folder or repository is enough.
    """
    _check_same_stage(store, name, source)
    facts = store.model(name)
    same_place = facts is None or facts.repo in (None, source.repo)
    if same_place and not source.local:
        return
    for checkpoint in reversed(source.checkpoints):
        scored = _scored_weights(store, name, checkpoint.step) if checkpoint.step > 0 else None
        if scored is None:
            continue
        try:
            here = weights_fingerprint(checkpoint)
        except CheckpointError:
            continue
        if here == scored:
            return
        raise ModelMismatch(
            f"The model {name} in the store is another run: at step {checkpoint.step} it was scored with weights "
            f"{scored[:15]}…{_from(facts)}, but {source.repo} has {here[:15]}… there. {_another_name()}"
        )
    if not same_place:
        raise ModelMismatch(
            f"The model {name} in the store is{_from(facts)}, not from {source.repo}, and no step that both have tells "
            f"whether these are the same weights. {_another_name()}"
        )


def _check_same_stage(store: Store, name: str, source: CheckpointSource) -> None:
    """Raises `ModelMismatch` where the model was scored at another stage of training than `source` is."""
    names = source.run.stage_names if source.run else ()
    for dataset in store.dataset_names():
        for step in store.steps(name, dataset)[:1]:
            try:
                revision = store.slice_facts(name, dataset, step).provenance.revision
            except DamagedFile:
                continue
            scored = parse_revision(revision, names) if revision else None
            if scored is not None and scored.stage != source.stage:
                raise ModelMismatch(
                    f"The model {name} in the store is another stage of training: it was scored at {revision}, this is "
                    f"{source.checkpoints[0].revision} and what follows. {_another_name()}"
                )


def check_same_weights(store: Store, name: str, step: int, weights: str) -> None:
    """Raises `ModelMismatch` where a step was scored before with weights of another fingerprint."""
    scored = _scored_weights(store, name, step)
    if scored not in (None, weights):
        raise ModelMismatch(
            f"{name} was scored at step {step} on another dataset with other weights "
            f"({scored[:15]}…, these are {weights[:15]}…)."
        )


def check_same_architecture(facts: ModelFacts, known: ModelFacts) -> None:
    """Raises `ModelMismatch` where a checkpoint's size or family differs from that of its model."""
    for field in ("family", "n_params", "n_nonembedding", "n_layer"):
        value, stored = getattr(facts, field), getattr(known, field)
        if stored is not None and value != stored:
            raise ModelMismatch(
                f"The model {known.model} has {field} {stored}, but this checkpoint has {value}: it is of another run. "
                f"{_another_name()}"
            )


def _scored_weights(store: Store, name: str, step: int) -> str | None:
    """Fingerprint of the weights with which a step was scored on any dataset; None where no slice says."""
    for dataset in store.dataset_names():
        if store.has_slice(name, dataset, step):
            try:
                weights = store.slice_facts(name, dataset, step).provenance.weights
            except DamagedFile:
                continue
            if weights is not None:
                return weights
    return None


def _another_name() -> str:
    return f"Give this run a name of its own: {option('name', 'NAME')}"


def _from(facts: ModelFacts | None) -> str:
    return f" from {facts.repo}" if facts is not None and facts.repo else ""


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
        for what, stored, value in (
            ("dtype", facts.provenance.dtype, new.dtype),
            ("vocab", facts.provenance.vocab, new.vocab),
        ):
            if stored != value:
                raise SlicesDiffer(
                    f"The losses of {model} on {dataset} that are there (step {facts.step}) have {what} {stored}, "
                    f"these would have {value}: one trajectory would hold both. Score with {stored}, give these a name "
                    f"of their own ({option('name', 'NAME')}), or remove those that are there: "
                    f"trajstore drop -m {model} -d {dataset}"
                )


def _slices(store: Store, model: str, dataset: str) -> Iterator[SliceFacts]:
    """Yield the facts in the footers of a model's slices on a dataset, in order of step."""
    for step in store.steps(model, dataset):
        try:
            yield store.slice_facts(model, dataset, step)
        except (DamagedFile, UnknownName):
            continue
