"""Scores a run's checkpoints on datasets of a store: first the plan of what is missing, then the work.

Each checkpoint is loaded once and scores every dataset that lacks its slice. A slice is published when it is
complete, so that whatever ends the work leaves what is finished and nothing else, and the next plan goes on
from there. A checkpoint that cannot be read or scored is noted with its reason, and the others go on; so is, once,
a dataset that does not fit the model. A store that cannot be written to ends the work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from trajstore.errors import BadLosses, SliceExists, StoreUnusable, TrajstoreError, UnfitContext
from trajstore.scoring.checkpoints import LoadedCheckpoint, load
from trajstore.scoring.facts import model_facts
from trajstore.scoring.fitting import check_tokenizers, unfit_datasets
from trajstore.scoring.identity import check_same_architecture, check_same_run, check_same_weights
from trajstore.scoring.losses import token_losses
from trajstore.scoring.planning import Pending, Plan, plan
from trajstore.scoring.present import check_same_format
from trajstore.scoring.settings import Settings, choose_settings
from trajstore.scoring.suites import known_run
from trajstore.store.appending import flat_losses
from trajstore.store.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.store.models import ModelFacts
    from trajstore.store.progress import Progress
    from trajstore.store.slices import Provenance
    from trajstore.store.store import Store

__all__ = ["Pending", "Plan", "Report", "plan", "run", "score"]


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


def run(
    store: Store,
    plan: Plan,
    *,
    device: str = "auto",
    dtype: str = "float32",
    batch_tokens: int | None = None,
    attention: str | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Score what the plan says; each slice is in the store as soon as it is complete.

    `batch_tokens` is the token budget of a batch (by default it depends on the device), `attention` an attention
    kernel of transformers. Before anything is scored, raises `DeviceError`, `SlicesDiffer` where slices are there in
    another dtype, `TokenizerMismatch` where a dataset fits none of the checkpoints, and `UnfitContext` where none of
    the datasets fits the first; later `StoreUnusable` where a slice cannot be written. What goes wrong with single
    checkpoints or datasets is in the report.
    """
    started = time.monotonic()
    settings = choose_settings(device, dtype, batch_tokens, attention)
    for dataset in plan.datasets:
        check_same_format(store, plan.model, dataset, settings.provenance)
    if not plan.pending:
        return Report(0, plan.present, [], 0, 0.0)
    job = _Job(store, plan, settings, progress)
    progress.start(f"scoring {plan.model}", plan.tokens, "tokens")
    try:
        for pending in plan.pending:
            job.score(pending)
    finally:
        progress.stop()
    return Report(
        job.written, plan.present + job.skipped, job.failures, job.tokens, time.monotonic() - started
    )


def score(
    store: Store,
    model: str,
    datasets: Sequence[str],
    *,
    steps: str | int | Sequence[int] = "all",
    name: str | None = None,
    tokens_per_step: int | None = None,
    device: str = "auto",
    dtype: str = "float32",
    batch_tokens: int | None = None,
    attention: str | None = None,
    progress: Progress = SILENT,
) -> Report:
    """`plan` and `run` in one: scores what is missing of `model` on `datasets` and nothing else."""
    todo = plan(store, model, datasets, steps=steps, name=name, tokens_per_step=tokens_per_step)
    return run(
        store,
        todo,
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        attention=attention,
        progress=progress,
    )


