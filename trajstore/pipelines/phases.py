"""Phases of training from a store into a store: curves of groups and measures, their events, kept as a finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from trajstore.analysis.phases.change_points import FALSE_ALARMS
from trajstore.analysis.phases.phases import FEWEST_CHECKPOINTS, Curve, Event, Settings, events
from trajstore.analysis.phases.phases import induction as induction_bump
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.arguments import defaults
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, NothingChosen, TrajstoreError
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    finding_name,
    group_hashes,
    token_hashes,
    versions,
)
from trajstore.pipelines.measures.curves import measure_curves
from trajstore.pipelines.trajectories import resampled_trajectories
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.catalog.group_expressions import is_call
from trajstore.store.matrix.selection import LeastCheckpoints, Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "phases"
"""Of the findings."""


@dataclass(frozen=True)
class Induction:
    """The groups, or macros' calls, in which an induction bump is looked for."""

    repeated: str
    """Tokens that occurred before, after the same token or tokens."""
    late: str = defaults.LATE
    """The in-context-learning score is the mean loss here …"""
    early: str = defaults.EARLY
    """… less that here, over the contexts that have both."""


@dataclass(frozen=True)
class CurveOptions:
    """The curves to look at, and how their events are found."""

    groups: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    """Names of measures."""
    induction: Induction | None = None
    selection: Selection = field(default_factory=Selection)
    comparison: Comparison = field(default_factory=Comparison)
    """Of the groups."""
    interval: Interval = field(default_factory=Interval)
    most: int = defaults.CHANGES
    """Changes looked for in a curve."""

    def __post_init__(self) -> None:
        """Refuse what asks for nothing."""
        if not (self.groups or self.measures or self.induction):
            raise BadOption(
                "groups", "", f"groups, or give {option('measure', 'NAME')} or {option('induction', 'GROUP')}"
            )

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "selection": self.selection.facts}


@dataclass(frozen=True, repr=False)
class Phases(Result):
    """The events of some curves."""

    drawn_by = "trajstore.view.figures.phases:phase_charts"
    summaries = ("events",)

    curves: tuple[Curve, ...]
    """Of the groups and measures, then the in-context-learning scores and the losses on repeated tokens."""
    events: tuple[Event, ...]
    """By series, model and dataset; induction last."""
    without: tuple[tuple[str, str], ...]
    """(model, dataset) of those that were looked at for induction and have none."""

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of its one table."""
        del table
        yield self.frame.rename({"kind": "event"})

    @property
    def frame(self) -> pl.DataFrame:
        """model, dataset, series, kind (String), step, low, high (Int64), value (Float64); dataset "" is null."""
        names = ["model", "dataset", "series", "kind", "step", "low", "high", "value"]
        kinds = [*[pl.String] * 4, *[pl.Int64] * 3, pl.Float64]
        rows = [[getattr(event, name) for name in names] for event in self.events]
        frame = pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")
        return frame.with_columns(pl.col("dataset").replace("", None))


def phases(
    store: Store,
    groups: str | Sequence[str] = (),
    selection: Selection | None = None,
    measures: str | Sequence[str] = (),
    induction: Induction | None = None,
    comparison: Comparison | None = None,
    interval: Interval | None = None,
    most: int = defaults.CHANGES,
    progress: Progress = SILENT,
) -> Phases:
    """The events of the curves of groups and measures, and of induction; nothing is written.

    `most` changes are looked for in a curve. What has too few checkpoints is left out and said. Raises as
    `trajectories`, `UnknownName` for a measure that no model has, and `TrajstoreError` where all have too few.
    """
    options = CurveOptions(
        names_of(groups),
        names_of(measures),
        induction,
        selection or Selection(),
        comparison or Comparison(),
        interval or Interval(),
        most,
    )
    how = Settings(options.most, options.interval.level, options.interval.seed)
    least = LeastCheckpoints(FEWEST_CHECKPOINTS, "phases")
    curves = (
        _of_groups(store, options.groups, options, options.comparison, least, progress)
        if options.groups
        else []
    )
    curves += _of_measures(store, options, least)
    pairs = _for_induction(store, options.induction, options, least, progress) if options.induction else []
    least.say(progress, bool(curves or pairs))
    bumps = [(score, induction_bump(score, repeated, how)) for score, repeated in pairs]
    of_curves: list[Event] = []
    with bar(progress, "events", len(curves), "curves"):
        for curve in curves:
            of_curves += events(curve, how)
            progress.advance(1, curve.model)
    return Phases(
        (*curves, *(curve for pair in pairs for curve in pair)),
        (*of_curves, *(event for _, event in bumps if event)),
        tuple((score.model, score.dataset) for score, event in bumps if event is None),
        store=store,
        request=request(options),
        facts=_facts(store, options, [*curves, *(score for score, _ in pairs)]),
    )


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names, each once; one stands for a list of it."""
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))


