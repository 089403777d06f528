"""Curves of group means and of differences, against SQL and numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tests.conftest import PLANTED_LENGTHS, new_dataset, ragged
from tests.helpers.progress import Heard
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison, group_trajectory
from trajstore.errors import (
    GroupError,
    NothingChosen,
    NotScored,
    QueryError,
    TrajstoreError,
    UnknownName,
    UnknownStep,
)
from trajstore.pipelines import trajectories
from trajstore.pipelines.caveats import caveats
from trajstore.store.files.datasets import CONTEXT_COLUMNS
from trajstore.store.files.models import ModelFacts
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store


def test_means_are_those_of_sql(planted: Store) -> None:
    planted.groups.add("some", "FROM tokens WHERE token % 3 = 0")
    frame = trajectories.trajectories(planted, ["some", "every_token"])
    assert frame.height == 2 * 2 * 2 * 8
    for group in ("some", "every_token"):
        macro = planted.sql(f"FROM trajectory('{group}')").pl()
        ours = frame.filter(group=group).join(macro, on=["model", "dataset", "step"], suffix="_sql")
        assert ours.height == macro.height
        np.testing.assert_allclose(ours["mean"], ours["mean_sql"], rtol=1e-6)
        assert ours["tokens"].to_list() == ours["tokens_sql"].to_list()


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


def test_nothing_to_show(planted: Store) -> None:
    with pytest.raises(
        TrajstoreError, match="No token of digits in d, e has a loss: the group is empty there"
    ):
        trajectories.trajectories(planted, ["digits"])


def curves(store: Store, groups: list[str], **options: object) -> set[tuple[str, str, str]]:
    """(group, model, dataset) of the curves there are."""
    frame = trajectories.trajectories(store, groups, Selection(**options))  # type: ignore[arg-type]
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
    frame = trajectories.trajectories(planted, ["every_token"] * 2, Selection(["d", "d"]))
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
    with pytest.raises(TrajstoreError, match="contexts='4:' lies beyond the last context, 1"):
        curves(planted, ["every_token"], datasets=["d", "f"], contexts="4:")
    with pytest.raises(UnknownStep, match="steps=3 matches no checkpoint of a, b, c on d, e, f"):
        curves(planted, ["every_token"], steps="3")
    with pytest.raises(TrajstoreError, match="No token of every_token in d, e, f has a loss"):
        curves(planted, ["every_token"], contexts="9:")


def test_the_bar_counts_slices_once_the_groups_exist(planted: Store) -> None:
    heard = Heard()
    with pytest.raises(UnknownName, match="no group 'digit'"):
        trajectories.trajectories(planted, ["every_token", "digit"], progress=heard)
    assert heard.bars == []
    trajectories.trajectories(planted, ["every_token", "digits"], progress=heard)
    assert heard.bars == [("trajectories", 32, "slices")]
    assert heard.done == 32


def test_an_empty_store_says_how_to_go_on(store: Store) -> None:
    with pytest.raises(TrajstoreError, match="no losses yet. Score a model"):
        trajectories.trajectories(store, ["digits"])


# Differences and pooling


def means(store: Store, dataset: str, model: str, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Mean loss of some rows of each slice, by rising step."""
    steps = store.steps(model, dataset)
    return np.array([store.slice_losses(model, dataset, step)[chosen].mean(dtype=float) for step in steps])


CONTEXT = np.repeat(np.arange(6), np.array(PLANTED_LENGTHS) - 1)
POSITION = np.concatenate([np.arange(1, n) for n in PLANTED_LENGTHS])


def ask(store: Store, groups: list[str], selection: Selection, **comparison: object) -> pl.DataFrame:
    return trajectories.trajectories(store, groups, selection, comparison=Comparison(**comparison))  # type: ignore[arg-type]


def test_minus_is_over_contexts_that_have_both(planted: Store) -> None:
    """Of the contexts of 9, 2, 30, 17, 5 and 40 tokens, four have positions 1 to 3 and one beyond 5."""
    planted.groups.add(
        "early", "SELECT dataset, context, position FROM tokens WHERE position BETWEEN 1 AND 3"
    )
    planted.groups.add("late", "SELECT dataset, context, position FROM tokens WHERE position > 5")
    frame = ask(planted, ["late"], Selection(["d"], ["a"]), minus="early")
    both = np.isin(CONTEXT, (0, 2, 3, 5))
    expected = means(planted, "d", "a", both & (POSITION > 5)) - means(
        planted, "d", "a", both & (POSITION <= 3)
    )
    np.testing.assert_allclose(frame["mean"], expected, rtol=1e-6)
    assert frame.select("group", "tokens", "contexts", "units").unique().rows() == [
        ("late − early", int((both & (POSITION > 5)).sum()), 4, 4)
    ]


