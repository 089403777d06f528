"""The plan of measuring: the measures that a store lacks of a run's checkpoints, and where the weights are.

Loads no weights. A model that the store knows is found again by the repository or folder that its facts name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import polars as pl

from trajstore.arguments.choices import Probe
from trajstore.arguments.spelling import option
from trajstore.checkpoints.revisions import STAGE
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.checkpoints.suites import run_named
from trajstore.datasets.tokenizers import check_tokenizer, tokenizer_of
from trajstore.datasets.vocabularies import NO_TOKENIZER
from trajstore.errors import (
    BadMeasures,
    BadOption,
    CheckpointError,
    NothingChosen,
    TokenizerNotFound,
    listed,
)
from trajstore.measures.definitions import LABELS, REQUIRED, find_measures, with_parameters
from trajstore.measures.probes import check_few, keep_natural, keep_repeats
from trajstore.schema import check_name
from trajstore.scoring.compatibility import check_same_run, check_same_tokens
from trajstore.store.files import measures as files
from trajstore.store.matrix.steps import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajstore.checkpoints.loading import Checkpoint
    from trajstore.checkpoints.runs import CheckpointSource
    from trajstore.measures.definitions import MeasureDefinition
    from trajstore.scoring.options import ScoringOptions
    from trajstore.store.files.datasets import Dataset, TokenizerFacts
    from trajstore.store.store import Store


@dataclass(frozen=True)
class PendingMeasures:
    """A checkpoint of which measures are missing."""

    checkpoint: Checkpoint
    missing: tuple[tuple[Dataset | None, tuple[MeasureDefinition, ...]], ...]
    """By dataset; None for those of weights alone."""

    @property
    def number(self) -> int:
        """Measures that are missing, each on each dataset."""
        return sum(len(definitions) for _, definitions in self.missing)


@dataclass(frozen=True)
class MeasuringPlan:
    """The work of measuring."""

    source: CheckpointSource
    model: str
    """The run's name in the store."""
    tokenizer: str | None
    """The name of the one beside the weights; None where there is none."""
    datasets: tuple[Dataset, ...]
    pending: tuple[PendingMeasures, ...]
    present: int
    """Measures asked for that are there already."""

    @property
    def number(self) -> int:
        """Measures that are missing."""
        return sum(pending.number for pending in self.pending)


def plan_measures(
    store: Store,
    model: str,
    names: Sequence[str],
    datasets: Sequence[str],
    probe: Probe | None,
    options: ScoringOptions,
    steps: str | None,
    *,
    replace: bool,
) -> MeasuringPlan:
    """The measures that are missing of a model; a probe that is asked for is made. Raises as `measure`."""
    definitions = with_parameters(find_measures(names), options.parameters)
    if not definitions:
        raise NothingChosen("No measure was named; see what there is: trajstore measure list")
    source, name = find_run(store, model, options)
    own = (
        tokenizer_of(source.checkpoints[-1])
        if any(definition.on_contexts for definition in definitions)
        else None
    )
    chosen = _datasets(store, name, definitions, datasets, probe, own)
    for dataset in chosen:
        check_same_tokens(store, name, dataset)
        if own is not None:
            check_tokenizer(own, dataset)
    wanted = _steps(store, name, source, steps)
    places: list[tuple[Dataset | None, list[MeasureDefinition]]] = [
        (None, [definition for definition in definitions if not definition.on_contexts]),
        *(
            (
                dataset,
                [with_labels(definition, dataset) for definition in definitions if definition.on_contexts],
            )
            for dataset in chosen
        ),
    ]
    pending, present = [], 0
    for checkpoint in wanted:
        first = checkpoint == source.checkpoints[0]
        applicable = [
            (
                dataset,
                [definition for definition in measures if not (first and definition.on_checkpoints_before)],
            )
            for dataset, measures in places
        ]
        missing = tuple(
            (dataset, lacking)
            for dataset, measures in applicable
            if (
                lacking := tuple(measures)
                if replace
                else missing_measures(store, name, checkpoint.step, dataset, measures)
            )
        )
        number = sum(len(lacking) for _, lacking in missing)
        present += sum(len(measures) for _, measures in applicable) - number
        if missing:
            pending.append(PendingMeasures(checkpoint, missing))
    if not replace:
        check_parameters(store, name, definitions, chosen, wanted, options.parameters)
    return MeasuringPlan(source, name, own.name if own else None, tuple(chosen), tuple(pending), present)


def missing_measures(
    store: Store, model: str, step: int, dataset: Dataset | None, definitions: Sequence[MeasureDefinition]
) -> tuple[MeasureDefinition, ...]:
    """Return the measures of `definitions` that a store lacks of a checkpoint on a dataset."""
    on = None if dataset is None else dataset.name
    return tuple(
        definition
        for definition in definitions
        if not files.path_of(store.path, model, step, definition.name, on).exists()
    )


def with_labels(definition: MeasureDefinition, dataset: Dataset) -> MeasureDefinition:
    """A measure that takes labels of contexts, where none are given with the dataset's categories and documents.

    Raises `BadMeasures` where the dataset has none.
    """
    if definition.parameters.get(LABELS) is not REQUIRED:
        return definition
    facts = dataset.belonging
    if facts["category"].null_count():
        raise BadMeasures(
            f"{definition.name} tells categories of contexts apart, and those of {dataset.name} have none. Take a "
            f"dataset with categories, or give {option('parameters', {LABELS: '[…]'})}, one a context."
        )
    documents = facts["document"].to_list()
    alone = any(document is None for document in documents)
    return definition.with_parameters(
        labels=facts["category"].to_list(), documents=None if alone else documents
    )


