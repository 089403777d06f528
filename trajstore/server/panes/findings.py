"""The pane of findings: what is kept, its tables with tokens in their contexts, events and measures by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl
from starlette.routing import BaseRoute

from trajstore.errors import MissingParameter
from trajstore.pipelines.measure_trajectories import measure_trajectory
from trajstore.pipelines.shapes import shares
from trajstore.pipelines.token_context import with_context
from trajstore.progress import SILENT, Progress
from trajstore.server.choice import interval_of
from trajstore.server.endpoints import Ask, frames
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store

ROWS = 1000
"""Of a finding's table."""
_WIDTH = 8
_SITE = ("dataset", "context", "position")
_BY_SIZE = ("change", "difference", "delta_bic", "loading")
"""Columns of a table of tokens by whose size the first ones are chosen."""
_EVENTS = {"spikes": ("spikes", "at_step", "height"), "phases": ("events", "step", "value")}
"""Of a kind of finding: the table, step and value of what happens at one step."""


def routes() -> Sequence[BaseRoute]:
    """The endpoints of the pane; a finding is given by `kind` and `finding`."""
    return [
        frames("findings", lambda ask: finding_list(ask.store, ask.parameters.selection())),
        frames("finding", _rows),
        frames("finding-events", lambda ask: events(ask.store, ask.parameters.selection())),
        frames("shape-shares", _shares),
        frames("measure-names", lambda ask: measure_names(ask.store, ask.parameters.selection())),
        frames("measure-curves", _curves),
    ]


def _rows(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    finding = ask.store.finding(chosen.required("kind"), chosen.required("finding"))
    return finding_rows(
        ask.store, finding, chosen.required("table"), chosen.integer("n", ROWS, 1), ask.progress
    )


def _shares(ask: Ask) -> pl.DataFrame:
    finding = ask.store.finding("shapes", ask.parameters.required("finding"))
    return shares(ask.store, finding.name, ask.parameters.groups() or ())


def _curves(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    measures = chosen.names("measures")
    if not measures:
        raise MissingParameter("This address", {"measures": ""})
    layer, head = (chosen.integer(name) if chosen.text(name) else None for name in ("layer", "head"))
    return measure_trajectory(
        ask.store, measures, chosen.selection(), layer=layer, head=head, interval=interval_of(chosen)
    ).frame


def finding_list(store: Store, selection: Selection | None = None) -> pl.DataFrame:
    """The kept findings of any of the chosen models and datasets: kind, name, what they are of, when made, tables."""
    chosen = selection or Selection()
    models = None if chosen.models is None else store.models(chosen.models)
    rows = [
        (finding.kind, finding.name, str(finding.subject), finding.made, ", ".join(finding.schemas))
        for finding in store.findings()
        if _any_of(finding.subject.models, models) and _any_of(finding.subject.datasets, chosen.datasets)
    ]
    names = ("kind", "finding", "subject", "made", "tables")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _any_of(names: Sequence[str], chosen: Sequence[str] | None) -> bool:
    return chosen is None or not names or not set(names).isdisjoint(chosen)


def finding_rows(
    store: Store, finding: Finding, table: str, n: int = ROWS, progress: Progress = SILENT
) -> pl.DataFrame:
    """The first rows of a finding's table; of tokens the largest ones, in their contexts. Says what is left out."""
    frame = finding.table(table)
    of_tokens = set(_SITE) <= set(frame.columns)
    sizes = (name for name in _BY_SIZE if name in frame.columns and frame.schema[name].is_numeric())
    if of_tokens and (size := next(sizes, None)):
        frame = frame.sort(pl.col(size).abs(), descending=True, nulls_last=True, maintain_order=True)
    if frame.height > n:
        progress.say(f"The first {n:,} of {frame.height:,} rows.")
    return with_context(store, frame.head(n), _WIDTH) if of_tokens else frame.head(n)


def events(store: Store, selection: Selection | None = None) -> pl.DataFrame:
    """Spikes and phases of kept findings by step: kind, finding, model, event, step and value."""
    kept = finding_list(store, selection).filter(pl.col("kind").is_in(list(_EVENTS)))
    frames = [pl.DataFrame(schema=EVENT_SCHEMA)]
    for kind, name in kept.select("kind", "finding").iter_rows():
        table, step, value = _EVENTS[kind]
        rows = store.finding(kind, name).table(table)
        event = pl.col("event") if "event" in rows.columns else pl.lit("spike")
        labels = pl.lit(kind).alias("kind"), pl.lit(name).alias("finding"), "model", event.alias("event")
        frames.append(rows.select(*labels, pl.col(step).alias("step"), pl.col(value).alias("value")))
    return pl.concat(frames)


EVENT_SCHEMA = {
    **dict.fromkeys(("kind", "finding", "model", "event"), pl.String),
    "step": pl.Int64,
    "value": pl.Float64,
}
"""Columns of what happens at one step: value is a spike's height, or a phase's own, in nats or a measure's unit."""


def measure_names(store: Store, selection: Selection | None = None) -> pl.DataFrame:
    """The measures that the chosen models have, with how many layers, heads, steps and models each has values of."""
    frame = store.measures((selection or Selection()).models)
    counted = ("layer", "head", "step", "model")
    return frame.group_by("name").agg(pl.col(counted).drop_nulls().n_unique().name.suffix("s")).sort("name")
