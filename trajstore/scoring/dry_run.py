"""Tells, before anything is scored, what a run would refuse: what a dry run checks beside the plan.

Loads no weights. Of a Hub repository it may download the first checkpoint's tokenizer, as the run itself would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.checkpoints.completeness import why_incomplete
from trajstore.scoring.job import check_plan, settings_of

if TYPE_CHECKING:
    from trajstore.progress import Progress
    from trajstore.scoring.job import RunOptions
    from trajstore.scoring.plan import Plan
    from trajstore.store.store import Store


def foresee(
    store: Store, plan: Plan, options: RunOptions, *, on_cluster: bool, progress: Progress
) -> list[tuple[int, str]]:
    """(step, reason) of the checkpoints that a run of the plan would not score, as far as files tell.

    Raises what the run would raise before it scores anything: `DeviceError`, `SlicesDiffer`, `TokenizerMismatch`. The
    device is not looked at where the work is done `on_cluster`.
    """
    asked: RunOptions = {**options, "device": "cpu"} if on_cluster else options
    tokenizers = check_plan(store, plan, settings_of(asked), progress)
    failures = [(step, reason) for (step, _), reason in tokenizers.unfit.items()]
    for pending in plan.pending:
        checkpoint = pending.checkpoint
        if checkpoint.local:
            folder = checkpoint.folder()
            try:
                reason = why_incomplete(folder)
            except OSError as error:
                reason = f"it cannot be read ({error.strerror})"
            if reason is not None:
                failures.append((checkpoint.step, f"{folder}: {reason}"))
    return sorted(dict.fromkeys(failures))
