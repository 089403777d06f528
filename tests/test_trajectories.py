"""Group means and their intervals, against SQL, a closed form and a bootstrap."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajstore.analysis.trajectories import group_trajectory, ratio_interval
from trajstore.errors import TrajstoreError
from trajstore.store.store import Store
from trajstore.view import gather


def test_means_are_those_of_sql(planted: Store) -> None:
    planted.groups.add("some", "FROM tokens WHERE token % 3 = 0")
    frame = gather.trajectories(planted, ["some", "every_token"])
    assert frame.height == 2 * 2 * 2 * 8
    for group in ("some", "every_token"):
        macro = planted.sql(f"FROM trajectory('{group}')").pl()
        ours = frame.filter(group=group).join(macro, on=["model", "dataset", "step"], suffix="_sql")
        assert ours.height == macro.height
        np.testing.assert_allclose(ours["mean"], ours["mean_sql"], rtol=1e-6)
        assert ours["tokens"].to_list() == ours["tokens_sql"].to_list()


def test_with_one_token_a_context_the_interval_is_student_s() -> None:
    losses = np.random.default_rng(0).gamma(2, 1, 40)
    mean, half = ratio_interval(losses[None, :], np.ones(40), 0.95)
    low, high = stats.t.interval(0.95, 39, loc=losses.mean(), scale=stats.sem(losses))
    assert (mean[0] - half[0], mean[0] + half[0]) == pytest.approx((low, high))


def test_tokens_of_a_context_are_not_independent() -> None:
    """Contexts with a level and a length of their own: the interval is that of a bootstrap over contexts."""
    rng = np.random.default_rng(1)
    n = rng.integers(20, 200, 60)
    parts = [rng.normal(3 + level, 0.5, k) for level, k in zip(rng.normal(0, 1, 60), n, strict=True)]
    sums = np.array([part.sum() for part in parts])
    _, half = ratio_interval(sums[None, :], n.astype(float), 0.95)
    draws = rng.integers(0, 60, (4000, 60))
    means = sums[draws].sum(axis=1) / n[draws].sum(axis=1)
    assert half[0] == pytest.approx(1.96 * means.std(), rel=0.1)
    naive = 1.96 * np.concatenate(parts).std() / np.sqrt(n.sum())
    assert half[0] > 4 * naive


def test_one_context_has_no_interval(planted: Store) -> None:
    frame = group_trajectory(planted.matrix("d", contexts="2:3"))
    assert frame["low"].null_count() == frame.height
    assert frame["mean"].null_count() == 0


def test_missing_steps_are_absent(planted: Store) -> None:
    (planted.path / "losses/model=b/dataset=e/step=4/slice.parquet").unlink()
    frame = group_trajectory(planted.matrix(["d", "e"], missing="nan"))
    assert frame.filter(model="b", dataset="e")["step"].to_list() == [0, 1, 2, 8, 16, 32, 64]
    assert frame.filter(model="b", dataset="d").height == 8
    assert frame.select(pl.col("mean").is_nan().any()).item() is False


def test_nothing_to_show(store: Store, planted: Store) -> None:
    with pytest.raises(TrajstoreError, match="No token of digits in d, e"):
        gather.trajectories(planted, ["digits"])


def test_an_empty_store_says_how_to_go_on(store: Store) -> None:
    with pytest.raises(TrajstoreError, match="no losses yet. Score a model"):
        gather.trajectories(store, ["digits"])