class _Job:
    """The work of one run and its counts."""

    def __init__(self, store: Store, plan: Plan, settings: Settings, progress: Progress) -> None:
        self.store, self.plan, self.settings, self.progress = store, plan, settings, progress
        names = dict.fromkeys(name for pending in plan.pending for name in pending.datasets)
        self.datasets = {name: store.dataset(name) for name in names}
        self.ids = {name: dataset.ids() for name, dataset in self.datasets.items()}
        self.tokenizers = check_tokenizers(plan, self.datasets)
        if self.tokenizers.unchecked:
            progress.say(
                f"{plan.model}: no tokenizer beside the weights; that it is the dataset's could not be checked."
            )
        self.unfit: dict[str, UnfitContext] | None = None
        """Datasets that do not fit the model; None until one is loaded."""
        self.written = self.skipped = self.tokens = 0
        self.published = False
        self.failures: list[tuple[int, str]] = []

    def score(self, pending: Pending) -> None:
        """Make a checkpoint's missing slices, or note why not."""
        step = pending.checkpoint.step
        try:
            if todo := self._todo(pending):
                self.progress.advance(0, f"step {step}: loading")
                self._score_loaded(pending, self._load(pending), todo)
        except (UnfitContext, StoreUnusable):
            raise  # so would be the next checkpoint
        except Exception as error:
            self._fail(step, error)

    def _todo(self, pending: Pending) -> list[str]:
        """The datasets that still lack the slice and that the checkpoint's tokenizer fits."""
        step, todo = pending.checkpoint.step, []
        for name in pending.datasets:
            if self.store.has_slice(self.plan.model, name, step):
                self.skipped += 1
            elif (step, name) in self.tokenizers.unfit:
                self._fail(step, self.tokenizers.unfit[step, name])
            elif name not in (self.unfit or ()):
                todo.append(name)
        return todo

    def _load(self, pending: Pending) -> LoadedCheckpoint:
        """The checkpoint on the device; raises `ModelMismatch` where its weights are not those scored before."""
        settings, checkpoint = self.settings, pending.checkpoint
        loaded = load(checkpoint, settings.device, settings.dtype, settings.attention)
        check_same_weights(self.store, self.plan.model, checkpoint.step, loaded.weights)
        return loaded

    def _score_loaded(self, pending: Pending, loaded: LoadedCheckpoint, todo: list[str]) -> None:
        """Score the datasets one after another; one that goes wrong does not keep the others."""
        facts = self._facts(loaded)
        if self.unfit is None:
            self.unfit = unfit_datasets(loaded.model, self.ids)
            for reason in self.unfit.values():
                self._fail(pending.checkpoint.step, reason)
        for name in todo:
            if name in self.unfit:
                continue
            try:
                self._score_dataset(pending, loaded, name, facts)
            except SliceExists:
                self.skipped += 1
            except StoreUnusable:
                raise
            except Exception as error:
                self._fail(pending.checkpoint.step, error)

    def _facts(self, loaded: LoadedCheckpoint) -> ModelFacts:
        """The model's facts, which must agree with those in the store."""
        source = self.plan.source
        suite = None if source.local else known_run(source.repo)
        facts = model_facts(
            loaded.model,
            self.plan.model,
            repo=source.repo,
            size=suite.size if suite else None,
            seed=suite.seed if suite else None,
            tokenizer=self.tokenizers.name,
            tokens_per_step=self.plan.tokens_per_step,
        )
        if (known := self.store.model(self.plan.model)) is not None:
            check_same_architecture(facts, known)
        return facts

    def _score_dataset(
        self, pending: Pending, loaded: LoadedCheckpoint, name: str, facts: ModelFacts
    ) -> None:
        """Make and publish one slice; with the first one the model's facts."""
        checkpoint, dataset = pending.checkpoint, self.datasets[name]
        self.progress.advance(0, f"step {checkpoint.step}: {name}")
        losses = token_losses(
            loaded.model, self.ids[name], batch_tokens=self.settings.batch_tokens, progress=self.progress
        )
        what = f"{self.plan.model} on {name} at step {checkpoint.step}"
        flat = flat_losses(losses, dataset, self.settings.provenance.dtype, what)
        try:
            self._publish_facts(facts)
            self.store.append(
                model=self.plan.model,
                dataset=name,
                step=checkpoint.step,
                losses=flat,
                provenance=self._provenance(pending, loaded),
            )
        except OSError as error:
            raise StoreUnusable(
                f"{what} could not be written to the store at {self.store.path}: {error.strerror or error}. What was "
                "finished is kept and nothing is half-written; mend that, and the same command goes on from there."
            ) from error
        self.written += 1
        self.tokens += dataset.n_tokens

    def _publish_facts(self, facts: ModelFacts) -> None:
        """Give the model its entry; raises `ModelMismatch` where another run took the name since the plan."""
        if not self.published and self.store.publish_model(facts).repo != facts.repo:
            check_same_run(self.store, self.plan.model, self.plan.source)
        self.published = True

    def _provenance(self, pending: Pending, loaded: LoadedCheckpoint) -> Provenance:
        """How the losses of this checkpoint came about."""
        checkpoint, per_step = pending.checkpoint, self.plan.tokens_per_step
        return replace(
            self.settings.provenance,
            revision=checkpoint.revision,
            commit=loaded.commit,
            weights=loaded.weights,
            tokens_seen=None if per_step is None else checkpoint.step * per_step,
            tokens_exact=None if per_step is None else True,
            attention=loaded.model.config._attn_implementation,
        )

    def _fail(self, step: int, error: Exception) -> None:
        """Note a failure and say so at once, since the work may go on for hours."""
        reason = str(error) if isinstance(error, TrajstoreError) else f"{type(error).__name__}: {error}"
        if isinstance(error, torch.OutOfMemoryError):
            reason = (
                f"the device's memory is full; try a smaller --batch-tokens than {self.settings.batch_tokens}"
            )
        if isinstance(error, BadLosses) and self.settings.dtype != torch.float32:
            reason += " Half precision can overflow: try --dtype float32."
        self.failures.append((step, reason))
        self.progress.say(f"{self.plan.model} at step {step}: {reason}")
