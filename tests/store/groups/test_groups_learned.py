"""Macros of groups over losses: each against numpy on losses that lie on, just above and just below their threshold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest

from tests.conftest import ragged
from trajstore.errors import GroupError, QueryError
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore

LENGTHS = (9, 2, 30, 17, 5, 40)
STEPS = (0, 512, 1000, 2000)
MODELS = ("seed-1", "seed-2", "large")
LATE = ("large", "e", 2000)
"""The slice that is not there."""


@pytest.fixture(scope="module")
def whole(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Losses in quarters, so that many differ by exactly a threshold; every seventh is a float32 step higher."""
    path = tmp_path_factory.mktemp("learned") / "store"
    rng = np.random.default_rng(3)
    with new_store(path) as store:
        for name in ("d", "e"):
            dataset = store.add_dataset(name, ragged(LENGTHS, seed=ord(name)))
            for model in MODELS:
                for step in STEPS:
                    losses = (rng.integers(0, 12, dataset.n_losses) / 4).astype(np.float32)
                    losses[::7] = np.nextafter(losses[::7], np.float32(9))
                    if (model, name, step) != LATE:
                        store.append(model=model, dataset=name, step=step, losses=losses)
        yield store


Sites = set[tuple[str, int, int]]


def asked(store: Store, call: str) -> Sites:
    found = store.sql(f"SELECT dataset, context, position FROM {call}").fetchall()
    assert len(found) == len(set(found)), "each token once"
    return set(found)


def losses(store: Store, dataset: str, *checkpoints: tuple[str, int]) -> list[np.ndarray]:
    """The losses of checkpoints on a dataset as float64, or nothing where one of them is not there."""
    if any((model, dataset, step) == LATE for model, step in checkpoints):
        return [np.empty(0)] * len(checkpoints)
    return [store.slice_losses(model, dataset, step).astype(float) for model, step in checkpoints]


def sites(store: Store, dataset: str, inside: np.ndarray) -> Sites:
    """The tokens where `inside` is true."""
    tokens = store.dataset(dataset).frame()
    rows = tokens.filter(tokens["position"] > 0).select("context", "position").rows()
    return {(dataset, *rows[at]) for at in np.flatnonzero(inside)}


def check(store: Store, call: str, expected: Sites) -> None:
    found = asked(store, call)
    assert found == expected
    assert 0 < len(found) < 2 * (sum(LENGTHS) - len(LENGTHS)), "some tokens are in it and some are not"


@pytest.mark.parametrize("tau", [0.0, 1.0, 0.25, -0.5])
def test_improved_and_worsened(whole: Store, tau: float) -> None:
    fell, rose = set(), set()
    for name in ("d", "e"):
        earlier, later = losses(whole, name, ("seed-1", 512), ("seed-1", 2000))
        assert (earlier - later == tau).any(), "some lie on the threshold"
        fell |= sites(whole, name, earlier - later > tau)
        rose |= sites(whole, name, later - earlier > tau)
    check(whole, f"improved('seed-1', 512, 2000, {tau})", fell)
    check(whole, f"worsened('seed-1', 512, 2000, {tau})", rose)


def test_loss_between_has_its_ends(whole: Store) -> None:
    expected = set()
    for name in ("d", "e"):
        (at,) = losses(whole, name, ("seed-1", 512))
        assert (at == 0.5).any()
        assert (at == 1.5).any()
        expected |= sites(whole, name, (at >= 0.5) & (at <= 1.5))
    check(whole, "loss_between('seed-1', 512, 0.5, 1.5)", expected)


def test_spikes(whole: Store) -> None:
    up, down = set(), set()
    for name in ("d", "e"):
        before, at, after = losses(whole, name, *(("seed-2", step) for step in (512, 1000, 2000)))
        up |= sites(whole, name, at - np.maximum(before, after) > 0.5)
        down |= sites(whole, name, np.minimum(before, after) - at > 0.5)
    check(whole, "spike('seed-2', 512, 1000, 2000, 0.5)", up)
    check(whole, "inverse_spike('seed-2', 512, 1000, 2000, 0.5)", down)


