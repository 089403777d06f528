"""Group means and their intervals, against SQL, a closed form and a bootstrap."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from conftest import ragged
from scipy import stats

from trajstore.analysis.trajectories import group_trajectory, ratio_interval
from trajstore.errors import NotScored, TrajstoreError, UnknownName, UnknownStep
from trajstore.store.models import ModelFacts
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


def curves(store: Store, groups: list[str], **options: object) -> set[tuple[str, str, str]]:
    """(group, model, dataset) of the curves there are."""
    frame = gather.trajectories(store, groups, gather.Selection(**options))  # type: ignore[arg-type]
    return set(frame.select("group", "model", "dataset").rows())


def test_without_datasets_each_shows_what_it_has(planted: Store) -> None:
    planted.add_dataset("f", ragged((3, 4)))
    planted.add_dataset("unscored", ragged((3, 4)))
    planted.append(model="c", dataset="f", step=7, losses=np.ones(5))
    planted.groups.add("firsts", "FROM tokens WHERE dataset <> 'f' OR position = 0")
    everything = {("every_token", m, d) for m in "ab" for d in "de"} | {("every_token", "c", "f")}
    assert curves(planted, ["every_token"]) == everything
    assert curves(planted, ["every_token"], models=["a", "c"]) == {
        each for each in everything if each[1] != "b"
    }
    assert curves(planted, ["every_token", "firsts"], models=["c"]) == {("every_token", "c", "f")}
    assert curves(planted, ["every_token"], contexts="4:") == {x for x in everything if x[2] != "f"}
    assert curves(planted, ["every_token"], steps="7") == {("every_token", "c", "f")}
    assert curves(planted, ["every_token"] * 2, datasets=["d", "d"]) == {x for x in everything if x[2] == "d"}
    frame = gather.trajectories(planted, ["every_token"] * 2, gather.Selection(["d", "d"]))
    assert frame.height == 16


def test_what_cannot_be_shown_names_what_can(planted: Store) -> None:
    planted.add_dataset("f", ragged((3, 4)))
    planted.append(model="c", dataset="f", step=7, losses=np.ones(5))
    planted.publish_model(ModelFacts("z"))
    for models in (["z"], ["z*"], ["a", "z"]):
        with pytest.raises(NotScored, match="no losses of z on d, e, f; there are of: a on d, e"):
            curves(planted, ["every_token"], models=models)
    with pytest.raises(NotScored, match="no losses of c on d; there are of: a on d, e, c on f"):
        curves(planted, ["every_token"], models=["a", "c"], datasets=["d"])
    with pytest.raises(TrajstoreError, match="--contexts 4: lies beyond the last context, 1"):
        curves(planted, ["every_token"], datasets=["d", "f"], contexts="4:")
    with pytest.raises(UnknownStep, match="--steps 3 "):
        curves(planted, ["every_token"], steps="3")
    with pytest.raises(TrajstoreError, match="No token of every_token in d, e, f has a loss"):
        curves(planted, ["every_token"], contexts="9:")


class Watch:
    """Notes what a bar is told."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int, str]] = []
        self.advanced = 0

    def start(self, label: str, total: int, unit: str) -> None:
        self.started.append((label, total, unit))

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.advanced += amount

    def stop(self) -> None:
        pass

    def say(self, message: str) -> None:
        pass


def test_the_bar_counts_slices_once_the_groups_exist(planted: Store) -> None:
    watch = Watch()
    with pytest.raises(UnknownName, match="no group 'digit'"):
        gather.trajectories(planted, ["every_token", "digit"], progress=watch)
    assert watch.started == []
    gather.trajectories(planted, ["every_token", "digits"], progress=watch)
    assert watch.started == [("trajectories", 32, "slices")]
    assert watch.advanced == 32


def test_an_empty_store_says_how_to_go_on(store: Store) -> None:
    with pytest.raises(TrajstoreError, match="no losses yet. Score a model"):
        gather.trajectories(store, ["digits"])
