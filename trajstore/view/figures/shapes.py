"""Shapes of tokens as charts: an example of each with its curve, shares by model, and when S-shaped tokens change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.shapes.shapes import S_SHAPED, SHAPES
from trajstore.errors import PlotError, listed
from trajstore.pipelines.shapes import ModelTokens, ShapeOptions, Shapes
from trajstore.pipelines.token_context import with_context
from trajstore.text import shown
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.figures.axes import NAMED, numbers, panels

if TYPE_CHECKING:
    from trajstore.store.store import Store

_POINTS = 400
"""Points of a drawn curve."""
_QUANTILES = 100
_CLEAREST = """
    FROM shapes
    WHERE finding = $finding AND shape <> 'undecided'
    QUALIFY row_number() OVER (PARTITION BY shape ORDER BY delta_bic DESC, model, dataset, context, position) = 1
"""
_MIDPOINTS = """
    SELECT model, midpoint
    FROM shapes
    SEMI JOIN aligned($group, align := $align) USING (dataset, context, position)
    WHERE finding = $finding AND shape IN ('sigmoid', 'step')
    ORDER BY model, midpoint
"""


def words(shape: str) -> str:
    """A shape's name for people."""
    return shape.replace("_", " ")


def charts_of_shapes(shapes: Shapes) -> list[Chart]:
    """Charts of shapes that are kept; raises `TrajstoreError` where they are not, and as `shape_charts`."""
    return shape_charts(shapes.store, shapes.kept_name, shapes.options, shapes.parts, shapes.shares())


def shape_charts(
    store: Store, name: str, question: ShapeOptions, parts: Sequence[ModelTokens], shares: pl.DataFrame
) -> list[Chart]:
    """Charts of a finding whose parts and `shares` these are; raises `PlotError` where there is no token."""
    if shares.is_empty():
        raise PlotError("There is nothing to draw: no token of the groups is in the finding.")
    models = list(dict.fromkeys(part.model for part in parts))
    through, on, who = (listed(names, NAMED) for names in (question.groups, question.datasets, models))
    subject = f"{through if question.groups else 'all tokens'} of {on}, {who}"
    examples = _examples(store, name, question, parts, subject)
    drawn = [examples] if examples.panels else []
    ends = {
        model: (
            min(int(part.schedule.steps[0]) for part in parts if part.model == model),
            max(int(part.schedule.steps[-1]) for part in parts if part.model == model),
        )
        for model in models
    }
    return [
        *drawn,
        _shares(shares, subject, models),
        _midpoints(store, name, question, shares, subject, ends),
    ]


def _examples(
    store: Store, name: str, question: ShapeOptions, parts: Sequence[ModelTokens], subject: str
) -> Chart:
    """The token whose shape is clearest, for each shape, of all models and datasets, with its losses and its curve."""
    tokens = store.sql(_CLEAREST, parameters={"finding": name}).pl()
    rank = {shape: number for number, shape in enumerate(SHAPES)}
    several = len({part.model for part in parts}) > 1, len({part.sites.dataset.name for part in parts}) > 1
    by_shape = {}
    for part in parts:
        own = tokens.filter(model=part.model, dataset=part.sites.dataset.name)
        for row, series in _curves(store, part, own, question.seed):
            places = [
                row[word]
                for word, several_of in zip(("model", "dataset"), several, strict=True)
                if several_of
            ]
            site = " · ".join([f"{row['context']}:{row['position']}", *places])
            title = f"{words(row['shape'])}: [{shown(row['marked'])}] at {site}"
            by_shape[row["shape"]] = Panel(title, series)
    of = " of all models and datasets" if all(several) else ""
    of = of or (" of all models" if several[0] else " of all datasets" if several[1] else "")
    return Chart(
        title=f"An example of each shape: {subject}",
        x_label="step",
        y_label="loss (nats)",
        panels=tuple(by_shape[shape] for shape in sorted(by_shape, key=lambda shape: rank[shape])),
        note=f"For each shape the token{of} that is clearest, whose BIC is furthest below that of its best rival, at "
        "context:position.",
        columns=3,
        share_y=False,
    )


