"""A store opened for reading: a confined session on its catalog, and what its files hold.

Groups, matrices and queries stand on this, and `Store` above them. Nothing here is written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import polars as pl

from trajstore.arguments.aliases import also_named
from trajstore.errors import PassedOver, UnknownName, listed
from trajstore.store import lifecycle, model_summaries, passed_over
from trajstore.store.catalog import catalog, group_views, migrate
from trajstore.store.catalog.statements import Parameters, select
from trajstore.store.disk import layout, parquet_files
from trajstore.store.files import coverage, datasets, findings, group_files, measures, models, slices
from trajstore.store.files.datasets import Dataset
from trajstore.store.files.findings import Finding
from trajstore.store.files.group_files import Definition
from trajstore.store.files.models import ModelFacts
from trajstore.store.files.slices import SliceFacts
from trajstore.store.model_summaries import ModelMentions, ModelSummary


class Session:
    """A read-only session on a store. Holds no file: every read sees what is there at that moment."""

    def __init__(self, path: str | os.PathLike[str], *, memory: str | None = None) -> None:
        """Open the store at `path`; raises `StoreNotFound`, `StoreTooOld` or `StoreTooNew`.

        `memory` is what queries may take before they spill to disk, as "512MB"; DuckDB's own limit if not given.
        """
        self._memory = memory
        self.path = lifecycle.existing(path)
        self.notice: Callable[[str], None] = lambda _: None
        """Called with each query before it runs: `Store` warns of what is out of date in it."""
        self._frames: dict[str, Any] = {}
        self._datasets: dict[str, Dataset] = {}
        self._first_use = threading.Lock()
        self.refresh()
        try:
            migrate.check_current(self._copy, self.path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def close(self) -> None:
        """End the session; the store itself is not held."""
        self._copy.connection.close()

    def refresh(self) -> None:
        """Take up the catalog anew, with the groups that others have added."""
        self._group_files = group_files.signature(self.path)  # before the catalog, which follows them
        # Relations of the old session stay alive with it.
        self._copy = catalog.copied(self.path, memory=self._memory)
        self.catalog_sha256 = self._copy.sha256 or secrets.token_hex(32)
        """Of the catalog that was taken up; like no other where it cannot be told."""
        self._checked = False
        self._views_of_groups: frozenset[str] | None = None

    def follow_groups(self) -> None:
        """Take up the catalog anew if a file of a group has changed since."""
        if group_files.signature(self.path) != self._group_files:
            self.refresh()

    @property
    def _checked_copy(self) -> duckdb.DuckDBPyConnection:
        """The catalog's copy; all that it holds is looked through before its first use, not before."""
        with self._first_use:
            if not self._checked:
                layout.check_small_files(self.path)
                catalog.check_definitions(self._copy, self.path)
                group_views.settle(self._copy.connection, self.path)
                layout.put_back(self.path)
                self._checked = True
        return self._copy.connection

    def sql(
        self,
        query: str,
        parameters: Parameters | None = None,
        *,
        files: Sequence[str | os.PathLike[str]] = (),
    ) -> duckdb.DuckDBPyRelation:
        """The relation of one reading statement (`.pl()`, `.arrow()`, `.df()`, `.show()`); raises `QueryError`.

        `parameters` are the values of the query's $names, or of its ? in order; raises `MissingParameter` and
        `UnknownName` where the two do not fit. `files` are folders of your own that this query may read as well, as in
        `FROM 'DIR/mine.csv'`.
        """
        self.notice(query)
        return select(self.connection(files), query, parameters)

    def connection(self, files: Sequence[str | os.PathLike[str]] = ()) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the session, with the registered frames; no statement on it is checked."""
        session = lifecycle.session_with_files(self.path, files) if files else self._checked_copy
        connection = session.cursor()  # of its own, so that a query half read does not block another
        catalog.point(connection, self.path)
        for name, frame in self._frames.items():
            connection.register(name, frame)
        return connection

    def relations(self) -> set[str]:
        """Names of the store's own tables and views, which no group may bear."""
        names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
        return {name for (name,) in self.sql(names).fetchall()}

    def views_of_groups(self) -> frozenset[str]:
        """Names of the groups that have a view in this session."""
        if (names := self._views_of_groups) is None:
            query = "SELECT view_name FROM duckdb_views() WHERE schema_name = 'groups'"
            names = frozenset(name for (name,) in self.sql(query).fetchall())
            self._views_of_groups = names
        return names

    def define(self, groups: Sequence[Definition]) -> None:
        """Make the views of groups in this session, and there alone; raises the error of the first that fails."""
        self._views_of_groups = None
        for _, cause in group_views.create_views(self._checked_copy, groups):
            raise cause

    def register(self, name: str, frame: pl.DataFrame | Any) -> None:
        """Offer a Polars, pandas or Arrow table to queries of this session under a name."""
        self._frames[name] = frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame

    # datasets and models

    def dataset_names(self) -> list[str]:
        """Names of the datasets, sorted."""
        return datasets.names(self.path)

    def dataset(self, name: str) -> Dataset:
        """A dataset; raises `UnknownName` or `DamagedFile`."""
        if (read_before := self._datasets.get(name)) is not None and read_before.is_current():
            return read_before
        if name not in (known := self.dataset_names()):
            raise UnknownName(
                "dataset", name, known, "Add one: trajstore dataset add NAME SOURCE --tokenizer T"
            )
        self._datasets[name] = datasets.read_dataset(self.path, name)
        return self._datasets[name]

    def model_names(self) -> list[str]:
        """Names of the models, by number of parameters, then name; unknown sizes last."""
        return self._by_size(coverage.model_names(self.path))

    def models(self, patterns: str | Sequence[str] | None = None) -> list[str]:
        """The models meant by names or globs, in the order of `model_names`; raises `UnknownName`."""
        names = coverage.model_names(self.path)
        with contextlib.suppress(UnknownName):  # which is to list them in their order
            return self._by_size(coverage.match(patterns, names, "model"))
        return coverage.match(
            patterns, self._by_size(names), "model", "Score one: trajstore score MODEL --dataset D"
        )

    def _by_size(self, names: list[str]) -> list[str]:
        """Models by number of parameters, then name; unknown sizes last."""
        return sorted(names, key=lambda name: (self.model(name) or ModelFacts(name)).order)

    def model(self, name: str) -> ModelFacts | None:
        """Return the facts of a model beside its losses, None where there are none."""
        return models.read_model(self.path, name)

    def model_summaries(self) -> list[ModelSummary]:
        """A line of each model: facts, steps by dataset, size on disk; warns of facts that cannot be read."""
        return model_summaries.summaries(self.path)

    def model_mentions(self, name: str) -> ModelMentions:
        """Return the other places in which a model is named: models whose parent it is, findings, groups."""
        return model_summaries.mentions(self.path, name)

    # slices

    def steps(self, model: str, dataset: str) -> list[int]:
        """Steps at which a model has a slice on a dataset, complete or partial."""
        return coverage.steps(self.path, model, dataset)

    def scored(self, patterns: str | Sequence[str] | None = None) -> dict[str, dict[str, list[int]]]:
        """Steps by dataset by model, of these models; datasets without a slice are left out."""
        return {
            model: {
                name: steps
                for name in coverage.dataset_names(self.path, model)
                if (steps := self.steps(model, name))
            }
            for model in self.models(patterns)
        }

    def coverage(self) -> list[coverage.Coverage]:
        """Return the steps there and missing of each model on each dataset; warns of names that are passed over."""
        if odd := list(passed_over.odd_names(self.path)):
            said = f"Passed over for their names in {self.path}: {listed(odd)}."
            warnings.warn(
                PassedOver(f"{said} trajstore did not make them: move them elsewhere."), stacklevel=2
            )
        return coverage.overview(self.path)

    def has_slice(self, model: str, dataset: str, step: int) -> bool:
        """Return whether a slice is there, with all its contexts."""
        return slices.is_complete(layout.slice_path(self.path, model, dataset, step))

    def slice_losses(self, model: str, dataset: str, step: int) -> np.ndarray:
        """The losses of a slice in canonical order, float32 (n_losses,); NaN in the contexts that a partial one lacks.

        Raises `UnknownName` or `DamagedFile`.
        """
        with self._slice(model, dataset, step) as path:
            return slices.read_losses(path, self.dataset(dataset))

    def slice_columns(self, model: str, dataset: str, step: int) -> tuple[str, ...]:
        """The columns that a slice holds beside the loss: rank, entropy; raises `UnknownName` or `DamagedFile`."""
        with self._slice(model, dataset, step) as path:
            return slices.kept_columns(path)

    def slice_column(self, model: str, dataset: str, step: int, name: str) -> np.ndarray | None:
        """A slice's rank (int32) or entropy (float32) in canonical order, None where it was not kept.

        Raises `UnknownName` or `DamagedFile`.
        """
        with self._slice(model, dataset, step) as path:
            return slices.read_column(path, self.dataset(dataset), name)

    def slice_facts(self, model: str, dataset: str, step: int) -> SliceFacts:
        """Return the facts in a slice's footer; raises `UnknownName` or `DamagedFile`."""
        with self._slice(model, dataset, step) as path, parquet_files.opened(path) as file:
            return slices.read_facts(path, file.metadata)

    def slices_on(self, dataset: str) -> list[tuple[str, str, int]]:
        """(model, dataset, step) of all slices on a dataset."""
        return coverage.slices_on(self.path, dataset)

    @contextlib.contextmanager
    def _slice(self, model: str, dataset: str, step: int) -> Iterator[Path]:
        """A slice's path; raises `UnknownName` where its file is not there once it is read."""
        try:
            yield layout.slice_path(self.path, model, dataset, step)
        except FileNotFoundError:
            existing = [f"{model}/{dataset}/{number}" for number in self.steps(model, dataset)]
            raise UnknownName("slice", f"{model}/{dataset}/{step}", existing) from None

    # measures and findings

    @also_named(model="models", datasets="dataset")
    def measures(
        self, models: str | Sequence[str] | None = None, name: str | None = None, dataset: str | None = None
    ) -> pl.DataFrame:
        """Measures of models (names or globs), of this name and on this dataset if given: the columns of the view.

        Raises `UnknownName` and `DamagedFile`.
        """
        return measures.frame(self.path, self.models(models), name, dataset)

    def findings(self, kind: str | None = None) -> list[Finding]:
        """Stored results of analyses, of one kind if given, by kind and name; raises `DamagedFile`."""
        return findings.all_of(self.path, kind)

    def finding(self, kind: str, name: str) -> Finding:
        """One finding; raises `UnknownName` and `DamagedFile`."""
        return findings.read_finding(self.path, kind, name)
