"""Shapes of tokens as charts: an example of each with its curve, shares by model, and when S-shaped tokens change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.shapes import S_SHAPED, SHAPES
from trajstore.errors import PlotError, listed
from trajstore.store.excerpts import with_context
from trajstore.store.text import shown
from trajstore.view.charts import Chart, Panel, Series
from trajstore.view.shapes import Asked, Part

if TYPE_CHECKING:
    from trajstore.store.store import Store

_POINTS = 400
"""Points of a drawn curve."""
_QUANTILES = 100
_CLEAREST = (
    "FROM shapes WHERE finding = $finding AND model = $model AND dataset = $dataset AND shape <> 'undecided'"
)
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


def shape_charts(
    store: Store, name: str, asked: Asked, parts: Sequence[Part], shares: pl.DataFrame
) -> list[Chart]:
    """Charts of a finding whose parts and `shares` these are; raises `PlotError` where there is no token."""
    if shares.is_empty():
        raise PlotError("There is nothing to draw: no token of the groups is in the finding.")
    through = ", ".join(asked.groups) or "all tokens"
    subject = f"{through} of {listed(asked.datasets, 4)}"
    models = list(dict.fromkeys(part.model for part in parts))
    if len(models) == 1:
        subject += f", {models[0]}"
    examples = _examples(store, name, parts[0], asked.seed)
    drawn = [examples] if examples.panels else []
    return [*drawn, _shares(shares, subject, models), _midpoints(store, name, asked, shares, subject, models)]


def _examples(store: Store, name: str, part: Part, seed: int) -> Chart:
    """The token whose shape is clearest, for each shape, with its losses and its curve."""
    where = {"finding": name, "model": part.model, "dataset": part.sites.dataset.name}
    tokens = store.sql(
        f"{_CLEAREST} QUALIFY row_number() OVER (PARTITION BY shape ORDER BY delta_bic DESC, context, position) = 1",
        parameters=where,
    ).pl()
    tokens = tokens.sort(pl.col("shape").replace_strict({each: n for n, each in enumerate(SHAPES)}))
    schedule, panels = part.schedule, []
    if tokens.height:
        sites = part.sites.dataset.frame(["context", "position"])[part.sites.tokens].with_row_index("number")
        numbers = tokens.join(sites, on=["context", "position"], maintain_order="left")["number"].to_numpy()
        # Nothing is drawn between the first two steps: where step 0 stands is no power of ten.
        places = np.append(schedule.places[0], np.linspace(schedule.places[1], schedule.places[-1], _POINTS))
        losses = part.some(numbers.astype(np.int64)).losses(store)
        curves = part.shaper(store, seed).curves(losses, places)
        at = _floats(schedule.steps_at(places))
        texts = with_context(store, tokens)["marked"].to_list()
        for number, (row, text) in enumerate(zip(tokens.iter_rows(named=True), texts, strict=True)):
            site = f"{row['context']}:{row['position']}"
            panels.append(
                Panel(
                    f"{words(row['shape'])}: [{shown(text)}] at {site}",
                    (
                        Series("loss", _floats(schedule.steps), _floats(losses[:, number])),
                        Series("fitted curve", at, _floats(curves[:, number]), mode="lines"),
                    ),
                )
            )
    return Chart(
        title=f"An example of each shape: {part.model} on {part.sites.dataset.name}",
        x_label="step",
        y_label="loss (nats)",
        panels=tuple(panels),
        note="For each shape the token that is clearest, whose BIC is furthest below that of its best rival, at "
        "context:position.",
        columns=3,
        share_y=False,
    )


def _shares(shares: pl.DataFrame, subject: str, models: Sequence[str]) -> Chart:
    """A panel for each group, a point for each shape and model, those of models beside each other."""
    groups = list(dict.fromkeys(shares["group"]))
    panels = []
    for group in groups:
        series = []
        for number, model in enumerate(models):
            row = shares.filter(group=group, model=model)
            if row.height:
                beside = (number - (len(models) - 1) / 2) * 0.5 / len(models)
                x = tuple(place + 1 + beside for place in range(len(SHAPES)))
                y = tuple(100 * float(row[shape][0]) for shape in SHAPES)
                series.append(Series(model, x, y, mode="markers", note=f"{row['tokens'][0]:,} tokens"))
        panels.append(Panel(group if len(groups) > 1 else "", tuple(series)))
    return Chart(
        title=f"Share of each shape: {subject}",
        x_label="shape",
        y_label="share of tokens (%)",
        panels=tuple(panels),
        step_axis=False,
        note=", ".join(f"{number}: {words(shape)}" for number, shape in enumerate(SHAPES, start=1)) + ".",
        keys=tuple(models),
    )


def _midpoints(
    store: Store, name: str, asked: Asked, shares: pl.DataFrame, subject: str, models: Sequence[str]
) -> Chart:
    """How many tokens have had the midpoint of their S by each step."""
    groups = list(dict.fromkeys(shares["group"]))
    panels = []
    for group in groups:
        found = store.sql(_MIDPOINTS, parameters={"finding": name, "group": group, "align": asked.align}).pl()
        series = []
        for model in models:
            of_group = shares.filter(group=group, model=model)
            steps = found.filter(model=model)["midpoint"].to_numpy()
            if len(steps):
                ranks = np.unique(np.linspace(1, len(steps), _QUANTILES).astype(int))
                reached = 100 * ranks / of_group["tokens"][0]
                note = f"{len(steps):,} of {of_group['tokens'][0]:,} tokens are S-shaped"
                series.append(
                    Series(model, _floats(steps[ranks - 1]), _floats(reached), mode="lines", note=note)
                )
        panels.append(Panel(group if len(groups) > 1 else "", tuple(series)))
    return Chart(
        title=f"When S-shaped tokens change: {subject}",
        x_label="step",
        y_label="tokens (%)",
        panels=tuple(panels),
        note=f"Share of all tokens that are S-shaped ({' or '.join(S_SHAPED)}) and half-way by that step.",
        keys=tuple(models),
    )


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.asarray(values, dtype=np.float64).tolist())