def _curves(
    store: Store, part: ModelTokens, tokens: pl.DataFrame, seed: int
) -> Iterator[tuple[dict[str, Any], tuple[Series, ...]]]:
    """Each of a part's tokens in its context, with its losses and its curve."""
    if tokens.is_empty():
        return
    schedule = part.schedule
    sites = part.sites.dataset.frame(["context", "position"])[part.sites.tokens].with_row_index("number")
    rows = tokens.join(sites, on=["context", "position"], maintain_order="left")["number"].to_numpy()
    # Nothing is drawn between the first two steps: where step 0 stands is no power of ten.
    places = np.append(schedule.places[0], np.linspace(schedule.places[1], schedule.places[-1], _POINTS))
    losses = part.some(rows.astype(np.int64)).losses(store)
    curves = part.shaper(store, seed).curves(losses, places)
    at = numbers(schedule.steps_at(places))
    for number, row in enumerate(with_context(store, tokens).iter_rows(named=True)):
        yield (
            row,
            (
                Series("loss", numbers(schedule.steps), numbers(losses[:, number])),
                Series("fitted curve", at, numbers(curves[:, number]), mode="lines"),
            ),
        )


def _shares(shares: pl.DataFrame, subject: str, models: Sequence[str]) -> Chart:
    """A panel for each group, a point for each shape and model, those of models beside each other."""

    def series(group: str) -> Iterator[Series]:
        for number, model in enumerate(models):
            row = shares.filter(group=group, model=model)
            if row.height:
                beside = (number - (len(models) - 1) / 2) * 0.5 / len(models)
                x = tuple(place + 1 + beside for place in range(len(SHAPES)))
                y = tuple(100 * float(row[shape][0]) for shape in SHAPES)
                yield Series(model, x, y, mode="markers", note=f"{row['tokens'][0]:,} tokens")

    return Chart(
        title=f"Share of each shape: {subject}",
        x_label="shape",
        y_label="share of tokens (%)",
        panels=panels(shares["group"], series),
        step_axis=False,
        keys=tuple(models),
        names=tuple(words(shape) for shape in SHAPES),
    )


def _midpoints(
    store: Store,
    name: str,
    question: ShapeOptions,
    shares: pl.DataFrame,
    subject: str,
    ends: Mapping[str, tuple[int, int]],
) -> Chart:
    """Count the tokens past the midpoint of their S by each step, from each model's first step to its last."""

    def series(group: str) -> Iterator[Series]:
        midpoints = store.sql(
            _MIDPOINTS, parameters={"finding": name, "group": group, "align": question.align}
        ).pl()
        for model, (first, last) in ends.items():
            of_group = shares.filter(group=group, model=model)
            steps = midpoints.filter(model=model)["midpoint"].to_numpy()
            if of_group.height:
                ranks = np.unique(np.linspace(min(1, len(steps)), len(steps), _QUANTILES).astype(int))
                ranks = ranks[ranks > 0]
                at = np.concatenate([[first], steps[ranks - 1], [last]])
                reached = 100 * np.concatenate([[0], ranks, [len(steps)]]) / of_group["tokens"][0]
                note = (
                    f"{len(steps):,} of {of_group['tokens'][0]:,} tokens are S-shaped, "
                    f"{of_group['undecided'][0]:.0%} are undecided"
                )
                yield Series(model, numbers(at), numbers(reached), mode="lines", note=note)

    return Chart(
        title=f"When S-shaped tokens change: {subject}",
        x_label="step",
        y_label="share of tokens (%)",
        panels=panels(shares["group"], series),
        note=f"Share of all tokens that are S-shaped ({' or '.join(S_SHAPED)}) and half-way by that step.",
        keys=tuple(ends),
    )
