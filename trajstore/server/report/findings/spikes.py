"""Spikes on the page: the mean loss with its spikes, and shares of tokens beside those of the placebos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.trajectories import Comparison
from trajstore.errors import listed
from trajstore.pipelines import trajectories
from trajstore.pipelines.spikes import not_found
from trajstore.server.report.findings.table import PageTable, Tables
from trajstore.store.matrix.selection import Selection
from trajstore.view.charts.chart import Mark
from trajstore.view.figures.axes import NAMED
from trajstore.view.figures.spikes import share_chart
from trajstore.view.figures.trajectories import trajectory_chart

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart

_EVERY = "every_token"


def tables(store: Store, finding: Finding) -> Tables:
    """Return the number of spikes, and tables of them and of enriched groups."""
    del store
    table = finding.table("spikes").drop("model")
    said = f"{table.height} spike{'s' * (table.height != 1)} of the mean loss."
    if table.is_empty():
        said = not_found(finding.facts)
    groups = finding.table("groups").filter(pl.col("p_adjusted") < 0.05).sort("p_adjusted").drop("model")
    return said, (
        PageTable.of("Spikes", table),
        PageTable.of("Groups over-represented among their tokens", groups),
    )


def charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    """The mean loss with a mark at each spike, then its shares beside those of the placebos."""
    options, table = finding.facts["asked"], finding.table("spikes")
    subject = f"{finding.facts['model']}, {options['group'] or 'all tokens'} of {listed(options['datasets'], NAMED)}"
    spikes = [
        Mark(step, f"spike, {height:.3g} nats") for step, height in table.select("at_step", "height").rows()
    ]
    chosen = Selection(
        options["datasets"], [finding.facts["model"]], options["steps"], options["contexts"], options["align"]
    )
    frame = trajectories.trajectories(
        store, [options["group"] or _EVERY], chosen, comparison=Comparison(by="model")
    )
    yield trajectory_chart(frame, [*marks, *spikes])
    shares = finding.table("shares")
    for step in table["at_step"]:
        yield share_chart(shares.filter(spike=step), step, subject)
