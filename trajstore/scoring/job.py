"""Scores a run's checkpoints on datasets of a store: first the plan of what is missing, then the work.

Each checkpoint is loaded once and scores every dataset that lacks its slice; the next one is got ready meanwhile. A
slice is published when it is complete, so that whatever ends the work leaves what is finished and nothing else, and
the next plan goes on from there. A checkpoint that cannot be read or scored is noted with its reason, and the others
go on; so is, once, a dataset that does not fit the model. A store that cannot be written to ends the work, and so does
another job that meanwhile scores in another format. `Job` is that work, checkpoint by checkpoint, for whoever hands
them out.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypedDict, Unpack

import torch

from trajstore.checkpoints.cache_limit import CacheLimit
from trajstore.checkpoints.loading import load
from trajstore.checkpoints.prefetch import Ahead
from trajstore.errors import (
    BadLosses,
    CheckpointError,
    DeviceError,
    NotCausal,
    SliceExists,
    SlicesDiffer,
    StoreUnusable,
    UnfitContext,
    told,
)
from trajstore.forward.attention_kernels import kernel_warning
from trajstore.forward.threads import Threads
from trajstore.progress import SILENT
from trajstore.scoring.backfill import check_columns_there, is_to_do
from trajstore.scoring.compatibility import check_same_weights
from trajstore.scoring.model_facts import record_facts
from trajstore.scoring.options import Settings, choose_settings
from trajstore.scoring.plan import Pending, Plan, plan
from trajstore.scoring.publish import Publisher
from trajstore.scoring.slice_compatibility import check_same_format
from trajstore.scoring.time_budget import Budget
from trajstore.scoring.tokenizer_check import check_tokenizers, unfit_datasets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.checkpoints.loading import Checkpoint, LoadedCheckpoint
    from trajstore.checkpoints.prefetch import Ready
    from trajstore.progress import Progress
    from trajstore.scoring.executors.timeout import TimedJob
    from trajstore.scoring.tokenizer_check import Tokenizers
    from trajstore.store.store import Store

__all__ = ["Job", "Pending", "Plan", "Report", "RunOptions", "plan", "run", "score", "settings_of"]


_compared: set[tuple[str, str, str | None]] = set()
"""(store, model, attention asked for) whose attention kernel this process has compared with the plain one."""


class RunOptions(TypedDict, total=False):
    """How checkpoints are scored, as `run` and `score` take it."""

    device: str
    """auto (the default), cpu, cuda, cuda:1 …"""
    dtype: str
    """Of the weights: float32 (the default), bfloat16, float16, or auto for the checkpoint's own."""
    vocab: str
    """What the softmax runs over: full (the default) or tokenizer."""
    columns: Sequence[str]
    """What is kept beside the loss: rank, entropy; nothing by default."""
    attention: str | None
    """An attention kernel of transformers."""
    repeat_noise: int
    """Contexts of each dataset that are scored once more, for the noise of the losses; none by default."""
    batch_tokens: int | None
    """Token budget of a batch; found for the device by default."""
    threads: int | None
    """Of torch, on a CPU; by default the better of one and all, as a few contexts show it."""
    trust_remote_code: bool
    """Whether to run model code that comes with a checkpoint; not by default."""
    cache_limit: int | None
    """Bytes above which the Hub's cache is cleared of weights that were downloaded here and scored."""
    timeout: float | None
    """Seconds that a checkpoint may take, loading included; no limit by default."""
    budget: float | None
    """Seconds after which no checkpoint is begun, nor one that would not be done by then."""


@dataclass(frozen=True)
class Report:
    """What a scoring job did."""

    written: int
    """Slices published."""
    skipped: int
    """Slices that were there already, or that another job published meanwhile."""
    failures: list[tuple[int, str]]
    """(step, reason) of what could not be scored; a dataset that does not fit the model is there once."""
    tokens: int
    """Tokens of the slices written."""
    seconds: float
    left: int = 0
    """Slices that were not begun because the budget of time would not have held."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Dataset → why it does not fit the model, as among the failures."""
    unmeasured: list[tuple[int, str]] = field(default_factory=list)
    """(step, reason) of slices that were published, but the noise of whose losses could not be measured."""
    warnings: list[str] = field(default_factory=list)
    """What to know of the losses that were written; said when it was noticed."""


