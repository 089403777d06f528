"""A centred matrix and its projection on the leading principal directions of its rows.

Rows are checkpoints, columns tokens, values losses in nats. Where rows are alike, as those of a trajectory are, a few
dozen directions hold all but noise, and the projection (directions, columns) fits in memory where the matrix does
not. Reads the matrix twice, by blocks of columns; opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trajstore.analysis.components.gram import Blocks, check_shape
from trajstore.errors import TrajstoreError

_WIDTH = 1 << 12
"""Columns in float64 at a time."""


@dataclass(frozen=True)
class Centred:
    """A matrix less the mean of each column, in blocks of a few columns."""

    blocks: Blocks
    mean: np.ndarray
    """float64 (columns,)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.blocks.shape

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of its first column, block), float64."""
        for first, piece in pieces(self.blocks):
            yield first, piece - self.mean[first : first + piece.shape[1]]


@dataclass(frozen=True)
class Projection:
    """A matrix X, less the mean of each column, and what its leading directions say of it."""

    whole: Centred
    """X."""
    total: float
    """‖X‖², nats²."""
    longest: float
    """The length of the longest column of X, nats."""
    basis: np.ndarray
    """float64 (rows, directions), orthonormal, the direction of most variance first."""
    reduced: np.ndarray
    """basisᵀ X, float64 (directions, columns)."""

    @property
    def complete(self) -> bool:
        """Return whether nothing is lost in the projection."""
        return len(self.basis) == len(self.reduced)


def pieces(blocks: Blocks) -> Iterator[tuple[int, np.ndarray]]:
    """The columns of a matrix in order, a few at a time."""
    for start, block in blocks:
        for first in range(0, block.shape[1], _WIDTH):
            yield start + first, block[:, first : first + _WIDTH]


def project(blocks: Blocks, directions: int) -> Projection:
    """Centre a matrix by column and project it on at most so many directions.

    Raises `TrajstoreError` for fewer than two rows, for NaN or infinity, and where nothing varies.
    """
    check_shape(blocks, directions)
    mean, gram, total, longest = _moments(blocks)
    whole = Centred(blocks, mean)
    basis = _basis(gram, min(blocks.shape[0], directions))
    reduced = np.empty((basis.shape[1], blocks.shape[1]))
    for first, block in whole:
        reduced[:, first : first + block.shape[1]] = basis.T @ block
    return Projection(whole, total, longest, basis, reduced)


def _moments(blocks: Blocks) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Means (columns,), X Xᵀ (rows, rows), ‖X‖² and the length of the longest column of the centred X.

    X Xᵀ only says which basis is a good one, so single precision will do for its blocks.
    """
    rows, columns = blocks.shape
    mean, gram = np.empty(columns), np.zeros((rows, rows))
    total = largest = longest = 0.0
    for first, piece in pieces(blocks):
        values = piece.astype(np.float64)
        # A sum is finite where all its terms are, and takes no memory.
        if not np.isfinite(values.sum()):
            raise TrajstoreError(
                "This matrix has missing losses; sparse PCA needs them all. Score them first."
            )
        largest = max(largest, float(np.abs(values).max()))
        centre = values.mean(axis=0)
        values -= centre
        mean[first : first + len(centre)] = centre
        squares = np.einsum("ij,ij->j", values, values)
        total += float(squares.sum())
        longest = max(longest, float(squares.max()))
        single = values.astype(np.float32)
        gram += single @ single.T
    # What is left below this of equal values is the rounding of their mean.
    if total <= rows * columns * (4 * np.finfo(float).eps * largest) ** 2:
        raise TrajstoreError("Nothing varies between these checkpoints, so there are no components.")
    return mean, gram, total, float(np.sqrt(longest))


def _basis(gram: np.ndarray, directions: int) -> np.ndarray:
    """The leading eigenvectors, float64 (rows, directions)."""
    from scipy.linalg import eigh

    rows = len(gram)
    _, vectors = eigh(gram, subset_by_index=[rows - directions, rows - 1], check_finite=False)
    return np.ascontiguousarray(vectors[:, ::-1])
