"""Definitions of analyses that other packages add: a function of a store, its options, tables and charts.

A package names one in an entry point of the group `trajstore.analyses`. From the definition come its command, its
result in Python, its findings with their views in SQL, and what the page shows of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import polars as pl
import pyarrow as pa

from trajstore.errors import BadAnalysis, BadOption, PlotError
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    finding_name,
    group_hashes,
    one_or_many,
    token_hashes,
)
from trajstore.plugins import OWN_PACKAGE, PluginError, find, plugins
from trajstore.progress import SILENT, Progress
from trajstore.schema import GROUP_NAME
from trajstore.store.files.finding_kinds import Column, Tables, declared, schema_of, view_of
from trajstore.store.files.finding_tables import TABLES
from trajstore.store.files.findings import converted, views_of
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.files.findings import Replace
    from trajstore.store.store import Store

Compute = Callable[..., Mapping[str, pl.DataFrame]]
"""Of a store, a `Selection` and options by name; gives the rows of each table."""


@dataclass(frozen=True)
class AnalysisOption:
    """An option of an analysis: an argument of its function that is given by name."""

    name: str
    hint: Any
    """Its type, as it stands in the function."""
    default: Any
    help: str

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that it takes, where its type is a `Literal`."""
        return get_args(self.hint) if get_origin(self.hint) is Literal else ()

    def read(self, value: Any) -> Any:
        """The choice that a word of the command line means; other values as they are."""
        return next((choice for choice in self.choices if str(choice) == value), value)

    def check(self, value: object) -> None:
        """Raise `BadOption` for a value that is not among its choices, or that facts cannot hold."""
        if isinstance(value, float) and not math.isfinite(value):
            raise BadOption(self.name, value, "a finite number")
        if self.choices and value not in self.choices:
            raise BadOption(self.name, value, " or ".join(map(str, self.choices)))


@dataclass(frozen=True)
class AnalysisDefinition:
    """An analysis: called with a store, a selection and its options it gives an `AnalysisResult`."""

    name: str
    """Small letters, digits and '_': of the command, with hyphens, and of the kind of its findings."""
    compute: Compute
    """A function of a store, a `Selection`, and options by name, each `Annotated[TYPE, "help"] = default`. If it has an
    argument `progress` it is given a `Progress`. Its docstring is the command's help."""
    tables: Mapping[str, Sequence[Column]]
    """The columns of each table that it gives; in SQL a view NAME_TABLE."""
    charts: Callable[[AnalysisResult], Sequence[Any]] | None = None
    """A function of a result that gives `trajstore.view.charts.chart.Chart`s."""

    def __post_init__(self) -> None:
        """Refuse a definition that cannot be kept."""
        for name in (self.name, *self.tables):
            if not GROUP_NAME.fullmatch(name):
                raise BadAnalysis(
                    f"{name!r} cannot be the name of an analysis or a table: small letters, digits and '_', starting "
                    "with a letter."
                )
        if not self.tables:
            raise BadAnalysis(f"{self.name}: an analysis has a table at least.")
        if self.name in TABLES:
            raise BadAnalysis(f"{self.name}: trajstore has an analysis of that name itself.")
        _ = self.schemas

    @property
    def package(self) -> str | None:
        """Name and version of the installed package that it comes from; None for one that is not installed."""
        return next((plugin.package for plugin in plugins("analyses") if plugin.name == self.name), None)

    @property
    def options(self) -> list[AnalysisOption]:
        """The options, in the function's order; raises `BadAnalysis` for one without a default or a help."""
        hints = get_type_hints(self.compute, include_extras=True)
        options = []
        for name, parameter in inspect.signature(self.compute).parameters.items():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or name == "progress":
                continue
            hint = hints.get(name)
            if get_origin(hint) is not Annotated or parameter.default is inspect.Parameter.empty:
                raise BadAnalysis(
                    f"{self.name}: the option {name} wants Annotated[TYPE, help] and a default."
                )
            kind, text = get_args(hint)[:2]
            if get_origin(kind) in (Sequence, Mapping, tuple):
                raise BadAnalysis(f"{self.name}: the option {name} takes several values as list[TYPE].")
            options.append(AnalysisOption(name, kind, parameter.default, str(text)))
        return options

    @cached_property
    def schemas(self) -> Tables:
        """The columns of its tables, by the tables' names."""
        return {name: schema_of(columns) for name, columns in self.tables.items()}

    def view(self, table: str) -> str:
        """The view in SQL of one of its tables."""
        return view_of(self.name, table)

    def request(self, selection: Selection, options: Mapping[str, Any]) -> Request:
        """The finding; its default name has the models and datasets where they are named."""
        facts = {"selection": selection.facts, "options": dict(options)}
        parts = [
            one_or_many(names, noun)
            for names, noun in ((selection.models, "models"), (selection.datasets, "datasets"))
            if names
        ]
        return Request(self.name, finding_name(parts, facts), facts)

    def __call__(
        self, store: Store, selection: Selection | None = None, *, progress: Progress = SILENT, **options: Any
    ) -> AnalysisResult:
        """The result of the analysis on what is selected, all losses by default; nothing is written.

        Raises `BadOption` for an option that it does not take, `BadAnalysis` for a result that is not as defined, and
        what its function raises.
        """
        chosen, known = selection or Selection(), {option.name: option for option in self.options}
        for name, value in options.items():
            if name not in known:
                raise BadOption(name, value, f"nothing, since {self.name} has no such option")
            known[name].check(value)
        values = {name: option.default for name, option in known.items()} | options
        has_bars = "progress" in inspect.signature(self.compute).parameters
        frames = self.compute(store, chosen, **values, **({"progress": progress} if has_bars else {}))
        if not isinstance(frames, Mapping) or set(frames) != set(self.tables):
            given = sorted(frames) if isinstance(frames, Mapping) else type(frames).__name__
            raise BadAnalysis(
                f"{self.name}: its function gave the tables {given}, and not {sorted(self.tables)}."
            )
        tables = {name: self._table(name, frames[name]) for name in self.tables}
        request = self.request(chosen, values)
        names = chosen.datasets or store.dataset_names()
        facts = {
            **request.facts,
            "models": store.models(chosen.models),
            "tokens_sha256": token_hashes(store, names),
            "groups_sha256": group_hashes(store, [chosen.group]),
            "package": self.package,
        }
        return AnalysisResult(self, tables, store=store, request=request, facts=facts)

    def _table(self, name: str, frame: object) -> pl.DataFrame:
        """A table as it will be kept; raises `BadAnalysis`."""
        if not isinstance(frame, pl.DataFrame):
            raise BadAnalysis(
                f"{self.name}: its table {name} is no DataFrame of Polars, but {type(frame).__name__}."
            )
        if missing := [column.name for column in self.tables[name] if column.name not in frame.columns]:
            raise BadAnalysis(f"{self.name}: its table {name} lacks the column {missing[0]}.")
        try:
            return pl.DataFrame(converted(frame, self.schemas[name]))
        except (pa.ArrowException, ValueError) as error:
            raise BadAnalysis(
                f"{self.name}: its table {name} has other values than its columns: {error}."
            ) from error


