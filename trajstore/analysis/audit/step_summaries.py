"""Summaries of a run's losses over its steps, by which it can be judged without the losses themselves.

Distances are root mean squares over tokens of the difference of two steps' losses, nats. Beside them stand the figures
by which a step is seen to hold something else than losses in nats in the dataset's order: its distance from its
neighbours if it were bits or perplexities, and if tokens did not count. Arrays in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trajstore.analysis.arrays import Floats
from trajstore.analysis.audit.misplaced import distances

SKETCH = 512
"""Sites of the losses that are kept to compare runs with each other."""
_AROUND = 2
"""Steps on either side that count as neighbours."""


@dataclass(frozen=True)
class RunSummary:
    """A run's steps on one dataset and how their losses lie to each other."""

    steps: tuple[int, ...]
    """Ascending."""
    apart: np.ndarray
    """Distances, float64 (steps, steps)."""
    means: np.ndarray
    """Mean losses, float64 (steps,)."""
    products: np.ndarray
    """Mean products of two steps' losses, float64 (steps, steps): scaled losses are compared by them."""
    logarithm: np.ndarray
    """Distance of the logarithms of a step's losses from the nearest of its neighbours, (steps,)."""
    ordered: np.ndarray
    """Distance of a step's losses from the nearest of its neighbours, both sorted by size, (steps,)."""
    sketch: np.ndarray
    """Losses at some sites, float32 (steps, `SKETCH` at most)."""

    def scaled(self, factor: float) -> Floats:
        """Distances of the losses of the first step times a factor from those of the second, (steps, steps)."""
        squares = np.diag(self.products)
        squared = factor**2 * squares[:, None] - 2 * factor * self.products + squares[None, :]
        return np.sqrt(np.maximum(squared, 0))

    def alike(self) -> Floats:
        """Correlations over tokens of the losses of two steps, (steps, steps); 0 where they are constant."""
        centred = self.products - np.outer(self.means, self.means)
        spread = np.sqrt(np.maximum(np.diag(centred), 0))
        scale = np.outer(spread, spread)
        correlations: Floats = np.divide(centred, scale, out=np.zeros_like(scale), where=scale > 1e-12)
        return correlations


def summarise(steps: tuple[int, ...], values: np.ndarray) -> RunSummary:
    """The summary of losses float32 (steps, sites); what is not finite is refused by whoever reads them."""
    exact = values.astype(np.float64)
    sites = max(values.shape[1], 1)
    sketch = np.linspace(0, values.shape[1] - 1, min(SKETCH, values.shape[1])).astype(np.int64)
    return RunSummary(
        steps,
        distances(values),
        exact.mean(axis=1) if len(values) else np.zeros(0),
        exact @ exact.T / sites,
        _nearest(np.log(np.maximum(exact, 1e-3)), exact),
        _nearest(ordered := np.sort(exact, axis=1), ordered),
        values[:, sketch].copy(),
    )


def _nearest(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each row of `own` from the nearest neighbour in `others`; infinite for a run of one step."""
    n = len(own)
    nearest = np.full(n, np.inf)
    for row in range(n):
        for near in range(max(0, row - _AROUND), min(n, row + _AROUND + 1)):
            if near != row:
                nearest[row] = min(nearest[row], float(np.sqrt(np.mean((own[row] - others[near]) ** 2))))
    return nearest
