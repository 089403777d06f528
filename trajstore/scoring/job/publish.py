"""Makes slices of a loaded checkpoint and publishes them, each with how it came about, and the model's facts once.

Scoring takes the model and the device, publishing the store: while one slice is published the next is being made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trajstore.errors import BadMeasures, StoreUnusable, describe_error
from trajstore.forward.losses import token_scores
from trajstore.forward.workspace import Workspace
from trajstore.measures.definitions import MeasureInputs
from trajstore.measures.in_scoring import MeasuringWatcher
from trajstore.measures.noise import NOISE, measure_noise
from trajstore.progress import stage
from trajstore.scoring.backfill import add_columns
from trajstore.scoring.compatibility import check_same_architecture, check_same_format, check_same_run
from trajstore.scoring.model_facts import facts_of_run
from trajstore.scoring.settings import provenance_of_measures
from trajstore.store.files.publish_slices import flat_losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from trajstore.checkpoints.loading import Checkpoint, LoadedCheckpoint
    from trajstore.forward.losses import Ids, Scores
    from trajstore.progress import Progress
    from trajstore.scoring.job.probe import Probe
    from trajstore.scoring.plan import Plan
    from trajstore.scoring.settings import PassSettings
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.files.measures import Measure
    from trajstore.store.files.models import ModelFacts
    from trajstore.store.files.slices import Provenance
    from trajstore.store.store import Store


@dataclass
class FinishedPass:
    """The results of a pass over one dataset, with all that publishing them takes: the model may go."""

    step: int
    dataset: Dataset
    scores: Scores
    columns: tuple[str, ...]
    """Columns of the scores that are kept beside the loss."""
    provenance: Provenance
    facts: ModelFacts
    backfill: bool
    """True where the slice is there and only gets the columns."""
    measures: dict[str, list[Measure]] = field(default_factory=dict)
    """By the name they are kept under."""
    on_probe: dict[str, list[Measure]] = field(default_factory=dict)
    """The measures of the checkpoint on its probe, where it is the first of its slices."""
    unmeasured: list[str] = field(default_factory=list)
    """Reasons why others could not be measured."""


class Publisher:
    """Makes and publishes slices of one model's checkpoints: `score` beside the model, `publish` in any one thread."""

    def __init__(
        self, store: Store, plan: Plan, tokenizer: str | None, progress: Progress, probe: Probe | None
    ) -> None:
        """`tokenizer` is the name of the one beside the weights; None where there is none."""
        self._store, self._plan, self._tokenizer, self._progress = store, plan, tokenizer, progress
        self._probe, self._probed = probe, -1
        self._has_facts = False
        self._workspace = Workspace()

    def facts(self, loaded: LoadedCheckpoint) -> ModelFacts:
        """Return the model's own facts; raises `ModelMismatch` where they do not agree with those in the store."""
        model = self._plan.model
        facts = facts_of_run(
            loaded.model, model, self._plan.source, self._tokenizer, self._plan.tokens_per_step
        )
        if (known := self._store.model(model)) is not None:
            check_same_architecture(facts, known)
        return facts

    def score(
        self,
        checkpoint: Checkpoint,
        loaded: LoadedCheckpoint,
        facts: ModelFacts,
        dataset: Dataset,
        ids: Sequence[Ids],
        settings: PassSettings,
        *,
        backfill: bool = False,
    ) -> FinishedPass:
        """Return the losses of a checkpoint on a dataset and the measures that are asked for; raises as the pass does.

        With `backfill` there are no measures, only the settings' columns for the slice that is there.
        """
        streams = [] if backfill else [measure for measure in settings.measures if measure.stream is not None]
        vocabulary = settings.vocabulary(dataset.tokenizer.size)
        watcher = MeasuringWatcher(loaded.model, ids, streams, vocabulary) if streams else None
        with stage("pass"):
            scores = token_scores(
                loaded.model,
                ids,
                columns=settings.pass_columns,
                batch_tokens=settings.batch_tokens,
                vocabulary=vocabulary,
                workspace=self._workspace,
                watcher=watcher,
                progress=self._progress,
            )
        provenance = replace(
            settings.provenance,
            revision=checkpoint.revision,
            commit=loaded.commit,
            weights=loaded.weights,
            tokens_seen=checkpoint.tokens_seen,
            tokens_exact=checkpoint.tokens_exact,
            known_bad=checkpoint.known_bad,
            remote_code=_has_own_code(loaded.model),
            attention=loaded.model.config._attn_implementation,
            batch_tokens=scores.batch_tokens,
        )
        finished = FinishedPass(
            checkpoint.step, dataset, scores, settings.columns, provenance, facts, backfill
        )
        if not backfill:
            with stage("measure"):
                finished.measures, finished.unmeasured = _measures(
                    loaded.model, dataset, ids, scores, settings, watcher
                )
                if self._probe is not None and self._probed != checkpoint.step:
                    self._probed = checkpoint.step
                    finished.on_probe, reasons = self._probe.measures(loaded.model, checkpoint.step, settings)
                    finished.unmeasured += reasons
        return finished

    def publish(self, finished: FinishedPass) -> list[str]:
        """Publish a slice, before it its measures, and once the model's facts; or add its columns to the one there.

        Returns why what could not be measured could not; the losses are kept all the same. Raises `BadLosses`,
        `SliceExists` where another job was first, `SlicesDiffer` where another job has begun with another dtype or
        vocabulary, `LossesDisagree` where columns are of other losses, `StoreUnusable` where the store cannot be
        written to.
        """
        if finished.backfill:
            self._add_columns(finished)
            return []
        model, dataset, provenance = self._plan.model, finished.dataset, finished.provenance
        what = f"{model} on {dataset.name} at step {finished.step}"
        with stage("encode"):
            losses = flat_losses(finished.scores.loss, dataset, provenance.dtype, what)
        check_same_format(self._store, model, dataset.name, provenance, first_only=True)
        try:
            self._publish_facts(finished.facts)
            unmeasured = finished.unmeasured + self._add_measures(finished)
            self._store.append(
                model=model,
                dataset=dataset.name,
                step=finished.step,
                losses=losses,
                columns={name: getattr(finished.scores, name) for name in finished.columns},
                provenance=provenance,
                allow_large=True,  # they are nats however large, since they were computed here
            )
        except OSError as error:
            raise StoreUnusable(
                f"{what} could not be written to the store at {self._store.path}: {error.strerror or error}. What was "
                "finished is kept and nothing is half-written; mend that, and the same command goes on from there."
            ) from error
        return unmeasured

    def _add_measures(self, finished: FinishedPass) -> list[str]:
        """Keep a pass's measures, and those on the probe; gives why some cannot be kept."""
        unkept = []
        places = [(finished.dataset, finished.measures)]
        if self._probe is not None:
            places.append((self._probe.dataset, finished.on_probe))
        for dataset, measures in places:
            provenance = provenance_of_measures(finished.provenance, dataset)
            for name, values in measures.items():
                try:
                    self._store.add_measures(
                        name,
                        values,
                        model=self._plan.model,
                        step=finished.step,
                        dataset=dataset.name,
                        replace=True,
                        provenance=provenance,
                    )
                except BadMeasures as error:
                    unkept.append(f"the measure {name} on {dataset.name} cannot be kept: {error}")
        return unkept

    def _add_columns(self, finished: FinishedPass) -> None:
        """Put a pass's columns beside the losses of the slice that is there."""
        model, dataset = self._plan.model, finished.dataset
        try:
            add_columns(self._store, model, dataset, finished.step, finished.scores, finished.columns)
        except OSError as error:
            raise StoreUnusable(
                f"{model} on {dataset.name} at step {finished.step} could not be written to the store at "
                f"{self._store.path}: {error.strerror or error}. The slice is there as it was; mend that, and run the "
                "same command again."
            ) from error

    def _publish_facts(self, facts: ModelFacts) -> None:
        """Give the model its entry; raises `ModelMismatch` where another run took the name since the plan."""
        if not self._has_facts and self._store.publish_model(facts).repo != facts.repo:
            check_same_run(self._store, self._plan.model, self._plan.source)
        self._has_facts = True