@pytest.mark.parametrize("threshold", [None, 1.5])
def test_high_and_low(whole: Store, threshold: float | None) -> None:
    expected: dict[str, Sites] = {
        f"{first}_to_{last}": set() for first in ("low", "high") for last in ("low", "high")
    }
    for name in ("d", "e"):
        earlier, later = losses(whole, name, ("seed-1", 0), ("seed-1", 1000))
        bound = later.mean() if threshold is None else threshold
        for macro in expected:
            first, last = (word == "high" for word in macro.split("_to_"))
            expected[macro] |= sites(whole, name, ((earlier > bound) == first) & ((later > bound) == last))
    for macro, tokens in expected.items():
        given = "" if threshold is None else f", threshold := {threshold}"
        check(whole, f"{macro}('seed-1', 0, 1000{given})", tokens)
    assert len(set.union(*expected.values())) == sum(map(len, expected.values())) == 2 * 97


def test_low_and_rare(whole: Store) -> None:
    expected = set()
    for name in ("d", "e"):
        frame = whole.dataset(name).frame()
        ids, counts = np.unique(frame["token"].to_numpy(), return_counts=True)
        occurrences = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        rare = np.array([occurrences[token] <= 2 for token in frame.filter(frame["position"] > 0)["token"]])
        (final,) = losses(whole, name, ("seed-1", 2000))
        assert (final == 2.5).any()
        expected |= sites(whole, name, rare & (final < 2.5))
    check(whole, "low_and_rare('seed-1', 2000, 2.5, 2)", expected)


@pytest.mark.parametrize(("given", "other_step"), [("", 512), (", other_step := 2000", 2000)])
def test_better(whole: Store, given: str, other_step: int) -> None:
    expected = set()
    for name in ("d", "e"):
        one, other = losses(whole, name, ("seed-1", 512), ("large", other_step))
        expected |= sites(whole, name, other - one > 0.25)
    check(whole, f"better('seed-1', 'large', 512, 0.25{given})", expected)


@pytest.mark.parametrize(
    ("models", "meant"),
    [("seed-*", MODELS[:2]), ("seed-1,large", ("seed-1", "large")), ("*", MODELS), ("large,s*", MODELS)],
)
@pytest.mark.parametrize("step", [512, 2000])
def test_models_disagree(whole: Store, models: str, meant: tuple[str, ...], step: int) -> None:
    expected = set()
    for name in ("d", "e"):
        each = np.stack(losses(whole, name, *((model, step) for model in meant)))
        expected |= sites(whole, name, each.max(axis=0) - each.min(axis=0) > 1.5)
    check(whole, f"models_disagree('{models}', {step}, 1.5)", expected)


def test_what_is_missing_is_absent_and_not_zero(whole: Store) -> None:
    """The model has step 2000 on d alone: no token of e has both losses."""
    assert {dataset for dataset, _, _ in asked(whole, "improved('large', 512, 2000, -99)")} == {"d"}
    assert {dataset for dataset, _, _ in asked(whole, "better('large', 'seed-1', 2000, -99)")} == {"d"}
    assert {dataset for dataset, _, _ in asked(whole, "models_disagree('*', 2000, 0)")} == {"d"}


def test_partial_slices_count_where_they_are(store: Store) -> None:
    made = store.add_dataset("d", ragged((4, 4, 4)))
    store.append(model="m", dataset="d", step=0, losses=np.full(made.n_losses, 2.0))
    store.append(model="m", dataset="d", step=1, losses=[[1.0, 1.0, 1.0]], contexts=[1])
    assert asked(store, "improved('m', 0, 1, 0.5)") == {("d", 1, 1), ("d", 1, 2), ("d", 1, 3)}
    assert asked(store, "at_checkpoint('m', 1)") == {("d", 1, 1), ("d", 1, 2), ("d", 1, 3)}


# what is not there