def test_the_in_context_learning_score_is_that_of_the_query(planted: Store) -> None:
    frame = ask(planted, ["position_is(16)"], Selection(), minus="position_is(8)")
    query = planted.query("in_context_learning", late=16, early=8).pl()
    both = frame.join(query, on=["model", "dataset", "step"])
    assert both.height == frame.height == query.height == 32
    np.testing.assert_allclose(both["mean"], both["score"], rtol=1e-9)
    assert both["contexts"].to_list() == both["contexts_right"].to_list()


def test_a_dataset_without_what_is_subtracted_is_left_out(planted: Store) -> None:
    planted.groups.add("on_d", "FROM tokens WHERE dataset = 'd'")
    heard = Heard()
    frame = trajectories.trajectories(
        planted, ["every_token"], Selection(models=["a"]), heard, Comparison(minus="on_d")
    )
    assert frame["dataset"].unique().to_list() == ["d"]
    assert heard.lines == ["on_d has no token with a loss on e, which is left out."]


def test_a_group_less_itself_is_nothing_for_certain(planted: Store) -> None:
    frame = ask(planted, ["every_token"], Selection(["d"]), minus="every_token")
    assert frame.select("mean", "low", "high").unique().rows() == [(0.0, 0.0, 0.0)]


def test_minus_model_is_over_the_steps_of_both(planted: Store) -> None:
    planted.drop([("b", "d", 4), ("a", "d", 64)])
    heard = Heard()
    frame = trajectories.trajectories(
        planted, ["every_token"], Selection(["d"], ["a"]), heard, Comparison(minus_model="b")
    )
    steps = [0, 1, 2, 8, 16, 32]
    assert frame["step"].to_list() == steps
    assert frame["model"].unique().to_list() == ["a − b"]
    expected = [
        (planted.slice_losses("a", "d", step) - planted.slice_losses("b", "d", step)).mean() for step in steps
    ]
    np.testing.assert_allclose(frame["mean"], expected, rtol=1e-5, atol=1e-6)
    assert heard.lines == ["Left out, as not all of a, b on d have them: steps 4, 64."]


def test_minus_model_and_minus_go_together(planted: Store) -> None:
    planted.groups.add("early", "SELECT dataset, context, position FROM tokens WHERE position < 2")
    frame = ask(planted, ["every_token"], Selection(["d"]), minus="early", minus_model="b")
    first = POSITION < 2
    expected = (
        means(planted, "d", "a")
        - means(planted, "d", "a", first)
        - (means(planted, "d", "b") - means(planted, "d", "b", first))
    )
    np.testing.assert_allclose(frame["mean"], expected, rtol=1e-5, atol=1e-5)


def test_by_model_pools_the_tokens_of_datasets(planted: Store) -> None:
    planted.drop([("a", "e", 2)])
    frame = ask(planted, ["every_token", "digits"], Selection(models=["a"]), by="model")
    assert frame["step"].to_list() == [0, 1, 4, 8, 16, 32, 64]
    assert frame.select("dataset", "tokens", "contexts", "units").unique().rows() == [
        ("2 datasets", 194, 12, 12)
    ]
    expected = [
        np.concatenate([planted.slice_losses("a", name, step) for name in "de"]).mean(dtype=float)
        for step in frame["step"]
    ]
    np.testing.assert_allclose(frame["mean"], expected, rtol=1e-9)


def test_by_dataset_is_the_mean_of_the_models(planted: Store) -> None:
    frame = ask(planted, ["every_token"], Selection(), by="dataset")
    assert frame.select("model", "dataset").unique(maintain_order=True).rows() == [
        ("mean of 2 models", "d"),
        ("mean of 2 models", "e"),
    ]
    expected = (means(planted, "d", "a") + means(planted, "d", "b")) / 2
    np.testing.assert_allclose(frame.filter(dataset="d")["mean"], expected, rtol=1e-9)