def _measures(
    model: PreTrainedModel,
    dataset: Dataset,
    ids: Sequence[Ids],
    scores: Scores,
    settings: PassSettings,
    watcher: MeasuringWatcher | None,
) -> tuple[dict[str, list[Measure]], list[str]]:
    """The values that are measured of a slice, by the name they are kept under, and why others could not be."""
    measures, left_out = ({}, {}) if watcher is None else watcher.finish()
    unmeasured = []
    try:
        vocabulary = settings.vocabulary(dataset.tokenizer.size)
        measures[NOISE] = measure_noise(model, ids, scores, settings.repeat_noise, vocabulary)
    except Exception as error:
        unmeasured.append(
            f"the noise of the losses on {dataset.name} could not be measured: {describe_error(error)}"
        )
    inputs = MeasureInputs(model, ids, scores.loss, scores.rank, scores.entropy)
    for definition in settings.measures:
        if definition.compute is None:
            continue
        try:
            measures[definition.name] = definition.values(inputs)
        except Exception as error:  # whatever the package raises
            left_out[definition.name] = describe_error(error)
    unmeasured += [
        f"the measure {name} on {dataset.name} could not be computed: {reason}"
        for name, reason in left_out.items()
    ]
    return {name: values for name, values in measures.items() if values}, unmeasured


def _has_own_code(model: PreTrainedModel) -> bool:
    """Return whether the class of a model or of its configuration came with the weights."""
    modules = {type(model).__module__, type(model.config).__module__}
    return any(name.startswith("transformers_modules.") for name in modules)
