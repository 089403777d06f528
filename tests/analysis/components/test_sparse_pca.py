"""Sparse PCA against scikit-learn's, and against components that were planted."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import SparsePCA as ScikitSparsePCA

from benchmarks.harness.synthetic import Size, _losses
from tests.analysis.components.test_alternating import trajectories
from tests.analysis.components.test_projection import Streamed
from trajstore.analysis.components.methods import Method, Sparsity
from trajstore.analysis.components.sparse_pca import SparseFit, SparsePCA, sparse_pca
from trajstore.cli.analyses.pca import pca as command_of_pca
from trajstore.errors import TrajstoreError
from trajstore.store.matrix.matrix import LossMatrix


def synthetic(rows: int = 60, columns: int = 380) -> np.ndarray:
    """Losses like those of the benchmarks."""
    return _losses(np.random.default_rng(0), Size(rows, columns // 19, 20))


def by_definition(values: np.ndarray, alpha: float, fit: SparseFit) -> float:
    loadings = fit.components * fit.lengths[:, None]
    rest = values - fit.mean - fit.directions @ loadings
    return float((rest**2).sum() / 2 + alpha * np.abs(loadings).sum())


def matched(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Ours (k, columns) in their order and with their signs."""
    cosines = ours @ theirs.T
    mine, other = linear_sum_assignment(-np.abs(cosines))
    out = np.empty_like(theirs)
    out[other] = ours[mine] * np.sign(cosines[mine, other])[:, None]
    return out


def test_where_the_optimum_is_clear_it_is_scikit_learns() -> None:
    values = trajectories(60, 300, 3, noise=0.1) + 4
    ours = SparsePCA(3, alpha=1.0, tol=1e-10, max_iter=5000).fit(values)
    theirs = ScikitSparsePCA(3, alpha=1.0, tol=1e-10, max_iter=5000, random_state=0).fit(values)
    assert ours.error_[-1] == pytest.approx(theirs.error_[-1], rel=1e-7)
    np.testing.assert_allclose(matched(ours.components_, theirs.components_), theirs.components_, atol=1e-4)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-12)
    assert ours.zeros_ == pytest.approx((theirs.components_ == 0).mean(), abs=0.003)
    assert ours.components_[range(3), np.abs(ours.components_).argmax(axis=1)].min() > 0
    assert ours.n_iter_ == len(ours.error_)


def test_transform_is_scikit_learns_ridge() -> None:
    values, new = trajectories(60, 300, 4), trajectories(9, 300, 4, seed=1) + 0.5
    for ridge_alpha in (0.01, 3.0):
        ours = SparsePCA(4, alpha=1.0, ridge_alpha=ridge_alpha).fit(values)
        theirs = ScikitSparsePCA(4, ridge_alpha=ridge_alpha, max_iter=1, random_state=0).fit(values)
        theirs.components_ = ours.components_
        np.testing.assert_allclose(ours.transform(new), theirs.transform(new), atol=1e-6)
        np.testing.assert_allclose(ours.result_.scores, theirs.transform(values), atol=1e-6)
        np.testing.assert_allclose(
            ours.inverse_transform(ours.transform(new)),
            theirs.inverse_transform(theirs.transform(new)),
            atol=1e-6,
        )
    np.testing.assert_array_equal(SparsePCA(4).fit_transform(values), SparsePCA(4).fit(values).result_.scores)


@pytest.mark.parametrize(
    ("kind", "alpha", "seeds"),
    [
        ("synthetic", 2.0, 1),
        ("planted", 20.0, 1),
        ("too few", 20.0, 1),
        # Here components die on the way, so that scikit-learn's seeds end in different places.
        ("synthetic", 20.0, 3),
        ("planted", 60.0, 3),
    ],
)
def test_it_ends_as_low_as_scikit_learn(kind: str, alpha: float, seeds: int) -> None:
    """One descent against one, and several against the best of as many."""
    values = {
        "synthetic": synthetic(70, 190),
        "planted": trajectories(70, 150, 4, noise=0.3) * 3,
        "too few": trajectories(70, 150, 8, noise=0.6) * 3,
    }[kind].astype(np.float64)
    theirs = [
        ScikitSparsePCA(4, alpha=alpha, tol=1e-6, random_state=seed).fit(values).error_[-1]
        for seed in range(seeds)
    ]
    one, several = (sparse_pca(values, 4, alpha=alpha, restarts=n) for n in (1, max(2, seeds)))
    assert one.objective[-1] <= 1.001 * theirs[0]
    assert several.objective[-1] <= 1.001 * min(theirs)
    assert several.objective[-1] <= (1 + 1e-5) * one.objective[-1]
    assert several.starts[0] == pytest.approx(one.starts[0], rel=1e-12)


