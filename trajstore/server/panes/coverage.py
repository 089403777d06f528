"""The store pane: which slices are there, where they come from, and what an audit finds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from starlette.routing import BaseRoute

from trajstore.errors import DamagedFile
from trajstore.pipelines import audit as auditing
from trajstore.progress import SILENT, Progress
from trajstore.server.cache import DatasetFiles
from trajstore.server.endpoints import Ask, frames, values
from trajstore.server.signatures import FileState, file_state
from trajstore.store.disk import layout
from trajstore.store.files import coverage, models, slices
from trajstore.store.files.datasets import Dataset
from trajstore.store.store import Store

CELLS = {
    "model": pl.String,
    "dataset": pl.String,
    "step": pl.Int64,
    "state": pl.String,
    "reason": pl.String,
    "bytes": pl.Int64,
}
"""Columns of the coverage: state is there, partial, missing or bad, and reason says why it is bad."""


def routes() -> Sequence[BaseRoute]:
    """The endpoints of the pane."""
    return [
        values("store", lambda ask: store_facts(ask.store, edit=ask.edit)),
        frames("models", lambda ask: model_facts(ask.store)),
        frames("groups", lambda ask: groups(ask.store), of_slices=False),
        frames("coverage", _coverage, of_chosen=("models", "datasets")),
        frames("slice", _slice, of_chosen=("models", "model", "datasets", "dataset")),
        frames("audit", _audit),
    ]


def _coverage(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    return cells(ask.store, chosen.models(), chosen.datasets(), ask.progress)


def _slice(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    return provenance(ask.store, chosen.model(), chosen.dataset(), chosen.integer("step"))


def _audit(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    audit = auditing.audit(ask.store, chosen.models(), chosen.datasets(), ask.progress)
    for sentence in audit.unseen:
        ask.progress.say(sentence)
    return next(frame for _, frame in audit.tables())


def store_facts(store: Store, *, edit: bool = False) -> dict[str, Any]:
    """Return the names that a store has, from which the page offers choices."""
    datasets = [store.dataset(name) for name in store.dataset_names()]
    return {
        "name": store.path.parent.name if store.path.name == "store" else store.path.name,
        "models": store.model_names(),
        "datasets": [
            {
                "name": dataset.name,
                "contexts": dataset.n_contexts,
                "tokens": dataset.n_tokens,
                "losses": dataset.n_losses,
                "length": int(dataset.lengths.max()),
                "tokenizer": dataset.tokenizer.name,
            }
            for dataset in datasets
        ],
        "steps": store.scored(),
        "groups": store.groups.names(),
        "findings": [{"kind": finding.kind, "name": finding.name} for finding in store.findings()],
        "edit": edit,
    }


def model_facts(store: Store) -> pl.DataFrame:
    """The models with their facts, steps that are there on any dataset, and bytes on disk; smallest first."""
    rows = [
        {
            **asdict(line.facts),
            "steps": len(line.steps),
            "first": min(line.steps, default=None),
            "last": max(line.steps, default=None),
            "bytes": line.bytes,
        }
        for line in store.model_summaries()
    ]
    facts = list(models.ModelFacts.__dataclass_fields__)
    empty = dict.fromkeys([*facts, "steps", "first", "last", "bytes"], pl.Null)
    return pl.DataFrame(rows, schema=None if rows else empty, infer_schema_length=None)


def groups(store: Store) -> pl.DataFrame:
    """The groups with their descriptions: name, description, shipped."""
    listed = store.groups.list(sizes=False)
    return pl.DataFrame(
        {
            "name": [group.name for group in listed],
            "description": [group.description for group in listed],
            "shipped": [group.shipped for group in listed],
        },
        schema={"name": pl.String, "description": pl.String, "shipped": pl.Boolean},
    )


def cells(
    store: Store,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The state of each step of each model on each dataset, by model, dataset and step: the columns of `CELLS`.

    A step is missing where the model has it on another of these datasets, but not on a probe. Raises `UnknownName`.
    """
    on = [store.dataset(name) for name in (store.dataset_names() if datasets is None else datasets)]
    rows: list[tuple[str, str, int, str, str | None, int]] = []
    for model in store.models(models):
        sizes = {dataset.name: coverage.sizes_of(store.path, model, dataset.name) for dataset in on}
        every = sorted({step for of_dataset in sizes.values() for step in of_dataset})
        for dataset in on:
            if dataset.is_probe and not sizes[dataset.name]:
                continue  # measures are made of it, and no losses are missing
            for step in every:
                progress.advance(0)
                path = layout.slice_path(store.path, model, dataset.name, step)
                state, reason = _state(path, file_state(path), dataset)
                size = sizes[dataset.name].get(step, 0)
                rows.append((model, dataset.name, step, state, reason, size))
    return pl.DataFrame(rows, schema=CELLS, orient="row")


def _state(path: Path, state: FileState | None, dataset: Dataset) -> tuple[str, str | None]:
    """Return the state of a slice's file, and why it is bad."""
    return ("missing", None) if state is None else _judged(path, state, DatasetFiles(dataset))


@functools.lru_cache(maxsize=1 << 17)
def _judged(path: Path, state: FileState, on: DatasetFiles) -> tuple[str, str | None]:  # noqa: ARG001
    """Return the state of a slice by its footer, and why it is bad; judged once for each state of the file."""
    try:
        slices.check(path, on.dataset, deep=False)
        return ("there" if slices.is_complete(path) else "partial"), None
    except DamagedFile as error:
        return "bad", str(error)
    except FileNotFoundError:
        return "missing", None


def provenance(store: Store, model: str, dataset: str, step: int) -> pl.DataFrame:
    """The facts in a slice's footer, and the columns that it holds, in rows of fact and value, both String.

    Raises `UnknownName` or `DamagedFile`.
    """
    facts = asdict(store.slice_facts(model, dataset, step))
    flat = {**facts, **facts.pop("provenance")}
    flat.pop("provenance")
    versions = flat.pop("versions")
    flat |= {
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()) or None,
        "columns": ", ".join(["loss", *store.slice_columns(model, dataset, step)]),
    }
    known = [(name, str(value)) for name, value in flat.items() if value is not None]
    return pl.DataFrame(known, schema={"fact": pl.String, "value": pl.String}, orient="row")
