"""The descent: its objective by definition, where it ends, and components that nothing uses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.analysis.components.test_projection import Streamed
from trajstore.analysis.components.alternating import Descent, _better_directions, _revive, descend
from trajstore.analysis.components.gram import ArrayBlocks


def trajectories(
    rows: int = 50, columns: int = 300, k: int = 4, noise: float = 0.3, seed: int = 0
) -> np.ndarray:
    """Rows as of smooth trajectories with sparse loadings, centred."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, rows)[:, None]
    scores = 1 / (1 + np.exp(-(t - np.linspace(0.1, 0.9, k)) / 0.06))
    loadings = rng.gamma(3, 2, (k, columns)) * (rng.random((k, columns)) < 0.2)
    values = scores @ loadings + noise * rng.normal(size=(rows, columns))
    centred: np.ndarray = values - values.mean(axis=0)
    return centred


def run(
    x: np.ndarray, directions: np.ndarray, alpha: float = 1.0, tol: float = 1e-9, max_iter: int = 2000
) -> Descent:
    k = directions.shape[1]
    return descend(
        ArrayBlocks(x),
        float((x**2).sum()),
        alpha,
        directions,
        np.zeros((k, x.shape[1])),
        max_iter=max_iter,
        tol=tol,
        rng=np.random.default_rng(0),
        watch=lambda objective: None,
    )


def by_definition(x: np.ndarray, alpha: float, found: Descent) -> float:
    rest = x - found.directions @ found.loadings
    return float((rest**2).sum() / 2 + alpha * np.abs(found.loadings).sum())


def test_it_ends_where_neither_factor_can_be_better() -> None:
    x = trajectories()
    found = run(x, x[:, :4], tol=1e-12)
    assert found.converged
    assert found.objective[-1] == pytest.approx(by_definition(x, 1.0, found), rel=1e-12)
    assert (np.diff(found.objective) <= 1e-9).all()
    np.testing.assert_allclose(found.products, x @ found.loadings.T, atol=1e-9)
    u, v = found.directions, found.loadings
    slope = u.T @ (x - u @ v)
    assert np.where(v != 0, np.abs(slope - np.sign(v)), np.abs(slope) - 1).max() < 1e-6
    assert 0.3 < (v == 0).mean() < 0.95
    # Of a direction on the sphere the rest's pull points outwards, along the direction itself.
    pull = (x - u @ v) @ v.T
    np.testing.assert_allclose(np.linalg.norm(u, axis=0), 1, atol=1e-12)
    along = (pull * u).sum(axis=0)
    assert (along > 0).all()
    assert np.linalg.norm(pull - u * along, axis=0).max() < 1e-3 * np.linalg.norm(x @ v.T)


def test_a_direction_goes_to_its_minimum_in_the_ball() -> None:
    """Of ½‖x − u v‖² for one column: u = x / v inside the ball, x / ‖x‖ on it."""
    x = np.array([[3.0], [4.0]])
    for v, expected in ((10.0, [0.3, 0.4]), (2.0, [0.6, 0.8])):
        u = np.array([[1.0], [0.0]])
        _better_directions(u, np.array([[v * v]]), x * v)
        np.testing.assert_allclose(u[:, 0], expected)


def test_components_that_nothing_uses_are_drawn_anew() -> None:
    x = trajectories()
    start = np.zeros((50, 4))
    start[:, 0] = x[:, 0]
    found = run(x, start)
    assert found.loadings.any(axis=1).all()
    assert found.objective[-1] < 1.05 * run(x, x[:, :4]).objective[-1]


def test_they_are_drawn_where_something_is_left() -> None:
    """One column is longer than α; no other can lower the objective."""
    x = np.zeros((6, 9))
    x[:, 4] = [3, 0, -3, 0, 0, 0]
    x[0] += 0.1
    found = run(x, np.zeros((6, 2)))
    assert found.converged
    assert np.flatnonzero(found.loadings.any(axis=0)).tolist() == [4]
    assert np.count_nonzero(found.loadings.any(axis=1)) == 1
    length = np.linalg.norm(x[:, 4])
    assert np.abs(found.loadings).max() == pytest.approx(length - 1)


@pytest.mark.parametrize("width", [1, 3, 8])
def test_columns_are_drawn_by_what_each_would_save(width: int) -> None:
    """(‖r‖ − α)² of the column over the sum of all, however the columns come in blocks."""
    lengths = np.array([5.0, 0.5, 2.0, 3.0, 1.0, 1.5, 4.0, 2.0])
    x = np.diag(lengths)
    drawn = np.zeros(8)
    for seed in range(2000):
        directions = np.zeros((8, 1))
        blocks = Streamed(x, width)
        assert _revive(blocks, directions, np.zeros((1, 8)), 1.0, np.random.default_rng(seed))
        drawn += directions[:, 0]
    weights = np.maximum(lengths - 1, 0) ** 2
    assert stats.chisquare(drawn[weights > 0], 2000 * weights[weights > 0] / weights.sum()).pvalue > 1e-3
    assert not drawn[weights == 0].any()


def test_a_draw_that_saves_little_is_followed_by_others() -> None:
    """Four columns, of which each draw takes one: none lowers the objective by half, all four together do."""
    x = np.diag([9.0, 8.0, 8.0, 8.0])
    start = np.zeros((4, 4))
    start[0, 0] = 1
    found = run(x, start, tol=0.5)
    assert found.loadings.any(axis=1).all()
    np.testing.assert_allclose(np.abs(found.loadings).sum(axis=0), [8, 7, 7, 7])


def test_max_iter_ends_it_with_directions_in_the_ball() -> None:
    x = trajectories()
    found = run(x, 100 * x[:, :4], max_iter=1)
    assert not found.converged
    assert len(found.objective) == 1
    assert np.linalg.norm(found.directions, axis=0).max() <= 1 + 1e-12
    assert found.objective[0] == pytest.approx(by_definition(x, 1.0, found), rel=1e-12)
