"""Scores a run's checkpoints on datasets of a store: first the plan of what is missing, then the work.

The work is done by this process, or by others that it starts: one for each of several devices, one that is ended where
a checkpoint takes longer than it may. Whatever ends it leaves what is finished and nothing else, and the next plan goes
on from there.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trajstore.forward.device import choose_devices
from trajstore.progress import SILENT
from trajstore.scoring.executors.driver import Driver, carry_out
from trajstore.scoring.executors.processes import Processes
from trajstore.scoring.job.job import ScoringJob
from trajstore.scoring.model_facts import record_facts
from trajstore.scoring.options import ScoringOptions, scoring_options
from trajstore.scoring.plan import Plan, plan
from trajstore.scoring.plan_check import check_plan
from trajstore.scoring.report import ScoringReport
from trajstore.scoring.settings import choose_settings
from trajstore.scoring.time_budget import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.progress import Progress
    from trajstore.store.store import Store


def run(
    store: Store,
    plan: Plan,
    options: ScoringOptions | None = None,
    *,
    progress: Progress = SILENT,
    **keywords: Any,
) -> ScoringReport:
    """Score what the plan says; each slice is in the store as soon as it is complete.

    `options` are those that the plan was made with, or their fields as keywords. Before anything is scored, raises
    `DeviceError`, `SlicesDiffer` where slices are there in another dtype or over another vocabulary, or without columns
    that are asked for and that the plan does not backfill, `TokenizerMismatch` where a dataset fits none of the
    checkpoints, `UnfitContext` where none of the datasets fits the first, and `NotCausal` where its predictions depend
    on later tokens; later `StoreUnusable` where a slice cannot be written, and `SlicesDiffer` where another job has
    begun with another format. What goes wrong with single checkpoints or datasets is in the report.
    """
    started = time.monotonic()
    options = scoring_options(options, keywords)
    budget = Budget(options.budget_seconds)
    settings = choose_settings(replace(options, device="cpu", devices=()) if options.devices else options)
    tokenizers = check_plan(store, plan, settings, progress)
    record_facts(store, plan, progress)
    if not plan.pending:
        return ScoringReport(skipped=plan.present)
    job: ScoringJob | Driver
    if options.timeout is None and not options.devices:
        job = ScoringJob(store, plan, settings, tokenizers, options, progress)
    else:
        devices = choose_devices(options.devices) if options.devices else [options.device]
        run_id = settings.provenance.run
        workers = Processes(str(store.path), plan, tokenizers, run_id, devices, options, progress)
        job = Driver(workers, store, plan, progress)
    return carry_out(job, plan, budget, started, progress)


def score(
    store: Store,
    model: str,
    datasets: Sequence[str],
    options: ScoringOptions | None = None,
    *,
    progress: Progress = SILENT,
    **keywords: Any,
) -> ScoringReport:
    """Score what is missing of `model` on `datasets`, and nothing else: `plan` and `run` in one.

    The keywords are the fields of `ScoringOptions`, as `score(store, "runs/tiny", ["docs"], steps="log")`.
    """
    options = scoring_options(options, keywords)
    return run(store, plan(store, model, datasets, options), options, progress=progress)
