"""Scores a model from inside a `transformers.Trainer`, in memory, while it is trained.

The training goes on as if nothing had happened: to the bit the same weights come out as without. The losses are those
that scoring the saved checkpoint of the same step gives, on the same device to the bit in float32. One process does
it all, so it must hold the whole model: where that is spread over several (FSDP, ZeRO-3), scoring has to follow the
saved checkpoints.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import PreTrainedModel, TrainerCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from trajstore.datasets.tokenizers import check_tokenizer, tokenizer_facts
from trajstore.errors import BadDataset, ModelMismatch, SliceExists, TrajstoreError, describe_error
from trajstore.forward.attention_kernels import kernel_warning
from trajstore.forward.losses import token_scores
from trajstore.forward.training_state import fingerprint_in_memory, undisturbed
from trajstore.schema import check_name
from trajstore.scoring.compatibility import (
    check_same_architecture,
    check_same_format,
    check_same_tokens,
    check_same_weights,
)
from trajstore.scoring.model_facts import model_facts
from trajstore.scoring.options import ScoringOptions, Vocab
from trajstore.scoring.plan_check import unfit_datasets
from trajstore.scoring.report import ScoringReport
from trajstore.scoring.settings import PassSettings, choose_settings
from trajstore.store.files.publish_slices import flat_losses
from trajstore.store.matrix.steps import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import TrainerControl, TrainerState, TrainingArguments

    from trajstore.scoring.options import Dtype
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.files.models import ModelFacts
    from trajstore.store.files.slices import Provenance
    from trajstore.store.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """The facts and settings that all slices of one call of `Trainer.train` share."""

    steps: frozenset[int]
    """At which the model is scored."""
    facts: ModelFacts
    settings: PassSettings
    counted: bool
    """True where the Trainer counts the training tokens, and has from the start."""
    repos: frozenset[str | None]
    """Where the store may say that the model comes from."""


class TrajectoryCallback(TrainerCallback):  # type: ignore[misc]
    """Scores the model that a Trainer trains: at step 0, at chosen steps, and at the last.

    `Trainer(…, callbacks=[TrajectoryCallback(store, ["docs"], model="my-run", every=100)])`

    `datasets` are names of the store's; `model` is the run's name there, by default the last part of the Trainer's
    `output_dir`. `every` scores at each multiple of that many steps; `steps` is a SPEC among all steps of the training
    (numbers, ranges, log); with neither it is log. `columns`, `vocab` and `batch_tokens` are as for `score`. Slices
    that are there are skipped.

    Raises a `TrajstoreError` before the first step where something cannot be right: a dataset of another tokenizer or
    too long for the model, a model that is not causal, a name that is another run's, a model that is spread over
    processes; and at any step a `ModelMismatch` where the store has that step with other weights. What else goes wrong
    later is logged as a warning and is in `report`, and the training goes on.
    """

    def __init__(
        self,
        store: Store,
        datasets: Sequence[str],
        *,
        model: str | None = None,
        every: int | None = None,
        steps: str | Sequence[int] | None = None,
        columns: Sequence[str] = (),
        vocab: Vocab = "full",
        batch_tokens: int | None = None,
    ) -> None:
        if every is not None and (steps is not None or every < 1):
            raise TrajstoreError("TrajectoryCallback takes every=N, 1 or more, or steps=SPEC, not both.")
        self._store, self._name = store, model
        self._options = ScoringOptions(columns=columns, vocab=vocab, batch_tokens=batch_tokens)
        self._every, self._spec = every, "log" if steps is None else steps
        self._datasets = [store.dataset(name) for name in dict.fromkeys(datasets)]
        if not self._datasets:
            raise BadDataset("TrajectoryCallback was given no dataset to score on.")
        self._ids = {dataset.name: dataset.ids() for dataset in self._datasets}
        self._run: _Run | None = None
        self._last: int | None = None
        self._counts = ScoringReport()
        self._has_compared_kernels = False

    @property
    def report(self) -> ScoringReport:
        """Return the counts so far; its seconds are those that the training waited."""
        return deepcopy(self._counts)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        *,
        model: Any,
        processing_class: Any = None,
        **_: Any,
    ) -> None:
        """Check all that can be checked; score step 0, or the step from which the training is resumed."""
        whole = _whole_model(args, model)
        if not state.is_world_process_zero:
            return
        self._run = run = self._begin(args, state, whole, processing_class)
        if state.global_step in run.steps or self._is_known(run, state.global_step):
            self._score(run, whole, state, raising=True)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: Any,
        **_: Any,
    ) -> None:
        """Score, where this step was chosen or is the last."""
        if self._run and (state.global_step in self._run.steps or control.should_training_stop):
            self._score(self._run, _whole_model(args, model), state)

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        *,
        model: Any,
        **_: Any,
    ) -> None:
        """Score the last step of a training that something else has ended."""
        run, self._run = self._run, None
        if run is None or self._last == state.global_step:
            return
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._fail(
                state.global_step, "the Trainer has put the best step's weights in the place of the last's"
            )
        else:
            self._score(run, _whole_model(args, model), state)

    def _begin(
        self, args: TrainingArguments, state: TrainerState, model: PreTrainedModel, tokenizer: Any
    ) -> _Run:
        """Return what all slices share, checked against the store, the datasets and the model."""
        folder = Path(args.output_dir).expanduser().resolve()
        name = check_name("model", folder.name if self._name is None else self._name)
        dtype = str(model.dtype).removeprefix("torch.")
        settings = choose_settings(
            replace(self._options, device=str(model.device), dtype=cast("Dtype", dtype))
        )
        for dataset in self._datasets:
            check_same_tokens(self._store, name, dataset)
            check_same_format(self._store, name, dataset.name, settings.provenance)
        named = getattr(tokenizer, "name_or_path", None) or None
        if hasattr(tokenizer, "get_vocab"):
            own = tokenizer_facts(tokenizer, named or "of the Trainer")
            for dataset in self._datasets:
                check_tokenizer(own, dataset)
        for reason in unfit_datasets(model, self._ids).values():
            raise reason
        facts = model_facts(model, name, repo=str(folder), tokenizer=named)
        known = self._store.model(name)
        if known is not None:
            check_same_architecture(facts, known)
        every = range(0, state.max_steps + 1, self._every) if self._every else ()
        steps = every or resolve(
            self._spec, range(state.max_steps + 1), f"a training of {state.max_steps} steps"
        )
        tracked = args.include_num_input_tokens_seen not in (False, "no")
        run = _Run(
            steps=frozenset({0, *steps, state.max_steps}),
            facts=facts,
            settings=settings,
            counted=tracked and (state.global_step == 0 or state.num_input_tokens_seen > 0),
            repos=frozenset({None, facts.repo, known.repo if known else None}),
        )
        moved = known is not None and known.repo not in (None, facts.repo)
        if moved and (state.global_step == 0 or not self._is_known(run, state.global_step)):
            raise ModelMismatch(_other_run(name, known.repo if known else None, facts.repo))
        return run

    def _is_known(self, run: _Run, step: int) -> bool:
        """Return whether the store has losses of this step, on any dataset."""
        names = self._store.dataset_names()
        return any(self._store.has_slice(run.facts.model, name, step) for name in names)

    def _score(
        self, run: _Run, model: PreTrainedModel, state: TrainerState, *, raising: bool = False
    ) -> None:
        """Make the slices of this step that are missing, and leave the model as it was."""
        step, started = state.global_step, time.monotonic()
        self._last = step
        with self._noting(step, raising), undisturbed(model):
            weights = fingerprint_in_memory(model)
            self._check_weights(run, step, weights)
            seen = state.num_input_tokens_seen if run.counted else None
            provenance = replace(
                run.settings.provenance,
                weights=weights,
                tokens_seen=seen,
                tokens_exact=None if seen is None else True,
                attention=model.config._attn_implementation,
            )
            for dataset in self._datasets:
                with self._noting(step, raising):
                    self._score_dataset(run, model, dataset, step, provenance)
                    self._compare_kernels(model, dataset)
        self._counts.seconds += time.monotonic() - started

    def _check_weights(self, run: _Run, step: int, weights: str) -> None:
        """Raises `ModelMismatch` where the store has this step with other weights."""
        try:
            check_same_weights(self._store, run.facts.model, step, weights)
        except ModelMismatch as error:
            raise ModelMismatch(
                f"{error} This training is not the one that was scored, or does not repeat it to the bit. Score it "
                f"under another name, or remove what is there from this step on: "
                f"trajstore drop -m {run.facts.model} --steps {step}:"
            ) from error

    def _score_dataset(
        self, run: _Run, model: PreTrainedModel, dataset: Dataset, step: int, provenance: Provenance
    ) -> None:
        """Make and publish one slice, unless it is there; with the first one the model's facts."""
        name = run.facts.model
        if self._store.has_slice(name, dataset.name, step):
            self._counts.skipped += 1
            return
        scores = token_scores(
            model,
            self._ids[dataset.name],
            columns=run.settings.columns,
            batch_tokens=run.settings.batch_tokens,
            vocabulary=run.settings.vocabulary(dataset.tokenizer.size),
        )
        what = f"{name} on {dataset.name} at step {step}"
        losses = flat_losses(scores.loss, dataset, provenance.dtype, what)
        stored_repo = self._store.publish_model(run.facts).repo
        if stored_repo not in run.repos:
            raise ModelMismatch(_other_run(name, stored_repo, run.facts.repo))
        try:
            self._store.append(
                model=name,
                dataset=dataset.name,
                step=step,
                losses=losses,
                columns={column: getattr(scores, column) for column in run.settings.columns},
                provenance=replace(provenance, batch_tokens=scores.batch_tokens),
                allow_large=True,  # they are nats however large, since they were computed here
            )
        except SliceExists:
            self._counts.skipped += 1
        else:
            self._counts.count_slice(dataset.n_tokens)

    def _compare_kernels(self, model: PreTrainedModel, dataset: Dataset) -> None:
        """Log a warning, once, where the losses depend on the attention kernel."""
        if not self._has_compared_kernels:
            warning = kernel_warning(model, self._ids[dataset.name])
            self._has_compared_kernels = True
            if warning is not None:
                self._counts.warnings.append(warning)
                _log.warning("trajstore: %s", warning)

    @contextmanager
    def _noting(self, step: int, raising: bool) -> Iterator[None]:
        """Note what goes wrong inside, where it is not `raising`; weights that are not the run's always raise."""
        try:
            yield
        except Exception as error:
            if raising or isinstance(error, ModelMismatch):
                raise
            self._fail(step, describe_error(error))

    def _fail(self, step: int, reason: str) -> None:
        """Note a failure and say so at once."""
        self._counts.failures.append((step, reason))
        _log.warning("trajstore: step %d was not scored: %s", step, reason)


def _whole_model(args: TrainingArguments, model: Any) -> PreTrainedModel:
    """Return the model itself; raises `TrajstoreError` where this process does not hold all of it."""
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps it
    if not isinstance(model, PreTrainedModel):
        raise TrajstoreError(
            f"TrajectoryCallback takes a causal language model of transformers, not a {type(model).__name__}."
        )
    sharded = any(hasattr(parameter, "placements") for parameter in model.parameters())
    if sharded or args.fsdp or is_deepspeed_zero3_enabled():
        raise TrajstoreError(
            "The model is spread over several processes (FSDP or ZeRO-3), so that none of them can score it. Score the "
            f"saved checkpoints as they come: trajstore score {args.output_dir} --dataset D --watch"
        )
    return model


def _other_run(name: str, stored_repo: str | None, repo: str | None) -> str:
    return (
        f"The model {name} in the store is from {stored_repo}, not from {repo}. Give this run a name of its own: "
        "TrajectoryCallback(…, model=NAME)"
    )