def test_what_cannot_be_compared_is_said(planted: Store) -> None:
    planted.groups.add("first", "FROM tokens WHERE context = 0")
    planted.groups.add("second", "FROM tokens WHERE context = 2")
    with pytest.raises(NothingChosen, match="No context has tokens with a loss of both the group and second"):
        ask(planted, ["first"], Selection(), minus="second")
    planted.append(model="c", dataset="d", step=5, losses=np.ones(97))
    with pytest.raises(NothingChosen, match="No other model asked for has a step in common with c"):
        ask(planted, ["first"], Selection(models=["a"]), minus_model="c")
    with pytest.raises(UnknownName, match="no model 'z'"):
        ask(planted, ["first"], Selection(), minus_model="z")
    with pytest.raises(UnknownName, match="no group 'third'"):
        ask(planted, ["first"], Selection(), minus="third")
    with pytest.raises(TrajstoreError, match="Cannot read by="):
        Comparison(by="step")  # type: ignore[arg-type]


def test_calls_that_are_no_group(planted: Store) -> None:
    with pytest.raises(QueryError, match="position_is"):
        ask(planted, ["position_iz(3)"], Selection())
    with pytest.raises(
        GroupError, match=r"noise_floor.*is no group: one gives the columns dataset, context, position"
    ):
        ask(planted, ["noise_floor(0, 1)"], Selection())
    with pytest.raises(QueryError):
        ask(planted, ["position_is((DROP VIEW losses))"], Selection())


def test_categories_and_documents_are_resampled_whole(store: Store) -> None:
    """Two contexts of one document with the same losses are no more than one."""
    rng = np.random.default_rng(0)
    losses = rng.gamma(3, 1, 60).repeat(2)
    found = {}
    for name, documents in (("alone", range(120)), ("twice", np.arange(60).repeat(2))):
        contexts = pl.DataFrame(
            {
                column: [str(each) for each in documents] if column == "document" else [None] * 120
                for column in CONTEXT_COLUMNS
            },
            schema=CONTEXT_COLUMNS,
        )
        store.add_dataset(name, replace(new_dataset([["a", "b"]] * 120), contexts=contexts))
        store.append(model="m", dataset=name, step=0, losses=losses.astype(np.float32))
        (found[name],) = trajectories.trajectories(store, ["every_token"], Selection([name])).to_dicts()
    alone, twice = found["alone"], found["twice"]
    assert (alone["unit"], alone["units"], twice["unit"], twice["units"]) == ("context", 120, "document", 60)
    assert alone["mean"] == twice["mean"]
    ratio = (twice["high"] - twice["low"]) / (alone["high"] - alone["low"])
    assert ratio == pytest.approx(np.sqrt(2), rel=0.1)


def test_no_intervals_where_none_are_asked(planted: Store) -> None:
    frame = trajectories.trajectories(planted, ["every_token"], interval=Interval("none"))
    assert frame["low"].null_count() == frame["high"].null_count() == frame.height
    assert frame["interval"].unique().to_list() == ["none"]


def test_a_matrix_aligned_by_item_has_no_contexts(planted: Store) -> None:
    with pytest.raises(TrajstoreError, match="Pull the matrix without align='item'"):
        group_trajectory(planted.matrix("d", align="item"))


def test_skewed_contexts_are_said_and_the_interval_used(store: Store) -> None:
    """By what is measured, with many contexts as with few; contexts alike are not called skewed."""
    rng = np.random.default_rng(0)
    store.add_dataset("d", new_dataset([["a", "b"]] * 80))
    dear = rng.normal(3, 0.3, 80).astype(np.float32)
    dear[[40, 70]] = 12
    store.append(model="skewed", dataset="d", step=0, losses=dear)
    store.append(model="alike", dataset="d", step=0, losses=rng.normal(3, 0.3, 80).astype(np.float32))
    said, frames = {}, {}
    for model in ("skewed", "alike"):
        for how in ("bootstrap", "studentised"):
            interval = Interval(how)  # type: ignore[arg-type]
            frame = trajectories.trajectories(
                store, ["every_token"], Selection(["d"], [model]), interval=interval
            )
            frames[model, how], said[model, how] = frame, " ".join(caveats(frame, interval))
    assert "by percentiles of resampled means" in said["alike", "bootstrap"]
    assert "by studentised resamples" in said["skewed", "studentised"]
    assert "ci='studentised' covers more" in said["skewed", "bootstrap"]
    assert "weigh far more" not in said["alike", "bootstrap"] + said["alike", "studentised"]
    assert frames["skewed", "studentised"]["interval"].to_list() == ["studentised"]
    assert frames["skewed", "studentised"]["high"][0] > frames["skewed", "bootstrap"]["high"][0]
    few = trajectories.trajectories(store, ["every_token"], Selection(["d"], ["alike"], contexts="0:12"))
    assert "which no interval can tell" in " ".join(caveats(few, Interval()))
