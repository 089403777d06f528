"""Removing for good: slices with what belongs to them, and datasets.

What belongs to slices goes before them, so that after an interruption the same call finds what is left to remove.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from trajstore.errors import DamagedFile, DatasetInUse
from trajstore.store.disk import layout
from trajstore.store.files import coverage, measures, models

Slice = tuple[str, str, int]
"""model, dataset, step"""


def drop_slices(root: Path, doomed: Sequence[Slice], names: Sequence[str] = ()) -> None:
    """Remove slices and the measures that belong to them.

    A checkpoint without any slice left loses all its measures, a model without any, of these slices' and of `names`,
    its facts as well.
    """
    for model in dict.fromkeys([*names, *(model for model, _, _ in doomed)]):
        _drop_of_model(root, model, {(dataset, step) for of, dataset, step in doomed if of == model})


def _drop_of_model(root: Path, model: str, gone: set[tuple[str, int]]) -> None:
    left = {step for dataset, step in _slices(root, model) - gone}
    facts = None
    if not left:
        with contextlib.suppress(DamagedFile):
            facts = models.read_model(root, model)
        layout.model_path(root, model).unlink(missing_ok=True)
    measures.drop_measures(root, model, gone, left)
    for dataset, step in sorted(gone):
        layout.remove(root, layout.slice_path(root, model, dataset, step))
    layout.prune(layout.unlinked(layout.losses_path(root, model)))
    if facts is not None and _slices(root, model):
        models.publish_model(root, facts)  # another job has added slices meanwhile


def _slices(root: Path, model: str) -> set[tuple[str, int]]:
    return {
        (dataset, step)
        for dataset in coverage.dataset_names(root, model)
        for step in coverage.steps(root, model, dataset)
    }


def drop_dataset(root: Path, name: str, *, losses: bool = False) -> None:
    """Remove a dataset, and with `losses` all losses on it first; raises `DatasetInUse` where there are any without."""
    doomed = coverage.slices_on(root, name)
    if doomed and not losses:
        raise DatasetInUse(name, doomed)
    drop_slices(root, doomed)
    layout.remove_folder(root, layout.dataset_path(root, name))
