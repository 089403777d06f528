"""A store, opened: the one object through which Python and the command line read and write it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from trajstore.errors import DatasetExists, UnknownName
from trajstore.store import catalog, coverage, datasets, layout, lifecycle, migrate, models, slices
from trajstore.store.datasets import Dataset, NewDataset
from trajstore.store.groups import Groups
from trajstore.store.matrix import (
    Align,
    LossMatrix,
    Missing,
    choose_sites,
    pull,
    require_models,
    require_sites,
)
from trajstore.store.models import ModelFacts
from trajstore.store.slices import Provenance, SliceFacts
from trajstore.store.steps import resolve


class Store:
    """An open store. Holds no file: every read sees what is there at that moment."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the store at `path`; raises `StoreNotFound`, `StoreTooOld` or `StoreTooNew`."""
        self.path = lifecycle.existing(path)
        self._session = catalog.open_session(self.path)
        try:
            migrate.check_current(self._session, self.path)
        except BaseException:
            self._session.close()
            raise
        self._frames: dict[str, Any] = {}
        self.groups = Groups(self)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Store:
        """Make a store, or a catalog for the files of one that lost it; an existing store is opened as it is."""
        return cls(lifecycle.create(path))

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def close(self) -> None:
        """End the session; the store itself is not held."""
        self._session.close()

    def refresh(self) -> None:
        """Take up the catalog anew, with the groups that others have added."""
        session = catalog.open_session(self.path)
        self._session.close()
        self._session = session

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """The relation of one reading statement (`.pl()`, `.arrow()`, `.df()`, `.show()`); raises `QueryError`."""
        return catalog.run_select(self._session, self.path, query, self._frames)

    def register(self, name: str, frame: pl.DataFrame | Any) -> None:
        """Offer a Polars, pandas or Arrow table to queries of this session under a name."""
        self._frames[name] = frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame

    # datasets and models

    def dataset_names(self) -> list[str]:
        """Names of the datasets, sorted."""
        return datasets.names(self.path)

    def dataset(self, name: str) -> Dataset:
        """A dataset; raises `UnknownName` or `DamagedFile`."""
        if name not in (known := self.dataset_names()):
            raise UnknownName(
                "dataset", name, known, "Add one: trajstore dataset add NAME SOURCE --tokenizer T"
            )
        return datasets.read(self.path, name)

    def add_dataset(self, name: str, new: NewDataset) -> Dataset:
        """Publish a dataset; one with the same tokens is left as it is, other tokens raise `DatasetExists`."""
        if not datasets.publish(self.path, name, new):
            have = datasets.read(self.path, name)
            if have.tokens_sha256 != new.tokens_sha256:
                raise DatasetExists(name, have.tokens_sha256, new.tokens_sha256)
        return datasets.read(self.path, name)

    def model_names(self) -> list[str]:
        """Names of the models, by number of parameters, then name; unknown sizes last."""
        names = coverage.model_names(self.path)
        sizes = {name: facts.n_params if (facts := self.model(name)) else None for name in names}
        return sorted(names, key=lambda name: (sizes[name] is None, sizes[name] or 0, name))

    def models(self, patterns: str | Sequence[str] | None = None) -> list[str]:
        """The models meant by names or globs, in the order of `model_names`; raises `UnknownName`."""
        return coverage.match(
            patterns, self.model_names(), "model", "Score one: trajstore score MODEL --dataset D"
        )

    def model(self, name: str) -> ModelFacts | None:
        """What is known of a model beside its losses."""
        return models.read(self.path, name)

    def publish_model(self, facts: ModelFacts) -> ModelFacts:
        """Keep a model's facts unless the store has some; returns what it has."""
        return models.publish(self.path, facts)

    # slices

    def steps(self, model: str, dataset: str) -> list[int]:
        """Steps at which a model has a slice on a dataset."""
        return coverage.steps(self.path, model, dataset)

    def coverage(self) -> list[coverage.Coverage]:
        """What is there and what is missing, by model and dataset."""
        return coverage.overview(self.path)

    def has_slice(self, model: str, dataset: str, step: int) -> bool:
        """Whether a slice is there."""
        return layout.slice_path(self.path, model, dataset, step).exists()

    def append(
        self,
        *,
        model: str,
        dataset: str,
        step: int,
        losses: Sequence[Any] | Any,
        provenance: Provenance | None = None,
        replace: bool = False,
    ) -> Path:
        """Publish one slice, whole or not at all.

        `losses` are nats in canonical order (context, position from 1): one flat array, or one array a context.
        Raises `BadLosses`, and `SliceExists` unless `replace`.
        """
        return slices.append(
            self.path,
            model,
            self.dataset(dataset),
            step,
            losses,
            provenance or Provenance(),
            replace_existing=replace,
        )

    def chosen_slices(
        self, model: str, dataset: str | None = None, steps: str | int | Sequence[int] = "all"
    ) -> list[tuple[str, str, int]]:
        """(model, dataset, step) of the slices of a model, on one dataset or all; raises as `matrix`."""
        (name,) = self.models([model])
        on = coverage.dataset_names(self.path, name)
        if dataset is not None and dataset not in on:
            raise UnknownName(f"dataset with losses of {name}", dataset, on)
        found = []
        for each in [dataset] if dataset else on:
            existing = self.steps(name, each)
            found += [(name, each, step) for step in resolve(steps, existing, f"{name} on {each}")]
        return found

    def drop(self, slices: Sequence[tuple[str, str, int]]) -> None:
        """Remove slices (model, dataset, step) for good; a model without any loses its facts as well."""
        for model, dataset, step in slices:
            layout.remove(self.path, layout.slice_path(self.path, model, dataset, step))
        for model in {model for model, _, _ in slices}:
            if not coverage.dataset_names(self.path, model):
                layout.model_path(self.path, model).unlink(missing_ok=True)

    def slice_facts(self, model: str, dataset: str, step: int) -> SliceFacts:
        """What a slice's footer says; raises `UnknownName` or `DamagedFile`."""
        path = layout.slice_path(self.path, model, dataset, step)
        try:
            with slices.open_slice(path) as file:
                return slices.read_facts(path, file.metadata)
        except FileNotFoundError:
            raise UnknownName(
                "slice", f"{model}/{dataset}/{step}", [str(s) for s in self.steps(model, dataset)]
            ) from None

    def matrix(
        self,
        dataset: str | Sequence[str],
        models: str | Sequence[str] | None = None,
        group: str | None = None,
        steps: str | int | Sequence[int] = "all",
        contexts: str | None = None,
        missing: Missing = "error",
        align: Align = "predict",
        pad_first: bool = False,
        threads: int | None = None,
    ) -> LossMatrix:
        """Losses of checkpoints side by side: rows (model, step), columns (dataset, context, position).

        `models` are names or globs (all by default), `steps` a SPEC resolved for each model among the steps it has
        on any of the datasets, `contexts` a range FIRST:END as in Python. `align` is "predict" (the group's tokens)
        or "after" (the tokens that follow them). `pad_first` gives position 0, which has no loss, a column of zeros.
        Raises `MissingSlices` unless `missing` is "nan"; `UnknownName`, `UnknownStep`, `DamagedFile`.
        """
        names = [dataset] if isinstance(dataset, str) else list(dataset)
        chosen = [self.dataset(name) for name in names]
        sites = [
            choose_sites(
                each, None if group is None else self.groups.members(group, each), contexts, align, pad_first
            )
            for each in chosen
        ]
        require_sites(sites, group)
        return pull(self.path, self._checkpoints(names, models, steps), sites, missing, threads)

    def _checkpoints(
        self,
        dataset_names: Sequence[str],
        models: str | Sequence[str] | None,
        spec: str | int | Sequence[int],
    ) -> list[tuple[str, int]]:
        """(model, step) of a matrix's rows, in order."""
        existing = {
            model: sorted({step for name in dataset_names for step in self.steps(model, name)})
            for model in self.models(models)
        }
        kept = require_models(
            list(existing), dataset_names, [model for model, there in existing.items() if there]
        )
        where = "{} on " + ", ".join(dataset_names)
        return [
            (model, step) for model in kept for step in resolve(spec, existing[model], where.format(model))
        ]
