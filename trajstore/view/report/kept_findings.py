"""Kept findings as the report shows them: of each a sentence, charts and tables, made from the finding's own tables.

Losses are read again only for what a finding does not hold: the mean loss under its spikes or events, and examples of
shapes. Where those losses are gone, the tables are shown alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.phases.phases import FEWEST_CHECKPOINTS, Curve, Event
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.errors import TrajstoreError, listed, told
from trajstore.pipelines import shapes, trajectories
from trajstore.pipelines.comparison.result import pairs_of
from trajstore.pipelines.components import pca
from trajstore.pipelines.spikes import not_found
from trajstore.pipelines.token_context import with_context
from trajstore.pipelines.trajectories import Selection
from trajstore.view.charts.chart import Mark
from trajstore.view.figures.axes import NAMED
from trajstore.view.figures.comparison import stored_comparison_charts
from trajstore.view.figures.differences import difference_chart
from trajstore.view.figures.pca import pca_charts
from trajstore.view.figures.phases import event_charts
from trajstore.view.figures.shapes import shape_charts
from trajstore.view.figures.spikes import share_chart
from trajstore.view.figures.trajectories import trajectory_chart

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart

ROWS_SHOWN = 50
"""Rows of a finding's table that the page holds."""
_TOP_COMPONENTS = 3
_TOP_TOKENS = 5
_TOP_LOADINGS = """
    FROM pca_loadings
    WHERE finding = $finding AND component <= $components
    QUALIFY least(
        row_number() OVER (PARTITION BY component ORDER BY loading DESC, dataset, context, position),
        row_number() OVER (PARTITION BY component ORDER BY loading, dataset, context, position)
    ) <= $n AND loading <> 0
    ORDER BY component, loading DESC
"""
_EVERY = "every_token"

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """Some rows of a finding."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    more: int = 0
    """Rows that are not shown."""

    @classmethod
    def of(cls, title: str, frame: pl.DataFrame) -> Table:
        """The first rows of a frame."""
        shown = frame.head(ROWS_SHOWN).with_columns(pl.selectors.float().fill_nan(None))
        return cls(
            title, frame.columns, [list(row) for row in shown.iter_rows()], frame.height - shown.height
        )


@dataclass(frozen=True)
class Analysis:
    """One analysis as the page shows it."""

    title: str
    text: str
    """Sentences: what it is of, and what came of it."""
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


def kept_analyses(
    store: Store, models: Collection[str], datasets: Collection[str], marks: Sequence[Mark]
) -> list[Analysis]:
    """All findings of any of these models and datasets, in order of kind and name.

    A finding that cannot be read, or whose losses are not there any more, says so in its text.
    """
    found = [each for each in store.findings() if each.kind in _PARTS and _is_of(each, models, datasets)]
    return [_analysis(store, finding, marks) for finding in found]


def _is_of(finding: Finding, models: Collection[str], datasets: Collection[str]) -> bool:
    subject = finding.subject
    return not set(subject.models).isdisjoint(models) and not set(subject.datasets).isdisjoint(datasets)


def _analysis(store: Store, finding: Finding, marks: Sequence[Mark]) -> Analysis:
    who, on = (listed(names, NAMED) for names in (finding.subject.models, finding.subject.datasets))
    head = f"{who} on {on}, made on {finding.made[:10]}." if on else f"{who}, made on {finding.made[:10]}."
    text, tables, charts = head, tuple[Table, ...](), list["Chart"]()
    parts = _PARTS[finding.kind]
    try:
        said, tables = parts.tables(store, finding)
        text = f"{head} {said}".strip()
        charts = list(parts.charts(store, finding, marks))
    except TrajstoreError as error:
        text += f" {'Its charts' if tables else 'It'} cannot be shown: {error}"
    except (LookupError, TypeError, ValueError) as error:
        text += (
            f" {'Its charts' if tables else 'It'} cannot be shown: its facts are not those that this version writes "
            f"({told(error)}). Compute it again, with --replace."
        )
    return Analysis(f"{finding.kind}: {finding.name}", text, tuple(charts), tables)


Tables = tuple[str, tuple[Table, ...]]


@dataclass(frozen=True)
class _Components:
    """Principal components of a finding, as `pca_charts` takes them."""

    scores: pl.DataFrame
    variance: pl.DataFrame
    zeros: list[float]


def _pca_tables(store: Store, finding: Finding) -> Tables:
    """Shares of variance, and the tokens that load most."""
    shares = finding.table("components")
    held = shares["ratio"][: min(3, shares.height)].sum()
    said = (
        f"{shares.height} components of {finding.facts['rows']} checkpoints and {finding.facts['columns']:,} tokens; "
        f"the first {min(3, shares.height)} hold {100 * held:.3g} % of the variance."
    )
    asked = {"finding": finding.name, "components": _TOP_COMPONENTS, "n": _TOP_TOKENS}
    top = with_context(store, store.sql(_TOP_LOADINGS, parameters=asked).pl())
    top = top.select(
        *("component", "loading", "dataset", "context", "position"),
        pl.format("{}[{}]{}", "before", "marked", "after").alias("token in its context"),
    )
    return said, (
        Table.of("Components", shares),
        Table.of("The tokens that load most on the first components", top),
    )


def _pca_charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    del store
    shares = finding.table("components")
    stored = _Components(finding.table("scores"), shares.drop("zeros"), shares["zeros"].to_list())
    yield from pca_charts(stored, marks, subject=pca.subject(finding.facts))


def _spike_tables(store: Store, finding: Finding) -> Tables:
    del store
    found = finding.table("spikes").drop("model")
    said = f"{found.height} spike{'s' * (found.height != 1)} of the mean loss."
    if found.is_empty():
        said = not_found(finding.facts)
    groups = finding.table("groups").filter(pl.col("p_adjusted") < 0.05).sort("p_adjusted").drop("model")
    return said, (
        Table.of("Spikes", found),
        Table.of("Groups over-represented among their tokens", groups),
    )


def _spike_charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    """The mean loss with a mark at each spike, then its shares beside those of the placebos."""
    asked, found = finding.facts["asked"], finding.table("spikes")
    subject = (
        f"{finding.facts['model']}, {asked['group'] or 'all tokens'} of {listed(asked['datasets'], NAMED)}"
    )
    spikes = [
        Mark(step, f"spike, {height:.3g} nats") for step, height in found.select("at_step", "height").rows()
    ]
    chosen = Selection(
        asked["datasets"], [finding.facts["model"]], asked["steps"], asked["contexts"], asked["align"]
    )
    frame = trajectories.trajectories(
        store, [asked["group"] or _EVERY], chosen, comparison=Comparison(by="model")
    )
    yield trajectory_chart(frame, [*marks, *spikes])
    shares = finding.table("shares")
    for step in found["at_step"]:
        yield share_chart(shares.filter(spike=step), step, subject)


def _shape_tables(store: Store, finding: Finding) -> Tables:
    shares = shapes.shares(
        store, finding.name, finding.facts["asked"]["groups"], finding.facts["asked"]["align"]
    )
    undecided = ", ".join(
        f"{model} {share:.0%}" for model, share in shares.select("model", "undecided").rows()
    )
    return f"Undecided: {undecided}.", (Table.of("Share of each shape", shares),)


def _shape_charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    del marks
    asked = shapes.Asked.read(finding.facts)
    shares = shapes.shares(store, finding.name, asked.groups, asked.align)
    yield from shape_charts(store, finding.name, asked, shapes.parts(store, asked), shares)


def _phase_tables(store: Store, finding: Finding) -> Tables:
    del store
    events = finding.table("events")
    told = (
        f"{row['event'].replace('_', ' ')} of {row['series']} in {row['model']} at step {row['step']}"
        for row in events.iter_rows(named=True)
    )
    return f"{listed(told, NAMED)}." if events.height else "No event.", (Table.of("Events", events),)


def _phase_charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    """The curves of groups and of the induction bump with their events; events of measures are in the table alone."""
    del marks
    facts = finding.facts
    by, bump = facts["comparison"]["by"], facts["induction"]
    drawn = [(facts["groups"], Comparison(**facts["comparison"]))] if facts["groups"] else []
    if bump:
        drawn += [([bump["late"]], Comparison(by, bump["early"])), ([bump["repeated"]], Comparison(by))]
    curves = [curve for groups, how in drawn for curve in _curves(store, groups, facts["selection"], how)]
    order = ["event", "model", "dataset", "series", "step", "low", "high", "value"]
    rows = finding.table("events").with_columns(pl.col("dataset").fill_null(""))
    yield from event_charts(curves, [Event(*row) for row in rows.select(order).rows()])


def _curves(
    store: Store, groups: Sequence[str], selection: Mapping[str, Any], how: Comparison
) -> Iterator[Curve]:
    """Mean losses of groups by step, with no resamples."""
    frame = trajectories.trajectories(
        store, groups, Selection(**selection), comparison=how, interval=Interval("none")
    )
    places = ["group", "model", "dataset"]
    for place, part in frame.sort("step").group_by(places, maintain_order=True):
        if part.height >= FEWEST_CHECKPOINTS:
            group, model, dataset = map(str, place)
            steps, means = part["step"].to_numpy(), part["mean"].to_numpy()
            yield Curve(group, model, dataset, steps, means, np.empty((0, part.height)))


def _compare_tables(store: Store, finding: Finding) -> Tables:
    del store
    pairs = pairs_of(finding.facts["models"], finding.table("correlations"))
    last = pairs.filter(pl.col("step") == pl.col("step").max().over("dataset"))
    said = "; ".join(
        f"{row['model']} and {row['other']} on {row['dataset']} correlate by {row['pearson']:.2f} at step {row['step']}"
        for row in last.head(NAMED).iter_rows(named=True)
        if row["pearson"] is not None
    )
    groups = finding.table("groups").filter(pl.col("p_adjusted") < 0.05).sort("p_adjusted")
    return f"{said or 'Their losses at the last step have no correlation'}.", (
        Table.of("Correlations of losses at the last step", last),
        Table.of("Groups over-represented among the largest differences", groups),
    )


def _compare_charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    del store, marks
    facts = finding.facts
    yield from stored_comparison_charts(
        facts["models"],
        facts["asked"]["group"] or "all tokens",
        finding.table("correlations"),
        finding.table("outlier_steps"),
        [(model, step, dataset) for model, step, dataset in facts["against"]],
        [of_dataset["step"] for of_dataset in facts["datasets"].values()],
        facts["asked"]["interval"]["level"],
    )


def _diff_tables(store: Store, finding: Finding) -> Tables:
    tokens = finding.table("tokens").sort(pl.col("difference").abs(), descending=True)
    largest = with_context(store, tokens.head(ROWS_SHOWN)).select(
        *("model", "step", "minus_model", "minus_step", "dataset", "context", "position"),
        *("minus_loss", "loss", "difference"),
        pl.format("{}[{}]{}", "before", "marked", "after").alias("token in its context"),
    )
    groups = finding.table("groups")
    said = "" if groups.is_empty() else _difference_sentence(groups)
    return said, (Table.of("The largest differences of single tokens", largest),)


def _difference_sentence(groups: pl.DataFrame) -> str:
    """The mean difference of the first group at the last pair."""
    row = groups.filter(group_name=groups["group_name"][0]).row(-1, named=True)
    than = [f"on {row['minus_dataset']}"] if row["dataset"] != row["minus_dataset"] else []
    than += [row["minus_model"]] if row["model"] != row["minus_model"] else []
    than += [f"step {row['minus_step']}"] if row["step"] != row["minus_step"] else []
    unit = "of the loss subtracted" if row["mean_of"] == "relative" else "nats a token"
    mean, low, high = (
        "none" if row[each] is None else f"{row[each]:+.3g}" for each in ("mean", "low", "high")
    )
    interval = "" if row["low"] is None or row["high"] is None else f" ({low} to {high})"
    return (
        f"{row['group_name']} of {row['model']} on {row['dataset']} at step {row['step']} less {' '.join(than)}: "
        f"{mean}{interval} {unit}."
    )


def _diff_charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    del store, marks
    groups = finding.table("groups")
    relative = bool((groups["mean_of"] == "relative").any())
    level = finding.facts["asked"]["interval"]["level"]
    yield difference_chart(groups.rename({"group_name": "group"}), relative=relative, level=level)


@dataclass(frozen=True)
class _Parts:
    """How findings of a kind are shown."""

    tables: Callable[[Any, Any], Tables]
    """The sentence of what came of it, and tables."""
    charts: Callable[[Any, Any, Sequence[Mark]], Iterator[Any]]


_PARTS: Mapping[str, _Parts] = {
    "pca": _Parts(_pca_tables, _pca_charts),
    "spikes": _Parts(_spike_tables, _spike_charts),
    "shapes": _Parts(_shape_tables, _shape_charts),
    "phases": _Parts(_phase_tables, _phase_charts),
    "compare": _Parts(_compare_tables, _compare_charts),
    "diff": _Parts(_diff_tables, _diff_charts),
}
