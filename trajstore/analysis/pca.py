"""Principal components of a loss matrix, exact, through the small Gram matrix of its rows.

Rows are checkpoints (few), columns tokens (many). Columns are centred over all rows, not scaled. Works on a
`LossMatrix`; opens no store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.errors import TrajstoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajstore.store.matrix import LossMatrix

_BLOCK = 1 << 15
"""Columns taken at a time: what is held beside the matrix is rows × this, float64."""


@dataclass(frozen=True)
class PCAResult:
    """A fit."""

    scores: pl.DataFrame
    """The labels of the matrix's rows (model, step), component (from 1), score (nats, along a direction of length 1):
    where each checkpoint lies."""
    variance: pl.DataFrame
    """component, variance (nats²), ratio (share of the whole variance)."""
    loadings: np.ndarray
    """float64 (components, columns), rows of length 1; the largest entry of each is positive."""
    mean: np.ndarray
    """float64 (columns,), nats."""
    columns: pl.DataFrame
    """Labels of the columns, as the matrix had them."""

    def top_tokens(self, n: int = 5) -> pl.DataFrame:
        """The n tokens with the highest positive and lowest negative loading on each component.

        Columns: component, end ("high" or "low"), rank (from 1), loading, then the labels of the column.
        """
        parts: list[pl.DataFrame] = []
        for number, loadings in enumerate(self.loadings, start=1):
            order = np.argsort(loadings, kind="stable")
            low = order[:n][loadings[order[:n]] < 0]
            high = order[::-1][:n][loadings[order[::-1][:n]] > 0]
            for end, chosen in (("high", high), ("low", low)):
                parts.append(
                    self.columns[chosen].select(
                        pl.lit(number, pl.Int64).alias("component"),
                        pl.lit(end).alias("end"),
                        pl.int_range(1, len(chosen) + 1, dtype=pl.Int64).alias("rank"),
                        pl.Series("loading", loadings[chosen]),
                        pl.all(),
                    )
                )
        return pl.concat(parts)


def pca(matrix: LossMatrix, components: int = 10) -> PCAResult:
    """Principal components of the matrix's rows; the same as scikit-learn's `PCA(svd_solver="full")` up to sign.

    With X centred by column, G = X Xᵀ = U Λ Uᵀ gives scores U √Λ, variances Λ / (rows − 1), and loadings
    Λ^(−1/2) Uᵀ X. G is summed over blocks of columns in float64. Fewer components come back than asked where the
    matrix has no more (at most rows − 1, and none without variance).
    Raises `TrajstoreError` for fewer than two rows, for NaN, and where nothing varies.
    """
    _check(matrix, components)
    gram = np.zeros((len(matrix.values),) * 2)
    for block, _ in _centred(matrix.values):
        gram += block @ block.T
    eigenvalues, vectors = np.linalg.eigh(gram)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    # Below this share of the largest, an eigenvalue is rounding.
    real = (
        int((eigenvalues > eigenvalues[0] * len(gram) * np.finfo(float).eps).sum())
        if eigenvalues[0] > 0
        else 0
    )
    k = min(components, real, matrix.values.shape[1])
    if k == 0:
        raise TrajstoreError("Nothing varies between these checkpoints, so there are no components.")
    root = np.sqrt(eigenvalues[:k])
    loadings = np.empty((k, matrix.values.shape[1]))
    mean = np.empty(matrix.values.shape[1])
    for block, at in _centred(matrix.values, mean):
        loadings[:, at] = (vectors[:, :k] / root).T @ block
    sign = np.sign(loadings[np.arange(k), np.abs(loadings).argmax(axis=1)])
    loadings *= sign[:, None]
    return PCAResult(
        _scores(matrix.rows, vectors[:, :k] * root * sign),
        pl.DataFrame(
            {
                "component": np.arange(1, k + 1),
                "variance": eigenvalues[:k] / (len(gram) - 1),
                "ratio": eigenvalues[:k] / np.trace(gram),
            }
        ),
        loadings,
        mean,
        matrix.columns,
    )


def _check(matrix: LossMatrix, components: int) -> None:
    if components < 1:
        raise TrajstoreError(f"--components {components}: one at least.")
    if len(matrix.values) < 2:
        raise TrajstoreError(
            f"PCA compares checkpoints, and this matrix has {len(matrix.values)}. Choose more --steps or models."
        )
    if np.isnan(matrix.values).any():
        holes = int(np.isnan(matrix.values).any(axis=1).sum())
        raise TrajstoreError(
            f"{holes} checkpoints of this matrix have missing losses; PCA needs them all. Score them first."
        )


def _centred(values: np.ndarray, mean: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, slice]]:
    """Blocks of columns in float64, centred, with their place; fills `mean` if given."""
    for first in range(0, values.shape[1], _BLOCK):
        at = slice(first, first + _BLOCK)
        block = values[:, at].astype(np.float64)
        centre = block.mean(axis=0)
        block -= centre
        if mean is not None:
            mean[at] = centre
        yield block, at


def _scores(rows: pl.DataFrame, scores: np.ndarray) -> pl.DataFrame:
    """Scores (rows, components) in long format, component by component."""
    return pl.concat(
        [
            rows.select(pl.all(), pl.lit(number, pl.Int64).alias("component"), pl.Series("score", column))
            for number, column in enumerate(scores.T, start=1)
        ]
    )