def request(options: CurveOptions) -> Request:
    """The finding of phases; its default name has the first group or measure."""
    plain = [name for name in (*options.groups, *options.measures) if not is_call(name)]
    first = plain[0] if plain else ("induction" if options.induction else "calls")
    return Request(KIND, finding_name([first], options.facts), options.facts)


def _of_groups(
    store: Store,
    groups: Sequence[str],
    options: CurveOptions,
    comparison: Comparison,
    least: LeastCheckpoints,
    progress: Progress,
) -> list[Curve]:
    """The curves of groups, in each resample of their texts."""
    resampled = resampled_trajectories(
        store, groups, options.selection, progress, comparison, options.interval
    )
    return [
        Curve(curve.group, curve.model, curve.dataset, curve.steps, curve.means, curve.resampled)
        for curve in resampled
        if least.reached(f"{curve.group} of {curve.model} on {curve.dataset}", len(curve.steps))
    ]


def _for_induction(
    store: Store, of: Induction, options: CurveOptions, least: LeastCheckpoints, progress: Progress
) -> list[tuple[Curve, Curve]]:
    """The in-context-learning score and the loss on repeated tokens of each model and dataset that has both."""
    by = options.comparison.by
    try:
        scores = _of_groups(store, [of.late], options, Comparison(by, minus=of.early), least, progress)
    except NothingChosen as error:
        raise TrajstoreError(
            f"{error} The score is that of {option('late', of.late)} less "
            f"{option('early', of.early)}: give two that the contexts have, "
            "as 'position_is(100)' and 'position_is(20)'."
        ) from error
    repeated = _of_groups(store, [of.repeated], options, Comparison(by), least, progress)
    known = {(curve.model, curve.dataset): curve for curve in repeated}
    return [(score, known[key]) for score in scores if (key := (score.model, score.dataset)) in known]


def _of_measures(store: Store, options: CurveOptions, least: LeastCheckpoints) -> list[Curve]:
    """A curve for each model, dataset, layer and head of each measure, resampled where it has values of contexts."""
    if not options.measures:
        return []
    return [
        Curve(
            curve.label,
            curve.model,
            curve.dataset or "",
            curve.steps,
            curve.values,
            curve.resampled(options.interval),
        )
        for curve in measure_curves(store, options.measures, options.selection)
        if least.reached(
            f"{curve.label} of {curve.model}{f' on {curve.dataset}' if curve.dataset else ''}",
            len(curve.steps),
        )
    ]


def _facts(store: Store, options: CurveOptions, curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the facts of a finding: its inputs and method."""
    of = options.induction
    names = [*options.groups, *([of.repeated, of.late, of.early] if of else []), options.comparison.minus]
    datasets = options.selection.datasets or sorted({curve.dataset for curve in curves})
    return {
        **options.facts,
        "models": list(dict.fromkeys(curve.model for curve in curves)),
        "tokens_sha256": token_hashes(store, datasets),
        "false_alarms": FALSE_ALARMS,
        "groups_sha256": group_hashes(store, sorted({name for name in names if name})),
        "versions": versions("numpy", "scipy"),
    }