def settings_of(options: RunOptions, run_id: str | None = None) -> Settings:
    """The settings of the pass among the options, of a new run or of the one named; raises `DeviceError`."""
    return choose_settings(
        options.get("device", "auto"),
        options.get("dtype", "float32"),
        options.get("batch_tokens"),
        options.get("attention"),
        options.get("vocab", "full"),
        options.get("columns", ()),
        options.get("repeat_noise", 0),
        run_id,
    )


def check_plan(store: Store, plan: Plan, settings: Settings, progress: Progress) -> Tokenizers:
    """What can be told before a checkpoint is loaded: of what format the slices there are, and whose tokens.

    Raises `SlicesDiffer` and `TokenizerMismatch` as `run` does; says so where there is no tokenizer to compare.
    """
    _check_format(store, plan, _known_settings(plan, settings))
    check_columns_there(store, plan, settings.columns)
    names = dict.fromkeys(name for pending in plan.pending for name in pending.all_datasets)
    tokenizers = check_tokenizers(plan, {name: store.dataset(name) for name in names})
    if tokenizers.unchecked:
        progress.say(
            f"{plan.model}: no tokenizer beside the weights; that it is the dataset's could not be checked."
        )
    return tokenizers


def _known_settings(plan: Plan, settings: Settings) -> Settings:
    """The settings with the dtype of the first of the plan's checkpoints on this disk that says its own."""
    wanted = set(plan.steps)
    for checkpoint in plan.source.checkpoints:
        if settings.dtype is None and checkpoint.step in wanted and (folder := checkpoint.present()):
            with contextlib.suppress(CheckpointError):  # it will fail to load, with the same reason
                settings = settings.for_checkpoint(folder)
    return settings


def _check_format(store: Store, plan: Plan, settings: Settings) -> None:
    """Raises `SlicesDiffer` where slices are there in another dtype or over another vocabulary."""
    if settings.dtype is not None:
        for dataset in plan.datasets:
            check_same_format(store, plan.model, dataset, settings.provenance)


def run(store: Store, plan: Plan, *, progress: Progress = SILENT, **options: Unpack[RunOptions]) -> Report:
    """Score what the plan says; each slice is in the store as soon as it is complete.

    Before anything is scored, raises `DeviceError`, `SlicesDiffer` where slices are there in another dtype or over
    another vocabulary, or without columns that are asked for and that the plan does not backfill, `TokenizerMismatch`
    where a dataset fits none of the checkpoints, `UnfitContext` where none of the datasets fits the first, and
    `NotCausal` where its predictions depend on later tokens; later `StoreUnusable` where a slice cannot be written, and
    `SlicesDiffer` where another job has begun with another format. What goes wrong with single checkpoints or
    datasets is in the report.
    """
    started = time.monotonic()
    budget = Budget(options.get("budget"))
    settings = settings_of(options)
    tokenizers = check_plan(store, plan, settings, progress)
    record_facts(store, plan, progress)
    if not plan.pending:
        return Report(0, plan.present, [], 0, 0.0)
    if options.get("timeout") is None:
        job: Job | TimedJob = Job(store, plan, settings, tokenizers, options, progress)
    else:
        from trajstore.scoring.executors.timeout import TimedJob

        job = TimedJob(store, plan, settings.provenance.run, tokenizers, options, progress)
    progress.start(f"scoring {plan.model}", plan.tokens, "tokens")
    try:
        left = job.score_all(budget)
    finally:
        job.close()
        progress.stop()
    done = job.report()
    return replace(done, skipped=plan.present + done.skipped, seconds=time.monotonic() - started, left=left)


def score(
    store: Store,
    model: str,
    datasets: Sequence[str],
    *,
    steps: str | int | Sequence[int] = "all",
    name: str | None = None,
    tokens_per_step: int | None = None,
    backfill: Sequence[str] = (),
    pattern: str | None = None,
    progress: Progress = SILENT,
    **options: Unpack[RunOptions],
) -> Report:
    """`plan` and `run` in one: scores what is missing of `model` on `datasets` and nothing else."""
    todo = plan(
        store,
        model,
        datasets,
        steps=steps,
        name=name,
        tokens_per_step=tokens_per_step,
        backfill=backfill,
        pattern=pattern,
    )
    return run(store, todo, progress=progress, **options)


