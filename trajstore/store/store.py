"""A store, opened: the one object through which Python and the command line read and write it."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy as np
import polars as pl

from trajstore.argument_names import also_named
from trajstore.errors import DatasetExists, PassedOver, TrajstoreError, UnknownName, listed
from trajstore.progress import SILENT, Progress
from trajstore.schema import check_step
from trajstore.store import drop as dropping
from trajstore.store import lifecycle, model_summaries, rename, strays
from trajstore.store.catalog import catalog, group_views, migrate
from trajstore.store.disk import layout
from trajstore.store.files import append as appending
from trajstore.store.files import coverage, datasets, findings, measures, models, slices
from trajstore.store.files.datasets import Dataset, NewDataset
from trajstore.store.files.findings import Finding, Replace, Writer
from trajstore.store.files.group_files import Definition
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts
from trajstore.store.files.slices import Provenance, SliceFacts
from trajstore.store.groups.groups import Groups
from trajstore.store.matrix import checkpoints
from trajstore.store.matrix.items import align_items, stack
from trajstore.store.matrix.matrix import (
    Align,
    LossMatrix,
    Missing,
    choose_sites,
    pull,
    require_sites,
)
from trajstore.store.model_summaries import ModelMentions, ModelSummary
from trajstore.store.queries import named_queries
from trajstore.store.queries.query import Parameters, connect, select
from trajstore.store.rename import Renamed


class Store:
    """An open store. Holds no file: every read sees what is there at that moment."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the store at `path`; raises `StoreNotFound`, `StoreTooOld` or `StoreTooNew`."""
        self.path = lifecycle.existing(path)
        self.groups = Groups(self)  # which looks at the groups' files before the catalog is copied
        self._copy = catalog.copied(self.path)
        self._checked = False
        self._first_use = threading.Lock()
        try:
            migrate.check_current(self._copy, self.path)
        except BaseException:
            self._copy.close()
            raise
        self._frames: dict[str, Any] = {}
        self._datasets: dict[str, Dataset] = {}

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
        self._copy.close()

    def refresh(self) -> None:
        """Take up the catalog anew, with the groups that others have added."""
        self._copy = catalog.copied(self.path)  # relations of the old session stay alive with it
        self._checked = False

    @property
    def _session(self) -> duckdb.DuckDBPyConnection:
        """The session; what it has from the catalog is looked through before its first use, not before."""
        with self._first_use:
            if not self._checked:
                layout.check_small_files(self.path)
                catalog.check_definitions(self._copy, self.path)
                group_views.settle(self._copy, self.path)
                layout.put_back(self.path)
                self._checked = True
        return self._copy

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
        self.groups.notice(query)
        return select(self.connection(files), query, parameters)

    def query(self, name: str, /, **parameters: named_queries.Value) -> duckdb.DuckDBPyRelation:
        """The relation of a named query, as `sql` gives it: `store.query("coverage", models="tiny-*")`.

        Raises `UnknownName`, `UnknownStep`, `MissingParameter` or `BadOption` for what it does not take.
        """
        found = named_queries.find(name)
        return self.sql(found.sql, named_queries.bind(self, found, parameters))

    def connection(self, files: Sequence[str | os.PathLike[str]] = ()) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the session, with the registered frames; no statement on it is checked."""
        session = lifecycle.session_with_files(self.path, files) if files else self._session
        return connect(session, self.path, self._frames)

    def relations(self) -> set[str]:
        """Names of the store's own tables and views, which no group may bear."""
        names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'"
        return {name for (name,) in self.sql(names).fetchall()}

    def define(self, groups: Sequence[Definition]) -> None:
        """Make the views of groups in this session, and there alone; raises the error of the first that fails."""
        for _, cause in group_views.create_views(self._session, groups):
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
        self._datasets[name] = datasets.read(self.path, name)
        return self._datasets[name]

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
        """Keep a model's facts; where the store has some, those that it does not know. Returns what it has.

        Where a fact that it knows differs, nothing is added. A repository or parent is kept only with the first facts.
        """
        return models.publish(self.path, facts)

    def model_summaries(self) -> list[ModelSummary]:
        """A line of each model: facts, steps by dataset, size on disk; warns of facts that cannot be read."""
        return model_summaries.summaries(self.path)

    def model_mentions(self, name: str) -> ModelMentions:
        """Where else a model is named: models whose parent it is, findings, groups."""
        return model_summaries.mentions(self.path, name)

    def rename_model(self, old: str, new: str, progress: Progress = SILENT) -> Renamed:
        """Give a model another name, with its losses and measures; killed midway, the same call does the rest.

        No job may be scoring it. Findings and groups that name it stay as they are. Raises `UnknownName`, `BadName`,
        `ModelExists` where the new name is taken, `RenamingUnfinished` and `DamagedFile`, all before it begins.
        """
        return rename.rename(self.path, old, new, progress)

    # slices

    def steps(self, model: str, dataset: str) -> list[int]:
        """Steps at which a model has a slice on a dataset, complete or partial."""
        return coverage.steps(self.path, model, dataset)

    def scored(self, patterns: str | Sequence[str] | None = None) -> dict[str, dict[str, list[int]]]:
        """Steps by dataset by model, of these models; datasets without a slice are left out."""
        return {
            model: {
                name: there
                for name in coverage.dataset_names(self.path, model)
                if (there := self.steps(model, name))
            }
            for model in self.models(patterns)
        }

    def coverage(self) -> list[coverage.Coverage]:
        """What is there and what is missing, of each model on each dataset; warns of names that are passed over."""
        if odd := list(strays.odd_names(self.path)):
            said = f"Passed over for their names in {self.path}: {listed(odd)}."
            warnings.warn(
                PassedOver(f"{said} trajstore did not make them: move them elsewhere."), stacklevel=2
            )
        return coverage.overview(self.path)

    def has_slice(self, model: str, dataset: str, step: int) -> bool:
        """Whether a slice is there, with all its contexts."""
        return slices.is_complete(layout.slice_path(self.path, model, dataset, step))

    def slice_losses(self, model: str, dataset: str, step: int) -> np.ndarray:
        """The losses of a slice in canonical order, float32 (n_losses,); NaN in the contexts that a partial one lacks.

        Raises `UnknownName` or `DamagedFile`.
        """
        path = layout.slice_path(self.path, model, dataset, step)
        try:
            return slices.read_losses(path, self.dataset(dataset))
        except FileNotFoundError:
            raise self._no_slice(model, dataset, step) from None

    def slice_columns(self, model: str, dataset: str, step: int) -> tuple[str, ...]:
        """The columns that a slice holds beside the loss: rank, entropy; raises `UnknownName` or `DamagedFile`."""
        try:
            return slices.kept_columns(layout.slice_path(self.path, model, dataset, step))
        except FileNotFoundError:
            raise self._no_slice(model, dataset, step) from None

    def slice_column(self, model: str, dataset: str, step: int, name: str) -> np.ndarray | None:
        """A slice's rank (int32) or entropy (float32) in canonical order, None where it was not kept.

        Raises `UnknownName` or `DamagedFile`.
        """
        path = layout.slice_path(self.path, model, dataset, step)
        try:
            return slices.read_column(path, self.dataset(dataset), name)
        except FileNotFoundError:
            raise self._no_slice(model, dataset, step) from None

    def append(
        self,
        *,
        model: str,
        dataset: str,
        step: int,
        losses: Sequence[Any] | Any,
        provenance: Provenance | None = None,
        contexts: Sequence[int] | None = None,
        columns: Mapping[str, Any] | None = None,
        replace: bool = False,
        allow_large: bool = False,
    ) -> Path:
        """Publish one slice, whole or not at all.

        `losses` are nats in canonical order (context, position from 1): one flat array, or one array a context.
        `contexts` are the numbers of those that the losses are of, all by default. Where they are not all, the slice
        is partial until others are added; what it has already must be the same to the bit. Losses of all contexts
        take the place of a partial slice. `columns` are kept beside them, in the same form: rank (of the token among
        all, 0 the likeliest) and entropy (of the prediction, nats). Losses that are too large to be nats
        for the dataset's vocabulary are refused unless `allow_large`. Raises `BadLosses`; unless `replace`,
        `SliceExists` where the slice is there complete, and `LossesDiffer` where `contexts` has others than are there.
        """
        return appending.append(
            self.path,
            model,
            self.dataset(dataset),
            check_step(step),
            losses,
            provenance or Provenance(),
            contexts=contexts,
            columns=columns,
            replace_existing=replace,
            allow_large=allow_large,
        )

    @also_named(model="models", dataset="datasets")
    def chosen_slices(
        self,
        models: str | Sequence[str],
        datasets: str | Sequence[str] | None = None,
        steps: str | int | Sequence[int] = "all",
    ) -> list[tuple[str, str, int]]:
        """(model, dataset, step) of the slices of models, names or globs, on these datasets, all by default.

        `steps` are resolved as for `matrix`. Raises `UnknownName`, `NotScored`, `UnknownStep`, `BadSteps`.
        """
        on = [datasets] if isinstance(datasets, str) else datasets
        return checkpoints.chosen_slices(self.scored(models), on, models, steps)

    def drop(self, slices: Sequence[tuple[str, str, int]], models: Sequence[str] = ()) -> None:
        """Remove slices (model, dataset, step) and the measures that belong to them, for good.

        A checkpoint without any loses all its measures; a model without any, and each of `models` that has none, its
        facts as well.
        """
        dropping.drop_slices(self.path, slices, models)

    def slices_on(self, dataset: str) -> list[tuple[str, str, int]]:
        """(model, dataset, step) of all slices on a dataset."""
        return dropping.slices_on(self.path, dataset)

    def drop_dataset(self, name: str, *, losses: bool = False) -> None:
        """Remove a dataset for good, and with `losses` all losses on it; raises `UnknownName` or `DatasetInUse`."""
        dropping.drop_dataset(self.path, name, losses=losses)

    def slice_facts(self, model: str, dataset: str, step: int) -> SliceFacts:
        """What a slice's footer says; raises `UnknownName` or `DamagedFile`."""
        path = layout.slice_path(self.path, model, dataset, step)
        try:
            with slices.open_slice(path) as file:
                return slices.read_facts(path, file.metadata)
        except FileNotFoundError:
            raise self._no_slice(model, dataset, step) from None

    def _no_slice(self, model: str, dataset: str, step: int) -> UnknownName:
        there = [f"{model}/{dataset}/{each}" for each in self.steps(model, dataset)]
        return UnknownName("slice", f"{model}/{dataset}/{step}", there)

    def add_measures(
        self,
        name: str,
        found: Sequence[Measure],
        *,
        model: str,
        step: int,
        dataset: str | None = None,
        replace: bool = False,
    ) -> Path:
        """Keep what one computation, `name`, found of a checkpoint, on a dataset or on none; whole or not at all.

        Raises `BadName`, `BadMeasures`, `UnknownName`, and unless `replace` `MeasuresExist` where they are there.
        """
        on = None if dataset is None else self.dataset(dataset).name
        return measures.publish(self.path, model, check_step(step), name, on, found, replace=replace)

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
        return findings.find(self.path, kind, name)

    def add_finding(
        self, kind: str, name: str, facts: Mapping[str, object], *, replace: Replace = False
    ) -> AbstractContextManager[Writer]:
        """A block that writes the tables of a finding, which is published whole when it ends well.

        `facts` (JSON) say what it is made of and how. Raises `BadName`, and `FindingExists` unless `replace`,
        or with "same" unless the one that is there holds the same, which is then left as it is.
        """
        return findings.writing(self.path, kind, name, facts, replace=replace)

    def drop_finding(self, kind: str, name: str) -> None:
        """Remove a finding for good; raises `UnknownName`."""
        findings.drop(self.path, kind, name)

    @also_named(model="models", datasets="dataset")
    def matrix(
        self,
        dataset: str | Sequence[str],
        models: str | Sequence[str] | None = None,
        group: str | None = None,
        steps: str | int | Sequence[int] = "all",
        contexts: str | None = None,
        missing: Missing = "error",
        align: Align | Literal["item"] = "predict",
        pad_first: bool = False,
        threads: int | None = None,
    ) -> LossMatrix:
        """Losses of checkpoints side by side: rows (model, step), columns (dataset, context, position).

        `models` are names or globs (all by default), `steps` a SPEC resolved for each model among the steps it has
        on any of the datasets; a model or step that one named in full lacks is an error, others give the rows they
        have. `contexts` are a range FIRST:END as in Python. `align` is "predict" (the group's tokens)
        or "after" (the tokens that follow them). `pad_first` gives position 0, which has no loss, a column of zeros.
        With `align` "item", datasets of the same items under different prompts get the same columns: rows (model,
        step, dataset), columns (item, item_position) where each of them has a loss, and in the group in any of them.
        A partial slice counts as missing where it lacks contexts of the columns. Raises `MissingSlices` unless
        `missing` is "nan", which puts NaN where nothing is; `UnknownName`, `NotScored`, `UnknownStep`,
        `NothingChosen`, `NotAligned`, `DamagedFile`.
        """
        names = [dataset] if isinstance(dataset, str) else list(dict.fromkeys(dataset))
        chosen = [self.dataset(name) for name in names]
        members = None if group is None else [self.groups.members(group, each) for each in chosen]
        if align == "item":
            if contexts is not None or pad_first:
                raise TrajstoreError(
                    "--align item does not go together with --contexts or --pad-first: an item has another context and "
                    "position in each dataset. Choose items by a group."
                )
            sites, columns = align_items(chosen, members, group)
            beside = pull(self.path, self._checkpoints(names, models, steps), sites, missing, threads)
            return stack(beside, names, columns)
        sites = [
            choose_sites(each, None if members is None else members[number], contexts, align, pad_first)
            for number, each in enumerate(chosen)
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
        return checkpoints.checkpoints(self.scored(models), dataset_names, models, spec)
