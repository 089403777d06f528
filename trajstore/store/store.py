"""A store, opened: the one object through which Python and the command line read and write it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import polars as pl

from trajstore.arguments.aliases import also_named
from trajstore.arguments.choices import Align, MatrixAlign, Missing, X
from trajstore.arguments.spelling import option
from trajstore.display import Brief, count
from trajstore.errors import DatasetExists, TrajstoreError
from trajstore.progress import SILENT, Progress
from trajstore.schema import check_step
from trajstore.store import drop as dropping
from trajstore.store import lifecycle, rename, stand_ins
from trajstore.store.catalog import catalog, finding_views
from trajstore.store.files import datasets, finding_kinds, findings, measures, models, publish_slices
from trajstore.store.files.datasets import Dataset, NewDataset
from trajstore.store.files.finding_kinds import Tables
from trajstore.store.files.findings import Replace, Writer
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts
from trajstore.store.files.slices import Provenance
from trajstore.store.groups.groups import Groups
from trajstore.store.matrix import checkpoints
from trajstore.store.matrix.items import align_items, stack
from trajstore.store.matrix.matrix import LossMatrix, pull
from trajstore.store.matrix.selection import Selection, datasets_of, joint_checkpoints, resolve
from trajstore.store.matrix.steps import spec_of
from trajstore.store.queries import named_queries
from trajstore.store.rename import Renamed
from trajstore.store.session import Session

if TYPE_CHECKING:
    from trajstore.pipelines.trajectory_result import Trajectory
    from trajstore.server.notebook import Page


class Store(Session, Brief):
    """An open store. Holds no file: every read sees what is there at that moment."""

    def __init__(self, path: str | os.PathLike[str], *, memory: str | None = None) -> None:
        """Open the store at `path`; raises `StoreNotFound`, `StoreTooOld` or `StoreTooNew`.

        `memory` is what queries may take before they spill to disk, as "512MB"; DuckDB's own limit if not given.
        """
        super().__init__(path, memory=memory)
        self.groups = Groups(self)
        self.notice = self.groups.notice

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Store:
        """Make a store, or a catalog for the files of one that lost it; an existing store is opened as it is."""
        return cls(lifecycle.create(path))

    def query(self, name: str, /, **parameters: named_queries.Value) -> duckdb.DuckDBPyRelation:
        """The relation of a named query, as `sql` gives it: `store.query("coverage", models="tiny-*")`.

        Raises `UnknownName`, `UnknownStep`, `MissingParameter` or `BadOption` for what it does not take.
        """
        named = named_queries.find_query(name)
        return self.sql(named.sql, named_queries.bind(self, self.groups, named, parameters))

    @also_named(model="models", dataset="datasets")
    def trajectory(
        self,
        *groups: str,
        datasets: str | Sequence[str] | None = None,
        models: str | Sequence[str] | None = None,
        steps: str = "all",
        contexts: str | None = None,
        align: Align = "predict",
        minus: str | None = None,
        minus_model: str | None = None,
        by: Literal["dataset", "model"] | None = None,
        x: X = "step",
        ci: Literal["bootstrap", "none"] = "bootstrap",
        level: float = 0.95,
        resamples: int = 1000,
        seed: int = 0,
        progress: Progress = SILENT,
    ) -> Trajectory:
        """Mean losses of groups, by default of every token, by step: `.frame` with intervals, `.plot()`, `.caveats`.

        The arguments are the options of the command `trajectory`: `minus` and `minus_model` are subtracted, `by` says
        what is pooled, `x` is step, tokens or flops. Raises as `trajstore.pipelines.trajectories.trajectories`.
        """
        analysis = importlib.import_module("trajstore.pipelines.trajectory_result")
        trajectory: Trajectory = analysis.trajectory(
            self,
            groups or ("every_token",),
            Selection(datasets, models, steps, contexts, align),
            analysis.Comparison(by, minus, minus_model),
            analysis.Interval(ci, level, resamples, seed),
            x,
            progress,
        )
        return trajectory

    def page(self, port: int = 0) -> Page:
        """Open the page beside a notebook, which shows a link to it: `.url`, `.close()`.

        Only this machine reaches it, read-only, at `port` or one that is free, until Python ends. Called again, it
        gives the page that is open. Raises `TrajstoreError` where the port cannot be had.
        """
        opened: Page = importlib.import_module("trajstore.server.notebook").page(self.path, port)
        return opened

    def brief(self) -> str:
        """Count models, datasets and groups."""
        models = {entry.model for entry in self.coverage()}
        return (
            f"{self.path}, {count(len(models), 'model')}, {count(len(self.dataset_names()), 'dataset')}, "
            f"{count(len(self.groups.names()), 'group')}"
        )

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The coverage."""
        rows = [
            {
                "model": entry.model,
                "dataset": entry.dataset,
                "steps": len(entry.steps),
                "first": min(entry.steps, default=None),
                "last": max(entry.steps, default=None),
                "missing": len(entry.missing),
            }
            for entry in self.coverage()
        ]
        yield "slices", pl.DataFrame(rows, infer_schema_length=None)

    @property
    def _for_writing(self) -> Path:
        """The store's path, once the files that stand in for others are there."""
        stand_ins.put_back(self.path)
        return self.path

    # datasets and models

    def add_dataset(self, name: str, new: NewDataset) -> Dataset:
        """Publish a dataset; one with the same tokens is left as it is, other tokens raise `DatasetExists`."""
        if not datasets.publish_dataset(self._for_writing, name, new):
            have = datasets.read_dataset(self.path, name)
            if have.tokens_sha256 != new.tokens_sha256:
                raise DatasetExists(name, have.tokens_sha256, new.tokens_sha256)
        return datasets.read_dataset(self.path, name)

    def publish_model(self, facts: ModelFacts) -> ModelFacts:
        """Keep a model's facts; where the store has some, those that it does not know. Returns what it has.

        Where a fact that it knows differs, nothing is added. A repository or parent is kept only with the first facts.
        """
        return models.publish_model(self._for_writing, facts)

    def rename_model(self, old: str, new: str, progress: Progress = SILENT) -> Renamed:
        """Give a model another name, with its losses and measures; killed midway, the same call does the rest.

        No job may be scoring it. Findings and groups that name it stay as they are. Raises `UnknownName`, `BadName`,
        `ModelExists` where the new name is taken, `RenamingUnfinished` and `DamagedFile`, all before it begins.
        """
        return rename.rename(self.path, old, new, progress)

    # slices

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
        all, 0 the likeliest) and entropy (of the prediction, nats); a complete slice of which some contexts are
        replaced loses them. Losses that are too large to be nats for the dataset's vocabulary are refused unless
        `allow_large`. Raises `BadLosses`; unless `replace`, `SliceExists` where the slice is there complete, and
        `LossesDiffer` where `contexts` has others than are there.
        """
        return publish_slices.append(
            self._for_writing,
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
        chosen = Selection(datasets, models)
        return checkpoints.chosen_slices(self.scored(models), chosen.datasets, models, steps)

    def drop(self, slices: Sequence[tuple[str, str, int]], models: Sequence[str] = ()) -> None:
        """Remove slices (model, dataset, step) and the measures that belong to them, for good.

        A checkpoint without any loses all its measures; a model without any, and each of `models` that has none, its
        facts as well.
        """
        dropping.drop_slices(self.path, slices, models)

    def drop_dataset(self, name: str, *, losses: bool = False) -> None:
        """Remove a dataset for good, and with `losses` all losses on it; raises `UnknownName` or `DatasetInUse`."""
        dropping.drop_dataset(self.path, name, losses=losses)

    def add_measures(
        self,
        name: str,
        values: Sequence[Measure],
        *,
        model: str,
        step: int,
        dataset: str | None = None,
        replace: bool = False,
        provenance: Mapping[str, object] | None = None,
    ) -> Path:
        """Keep what one computation, `name`, found of a checkpoint, on a dataset or on none; whole or not at all.

        `provenance` (JSON) says of which weights, and how they were computed; the file's footer keeps it.

        Raises `BadName`, `BadMeasures`, `UnknownName`, and unless `replace` `MeasuresExist` where they are there.
        """
        on = None if dataset is None else self.dataset(dataset).name
        return measures.publish_measures(
            self._for_writing,
            model,
            check_step(step),
            name,
            on,
            values,
            replace=replace,
            provenance=provenance,
        )

    def add_finding(
        self, kind: str, name: str, facts: Mapping[str, object], *, replace: Replace = False
    ) -> AbstractContextManager[Writer]:
        """A block that writes the tables of a finding, which is published whole when it ends well.

        `facts` (JSON) say what it is made of and how. Raises `BadName`, and `FindingExists` unless `replace`,
        or with "same" unless the one that is there holds the same, which is then left as it is.
        """
        return findings.writing(self._for_writing, kind, name, facts, replace=replace)

    def add_finding_kind(self, kind: str, tables: Tables) -> None:
        """Let findings of another package be kept: its tables by name, and a view in SQL of each.

        Raises `BadName` for a name that is taken, `FindingsDiffer` where there are findings with other columns.
        """
        known = finding_kinds.whole_tables_of(self.path, kind)
        views = {finding_kinds.view_of(kind, table) for table in tables}
        if finding_kinds.same_tables(known, tables) and views <= self.relations():
            return
        with catalog.writing(self.path) as connection:
            finding_kinds.declare(self.path, kind, tables)
            finding_views.create_views(connection, kind, tables)
        self.refresh()

    def drop_finding(self, kind: str, name: str) -> None:
        """Remove a finding for good; raises `UnknownName`."""
        findings.drop_finding(self.path, kind, name)

    @also_named(model="models", datasets="dataset")
    def matrix(
        self,
        dataset: str | Sequence[str],
        models: str | Sequence[str] | None = None,
        group: str | None = None,
        steps: str | int | Sequence[int] = "all",
        contexts: str | None = None,
        missing: Missing = "error",
        align: MatrixAlign = "predict",
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
        if align != "item":
            inputs = resolve(
                self, Selection(dataset, models, spec_of(steps), contexts, align, group), pad_first
            )
            return pull(self.path, inputs.checkpoints, inputs.sites, missing, threads)
        if contexts is not None or pad_first:
            raise TrajstoreError(
                f"{option('align', 'item')} does not go together with {option('contexts')} or {option('pad_first')}: "
                "an item has another context and position in each dataset. Choose items by a group."
            )
        selection = Selection(dataset, models, spec_of(steps))
        names = datasets_of(self, selection)
        chosen = [self.dataset(name) for name in names]
        members = None if group is None else [self.groups.members(group, part) for part in chosen]
        sites, columns = align_items(chosen, members, group)
        beside = pull(self.path, joint_checkpoints(self, selection, names), sites, missing, threads)
        return stack(beside, names, columns)
