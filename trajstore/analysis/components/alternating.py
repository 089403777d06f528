"""Alternating minimisation of ½‖X − UV‖² + α‖V‖₁ over V and over U, whose columns have length ≤ 1.

X (rows, columns) is centred and comes in blocks of columns, each of which is read once an iteration; the columns of U
(rows, k) are directions among the rows, V (k, columns) the loadings. An iteration solves V exactly (`lasso`), then
takes the directions in turn, each to its minimum. Neither step raises the objective, whose square is taken from k × k
products in float64. X and V are in nats. Opens nothing and reads no labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trajstore.analysis.components.gram import Blocks
from trajstore.analysis.components.lasso import lasso

_PATIENCE = 10
"""Iterations without progress after which components that keep dying are let go."""

_MARGIN = 1e-6
"""A column that one component serves is left with α but for rounding: this much more is something to draw from."""


@dataclass(frozen=True)
class Descent:
    """The end of a descent."""

    directions: np.ndarray
    """U, float64 (rows, k), columns of length ≤ 1."""
    loadings: np.ndarray
    """V, float64 (k, columns), the exact minimum for U."""
    products: np.ndarray
    """X Vᵀ, float64 (rows, k)."""
    objective: tuple[float, ...]
    """After each iteration, with V the minimum for that iteration's U; never rises."""
    converged: bool
    """True if it ended because the objective fell no more."""


def descend(
    data: Blocks,
    total: float,
    alpha: float,
    directions: np.ndarray,
    loadings: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    rng: np.random.Generator,
    watch: Callable[[float], None],
) -> Descent:
    """Go down from `directions` until an iteration lowers the objective by less than `tol` of it.

    `total` is ‖X‖², of which `data` may be a part: a projection. `loadings` are where the first lasso starts, and say
    nothing else; directions may be longer than 1 at the start. A component that no column uses is drawn anew from what
    the others leave of a column, and the descent goes on. `watch` is told each objective.
    """
    directions, loadings = directions.copy(), loadings.copy()
    objective: list[float] = []
    quiet, drawn = 0, False
    for iteration in range(max_iter + 1):
        gram, products = _best_loadings(data, directions, alpha, loadings)
        if iteration:
            inner = (directions * products).sum()
            square = total - 2 * inner + (gram * (directions.T @ directions)).sum()
            objective.append(float(square / 2 + alpha * np.abs(loadings).sum()))
            watch(objective[-1])
        if len(objective) > 1:
            quiet = quiet + 1 if objective[-2] - objective[-1] < tol * objective[-1] else 0
            if quiet and not (drawn and quiet < _PATIENCE):
                return Descent(directions, loadings, products, tuple(objective), True)
        if iteration < max_iter:
            _better_directions(directions, gram, products)
            drawn = _revive(data, directions, loadings, alpha, rng)
    return Descent(directions, loadings, products, tuple(objective), False)


def _best_loadings(
    data: Blocks, directions: np.ndarray, alpha: float, loadings: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Set the loadings to the minimum for these directions; returns V Vᵀ (k, k) and X Vᵀ (rows, k)."""
    gram = directions.T @ directions
    products = np.zeros_like(directions)
    for first, block in data:
        at = slice(first, first + block.shape[1])
        loadings[:, at] = lasso(gram, directions.T @ block, alpha, loadings[:, at])
        products += block @ loadings[:, at].T
    return loadings @ loadings.T, products


def _better_directions(directions: np.ndarray, gram: np.ndarray, products: np.ndarray) -> None:
    """Take the directions in use to their minimum among those of length ≤ 1, one after another, in place."""
    for k in np.flatnonzero(gram.diagonal()):
        directions[:, k] += (products[:, k] - directions @ gram[k]) / gram[k, k]
        directions[:, k] /= max(1.0, float(np.linalg.norm(directions[:, k])))


def _revive(
    data: Blocks, directions: np.ndarray, loadings: np.ndarray, alpha: float, rng: np.random.Generator
) -> bool:
    """Draw one direction that no column uses anew; whether there is one, and a column to draw it from.

    With r what is left of a column, the direction r / ‖r‖ lowers the objective by (‖r‖ − α)² / 2 in that column alone:
    that is the column's weight in the draw, and one with ‖r‖ ≤ α is never drawn. The others wait for the next
    iteration, when this one has taken what it can.
    """
    unused = np.flatnonzero(~loadings.any(axis=1))
    if not len(unused):
        return False
    directions[:, unused] = 0
    so_far = 0.0
    for first, block in data:
        rest = block - directions @ loadings[:, first : first + block.shape[1]]
        lengths = np.linalg.norm(rest, axis=0)
        weights = np.where(lengths > (1 + _MARGIN) * alpha, lengths - alpha, 0) ** 2
        weight = float(weights.sum())
        so_far += weight
        # A block that takes the place of those before it by its share of the weight so far ends with its share of all.
        if weight and rng.random() < weight / so_far:
            column = rng.choice(len(weights), p=weights / weight)
            directions[:, unused[0]] = rest[:, column] / lengths[column]
    return so_far > 0
