"""Centred matrices and their projection, against numpy's singular value decomposition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from trajstore.analysis.components import projection
from trajstore.analysis.components.gram import ArrayBlocks
from trajstore.analysis.components.projection import project
from trajstore.errors import TrajstoreError


@dataclass(frozen=True)
class Streamed:
    """An array in blocks whose memory is used again, as those of a store."""

    values: np.ndarray
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.values.shape
        return rows, columns

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        memory = np.empty((len(self.values), self.width), dtype=self.values.dtype)
        for first in range(0, self.values.shape[1], self.width):
            part = self.values[:, first : first + self.width]
            memory[:, : part.shape[1]] = part
            yield first, memory[:, : part.shape[1]]


def losses(rows: int = 40, columns: int = 230) -> np.ndarray:
    rng = np.random.default_rng(1)
    smooth = np.cumsum(rng.normal(size=(rows, 6)), axis=0) @ rng.normal(size=(6, columns))
    return (5 + smooth + 0.1 * rng.normal(size=(rows, columns))).astype(np.float32)


@pytest.mark.parametrize("width", [1, 30, 77, 230])
def test_the_same_as_a_singular_value_decomposition(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "_WIDTH", 50)
    values = losses()
    centred = values.astype(float) - values.astype(float).mean(axis=0)
    found = project(Streamed(values, width), 4)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    assert found.total == pytest.approx((centred**2).sum(), rel=1e-12)
    np.testing.assert_allclose(found.whole.mean, values.astype(float).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(found.reduced, found.basis.T @ centred, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(found.reduced, axis=1), sizes[:4], rtol=1e-5)
    np.testing.assert_allclose(np.abs((found.basis * left[:, :4]).sum(axis=0)), 1, atol=1e-5)
    assert not found.complete
    np.testing.assert_array_equal(np.concatenate([block for _, block in found.whole], axis=1), centred)


def test_with_as_many_directions_as_rows_nothing_is_lost() -> None:
    values = losses(rows=5)
    found = project(ArrayBlocks(values), 64)
    assert found.complete
    assert (found.reduced**2).sum() == pytest.approx(found.total, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.ones((1, 5)), "compares checkpoints, and this matrix has 1"),
        (np.array([[1, 2], [np.nan, 3], [0, 1]]), "missing losses"),
        (np.array([[1, 2], [np.inf, 3], [0, 1]]), "missing losses"),
        (np.full((4, 5), 0.1), "Nothing varies"),
        (np.tile(np.random.default_rng(0).gamma(2, 2, 3000), (7, 1)), "Nothing varies"),
    ],
)
def test_what_cannot_be_projected(values: np.ndarray, said: str) -> None:
    with pytest.raises(TrajstoreError, match=said):
        project(ArrayBlocks(values), 3)
