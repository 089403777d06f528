"""One context's tokens with their losses at each step, packed small enough for a page.

A loss is kept to a thousandth of a nat in 16 bits: round(1000 · loss) + 1000, held below 65535, which stands
for no loss. So losses from −1 to 64.5 nats survive within 0.0005; none outside is expected.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.text import join_pieces
from trajstore.view.charts.chart import Chart, Panel, Series, step_axis

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trajstore.store.matrix.matrix import LossMatrix
    from trajstore.view.charts.chart import Mark, StepAxis

MISSING = 65535
"""Packed value of a loss that is not there."""
_SHIFT = 1000
_STRAY = "<0x"
_LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class ModelSteps:
    """The steps of one model that the slider has."""

    name: str
    color: str
    """#rrggbb, as in the charts."""
    steps: list[int]
    """Rising."""
    of: int
    """Steps that the model has; more than are here where only some are kept."""
    places: list[float]
    """Where they lie on the step axis."""


@dataclass(frozen=True)
class ContextTokens:
    """One context."""

    label: str
    """Its number and how it begins."""
    ids: list[int]
    """Vocabulary ids, position 0 included."""
    texts: list[str]
    """Texts of the tokens."""
    shown: dict[int, str]
    """By position, what to show instead of the text: a character that several tokens share, then nothing."""
    losses: list[str]
    """By model: base64 of little-endian uint16 (steps × (tokens − 1)), see the module."""


@dataclass(frozen=True)
class ContextChoice:
    """Contexts of a dataset that the page holds."""

    count: int
    """At least one."""
    worst: bool = False
    """True for the contexts of highest mean loss at the models' last steps, highest first; else the first ones."""


@dataclass(frozen=True)
class TokenView:
    """One dataset's tokens as the page shows them."""

    name: str
    """The dataset."""
    top: float
    """Loss (nats) at the upper end of the colour scale."""
    axis: dict[str, Any]
    """Plotly's layout for a token's loss by step."""
    models: list[ModelSteps]
    contexts: list[ContextTokens]


def model_steps(
    checkpoints: Sequence[tuple[str, int]], colors: dict[str, str], limit: int, marks: Sequence[Mark] = ()
) -> list[ModelSteps]:
    """Of each model among `checkpoints` (model, step) at most `limit` steps, evenly spread over the axis."""
    axis = step_axis([step for _, step in checkpoints], [mark.step for mark in marks])
    models = []
    for model in dict.fromkeys(model for model, _ in checkpoints):
        steps = [step for name, step in checkpoints if name == model]
        kept = [steps[number] for number in spread(steps, limit, axis)]
        places = [axis.position(step) for step in kept]
        models.append(ModelSteps(model, colors[model], kept, len(steps), places))
    return models


def token_view(
    matrix: LossMatrix,
    tokens: pl.DataFrame,
    models: list[ModelSteps],
    numbers: Sequence[int],
    marks: Sequence[Mark] = (),
) -> TokenView:
    """Contexts of one dataset by their numbers; `tokens` are all of the dataset's (`Dataset.frame()`).

    The matrix has the losses of these contexts, its rows the steps of `models`, one model after another.
    """
    ends = np.cumsum([len(model.steps) for model in models])
    rows = [slice(end - len(model.steps), end) for model, end in zip(models, ends, strict=True)]
    contexts = []
    for number in numbers:
        columns = _columns(matrix, number)
        losses = [matrix.values[at, columns] for at in rows]
        contexts.append(_context(number, tokens.filter(context=number), losses))
    values = matrix.values
    top = math.ceil(np.nanpercentile(values, 99)) if np.isfinite(values).any() else 1
    name = str(matrix.columns["dataset"][0])
    return TokenView(name, float(max(top, 1)), _axis_layout(models, marks), models, contexts)


def _columns(matrix: LossMatrix, context: int) -> np.ndarray:
    return np.flatnonzero((matrix.columns["context"] == context).to_numpy())


def _context(number: int, part: pl.DataFrame, losses: Iterable[np.ndarray]) -> ContextTokens:
    texts = part["text"].to_list()
    start = " ".join(join_pieces(texts[:24]).split())
    label = f"{number}: {start[:40]}{'…' if len(start) > 40 else ''}"
    return ContextTokens(
        label, part["token"].to_list(), texts, joined(texts), [pack(of_model) for of_model in losses]
    )


def spread(steps: Sequence[int], limit: int, axis: StepAxis) -> list[int]:
    """Indices of at most `limit` of the rising steps, the first and last among them, even on the axis."""
    if len(steps) <= limit:
        return list(range(len(steps)))
    places = np.array([axis.position(step) for step in steps])
    wanted = np.linspace(places[0], places[-1], max(limit, 2))
    return sorted({int(np.abs(places - place).argmin()) for place in wanted})


def pack(losses: np.ndarray) -> str:
    """Losses (steps, tokens) in nats as base64 of uint16, see the module."""
    scaled = np.clip(np.rint(losses.astype(np.float64) * 1000) + _SHIFT, 0, MISSING - 1)
    return base64.b64encode(np.where(np.isfinite(losses), scaled, MISSING).astype("<u2").tobytes()).decode()


def joined(texts: Sequence[str]) -> dict[int, str]:
    """Return the text to show where neighbouring tokens share a character's bytes: all of it for the first, nothing for
    the rest.

    The shortest run of tokens, at most four, whose stray bytes all come together counts as sharing.
    """
    shown: dict[int, str] = {}
    first = 0
    while first < len(texts):
        length = _shared(texts[first : first + _LONGEST_CHARACTER])
        if length > 1:
            shown[first] = join_pieces(texts[first : first + length])
            shown.update(dict.fromkeys(range(first + 1, first + length), ""))
        first += length
    return shown


def _shared(texts: Sequence[str]) -> int:
    """Return the number of these tokens, from the first, that make whole characters only together; 1 if none do."""
    for length in range(2, len(texts) + 1):
        if not all(_STRAY in text for text in texts[:length]):
            break
        if _STRAY not in join_pieces(texts[:length]):
            return length
    return 1


def _axis_layout(models: Sequence[ModelSteps], marks: Sequence[Mark]) -> dict[str, Any]:
    """Plotly's layout with the step axis and marks; the curves are the page's."""
    from trajstore.view.charts.plotly import figure

    empty = tuple(
        Series(name=model.name, x=tuple(map(float, model.steps)), y=(math.nan,) * len(model.steps))
        for model in models
    )
    chart = Chart("Loss by step", "step", "loss (nats)", (Panel("", empty),), marks=tuple(marks))
    layout: dict[str, Any] = json.loads(figure(chart).to_json())["layout"]
    layout["yaxis"]["rangemode"] = "tozero"
    return {"shapes": [], **layout}
