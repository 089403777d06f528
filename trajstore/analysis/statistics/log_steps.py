"""Steps as places on a log axis, and what each of them weighs: what fits of curves over log step share.

A step s > 0 lies at log₂ s, in doublings. Step 0 lies as far left of the first positive step as the second lies right
of it (Pythia: at −1, where step ½ would be), and what is between 0 and the first positive step in proportion. Knows no
losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trajstore.arguments.spelling import option
from trajstore.errors import TrajstoreError

LEAST_STEPS = 10
"""Fewer checkpoints tell no shape."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a model's checkpoints, ascending."""

    steps: np.ndarray
    """int64 (steps,)."""
    places: np.ndarray
    """Doublings, float64 (steps,)."""
    weights: np.ndarray
    """Weight of a step: the doublings that it stands for, half of those to each neighbour, scaled so that they sum up
    to `effective`; float64 (steps,)."""

    @classmethod
    def of(cls, steps: Sequence[int] | np.ndarray) -> Schedule:
        """The schedule of these steps; raises `TrajstoreError` for fewer than `LEAST_STEPS`, or not ascending."""
        numbers = np.asarray(steps, dtype=np.int64)
        if len(numbers) < LEAST_STEPS:
            raise TrajstoreError(
                f"{len(numbers)} checkpoints are too few to tell a shape: it takes {LEAST_STEPS}. Choose more with "
                f"{option('steps')}, or score them: trajstore score"
            )
        if numbers[0] < 0 or (np.diff(numbers) <= 0).any():
            raise ValueError("steps must ascend from 0 or above")
        places = _places(numbers)
        gaps = np.diff(places)
        cells = (np.append(gaps, 0) + np.append(0, gaps)) / 2
        effective = cells.sum() ** 2 / (cells**2).sum()
        return cls(numbers, places, cells * effective / cells.sum())

    @property
    def effective(self) -> float:
        """The effective number of checkpoints: (Σ weights)² / Σ weights², Kish's number."""
        return float(self.weights.sum())

    @property
    def span(self) -> float:
        """From the first place to the last, doublings."""
        return float(self.places[-1] - self.places[0])

    def steps_at(self, places: np.ndarray) -> np.ndarray:
        """The steps, broken numbers too, that lie at these places; float64."""
        exact: np.ndarray = np.exp2(places)
        if self.steps[0] != 0:
            return exact
        zero, first = self.places[0], self.places[1]
        return np.where(places < first, self.steps[1] * (places - zero) / (first - zero), exact)


def _places(steps: np.ndarray) -> np.ndarray:
    positive = np.log2(steps[steps > 0])
    zero = [2 * positive[0] - positive[1]] if steps[0] == 0 else []
    return np.concatenate([zero, positive])