def find_run(store: Store, model: str, options: ScoringOptions) -> tuple[CheckpointSource, str]:
    """The run of a model of the store, or one named as `score` takes it, and its name in the store.

    Raises `CheckpointError`, and `ModelMismatch` where the store's model of that name is another run.
    """
    if options.name is not None or model not in store.model_names():
        source = find_checkpoints(model, options.pattern)
        name = check_name("model", options.name or source.name)
    else:
        name, source = model, _run_of(store, model, options.pattern)
    check_same_run(store, name, source)
    return source, name


def _run_of(store: Store, model: str, pattern: str | None) -> CheckpointSource:
    """The run that a model of the store was scored from; raises `CheckpointError`."""
    facts = store.model(model)
    elsewhere = f"Name the folder or repository in place of {model}, and give {option('name', model)}."
    if facts is None or facts.repo is None:
        raise CheckpointError(f"The store does not know where the weights of {model} are. {elsewhere}")
    before, _, stage = model.rpartition(".")
    called = f"{facts.repo}.{stage}" if before and STAGE.fullmatch(stage) else facts.repo
    try:
        return find_checkpoints(model if before and run_named(before) else called, pattern)
    except CheckpointError as error:
        raise CheckpointError(f"{error} That is where {model} was scored from. {elsewhere}") from error


def _steps(store: Store, model: str, source: CheckpointSource, spec: str | None) -> list[Checkpoint]:
    """The checkpoints meant by a SPEC; without one those that are scored, or all where none is."""
    by_step = {checkpoint.step: checkpoint for checkpoint in source.checkpoints}
    if spec is not None:
        return [by_step[step] for step in resolve(spec, source.steps, source.repo)]
    scored = {step for dataset in store.dataset_names() for step in store.steps(model, dataset)}
    return [by_step[step] for step in sorted(scored & set(by_step) or by_step)]


def _datasets(
    store: Store,
    model: str,
    definitions: Sequence[MeasureDefinition],
    names: Sequence[str],
    probe: Probe | None,
    own: TokenizerFacts | None,
) -> list[Dataset]:
    """The datasets to measure on; raises what says which could be named."""
    needing = [definition.name for definition in definitions if definition.on_contexts]
    if not needing:
        return []
    if probe is not None and probe not in get_args(Probe):
        raise BadOption("probe", probe, " or ".join(get_args(Probe)))
    scored = [name for name in store.dataset_names() if store.steps(model, name)]
    chosen = [store.dataset(name) for name in dict.fromkeys(names)]
    if probe == "repeats":
        if chosen:
            raise BadOption(
                "probe", probe, f"a probe without {option('datasets')}: it is a dataset of its own"
            )
        return [keep_repeats(store, tokenizer_name(store, model, scored, own.name if own else None))]
    if not chosen:
        on = listed(scored or store.dataset_names())
        hint = f"{option('probe', 'repeats')}, or {option('datasets', 'D')} with one of: {on}"
        if probe == "natural":
            raise NothingChosen(
                f"The probe natural is of a dataset: {option('datasets', 'D')} with one of: {on}."
            )
        raise NothingChosen(f"{listed(needing)} must be measured on something: {hint}.")
    if probe == "natural":
        return [keep_natural(store, dataset) for dataset in chosen]
    for definition in definitions:
        if definition.on_probe:
            for dataset in chosen:
                check_few(dataset, definition.name)
    return chosen


def tokenizer_name(store: Store, model: str, datasets: Sequence[str], own: str | None) -> str:
    """The name of the model's tokenizer: of its own, beside its weights, else of those of its datasets."""
    facts = store.model(model)
    of_datasets = (store.dataset(name).tokenizer.name for name in datasets)
    for name in (own, facts.tokenizer if facts else None, *of_datasets):
        if name is not None and name != NO_TOKENIZER:
            return name
    raise TokenizerNotFound(
        model, "no tokenizer lies beside its weights. Put one there, or take a dataset and the probe natural"
    )


def check_parameters(
    store: Store,
    model: str,
    definitions: Sequence[MeasureDefinition],
    datasets: Sequence[Dataset],
    checkpoints: Sequence[Checkpoint],
    parameters: Mapping[str, object],
) -> None:
    """Raises `BadMeasures` where measures are there with another value of a parameter that was given."""
    if not parameters or model not in store.model_names():
        return
    steps = [checkpoint.step for checkpoint in checkpoints]
    on = [dataset.name for dataset in datasets]
    rows = store.measures(model).filter(
        pl.col("step").is_in(steps), pl.col("dataset").is_null() | pl.col("dataset").is_in(on)
    )
    for definition in definitions:
        as_is = {
            name: value
            for name, value in definition.parameters.items()
            if parameters.keys() & {name, f"{definition.name}.{name}"}
        }
        kept_as = [definition.kept_as[name](as_is.pop(name)) for name in definition.kept_as if name in as_is]
        requested = as_is | dict(kept_as)
        own = (pl.col("name") == definition.name) | pl.col("name").str.starts_with(f"{definition.name}_")
        kept = rows.filter(own).select("step", "params", "layer", "head").unique()
        for step, text, *place in kept.iter_rows():
            # of a measure that takes a layer or head as a parameter, the row's own says which it was
            stored: dict[str, Any] = {
                **dict(zip(("layer", "head"), place, strict=True)),
                **json.loads(text or "{}"),
            }
            for name, value in requested.items():
                if stored.get(name, value if name in as_is else None) != value:
                    raise BadMeasures(
                        f"{definition.name} of {model} at step {step} is there with {name} = {stored.get(name)}, and "
                        f"not {value}. To measure it again in its place, pass {option('replace', True)} to trajstore "
                        "measure."
                    )
