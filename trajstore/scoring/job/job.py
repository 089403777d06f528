"""The work of scoring a plan's checkpoints in one process, checkpoint by checkpoint, for whoever hands them out.

Three threads work side by side. One downloads and reads the next checkpoint; the caller's own runs the passes, each
checkpoint loaded once for every dataset that lacks its slice; one publishes what the passes gave. None is further than
a checkpoint ahead of the next, so that no more than two checkpoints and the losses of two are in memory.

A slice is published when it is complete, so that whatever ends the work leaves what is finished and nothing else. A
checkpoint that cannot be read or scored is noted with its reason, and the others go on; so is, once, a dataset that
does not fit the model. A store that cannot be written to ends the work, and so does another job that meanwhile scores
in another format.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

import torch

from trajstore.arguments.spelling import option
from trajstore.checkpoints.cache_limit import CacheLimit
from trajstore.checkpoints.loading import Loader
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
    describe_error,
)
from trajstore.forward.attention_kernels import kernel_warning
from trajstore.forward.threads import Threads
from trajstore.progress import StageTimes, stage
from trajstore.scoring.backfill import is_to_do
from trajstore.scoring.compatibility import check_same_weights
from trajstore.scoring.job.probe import probe_of
from trajstore.scoring.job.publish import Publisher
from trajstore.scoring.job.publishing_thread import PublishingThread
from trajstore.scoring.plan_check import check_format, unfit_datasets
from trajstore.scoring.profile import Profile
from trajstore.scoring.report import ScoringReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.checkpoints.loading import Checkpoint, LoadedCheckpoint, ReadCheckpoint
    from trajstore.progress import Progress
    from trajstore.scoring.options import ScoringOptions
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.scoring.plan_check import Tokenizers
    from trajstore.scoring.settings import PassSettings
    from trajstore.scoring.time_budget import Budget
    from trajstore.store.store import Store

_compared: set[tuple[str, str, str | None]] = set()
"""(store, model, attention asked for) whose attention kernel this process has compared with the plain one."""


class ScoringJob:
    """The work of one run, or of one process among those that share it, and its counts; leave it by `close`."""

    processes = 1

    def __init__(
        self,
        store: Store,
        plan: Plan,
        settings: PassSettings,
        tokenizers: Tokenizers,
        options: ScoringOptions,
        progress: Progress,
    ) -> None:
        self.store, self.plan, self.settings, self.progress = store, plan, settings, progress
        names = dict.fromkeys(name for pending in plan.pending for name in pending.all_datasets)
        self.datasets = {name: store.dataset(name) for name in names}
        self.ids = {name: dataset.ids() for name, dataset in self.datasets.items()}
        self.tokenizers = tokenizers
        probe = probe_of(store, plan, settings.probe_measures, options.parameters, tokenizers.name)
        self.publisher = Publisher(store, plan, tokenizers.name, progress, probe)
        self.publishing = PublishingThread(self.publisher.publish)
        self.times = StageTimes()
        limit = options.cache_bytes
        needed = [pending.checkpoint for pending in plan.pending]
        self.limit = None if limit is None else CacheLimit(limit, needed)
        self.loader = Loader(
            settings.device,
            settings.dtype or torch.float32,
            settings.attention,
            trust_remote_code=options.trust_remote_code,
        )
        self.ahead = Ahead(self.loader, self.limit)
        self.threads = Threads(options.threads, settings.device, plan.tokens, progress)
        self.unfit: dict[str, UnfitContext] | None = None
        """Datasets that do not fit the model; None until one is loaded."""
        self.formats = {settings.provenance.dtype}
        """Dtypes for which the slices that are there were looked at."""
        self.passed = 0
        """Tokens of the passes that are done."""
        self.published_any = False
        self.counts: dict[int, ScoringReport] = {}
        """Of each step, since they were taken."""

    def take_report(self) -> ScoringReport:
        """Return what was done since the last report."""
        report = ScoringReport()
        for part in self.take_reports().values():
            report.add(part)
        return report

    def take_reports(self) -> dict[int, ScoringReport]:
        """Return what was done of each step that is done with; the time since the last report is with the last one."""
        under_way = self.publishing.steps()
        done = {step: self.counts.pop(step) for step in list(self.counts) if step not in under_way}
        if done:
            for times in (self.times, self.publishing.times):
                next(reversed(done.values())).profile.add(Profile(stages=times.take()))
        return done

    def finish(self) -> None:
        """Wait until all that was scored is published; raises as `run` does what ends the work."""
        self._publish_up_to(0)

    def close(self) -> None:
        """Stop what was begun ahead, publish what is finished, and leave torch's threads as they were."""
        try:
            self.ahead.close()
        finally:
            self.publishing.close()
            with contextlib.suppress(
                StoreUnusable, SlicesDiffer
            ):  # raised before, or after what ended the work
                self._take_published()
            self.threads.close()

    def score_all(self, budget: Budget) -> int:
        """Score one checkpoint after another; gives the number of slices for which the time was too short."""
        budget.begin_work()
        queue = self.plan.pending
        for number, pending in enumerate(queue):
            if not budget.allows(pending.tokens):
                self.finish()
                return sum(len(remaining.all_datasets) for remaining in queue[number:])
            before = self.passed
            following = queue[number + 1] if number + 1 < len(queue) else None
            if following and not budget.allows(pending.tokens + following.tokens):
                following = None
            self.score(pending, following)
            budget.did(self.passed - before)
        self.finish()
        return 0

    def score(self, pending: Pending, following: Pending | None = None) -> None:
        """Make a checkpoint's missing slices, or note why not; meanwhile the one that follows is got ready.

        The slices may still be on their way to the store when this returns: see `finish`. Raises as `run` does what
        would keep the next checkpoint as well.
        """
        self._counts(pending.checkpoint.step)  # something to report, whatever becomes of it
        with self.times.kept():
            self._score(pending, following)

    def _score(self, pending: Pending, following: Pending | None) -> None:
        try:
            if todo := self._todo(pending):
                self._score_checkpoint(pending, todo, following)
        except (UnfitContext, StoreUnusable, SlicesDiffer):
            raise
        except (DeviceError, NotCausal) as error:
            if not self._is_proven():
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
                self._counts(step).skipped += 1
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
                f"all the same, and its slices say so; {option('skip_known_bad', True)} leaves such out."
            )
        self._note(checkpoint, "downloading" if pending.to_download else "reading")
        with stage("wait_for_weights"):
            ready = self.ahead.take(checkpoint)
        self.times.add(ready.seconds)
        try:
            self._note(checkpoint, "loading")
            settings = self._settings(ready)
            check_same_weights(self.store, self.plan.model, checkpoint.step, ready.weights)
            loaded = self._load(ready, settings)
            self.times.add(loaded.seconds)
            if following and any(
                is_to_do(self.store, self.plan, following, name) for name in following.all_datasets
            ):
                self.ahead.begin(following.checkpoint)
            self._score_loaded(pending, loaded, todo, settings)
        finally:
            ready.release()

    def _settings(self, ready: ReadCheckpoint) -> PassSettings:
        """The settings for a checkpoint; raises `SlicesDiffer` where slices are there in another dtype.

        Where it is the checkpoint that differs from those before it, that is a `CheckpointError`.
        """
        settings = self.settings.for_checkpoint(ready.folder)
        if settings.provenance.dtype not in self.formats:
            self.finish()  # the slices of the checkpoints before are among those to look at
            try:
                check_format(self.store, self.plan, settings)
            except SlicesDiffer as error:
                if not self._is_proven():
                    raise
                raise CheckpointError(str(error)) from error
            self.formats.add(settings.provenance.dtype)
        return settings

    def _load(self, ready: ReadCheckpoint, settings: PassSettings) -> LoadedCheckpoint:
        """The model on its device; raises `DeviceError` where it cannot have the attention kernel asked for."""
        try:
            return self.loader.fill(ready, settings.dtype)
        except (ValueError, ImportError) as error:
            if settings.attention is None:
                raise
            raise DeviceError(
                f"{option('attention', settings.attention)} cannot be used: {str(error).splitlines()[0]}"
            ) from error

    def _score_loaded(
        self, pending: Pending, loaded: LoadedCheckpoint, todo: list[str], settings: PassSettings
    ) -> None:
        """Score the datasets one after another; one that goes wrong does not keep the others."""
        checkpoint, facts = pending.checkpoint, self.publisher.facts(loaded)
        if self.unfit is None:
            self.unfit = unfit_datasets(loaded.model, self.ids)
            for name, reason in self.unfit.items():
                self._counts(checkpoint.step).unfit[name] = str(reason)
                self._fail(checkpoint.step, reason)
        self._publish_up_to(1)
        for name in todo:
            if name in self.unfit:
                continue
            self._note(checkpoint, name)
            dataset, backfill = self.datasets[name], name in pending.backfill
            try:
                self.threads.look(loaded.model, self.ids[name])
                self._compare_kernels(checkpoint.step, loaded, name)
                finished = self.publisher.score(
                    checkpoint, loaded, facts, dataset, self.ids[name], settings, backfill=backfill
                )
            except NotCausal:
                raise
            except Exception as error:
                self._fail(checkpoint.step, error)
            else:
                self.passed += dataset.n_tokens
                self.publishing.put(finished)
                self._take_published()

    def _publish_up_to(self, checkpoints: int) -> None:
        """Wait until the slices of so many checkpoints at most are to be published, and count what is."""
        with self.times.kept(), stage("wait_for_publishing"):
            self.publishing.wait(checkpoints)
        self._take_published()

    def _take_published(self) -> None:
        """Count what was published, and note what could not be; raises what ends the work."""
        for finished, done in self.publishing.take():
            try:
                unmeasured = done.result()
            except SliceExists:
                self._counts(finished.step).skipped += 1
            except CancelledError:
                continue  # what ended the work came before it
            except (StoreUnusable, SlicesDiffer):
                raise
            except Exception as error:
                self._fail(finished.step, error)
            else:
                self.published_any = True
                self._counts(finished.step).count_slice(finished.dataset.n_tokens)
                self._note_unmeasured(finished.step, unmeasured)

    def _is_proven(self) -> bool:
        """Return whether a slice was published, so that what else fails is the fault of single checkpoints."""
        if not self.published_any:
            self.finish()
        return self.published_any

    def _compare_kernels(self, step: int, loaded: LoadedCheckpoint, dataset: str) -> None:
        """Say, once a run, where the losses depend on the attention kernel; raises what the pass raises."""
        run = str(self.store.path), self.plan.model, self.settings.attention
        if run in _compared:
            return
        warning = kernel_warning(loaded.model, self.ids[dataset])
        _compared.add(run)
        if warning is not None:
            self._counts(step).warnings.append(warning)
            self.progress.say(f"Warning: {warning}")

    def _counts(self, step: int) -> ScoringReport:
        return self.counts.setdefault(step, ScoringReport())

    def _note(self, checkpoint: Checkpoint, what: str) -> None:
        """Say beside the bar what is being done."""
        self.progress.advance(0, f"step {checkpoint.step}: {what}")

    def _fail(self, step: int, error: Exception) -> None:
        """Note a failure and say so at once, since the work may go on for hours."""
        reason = describe_error(error)
        if isinstance(error, BadLosses) and self.settings.dtype != torch.float32:
            reason += f" Half precision can overflow: try {option('dtype', 'float32')}."
        self._note_failure(step, reason)

    def _note_unmeasured(self, step: int, reasons: Sequence[str]) -> None:
        """Note what could not be measured of a slice that was published, and say so at once."""
        for reason in reasons:
            self._counts(step).unmeasured.append((step, reason))
            self.progress.say(f"{self.plan.model} at step {step}: {reason}")

    def _note_failure(self, step: int, reason: str) -> None:
        self._counts(step).failures.append((step, reason))
        self.progress.say(f"step {step} was not scored: {reason}")