WRONG = [
    (
        "improved('seed-1', 513, 2000, 1)",
        "seed-1 has no losses at step 513; the nearest that it has: 0, 512, 1000",
    ),
    ("improved('seed-1', 512, 2001, 1)", "seed-1 has no losses at step 2001"),
    (
        "worsened('seed-3', 0, 512, 1)",
        "no losses of a model seed-3; names most like it: seed-1, seed-2, large",
    ),
    ("improved('seed-*', 0, 512, 1)", r"no losses of a model seed-\*"),
    ("improved('../losses', 0, 512, 1)", "no losses of a model"),
    ("spike('seed-1', 0, 600, 1000, 1)", "at step 600"),
    ("inverse_spike('seed-1', 0, 512, 600, 1)", "at step 600"),
    ("low_to_high('seed-1', 1, 512)", "at step 1; "),
    ("low_and_rare('larg', 512, 1, 1)", "a model larg; names most like it: large"),
    ("better('large', 'seed-1', 3, 0)", "at step 3"),
    ("better('large', 'seed-1', 512, 0, other_step := 3)", "seed-1 has no losses at step 3"),
    ("models_disagree('seed-1', 512, 1)", "seed-1 is one model; it takes two at least"),
    ("models_disagree('seed-*,small', 512, 1)", "a model small; there are of: large, seed-1, seed-2"),
    ("models_disagree('*', 3, 1)", "At step 3 there are no losses of: large, seed-1, seed-2"),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
@pytest.mark.parametrize(
    "question",
    [
        "SELECT count(*) FROM {}",
        "FROM {} WHERE dataset = 'd'",
        "FROM {} WHERE context = 3 AND position < 9",
        "SELECT step, avg(loss) FROM raw_losses SEMI JOIN {} USING (dataset, context, position) GROUP BY step",
    ],
)
def test_what_is_not_there_is_an_error_and_no_empty_answer(
    whole: Store, call: str, message: str, question: str
) -> None:
    with pytest.raises((duckdb.Error, QueryError), match=message):
        whole.sql(question.format(call)).fetchall()


def test_a_model_that_lacks_the_step_is_named(whole: Store) -> None:
    gone = whole.path / "losses/model=large/dataset=d/step=0/slice.parquet"
    also = whole.path / "losses/model=large/dataset=e/step=0/slice.parquet"
    kept = [(path, path.read_bytes()) for path in (gone, also)]
    try:
        for path, _ in kept:
            path.unlink()
        with pytest.raises(
            duckdb.Error, match="At step 0 there are no losses of: large. Name the models that"
        ):
            whole.sql("FROM models_disagree('*', 0, 1)").fetchall()
        assert asked(whole, "models_disagree('seed-*', 0, 1)")
    finally:
        for path, content in kept:
            path.write_bytes(content)


def test_a_group_of_what_is_not_there_is_not_added(planted: Store) -> None:
    with pytest.raises(GroupError, match="was not added: .*a has no losses at step 3"):
        planted.groups.add("learned", "FROM improved('a', 3, 64, 0.1)")


def test_a_group_whose_losses_went_is_an_error_when_it_is_asked(planted: Store) -> None:
    added = planted.groups.add("learned", "FROM improved('a', 1, 64, 0.1)")
    assert set(added.sizes) == {"d", "e"}
    planted.drop([("a", "d", 64), ("a", "e", 64)])
    with pytest.raises(
        GroupError, match="a has no losses at step 64; the nearest that it has: 1, 2, 4, 8, 16, 32"
    ):
        planted.matrix("d", group="learned", models="b")
    with Store.create(planted.path.parent / "empty") as empty:
        assert empty.groups.names(), "macros are there before any losses are"


# what is read


@pytest.mark.parametrize(
    ("call", "files"),
    [
        ("improved('seed-1', 512, 2000, 1)", 4),
        ("spike('seed-1', 0, 512, 1000, 1)", 6),
        ("better('seed-1', 'large', 512, 1)", 4),
        ("models_disagree('seed-*', 512, 1)", 4),
        ("models_disagree('seed-1,large', 512, 1)", 4),
        ("low_and_rare('seed-1', 512, 1, 2)", 2),
    ],
)
def test_only_the_named_slices_are_read(whole: Store, call: str, files: int) -> None:
    """Each checkpoint has a slice on each of the two datasets."""
    plan = str(whole.sql(f"EXPLAIN FROM {call}").fetchall())
    read = re.findall(r"Scanning Files: (\d+)/(\d+)", plan)
    assert sum(int(some) for some, of in read if int(of) > 20) == files
