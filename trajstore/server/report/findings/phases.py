"""Phases on the page: curves with their events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.phases.phases import FEWEST_CHECKPOINTS, Curve, Event
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.errors import listed
from trajstore.pipelines import trajectories
from trajstore.server.report.findings.table import PageTable, Tables
from trajstore.store.matrix.selection import Selection
from trajstore.view.figures.axes import NAMED
from trajstore.view.figures.phases import event_charts

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart, Mark


def tables(store: Store, finding: Finding) -> Tables:
    """Return the first events in words, and all of them in a table."""
    del store
    events = finding.table("events")
    phrases = (
        f"{row['event'].replace('_', ' ')} of {row['series']} in {row['model']} at step {row['step']}"
        for row in events.iter_rows(named=True)
    )
    said = f"{listed(phrases, NAMED)}." if events.height else "no event."
    return said[0].upper() + said[1:], (PageTable.of("Events", events),)


def charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
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
