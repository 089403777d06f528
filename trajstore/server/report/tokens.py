"""Tokens of the contexts that a report holds, and their losses at some steps, 16 bits each.

A context's losses lie on a line: code 0 is its least loss, code 65534 its greatest, and 65535 stands for no loss. So
the error is at most a 131,068th of the distance of the two, which is also what is measured and told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajstore.text import join_pieces
from trajstore.view.charts.chart import step_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.store.matrix.matrix import LossMatrix
    from trajstore.view.charts.chart import Mark, StepAxis

MISSING = 65535
"""Code of a loss that is not there."""
_STRAY = "<0x"
_LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class ContextChoice:
    """Contexts of a dataset that the page holds."""

    count: int
    """At least one."""
    worst: bool = False
    """True for the contexts of highest mean loss at the models' last steps, highest first; else the first ones."""


@dataclass(frozen=True)
class ModelSteps:
    """The steps of one model that the slider has."""

    name: str
    steps: list[int]
    """Rising."""
    of: int
    """Steps that the model has; more than are here where only some are kept."""


@dataclass(frozen=True)
class PackedLosses:
    """The losses of one context."""

    codes: bytes
    """Little-endian uint16 (rows × tokens but the first)."""
    low: float
    """Loss (nats) of code 0."""
    unit: float
    """Nats from one code to the next."""
    error: float
    """Largest distance of a loss from what its code stands for, in nats."""


def model_steps(
    checkpoints: Sequence[tuple[str, int]], limit: int, marks: Sequence[Mark] = ()
) -> list[ModelSteps]:
    """Of each model among `checkpoints` (model, step) at most `limit` steps, evenly spread over the axis."""
    axis = step_axis([step for _, step in checkpoints], [mark.step for mark in marks])
    models = []
    for model in dict.fromkeys(model for model, _ in checkpoints):
        steps = [step for name, step in checkpoints if name == model]
        kept = [steps[number] for number in spread(steps, limit, axis)]
        models.append(ModelSteps(model, kept, len(steps)))
    return models


def losses_of(matrix: LossMatrix, context: int) -> np.ndarray:
    """The losses of one context of a matrix, float32 (rows, tokens but the first)."""
    values: np.ndarray = matrix.values[:, np.flatnonzero((matrix.columns["context"] == context).to_numpy())]
    return values


def pack(losses: np.ndarray) -> PackedLosses:
    """The losses of one context, float32 (rows, tokens), nats, NaN where there is none, as codes; see the module."""
    values = losses.astype(np.float64)
    known = np.isfinite(values)
    if not known.any():
        return PackedLosses(np.full(values.shape, MISSING, "<u2").tobytes(), 0.0, 0.0, 0.0)
    low, high = float(values[known].min()), float(values[known].max())
    unit = (high - low) / (MISSING - 1)
    codes = np.zeros(values.shape) if unit == 0 else np.rint((values - low) / unit)
    error = np.abs(low + codes * unit - values)[known].max()
    return PackedLosses(np.where(known, codes, MISSING).astype("<u2").tobytes(), low, unit, float(error))


def spread(steps: Sequence[int], limit: int, axis: StepAxis) -> list[int]:
    """Indices of at most `limit` of the rising steps, the first and last among them, even on the axis."""
    if len(steps) <= limit:
        return list(range(len(steps)))
    places = np.array([axis.position(step) for step in steps])
    wanted = np.linspace(places[0], places[-1], max(limit, 2))
    return sorted({int(np.abs(places - place).argmin()) for place in wanted})


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
