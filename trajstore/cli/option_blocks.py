"""Options that are given together, as dataclasses that make of them what the library takes; see `dataclass_options`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.arguments import choices, defaults
from trajstore.cli import options
from trajstore.cli.output import open_store, say

if TYPE_CHECKING:
    from trajstore.analysis.statistics.bootstrap import Interval
    from trajstore.analysis.trajectories import Comparison
    from trajstore.display import Drawn
    from trajstore.pipelines.finding_facts import Place, Request, Result
    from trajstore.store.matrix.selection import Selection
    from trajstore.store.store import Store


PARAMETERS = {"names": ["--param", "-p"], "metavar": "K=V", "default": [], "show_default": False}
"""The option of parameters of measures, for `dataclass_options`."""


def default_name(parts: str) -> dict[str, str]:
    """The help of a finding's name, whose default has these parts."""
    return {"help": f"Name of the finding [default: {parts}, six digits of a hash of all options]."}


@dataclass(frozen=True)
class SelectionOptions:
    """The losses that a command looks at."""

    model: options.Models = None
    dataset: options.AnyDatasets = None
    group: options.Group = None
    steps: options.Steps = "all"
    contexts: options.Contexts = None
    align: options.Align = "predict"

    @property
    def selection(self) -> Selection:
        """As the library takes it."""
        from trajstore.store.matrix.selection import Selection

        return Selection(self.dataset, self.model, self.steps, self.contexts, self.align, self.group)


@dataclass(frozen=True)
class ComparisonOptions:
    """The curves to compare: what is subtracted, and what is pooled."""

    minus: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP",
            help="Difference from this group's mean, over the contexts that have tokens of both; with --measure, from "
            "a measure of the same layer and head, or of none.",
        ),
    ] = None
    minus_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Difference of each other model from this one, at the steps that both have.",
        ),
    ] = None
    by: Annotated[
        choices.By | None,
        options.choice(
            metavar="dataset|model",
            help="model: one curve for each model, all tokens of its datasets pooled; dataset: one for each dataset, "
            "the mean of its models [default: one for each model on each dataset].",
        ),
    ] = None

    @property
    def comparison(self) -> Comparison:
        """As the library takes it."""
        from trajstore.analysis.trajectories import Comparison

        return Comparison(self.by, self.minus, self.minus_model)


@dataclass(frozen=True)
class IntervalOptions:
    """The intervals of means, or of what is computed of resamples."""

    ci: options.MeansCi = "bootstrap"
    level: options.Level = defaults.LEVEL
    resamples: options.Resamples = defaults.RESAMPLES
    seed: options.Seed = 0

    @property
    def interval(self) -> Interval:
        """As the library takes it."""
        from trajstore.analysis.statistics.bootstrap import Interval

        return Interval(self.ci, self.level, self.resamples, self.seed)


@dataclass(frozen=True)
class FindingOptions:
    """The finding as which a result is kept."""

    name: Annotated[str | None, typer.Option(help="Name of the finding.")] = None
    replace: options.Replace = False

    def place(self, request: Request, store: Store) -> Place:
        """Where it will be, asked before long work; raises `FindingExists`."""
        return request.place(store, self.name, replace=self.replace)


@dataclass(frozen=True)
class OutputOptions:
    """The output of an analysis: a chart, or tables as such or as JSON; and the store that it is of."""

    plot: options.Plot = None
    store: options.Store = options.DEFAULT_STORE
    as_json: options.Json = False

    def open(self) -> Store:
        """Open the store; before that, and before long work, raises `BadTarget` where no chart could be written."""
        from trajstore.output_files import check_target
        from trajstore.view.charts.save import SUFFIXES

        if self.plot is not None:
            check_target(self.plot, SUFFIXES)
        return open_store(self.store)

    def draw(self, result: Drawn) -> None:
        """Write a result's charts to the file, if there is one, and say so."""
        if self.plot is not None:
            result.plot(self.plot)
            say(f"Drew {self.plot}.")

    def finish(self, result: Drawn, place: Place, view: str) -> None:
        """Draw a result that was kept, and say where it is: the finding, and a view in SQL that has it."""
        self.draw(result)
        verb = "There already, and the same: the" if place.there else "Kept as the"
        say(f"{verb} finding {place.name}: FROM {view} WHERE finding = '{place.name}'")


def keep(result: Result, place: Place) -> None:
    """Keep a result as the finding of a place."""
    result.keep(place.name, replace=place.replace)
