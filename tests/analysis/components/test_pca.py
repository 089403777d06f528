"""PCA against scikit-learn, and against components that were planted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import trajstore.analysis
from trajstore.analysis.components.gram import _WIDTH
from trajstore.analysis.components.pca import PCA as PCAClass
from trajstore.analysis.components.pca import pca
from trajstore.errors import TrajstoreError
from trajstore.store.matrix.matrix import LossMatrix
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


@pytest.mark.parametrize("shape", [(20, 300), (30, 12), (7, _WIDTH + 100)])
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
    with pytest.raises(TrajstoreError, match="1 of 3 checkpoints have none in its column 0"):
        pca(matrix(np.array([[1, 2], [np.nan, 3], [0, 1]])))
    with pytest.raises(TrajstoreError, match="components=0"):
        pca(matrix(np.eye(3)), 0)


def random_losses(rows: int = 12, columns: int = 90) -> np.ndarray:
    """Low rank with noise, nats, float32."""
    rng = np.random.default_rng(8)
    values = (rng.normal(size=(rows, 4)) * [8, 3, 1, 0.1]) @ rng.normal(size=(4, columns)) + 9
    return (values + 0.01 * rng.normal(size=values.shape)).astype(np.float32)


def labelled(values: np.ndarray, models: list[str]) -> LossMatrix:
    plain = matrix(values)
    return LossMatrix(plain.values, plain.rows.with_columns(pl.Series("model", models)), plain.columns)


def test_small_components_beside_large_ones_are_exact() -> None:
    """Variances over eight orders of magnitude, far from zero: relative errors stay below 1e-5."""
    rng = np.random.default_rng(9)
    scores, _ = np.linalg.qr(rng.normal(size=(40, 6)))
    directions, _ = np.linalg.qr(rng.normal(size=(3000, 6)))
    values = scores * np.array([1e4, 1e3, 1e2, 10, 1, 0.3]) * 3 @ directions.T + 500
    ours, theirs = PCAClass(6).fit(values), PCA(6, svd_solver="full").fit(values)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(np.abs((ours.components_ * theirs.components_).sum(axis=1)), 1, rtol=1e-6)


def test_the_class_is_scikit_learns() -> None:
    values = random_losses()
    ours, theirs = PCAClass(3).fit(values), PCA(3, svd_solver="full").fit(values.astype(float))
    turn = np.sign((ours.components_ * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(ours.components_, theirs.components_ * turn[:, None], atol=1e-9)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-9)
    assert ours.n_components_ == theirs.n_components_ == 3
    others = random_losses(5) + 1
    np.testing.assert_allclose(
        ours.transform(others), theirs.transform(others.astype(float)) * turn, atol=1e-8
    )
    back = ours.inverse_transform(ours.transform(others))
    np.testing.assert_allclose(
        back, theirs.inverse_transform(theirs.transform(others.astype(float))), atol=1e-8
    )
    np.testing.assert_allclose(ours.fit_transform(matrix(values)), ours.transform(values), atol=1e-12)


def test_scaled_it_is_scikit_learns_of_standard_scores() -> None:
    values = random_losses()
    values[:, 7] = 2.5  # does not vary
    scaler = StandardScaler().fit(values.astype(float))
    standard = scaler.transform(values.astype(float))
    ours, theirs = PCAClass(3, scale=True).fit(values), PCA(3, svd_solver="full").fit(standard)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-8)
    scores = ours.transform(values)
    np.testing.assert_allclose(np.abs(scores), np.abs(theirs.transform(standard)), atol=1e-7)
    lowered = scaler.inverse_transform(theirs.inverse_transform(theirs.transform(standard)))
    np.testing.assert_allclose(ours.inverse_transform(scores), lowered, atol=1e-7)


def test_centred_by_model_it_is_scikit_learns_of_each_models_deviations() -> None:
    values, models = random_losses(), ["a"] * 5 + ["b"] * 7
    data = labelled(values, models)
    deviations = values.astype(float)
    for own in (slice(0, 5), slice(5, 12)):
        deviations[own] -= deviations[own].mean(axis=0)
    ours, theirs = PCAClass(3, center="model").fit(data), PCA(3, svd_solver="full").fit(deviations)
    np.testing.assert_allclose(ours.explained_variance_, theirs.explained_variance_ * 11 / 10, rtol=1e-9)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(np.abs(ours.transform(data)), np.abs(theirs.transform(deviations)), atol=1e-8)
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(data), data) - values,
        theirs.inverse_transform(theirs.transform(deviations)) - deviations,
        atol=1e-8,
    )
    np.testing.assert_allclose(scores(pca(data, 3, center="model")), ours.transform(data), atol=1e-8)
    with pytest.raises(TrajstoreError, match="c was not among them"):
        ours.transform(labelled(values, ["c"] * 12))
    with pytest.raises(TrajstoreError, match="takes a LossMatrix"):
        ours.fit(values)


def test_what_is_missing_is_left_out_or_the_mean() -> None:
    values = random_losses().astype(float)
    holed = values.copy()
    holed[4, 10] = holed[2:5, 80] = np.nan
    fewer = pca(matrix(holed), 3, missing="drop-columns")
    others = pca(matrix(np.delete(values, [10, 80], 1)), 3)
    np.testing.assert_allclose(fewer.variance["variance"], others.variance["variance"], rtol=1e-10)
    np.testing.assert_allclose(fewer.loadings, others.loadings, atol=1e-10)
    assert set(matrix(values).columns["position"]) - set(fewer.columns["position"]) == {11, 81}
    filled = np.where(np.isnan(holed), np.nanmean(holed, axis=0), holed)
    theirs = PCA(3, svd_solver="full").fit(filled)
    ours = pca(matrix(holed), 3, missing="mean")
    np.testing.assert_allclose(ours.variance["variance"], theirs.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-6)