class Job:
    """The work of one run, or of one process among those that share it, and its counts; leave it by `close`."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        settings: Settings,
        tokenizers: Tokenizers,
        options: RunOptions,
        progress: Progress,
    ) -> None:
        self.store, self.plan, self.settings, self.progress = store, plan, settings, progress
        self.remote_code = options.get("trust_remote_code", False)
        names = dict.fromkeys(name for pending in plan.pending for name in pending.all_datasets)
        self.datasets = {name: store.dataset(name) for name in names}
        self.ids = {name: dataset.ids() for name, dataset in self.datasets.items()}
        self.tokenizers = tokenizers
        self.publisher = Publisher(store, plan, tokenizers.name, progress)
        limit = options.get("cache_limit")
        needed = [pending.checkpoint for pending in plan.pending]
        self.limit = None if limit is None else CacheLimit(limit, needed)
        self.ahead = Ahead(self.limit)
        self.threads = Threads(options.get("threads"), settings.device, plan.tokens, progress)
        self.unfit: dict[str, UnfitContext] | None = None
        """Datasets that do not fit the model; None until one is loaded."""
        self.formats = {settings.provenance.dtype}
        """Dtypes for which the slices that are there were looked at."""
        self.proven = False
        """Whether a slice was published, so that what else fails is the fault of single checkpoints."""
        self._begin_report()

    def _begin_report(self) -> None:
        self.warnings: list[str] = []
        self.written = self.skipped = self.tokens = 0
        self.failures: list[tuple[int, str]] = []
        self.unmeasured: list[tuple[int, str]] = []
        self.newly_unfit: dict[str, str] = {}
        self.began = time.monotonic()

    def report(self) -> Report:
        """What was done since the last report."""
        report = Report(
            written=self.written,
            skipped=self.skipped,
            failures=self.failures,
            tokens=self.tokens,
            seconds=time.monotonic() - self.began,
            unfit=self.newly_unfit,
            unmeasured=self.unmeasured,
            warnings=self.warnings,
        )
        self._begin_report()
        return report

    def close(self) -> None:
        """Stop what was begun ahead, and leave torch's threads as they were."""
        self.ahead.close()
        self.threads.close()

    def score_all(self, budget: Budget) -> int:
        """Score one checkpoint after another; gives the number of slices for which the time was too short."""
        budget.begin_work()
        queue = self.plan.pending
        for number, pending in enumerate(queue):
            if not budget.allows(pending.tokens):
                return sum(len(each.all_datasets) for each in queue[number:])
            before = self.tokens
            following = queue[number + 1] if number + 1 < len(queue) else None
            if following and not budget.allows(pending.tokens + following.tokens):
                following = None
            self.score(pending, following)
            budget.did(self.tokens - before)
        return 0

    def score(self, pending: Pending, following: Pending | None = None) -> None:
        """Make a checkpoint's missing slices, or note why not; meanwhile the one that follows is got ready.

        Raises as `run` does what would keep the next checkpoint as well.
        """
        try:
            if todo := self._todo(pending):
                self._score_checkpoint(pending, todo, following)
        except (UnfitContext, StoreUnusable, SlicesDiffer):
            raise
        except (DeviceError, NotCausal) as error:
            if not self.proven:
                raise
            self._fail(pending.checkpoint.step, error)
        except Exception as error:
            self._fail(pending.checkpoint.step, error)
        if self.limit is not None:
            self.limit.done_with(pending.checkpoint)

    def _todo(self, pending: Pending) -> list[str]:
        """The datasets that still lack the slice, or its columns, and that the checkpoint's tokenizer fits."""
        step, todo = pending.checkpoint.step, []
        for name in pending.all_datasets:
            if not is_to_do(self.store, self.plan, pending, name):
                self.skipped += 1
            elif (step, name) in self.tokenizers.unfit:
                self._note_failure(step, self.tokenizers.unfit[step, name])
            elif name not in (self.unfit or ()):
                todo.append(name)
        return todo

    def _score_checkpoint(self, pending: Pending, todo: list[str], following: Pending | None) -> None:
        """Load a checkpoint and score it; meanwhile its files stay in the cache, and the next one is got ready."""
        checkpoint = pending.checkpoint
        if checkpoint.known_bad:
            self.progress.say(
                f"{self.plan.model} at step {checkpoint.step} is known to be bad: {checkpoint.known_bad}. It is scored "
                "all the same, and its slices say so; --skip-known-bad leaves such out."
            )
        self._note(checkpoint, "downloading" if pending.to_download else "reading")
        ready = self.ahead.take(checkpoint)
        try:
            self._note(checkpoint, "loading")
            settings = self._settings(ready)
            check_same_weights(self.store, self.plan.model, checkpoint.step, ready.weights)
            loaded = self._load(checkpoint, ready, settings)
            if following and any(
                is_to_do(self.store, self.plan, following, name) for name in following.all_datasets
            ):
                self.ahead.begin(following.checkpoint)
            self._score_loaded(pending, loaded, todo, settings)
        finally:
            ready.release()

    def _settings(self, ready: Ready) -> Settings:
        """The settings for a checkpoint; raises `SlicesDiffer` where slices are there in another dtype.

        Where it is the checkpoint that differs from those before it, that is a `CheckpointError`.
        """
        settings = self.settings.for_checkpoint(ready.folder)
        if settings.provenance.dtype not in self.formats:
            try:
                _check_format(self.store, self.plan, settings)
            except SlicesDiffer as error:
                if not self.proven:
                    raise
                raise CheckpointError(str(error)) from error
            self.formats.add(settings.provenance.dtype)
        return settings

    def _load(self, checkpoint: Checkpoint, ready: Ready, settings: Settings) -> LoadedCheckpoint:
        """The model on its device; raises `DeviceError` where it cannot have the attention kernel asked for."""
        try:
            return load(
                checkpoint,
                settings.device,
                settings.dtype or torch.float32,
                settings.attention,
                weights=ready.weights,
                trust_remote_code=self.remote_code,
            )
        except (ValueError, ImportError) as error:
            if settings.attention is None:
                raise
            raise DeviceError(
                f"--attention {settings.attention} cannot be used: {str(error).splitlines()[0]}"
            ) from error

    def _score_loaded(
        self, pending: Pending, loaded: LoadedCheckpoint, todo: list[str], settings: Settings
    ) -> None:
        """Score the datasets one after another; one that goes wrong does not keep the others."""
        checkpoint, facts = pending.checkpoint, self.publisher.facts(loaded)
        if self.unfit is None:
            self.unfit = unfit_datasets(loaded.model, self.ids)
            for name, reason in self.unfit.items():
                self.newly_unfit[name] = str(reason)
                self._fail(checkpoint.step, reason)
        for name in todo:
            if name in self.unfit:
                continue
            self._note(checkpoint, name)
            dataset = self.datasets[name]
            try:
                self.threads.look(loaded.model, self.ids[name])
                self._compare_kernels(loaded, name)
                noise = None
                if name in pending.backfill:
                    self.publisher.backfill(checkpoint, loaded, dataset, self.ids[name], settings)
                else:
                    noise = self.publisher.publish(
                        checkpoint, loaded, facts, dataset, self.ids[name], settings
                    )
            except SliceExists:
                self.skipped += 1
            except (StoreUnusable, SlicesDiffer, NotCausal):
                raise
            except Exception as error:
                self._fail(checkpoint.step, error)
            else:
                self.proven = True
                self.written += 1
                self.tokens += dataset.n_tokens
                if noise is not None:
                    self.unmeasured.append((checkpoint.step, noise))
                    self.progress.say(f"{self.plan.model} at step {checkpoint.step}: {noise}")

    def _compare_kernels(self, loaded: LoadedCheckpoint, dataset: str) -> None:
        """Say, once a run, where the losses depend on the attention kernel; raises what the pass raises."""
        run = str(self.store.path), self.plan.model, self.settings.attention
        if run in _compared:
            return
        warning = kernel_warning(loaded.model, self.ids[dataset])
        _compared.add(run)
        if warning is not None:
            self.warnings.append(warning)
            self.progress.say(f"Warning: {warning}")

    def _note(self, checkpoint: Checkpoint, what: str) -> None:
        """Say beside the bar what is being done."""
        self.progress.advance(0, f"step {checkpoint.step}: {what}")

    def _fail(self, step: int, error: Exception) -> None:
        """Note a failure and say so at once, since the work may go on for hours."""
        reason = told(error)
        if isinstance(error, BadLosses) and self.settings.dtype != torch.float32:
            reason += " Half precision can overflow: try --dtype float32."
        self._note_failure(step, reason)

    def _note_failure(self, step: int, reason: str) -> None:
        self.failures.append((step, reason))
        self.progress.say(f"step {step} was not scored: {reason}")
