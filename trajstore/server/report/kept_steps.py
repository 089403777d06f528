"""Steps of a model at which a report of one file holds the losses of tokens, where it cannot hold all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajstore.view.charts.chart import step_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.view.charts.chart import Mark, StepAxis


@dataclass(frozen=True)
class ModelSteps:
    """The steps of one model that the slider has."""

    name: str
    steps: list[int]
    """Rising."""
    of: int
    """Steps that the model has; more than are here where only some are kept."""


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


def spread(steps: Sequence[int], limit: int, axis: StepAxis) -> list[int]:
    """Indices of at most `limit` of the rising steps, the first and last among them, even on the axis."""
    if len(steps) <= limit:
        return list(range(len(steps)))
    places = np.array([axis.position(step) for step in steps])
    wanted = np.linspace(places[0], places[-1], max(limit, 2))
    return sorted({int(np.abs(places - place).argmin()) for place in wanted})
