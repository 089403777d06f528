"""PCA against scikit-learn, and against components that were planted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

import trajstore.analysis
from trajstore.analysis.pca import _BLOCK, pca
from trajstore.errors import TrajstoreError
from trajstore.store.matrix import LossMatrix
from trajstore.store.store import Store


def matrix(values: np.ndarray) -> LossMatrix:
    n, p = values.shape
    return LossMatrix(
        values.astype(np.float32),
        pl.DataFrame({"model": ["m"] * n, "step": list(range(n))}),
        pl.DataFrame(
            {
                "dataset": ["d"] * p,
                "context": [0] * p,
                "position": list(range(1, p + 1)),
                "token": [0] * p,
                "text": ["x"] * p,
            }
        ),
    )


def scores(result: trajstore.analysis.PCAResult) -> np.ndarray:
    return np.stack([part["score"].to_numpy() for part in result.scores.partition_by("component")], axis=1)


@pytest.mark.parametrize("shape", [(20, 300), (30, 12), (7, _BLOCK + 100)])
def test_the_same_numbers_as_scikit_learn(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(shape[0], 5)) * [9, 5, 3, 2, 1]) @ rng.normal(size=(5, shape[1])) + 4
    values += 0.1 * rng.normal(size=shape)
    data = matrix(values)
    ours = pca(data, 5)
    theirs = PCA(5, svd_solver="full").fit(data.values.astype(float))
    np.testing.assert_allclose(ours.variance["variance"], theirs.explained_variance_, rtol=1e-8)
    np.testing.assert_allclose(ours.variance["ratio"], theirs.explained_variance_ratio_, rtol=1e-8)
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-12)
    signs = np.sign((ours.loadings * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.loadings, theirs.components_ * signs[:, None], atol=1e-6)
    np.testing.assert_allclose(scores(ours), theirs.transform(data.values.astype(float)) * signs, atol=1e-5)


def test_signs_are_fixed() -> None:
    rng = np.random.default_rng(2)
    result = pca(matrix(rng.normal(size=(9, 40))), 4)
    assert all(row[np.abs(row).argmax()] > 0 for row in result.loadings)


def test_planted_axes_are_found(planted: Store) -> None:
    result = trajstore.analysis.pca(planted.matrix(["d", "e"]), 10)
    assert result.variance["ratio"][:2].sum() > 0.9999


def test_components_that_are_not_there_do_not_come_back() -> None:
    base = np.arange(12.0)
    values = np.stack([base + k * np.sin(base) for k in range(5)])
    result = pca(matrix(values), 4)
    assert result.variance["ratio"][0] == pytest.approx(1)
    assert result.variance.height < 4 or result.variance["ratio"][3] < 1e-10


def test_top_tokens_by_hand() -> None:
    """One axis: columns 1 and 3 go up with the step, column 0 goes down."""
    values = np.outer(np.arange(6), [-1, 2, 0, 1]).astype(float) + 5
    top = pca(matrix(values), 1).top_tokens(2)
    assert top.select("end", "rank", "position").rows() == [("high", 1, 2), ("high", 2, 4), ("low", 1, 1)]
    np.testing.assert_allclose(top["loading"], np.array([2, 1, -1]) / np.sqrt(6), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(8)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    values = np.random.default_rng(3).normal(size=(8, 30))
    one, other = pca(matrix(values), 3), pca(matrix(values[order]), 3)
    np.testing.assert_allclose(one.variance["variance"], other.variance["variance"], rtol=1e-9)
    np.testing.assert_allclose(scores(one)[order], scores(other), atol=1e-6)


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(TrajstoreError, match="compares checkpoints, and this matrix has 1"):
        pca(matrix(np.ones((1, 5))))
    with pytest.raises(TrajstoreError, match="Nothing varies"):
        pca(matrix(np.ones((4, 5))))
    with pytest.raises(TrajstoreError, match="1 checkpoints of this matrix have missing losses"):
        pca(matrix(np.array([[1, 2], [np.nan, 3], [0, 1]])))
    with pytest.raises(TrajstoreError, match="--components 0"):
        pca(matrix(np.eye(3)), 0)
