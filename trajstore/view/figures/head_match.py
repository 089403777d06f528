"""Matched heads of two models as a chart: the distance of each pair beside those of other matches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.figures.axes import numbers

if TYPE_CHECKING:
    from trajstore.pipelines.measures.head_match import HeadMatch

MOST_PAIRS = 24
"""Pairs that are drawn, the nearest ones."""


def charts_of_head_match(found: HeadMatch) -> list[Chart]:
    """One chart, with a mark for each distance."""
    frame = found.frame.sort("distance")[:MOST_PAIRS]
    names = tuple(
        f"{pair['layer']}.{pair['head']} – {pair['other_layer']}.{pair['other_head']}"
        for pair in frame.iter_rows(named=True)
    )
    places = numbers(range(1, len(names) + 1))
    series = (
        Series(
            "all others, mean", places, numbers(frame["random_distance"]), mode="markers", symbol="square"
        ),
        Series("the next", places, numbers(frame["next_distance"]), mode="markers", symbol="ring"),
        Series("the pair", places, numbers(frame["distance"]), mode="markers"),
    )
    first, second = found.models
    cut = f"The {MOST_PAIRS} nearest of {len(found.matching.heads)} pairs. " * (
        len(names) < len(found.matching.heads)
    )
    return [
        Chart(
            title=f"Matched heads of {first} and {second}, layer.head – layer.head",
            x_label="pair",
            y_label="distance of measures",
            panels=(Panel("", series),),
            step_axis=False,
            note=f"{cut}Layers: {found.layers.answer} (p {found.layers.p:.2g}).",
            names=names,
        )
    ]
