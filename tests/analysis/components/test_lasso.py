"""The lasso of many columns against scikit-learn's of each, closed forms, and the conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from trajstore.analysis.components import lasso as module
from trajstore.analysis.components.lasso import lasso


def directions(rows: int, k: int, alike: float, seed: int = 0) -> np.ndarray:
    """Columns of length 1 whose dot products are near `alike`."""
    rng = np.random.default_rng(seed)
    found = np.sqrt(alike) * rng.normal(size=(rows, 1)) + np.sqrt(1 - alike) * rng.normal(size=(rows, k))
    return found / np.linalg.norm(found, axis=0)


def violation(gram: np.ndarray, targets: np.ndarray, alpha: float, v: np.ndarray) -> float:
    """The largest by which the optimality conditions are missed."""
    slope = targets - gram @ v
    return float(np.where(v != 0, np.abs(slope - alpha * np.sign(v)), np.abs(slope) - alpha).max())


def objective(gram: np.ndarray, targets: np.ndarray, alpha: float, v: np.ndarray) -> np.ndarray:
    return (v * (gram @ v / 2 - targets)).sum(axis=0) + alpha * np.abs(v).sum(axis=0)


def test_the_same_as_scikit_learn_column_by_column() -> None:
    u = directions(40, 6, 0.7)
    x = np.random.default_rng(1).normal(size=(40, 60)) * 6
    v = lasso(u.T @ u, u.T @ x, 2.0, np.zeros((6, 60)))
    theirs = Lasso(alpha=2.0 / 40, fit_intercept=False, tol=1e-14, max_iter=100_000)
    expected = np.stack([theirs.fit(u, column).coef_ for column in x.T], axis=1)
    assert 0.1 < (v == 0).mean() < 0.9
    np.testing.assert_allclose(v, expected, atol=1e-7)
    np.testing.assert_array_equal(v == 0, expected == 0)


@pytest.mark.parametrize(("k", "alike"), [(1, 0.0), (10, 0.5), (10, 0.999), (20, 0.9), (70, 0.3)])
def test_every_column_is_optimal_from_any_start(
    k: int, alike: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 30)
    rng = np.random.default_rng(k)
    u = directions(100, k, alike)
    gram, targets = u.T @ u, u.T @ (rng.normal(size=(100, 80)) * 10 ** rng.uniform(-1, 2, 80))
    v = lasso(gram, targets, 1.5, np.zeros((k, 80)))
    assert (v == 0).any()
    assert (v != 0).any()
    assert violation(gram, targets, 1.5, v) < 1e-6
    start = rng.normal(size=(k, 80)) * (rng.random((k, 80)) < 0.5)
    again = lasso(gram, targets, 1.5, start)
    assert violation(gram, targets, 1.5, again) < 1e-6
    np.testing.assert_allclose(again, v, atol=1e-6 * (1 + np.abs(v).max()))


def test_orthogonal_directions_shrink_each_entry_by_alpha() -> None:
    targets = np.array([[5.0, -2.0, 0.5], [-0.9, 3.0, 1.0]])
    gram = np.diag([1.0, 4.0])
    expected = np.array([[4, -1, 0], [0, 0.5, 0]])
    np.testing.assert_allclose(lasso(gram, targets, 1.0, np.ones((2, 3))), expected, atol=1e-12)


def test_without_alpha_it_is_least_squares() -> None:
    u, x = directions(30, 4, 0.6), np.random.default_rng(3).normal(size=(30, 50))
    expected = np.linalg.lstsq(u, x, rcond=None)[0]
    np.testing.assert_allclose(lasso(u.T @ u, u.T @ x, 0.0, np.zeros((4, 50))), expected, atol=1e-8)


def test_a_direction_that_is_not_there_stays_out() -> None:
    u = directions(20, 3, 0.2)
    u[:, 1] = 0
    v = lasso(u.T @ u, u.T @ np.ones((20, 5)) * 9, 0.1, np.ones((3, 5)))
    assert not v[1].any()
    assert v[[0, 2]].any()
    assert not lasso(np.zeros((2, 2)), np.zeros((2, 5)), 0.1, np.ones((2, 5))).any()


def test_two_equal_directions_do_as_well_as_one() -> None:
    u, x = directions(20, 3, 0.2), np.random.default_rng(4).normal(size=(20, 200)) * 5
    twice = u[:, [0, 1, 2, 0]]
    one = lasso(u.T @ u, u.T @ x, 1.0, np.zeros((3, 200)))
    two = lasso(twice.T @ twice, twice.T @ x, 1.0, np.random.default_rng(5).normal(size=(4, 200)))
    np.testing.assert_allclose(
        objective(twice.T @ twice, twice.T @ x, 1.0, two),
        objective(u.T @ u, u.T @ x, 1.0, one),
        rtol=1e-7,
        atol=1e-7,
    )


def test_the_start_is_left_alone() -> None:
    start = np.ones((2, 3))
    lasso(np.eye(2), np.zeros((2, 3)), 1.0, start)
    assert (start == 1).all()
