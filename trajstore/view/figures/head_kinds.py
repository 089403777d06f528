"""Kinds of heads as a chart: the mean course of each cluster, a panel for each measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.display import count
from trajstore.errors import listed
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.figures.axes import NAMED, numbers

if TYPE_CHECKING:
    from trajstore.pipelines.measures.head_kinds import HeadKinds

MOST_CLUSTERS = 12
"""Clusters that are drawn, the largest ones."""


def charts_of_head_kinds(found: HeadKinds) -> list[Chart]:
    """One chart, with a colour for each cluster."""
    clusters = found.clusters
    sizes = [int((clusters.of_head == number).sum()) for number in range(1, len(clusters.kinds) + 1)]
    names = [
        f"{number}: {kind}, {count(size, 'head')}"
        for number, (kind, size) in enumerate(zip(clusters.kinds, sizes, strict=True), 1)
    ][:MOST_CLUSTERS]
    panels = [
        Panel(
            measure,
            tuple(
                Series(name, numbers(found.steps), numbers(clusters.means[number, :, column]), key=name)
                for number, name in enumerate(names)
            ),
        )
        for column, measure in enumerate(found.measures)
    ]
    rest = len(sizes) - len(names)
    return [
        Chart(
            title=f"Kinds of heads: {listed(found.facts['models'], NAMED)}",
            x_label="step",
            y_label="mean of the cluster",
            panels=tuple(panels),
            note=f"The {MOST_CLUSTERS} largest of {len(sizes)} clusters." if rest else "",
            keys=tuple(names),
        )
    ]
