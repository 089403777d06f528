"""Summaries of a store's models: a line of each, and all that there is of one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import DamagedFile, PassedOver
from trajstore.store.files import coverage, findings, group_files, measures, models
from trajstore.store.files.findings import Finding
from trajstore.store.files.models import ModelFacts


@dataclass(frozen=True)
class ModelSummary:
    """A model in a line."""

    model: str
    facts: ModelFacts
    """Facts of the model; None for one that is not known."""
    datasets: dict[str, list[int]]
    """Steps that are there, by dataset; one without any is left out."""
    bytes: int
    """Of its losses and measures on disk."""

    @property
    def steps(self) -> list[int]:
        """Steps that are there on any dataset, sorted."""
        return sorted({step for steps in self.datasets.values() for step in steps})


@dataclass(frozen=True)
class ModelMentions:
    """The other places of a store in which a model is named."""

    children: list[str]
    """Models whose parent it is."""
    findings: list[tuple[str, str]]
    """(kind, name) of the findings that are of it."""
    groups: list[str]
    """Groups whose SQL has its name between quotes; not those that a glob leads to it."""


def summaries(root: Path) -> list[ModelSummary]:
    """A line of each model, by number of parameters, then name; unknown sizes last."""
    lines = [_summary(root, name) for name in coverage.model_names(root)]
    return sorted(lines, key=lambda line: line.facts.order)


def _summary(root: Path, name: str) -> ModelSummary:
    """A model's line; warns of facts that cannot be read."""
    try:
        facts = models.read_model(root, name)
    except DamagedFile as error:
        warnings.warn(PassedOver(str(error)), stacklevel=4)
        facts = None
    sizes = {
        dataset: coverage.sizes_of(root, name, dataset) for dataset in coverage.dataset_names(root, name)
    }
    losses = sum(sum(of.values()) for of in sizes.values())
    measured = sum(path.stat().st_size for path in measures.files(root, name))
    datasets = {dataset: list(of) for dataset, of in sizes.items() if of}
    return ModelSummary(name, facts or ModelFacts(name), datasets, losses + measured)


def mentions(root: Path, name: str) -> ModelMentions:
    """Return the other places in which a model is named."""
    named = re.compile(rf"'(?:[^']*[^'A-Za-z0-9._-])?{re.escape(name)}(?:[^'A-Za-z0-9._-][^']*)?'")
    groups = [group for group, definition in group_files.own(root).items() if named.search(definition.sql)]
    of_it = [finding for finding in findings.all_of(root) if _is_of(finding, name)]
    return ModelMentions(
        models.children(root, name), [(finding.kind, finding.name) for finding in of_it], groups
    )


def _is_of(finding: Finding, name: str) -> bool:
    """Return whether a finding's facts or tables name a model."""
    return name in _texts(finding.facts.values()) or any(
        name in _column(finding.folder / f"{table}.parquet", column)
        for table, schema in finding.schemas.items()
        for column in schema.names
        if "model" in column and pa.types.is_string(schema.field(column).type)
    )


def _texts(values: Iterable[object]) -> set[str]:
    """The texts in values of JSON, keys of objects among them."""
    texts: set[str] = set()
    for value in values:
        if isinstance(value, str):
            texts.add(value)
        elif isinstance(value, dict):
            texts |= {*value, *_texts(value.values())}
        elif isinstance(value, list):
            texts |= _texts(value)
    return texts


def _column(path: Path, column: str) -> set[str]:
    """The values of a column of a finding's table; none where it cannot be read."""
    try:
        return set(pq.read_table(path, columns=[column], partitioning=None).column(0).unique().to_pylist())
    except (OSError, pa.ArrowException):
        return set()  # check names it
