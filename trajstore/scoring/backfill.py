"""Adds rank and entropy to slices that were made without them: their checkpoints are scored again, the losses stay.

What is scored again must agree with the losses that are there, up to the rounding of other batches, devices and
versions; then the slice is replaced in one step by one with the same losses, to the bit, and the columns beside them.
Its footer goes on saying how the losses came about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.arguments.spelling import option
from trajstore.errors import LossesDisagree, SlicesDiffer, listed, runs
from trajstore.scoring.plan import lacking_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.forward.losses import Scores
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store

ROUNDING = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}
"""Nats by which a loss may differ when it is scored again, by the dtype of the weights."""


def is_to_do(store: Store, plan: Plan, pending: Pending, dataset: str) -> bool:
    """Return whether a checkpoint's slice is still not there, or still without the columns that it is to get."""
    model, step = plan.model, pending.checkpoint.step
    if dataset in pending.backfill:
        return bool(lacking_columns(store, model, dataset, step, plan.backfill))
    return not store.has_slice(model, dataset, step)


def check_columns_there(store: Store, plan: Plan, columns: Sequence[str]) -> None:
    """Raises `SlicesDiffer` where slices of the plan's steps are there without these columns and will not get them."""
    planned = {(pending.checkpoint.step, name) for pending in plan.pending for name in pending.all_datasets}
    for dataset in plan.datasets:
        steps = [step for step in plan.steps if (step, dataset) not in planned]
        lacking = {step: lacking_columns(store, plan.model, dataset, step, columns) for step in steps}
        if thin := [step for step in steps if lacking[step]]:
            names = [name for name in columns if any(name in lacking[step] for step in thin)]
            raise SlicesDiffer(
                f"The slices of {plan.model} on {dataset} at the steps {runs(sorted(thin))} are there without "
                f"{listed(names)}. Add {option('backfill', True)} to score these again and put {listed(names)} beside "
                f"their losses, or leave out {option('columns')}."
            )


def add_columns(
    store: Store, model: str, dataset: Dataset, step: int, scores: Scores, columns: Sequence[str]
) -> None:
    """Put columns of a new pass beside the losses of a slice; raises `LossesDisagree` where the pass has others."""
    provenance = store.slice_facts(model, dataset.name, step).provenance
    losses = store.slice_losses(model, dataset.name, step)
    apart = float(np.abs(losses.astype(np.float64) - np.concatenate(scores.loss)).max())
    allowed = ROUNDING.get(provenance.dtype, ROUNDING["float32"])
    if not apart <= allowed:
        made = f"{provenance.attention or 'unknown'} attention on {provenance.device or 'an unknown device'}"
        raise LossesDisagree(
            f"{model} on {dataset.name} at step {step}: scored again, losses differ by up to {apart:.2g} nats from "
            f"those there, more than the {allowed:g} that rounding explains in {provenance.dtype}, so no column was "
            f"added. They were made with {made}: score with the same ({option('attention')}, {option('device')}), or "
            f"remove them and score anew: trajstore drop -m {model} -d {dataset.name} --steps {step}"
        )
    kept = {
        name: values
        for name in store.slice_columns(model, dataset.name, step)
        if (values := store.slice_column(model, dataset.name, step, name)) is not None
    }
    new = {name: np.concatenate(getattr(scores, name)) for name in columns if name not in kept}
    store.append(
        model=model,
        dataset=dataset.name,
        step=step,
        losses=losses,
        columns=kept | new,
        provenance=provenance,
        replace=True,
        allow_large=True,  # they were taken as they are
    )