def test_the_lowest_descent_is_kept() -> None:
    fit = sparse_pca(synthetic(), 4, restarts=3)
    assert min(fit.starts) < 0.999 * fit.starts[0]
    assert min(fit.starts) in fit.objective
    assert fit.objective[-1] <= min(fit.starts)


def test_signs_are_fixed_whatever_those_of_the_data() -> None:
    values = synthetic().astype(np.float64)
    for data in (values, -values):
        fit = sparse_pca(data, 4)
        largest = np.abs(fit.components).argmax(axis=1)
        assert (fit.components[range(4), largest] > 0).all()


def test_the_objective_by_definition_and_the_conditions_of_a_minimum() -> None:
    values = synthetic(80).astype(np.float64)
    fit = sparse_pca(values, 5, alpha=3.0)
    assert fit.converged
    assert fit.objective[-1] == pytest.approx(by_definition(values, 3.0, fit), rel=1e-10)
    assert (np.diff(fit.objective) <= 1e-9 * fit.objective[0]).all()
    loadings = fit.components * fit.lengths[:, None]
    slope = fit.directions.T @ (values - fit.mean - fit.directions @ loadings)
    missed = np.where(loadings != 0, np.abs(slope - 3 * np.sign(loadings)), np.abs(slope) - 3)
    assert missed.max() < 1e-6
    assert np.linalg.norm(fit.directions, axis=0).max() <= 1 + 1e-12
    np.testing.assert_allclose(np.linalg.norm(fit.components, axis=1), 1)


def test_finished_on_the_matrix_it_is_as_good_as_run_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = synthetic(100)
    projected = sparse_pca(values, 4)
    monkeypatch.setattr(importlib.import_module("trajstore.analysis.components.sparse_pca"), "_BASIS", 100)
    whole = sparse_pca(values, 4)
    assert projected.objective[-1] == pytest.approx(whole.objective[-1], rel=1e-5)
    np.testing.assert_allclose(matched(projected.components, whole.components), whole.components, atol=0.02)


def test_blocks_of_columns_and_an_array_give_the_same() -> None:
    values = synthetic(90)
    one = sparse_pca(values, 4, restarts=2)
    other = sparse_pca(Streamed(values, 97), 4, restarts=2)
    assert other.objective[-1] == pytest.approx(one.objective[-1], rel=1e-7)
    np.testing.assert_allclose(other.components, one.components, atol=1e-4)
    np.testing.assert_allclose(other.scores, one.scores, atol=1e-2)


def test_planted_components_are_found() -> None:
    """Each token has a part in one component; α well above the noise finds which."""
    rng = np.random.default_rng(2)
    t = np.linspace(0, 1, 80)[:, None]
    bumps = np.exp(-(((t - [0.15, 0.4, 0.65, 0.9]) / 0.08) ** 2))
    of = rng.integers(0, 8, 500)
    loadings = np.where(of == np.arange(4)[:, None], rng.gamma(9, 1, (4, 500)), 0)
    fit = sparse_pca(bumps @ loadings + 0.2 * rng.normal(size=(80, 500)), 4, alpha=2.0)
    found = matched(fit.components, loadings / np.linalg.norm(loadings, axis=1)[:, None])
    np.testing.assert_array_equal(found != 0, loadings != 0)
    assert fit.zeros == pytest.approx((loadings == 0).mean())


def test_variance_is_that_of_least_squares_projections() -> None:
    values = synthetic().astype(np.float64)
    fit = sparse_pca(values, 5)
    centred = values - values.mean(axis=0)
    assert fit.total_variance == pytest.approx((centred**2).sum() / 59, rel=1e-10)
    for k in range(1, 6):
        scores = np.linalg.lstsq(fit.components[:k].T, centred.T, rcond=None)[0]
        explained = ((scores.T @ fit.components[:k]) ** 2).sum() / 59
        assert fit.variance[:k].sum() == pytest.approx(explained, rel=1e-9)
    along = np.linalg.norm(centred @ fit.components.T, axis=0)
    assert (np.diff(along) <= 1e-9).all()