@dataclass(frozen=True, repr=False)
class AnalysisResult(Result):
    """The result of an analysis of another package: tables, which can be drawn and kept."""

    definition: AnalysisDefinition = field(repr=False)
    frames: Mapping[str, pl.DataFrame]

    @property
    def schemas(self) -> Tables:
        """The columns of its tables, as the definition has them."""
        return self.definition.schemas

    @property
    def summaries(self) -> tuple[str, ...]:  # type: ignore[override]
        """All tables."""
        return tuple(self.frames)

    def brief(self) -> str:
        """The name and the rows of each table."""
        rows = (f"{name} {frame.height:,} × {frame.width}" for name, frame in self.frames.items())
        return ", ".join([self.definition.name, *rows])

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of a table."""
        yield self.frames[table]

    def charts(self) -> list[Any]:
        """Descriptions of its charts; raises `PlotError` where the analysis draws none."""
        if self.definition.charts is None:
            raise PlotError(f"The analysis {self.definition.name} draws no charts.")
        return list(self.definition.charts(self))

    def keep(self, name: str | None = None, *, replace: Replace = False) -> str:
        """As `Result.keep`; makes the kind of its findings known to the store first."""
        self.store.add_finding_kind(self.definition.name, self.schemas)
        return super().keep(name, replace=replace)


def find_analysis(name: str) -> AnalysisDefinition:
    """The analysis of an installed package by its name; raises `PluginError`."""
    plugin = find("analyses", name)
    definition = plugin.load()
    if not isinstance(definition, AnalysisDefinition):
        raise plugin.problem(f"is no AnalysisDefinition, but {type(definition).__name__}")
    if definition.name != plugin.name:
        raise plugin.problem(f"calls itself {definition.name}")
    return definition


@dataclass(frozen=True)
class FindingKind:
    """A kind of findings, with its views in SQL and the package whose analysis makes it."""

    name: str
    views: Sequence[str]
    package: str


def finding_kinds(store: Store) -> tuple[list[FindingKind], list[PluginError]]:
    """All kinds of findings, trajstore's own first, and why analyses that cannot be used cannot.

    Among them those that are in the store, and whose package is not installed; raises `DamagedFile`.
    """
    listed = [FindingKind(kind, views_of(store.path, kind), OWN_PACKAGE) for kind in TABLES]
    problems, installed = [], {plugin.name: plugin for plugin in plugins("analyses")}
    for name in sorted({*installed, *declared(store.path)}):
        try:
            if name in installed:
                definition = find_analysis(name)
                views = [definition.view(table) for table in definition.tables]
            else:
                views = views_of(store.path, name)
        except PluginError as error:
            problems.append(error)
        else:
            package = installed[name].package if name in installed else "not installed"
            listed.append(FindingKind(name, views, package))
    return listed, problems
