"""Measures a run's checkpoints on datasets of a store: what is there is skipped, and each is kept once it is whole.

A checkpoint is loaded once for all that is missing of it, while the next one is read. Whatever ends the work leaves
what is finished and nothing else; the same call goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from trajstore.checkpoints.cache_limit import CacheLimit
from trajstore.checkpoints.loading import Loader, load
from trajstore.checkpoints.prefetch import Ahead
from trajstore.display import count, duration
from trajstore.errors import (
    CheckpointError,
    DeviceError,
    MeasuresExist,
    NotMeasurable,
    StoreUnusable,
    TrajstoreError,
    describe_error,
)
from trajstore.forward.threads import Threads
from trajstore.measures.run import measure as measure_model
from trajstore.progress import SILENT
from trajstore.scoring.compatibility import check_same_architecture, check_same_weights
from trajstore.scoring.measuring.plan import missing_measures, plan_measures
from trajstore.scoring.model_facts import facts_of_run
from trajstore.scoring.options import scoring_options
from trajstore.scoring.settings import choose_settings, provenance_of_measures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajstore.arguments.choices import Probe
    from trajstore.checkpoints.loading import Checkpoint, LoadedCheckpoint, ReadCheckpoint
    from trajstore.measures.definitions import MeasureDefinition
    from trajstore.progress import Progress
    from trajstore.scoring.measuring.plan import MeasuringPlan, PendingMeasures
    from trajstore.scoring.options import ScoringOptions
    from trajstore.scoring.settings import PassSettings
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store


@dataclass
class MeasuringReport:
    """Counts of measuring a model; a measure counts once for each checkpoint and dataset."""

    model: str
    datasets: tuple[str, ...] = ()
    """Datasets measured on, a probe by the name that it has in the store."""
    written: int = 0
    skipped: int = 0
    """Measures that were there already, or that another job published meanwhile."""
    left_out: list[tuple[int, str]] = field(default_factory=list)
    """(step, reason) of measures that have no values."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """(step, reason) of checkpoints that could not be loaded or measured."""
    seconds: float = 0.0


def measure(
    store: Store,
    model: str,
    names: str | Sequence[str],
    datasets: str | Sequence[str] = (),
    *,
    probe: Probe | None = None,
    steps: str | None = None,
    replace: bool = False,
    options: ScoringOptions | None = None,
    progress: Progress = SILENT,
    **keywords: Any,
) -> MeasuringReport:
    """Compute measures of a model's checkpoints on datasets, or on a probe, and keep those that are not there.

    `model` is one of the store's, whose weights are looked for where they were scored from, or what `score` takes.
    `probe` is "repeats", or "natural": the beginnings of the datasets' contexts. `steps` is a SPEC among the
    checkpoints that exist, by default those that are scored. The `options` and keywords are those of `ScoringOptions`
    on how a model is loaded and run, and `parameters`: values by name, as `offset` or `prefix_matching.offset`.

    Raises `PluginError` for an unknown measure, `BadMeasures` for a parameter without a value or with one that differs
    from what is there, `NothingChosen` where a dataset is missing, `UnknownName`, `UnknownStep`, `CheckpointError`,
    `ModelMismatch`, `TokenizerMismatch`, `NotMeasurable` where the first checkpoint has none of the measures, and
    `StoreUnusable`. What goes wrong with single checkpoints is in the report.
    """
    started = time.monotonic()
    options = scoring_options(options, keywords)
    plan = plan_measures(
        store,
        model,
        [names] if isinstance(names, str) else names,
        [datasets] if isinstance(datasets, str) else datasets,
        probe,
        options,
        steps,
        replace=replace,
    )
    report = MeasuringReport(
        plan.model, tuple(dataset.name for dataset in plan.datasets), skipped=plan.present
    )
    if plan.pending:
        progress.start(f"measuring {plan.model}", plan.number, "measures")
        job = _Job(store, plan, options, report, progress, replace=replace)
        try:
            job.run()
        finally:
            job.close()
            progress.stop()
    report.seconds = time.monotonic() - started
    return report


class _Job:
    """The work of a plan; leave it by `close`."""

    def __init__(
        self,
        store: Store,
        plan: MeasuringPlan,
        options: ScoringOptions,
        report: MeasuringReport,
        progress: Progress,
        *,
        replace: bool,
    ) -> None:
        self.store, self.plan, self.report, self.progress = store, plan, report, progress
        self.options, self.replace = options, replace
        self.settings = choose_settings(options)
        self.ids = {dataset.name: dataset.ids() for dataset in plan.datasets}
        needed = [pending.checkpoint for pending in plan.pending]
        limit = options.cache_bytes
        self.limit = None if limit is None else CacheLimit(limit, needed)
        self.loader = Loader(
            self.settings.device,
            self.settings.dtype or torch.float32,
            self.settings.attention,
            trust_remote_code=options.trust_remote_code,
        )
        self.ahead = Ahead(self.loader, self.limit)
        tokens = len(needed) * sum(dataset.n_tokens for dataset in plan.datasets)
        self.threads = Threads(options.threads, self.settings.device, tokens, progress)
        self.has_facts = False
        self.states: dict[int, dict[str, torch.Tensor]] = {}
        """Weights of the last checkpoints by step, where a measure takes those before."""

    def close(self) -> None:
        """Stop what was begun ahead, and leave torch's threads as they were."""
        self.ahead.close()
        self.threads.close()

    def run(self) -> None:
        """Measure one checkpoint after another; raises what would keep all of them."""
        for number, pending in enumerate(self.plan.pending):
            following = self.plan.pending[number + 1 : number + 2]
            try:
                self._checkpoint(pending, following)
            except (StoreUnusable, NotMeasurable):
                raise
            except Exception as error:
                if isinstance(error, DeviceError) and not self.report.written:
                    raise
                self._note(
                    self.report.failures,
                    pending.checkpoint.step,
                    f"was not measured: {describe_error(error)}",
                )
            if self.limit is not None:
                self.limit.done_with(pending.checkpoint)

    def _checkpoint(self, pending: PendingMeasures, following: Sequence[PendingMeasures]) -> None:
        """Load a checkpoint and measure what is still missing of it; meanwhile the next one is read."""
        checkpoint = pending.checkpoint
        missing = [
            (dataset, self._still_missing(checkpoint.step, dataset, definitions))
            for dataset, definitions in pending.missing
        ]
        gone = pending.number - sum(len(definitions) for _, definitions in missing)
        self.report.skipped += gone
        self.progress.advance(gone, f"step {checkpoint.step}: loading")
        if not any(definitions for _, definitions in missing):
            return
        comparing = any(
            definition.on_checkpoints_before for _, definitions in missing for definition in definitions
        )
        before = self._weights_before(checkpoint) if comparing else {}
        ready = self.ahead.take(checkpoint)
        try:
            check_same_weights(self.store, self.plan.model, checkpoint.step, ready.weights)
            settings = self.settings.for_checkpoint(ready.folder)
            loaded = self.loader.fill(ready, settings.dtype)
            if following:
                self.ahead.begin(following[0].checkpoint)
            self._keep_facts(loaded)
            lines: list[str] = []
            for dataset, definitions in missing:
                if definitions:
                    lines += self._measure(ready, loaded, settings, dataset, definitions, before)
            if not (self.report.written or self.report.skipped or self.report.left_out):
                raise NotMeasurable(
                    f"Nothing can be measured of step {checkpoint.step}, so nothing was begun. {' '.join(lines)}"
                )
            for line in lines:
                self._note(self.report.left_out, checkpoint.step, line)
            if comparing:
                self.states[checkpoint.step] = _weights(loaded)
        finally:
            ready.release()

    def _still_missing(
        self, step: int, dataset: Dataset | None, definitions: Sequence[MeasureDefinition]
    ) -> tuple[MeasureDefinition, ...]:
        """Return the measures that no other job has published since the plan."""
        if self.replace:
            return tuple(definitions)
        return missing_measures(self.store, self.plan.model, step, dataset, definitions)

    def _measure(
        self,
        ready: ReadCheckpoint,
        loaded: LoadedCheckpoint,
        settings: PassSettings,
        dataset: Dataset | None,
        definitions: Sequence[MeasureDefinition],
        before: Mapping[int, Mapping[str, torch.Tensor]],
    ) -> list[str]:
        """Measure a checkpoint on a dataset and publish what it has; gives why the rest has no values.

        Raises `StoreUnusable`.
        """
        step, name = ready.checkpoint.step, None if dataset is None else dataset.name
        self.progress.advance(0, f"step {step}: {name or 'weights'}")
        ids = self.ids[name] if name is not None else []
        vocabulary = None if dataset is None else settings.vocabulary(dataset.tokenizer.size)
        if ids:
            self.threads.look(loaded.model, ids)
        measured = measure_model(
            loaded.model,
            ids,
            definitions,
            batch_tokens=settings.batch_tokens,
            vocabulary=vocabulary,
            previous=list(before.values()),
        )
        reasons = dict(measured.left_out)
        own = replace(
            settings.provenance,
            revision=ready.checkpoint.revision,
            commit=loaded.commit,
            weights=loaded.weights,
        )
        provenance = provenance_of_measures(own, dataset)
        for definition in definitions:
            values = measured.measures.get(definition.name)
            if values is None:
                reasons.setdefault(definition.name, "it has no value here")
                continue
            if definition.on_checkpoints_before:
                values = [
                    replace(value, params={**value.params, "since": next(iter(before))}) for value in values
                ]
            try:
                self.store.add_measures(
                    definition.name,
                    values,
                    model=self.plan.model,
                    step=step,
                    dataset=name,
                    replace=self.replace,
                    provenance=provenance,
                )
            except MeasuresExist:
                self.report.skipped += 1
            except TrajstoreError as error:
                reasons[definition.name] = str(error)
            except OSError as error:
                raise StoreUnusable(
                    f"{definition.name} of {self.plan.model} at step {step} could not be written to the store at "
                    f"{self.store.path}: {error.strerror or error}. What was finished is kept and nothing is "
                    "half-written; mend that, and the same command goes on from there."
                ) from error
            else:
                self.report.written += 1
        self.progress.advance(len(definitions))
        on = "" if name is None else f" on {name}"
        return [f"{measure}{on}: {reason}" for measure, reason in reasons.items()]

    def _weights_before(self, checkpoint: Checkpoint) -> dict[int, dict[str, torch.Tensor]]:
        """The weights of the run's two checkpoints before, the latest first, by step; none where one has none."""
        checkpoints = self.plan.source.checkpoints
        earlier = [previous for previous in checkpoints if previous.step < checkpoint.step][-2:]
        self.states = {
            previous.step: self.states[previous.step] for previous in earlier if previous.step in self.states
        }
        for previous in earlier:
            if previous.step not in self.states:
                self.progress.advance(0, f"step {previous.step}: loading, to compare with")
                try:
                    loaded = load(
                        previous,
                        "cpu",
                        self.settings.dtype or torch.float32,
                        trust_remote_code=self.options.trust_remote_code,
                    )
                except CheckpointError as error:
                    line = f"without step {previous.step} to compare with: {error}"
                    self._note(self.report.left_out, checkpoint.step, line)
                    return {}
                self.states[previous.step] = _weights(loaded)
        return {previous.step: self.states[previous.step] for previous in reversed(earlier)}

    def _keep_facts(self, loaded: LoadedCheckpoint) -> None:
        """Give a model that is new to the store its entry; raises `ModelMismatch` for another architecture."""
        if self.has_facts:
            return
        source = self.plan.source
        tokens_per_step = source.run.tokens_per_step if source.run else None
        facts = facts_of_run(loaded.model, self.plan.model, source, self.plan.tokenizer, tokens_per_step)
        if (known := self.store.model(self.plan.model)) is not None:
            check_same_architecture(facts, known)
        else:
            self.store.publish_model(facts)
        self.has_facts = True

    def _note(self, notes: list[tuple[int, str]], step: int, line: str) -> None:
        notes.append((step, line))
        self.progress.say(f"step {step}: {line}")


def _weights(loaded: LoadedCheckpoint) -> dict[str, torch.Tensor]:
    """A checkpoint's weights by name, in memory of their own."""
    return {name: tensor.detach().cpu().clone() for name, tensor in loaded.model.state_dict().items()}


def summary(report: MeasuringReport) -> str:
    """A sentence on what was done."""
    on = f" on {', '.join(report.datasets)}" if report.datasets else ""
    return (
        f"{report.model}: {count(report.written, 'measure')} of checkpoints{on} written, {report.skipped} there "
        f"already, in {duration(report.seconds)}."
    )