def test_more_components_than_the_data_has_use_for() -> None:
    values = np.outer(np.arange(6.0), np.r_[np.ones(20), np.zeros(20)])
    fit = sparse_pca(values, 9, alpha=0.5)
    assert np.isfinite(fit.scores).all()
    assert by_definition(values, 0.5, fit) == pytest.approx(fit.objective[-1])
    nothing = sparse_pca(values, 3, alpha=100.0)
    assert nothing.zeros == 1
    assert not nothing.scores.any()
    assert not nothing.variance.any()


@pytest.mark.parametrize("rows", [20, 100])
def test_from_the_limit_of_alpha_on_all_loadings_are_zero_and_below_it_not(rows: int) -> None:
    """The longest centred column, by numpy; 100 rows are more than a descent's projection keeps."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=(rows, 300)) * rng.gamma(1, 1, 300)
    longest = np.sqrt(((values - values.mean(axis=0)) ** 2).sum(axis=0).max())
    for times, empty in ((1.0001, True), (0.999, False), (0.5, False)):
        fit = sparse_pca(values, 3, alpha=times * longest)
        assert fit.alpha_limit == pytest.approx(longest, rel=1e-9)
        assert (fit.zeros == 1) == empty


def test_the_same_seed_gives_the_same_and_the_class_takes_a_loss_matrix() -> None:
    values = synthetic().astype(np.float32)
    labels = pl.DataFrame({"model": ["m"] * len(values), "step": range(len(values))})
    matrix = LossMatrix(values, labels, pl.DataFrame({"position": range(values.shape[1])}))
    one, other = SparsePCA(3, restarts=3).fit(matrix), SparsePCA(3, restarts=3).fit(values)
    np.testing.assert_array_equal(one.components_, other.components_)
    np.testing.assert_array_equal(one.transform(matrix), other.transform(values))


def test_progress_moves_through_reading_descents_and_the_finish() -> None:
    class Seen:
        def __init__(self) -> None:
            self.total = self.done = self.stops = 0
            self.notes: list[str] = []

        def start(self, label: str, total: int, unit: str) -> None:
            self.total += total

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.done += amount
            self.notes.append(note)

        def stop(self) -> None:
            self.stops += 1

        def say(self, message: str) -> None:
            raise AssertionError(message)

    for rows in (20, 80):
        seen = Seen()
        sparse_pca(synthetic(rows), 3, restarts=2, progress=seen)
        assert (seen.done, seen.total, seen.stops) == (4, 4, 1)
        assert any(note.startswith("objective ") for note in seen.notes)
    failed = Seen()
    with pytest.raises(TrajstoreError):
        sparse_pca(np.ones((3, 3)), 1, progress=failed)
    assert failed.stops == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"components": 0}, "components=0: 1 at least"),
        ({"alpha": -1.0}, "alpha=-1.0: 0 at least"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"ridge_alpha": -0.1}, "ridge_alpha=-0.1"),
        ({"max_iter": 0}, "max_iter=0: 1 at least"),
        ({"restarts": 0}, "restarts=0: 1 at least"),
        ({"tol": -1e-6}, "tol=-1e-06: 0 at least"),
    ],
)
def test_options_out_of_range(options: dict[str, float], said: str) -> None:
    with pytest.raises(TrajstoreError, match=said):
        sparse_pca(synthetic(10), **options)


def test_the_same_defaults_everywhere() -> None:
    """Published analyses have ten components, alpha 5, ridge 0.01, 1,000 iterations, tolerance 1e-6, seed 42."""
    published = {
        "components": 10,
        "alpha": 5.0,
        "ridge_alpha": 0.01,
        "max_iter": 1000,
        "tol": 1e-6,
        "restarts": 1,
        "seed": 42,
    }
    of = {name: each.default for name, each in inspect.signature(sparse_pca).parameters.items()}
    assert {name: of[name] for name in published} == published
    estimator = vars(SparsePCA())
    renamed = {"components": "n_components", "seed": "random_state"}
    assert {name: estimator[renamed.get(name, name)] for name in published} == published
    assert {"components": Method().components, **asdict(Sparsity())} == published
    command = {name: each.default for name, each in inspect.signature(command_of_pca).parameters.items()}
    assert {name: command[name] for name in published} == published | {"components": None}
    assert (Method().kind, Method().treatment.center, Method().treatment.scale) == ("full", "all", False)
