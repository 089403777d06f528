"""Spikes: planted ones are found with their tokens, and none where there is none; numbers against closed forms."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tests.conftest import ragged
from trajstore.analysis.components.gram import ArrayBlocks
from trajstore.analysis.spikes.spikes import Window, find_spikes, heights, noise, placebos
from trajstore.analysis.spikes.tokens import (
    Tolerance,
    change,
    classify,
    noises_exceeded,
    shares,
)
from trajstore.analysis.statistics.bootstrap import Draws, Ratio, Stratum
from trajstore.cli import app
from trajstore.errors import BadOption, FindingExists, GroupError, TrajstoreError, UnknownStep
from trajstore.pipelines.spikes import (
    Search,
    group_names,
    keep_groups,
    not_found,
    spikes,
    tokens_in_context,
)
from trajstore.store import checks
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store
from trajstore.view.figures.spikes import spike_charts

if TYPE_CHECKING:
    from tests.conftest import NewStore

STEPS = np.array([0, *(2**k for k in range(10)), *range(1000, 40001, 1000)])
AT = int(np.flatnonzero(STEPS == 20_000)[0])
SHAPE = np.array([0.5, 1.0, 0.6])
"""Of a spike at the checkpoint before its middle, there, and after it."""
NOISE = 0.1
HEIGHT = 1.0
"""Of a token's spike: ten times the noise of its loss at a checkpoint."""


def trend(base: np.ndarray) -> np.ndarray:
    """A fall of losses (checkpoints, tokens) from 11 nats to about these."""
    return base + (11 - base) * (1 + STEPS[:, None] / 30) ** -0.8


def planted_losses(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Losses (checkpoints, tokens) with noise, and each token's side: 1 follows (60 %), −1 inverse (3 %), 0 flat."""
    side = rng.choice([1, -1, 0], n, p=[0.6, 0.03, 0.37])
    losses = trend(rng.uniform(2, 6, n)) + NOISE * rng.normal(size=(len(STEPS), n))
    losses[AT - 1 : AT + 2] += HEIGHT * SHAPE[:, None] * side
    return losses.astype(np.float32), side


@pytest.fixture(scope="module")
def _planted(
    new_store: NewStore, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("spikes") / "store"
    sides = {}
    with new_store(path) as store:
        for name, seed in (("d", 1), ("e", 2)):
            rng = np.random.default_rng(seed)
            dataset = store.add_dataset(name, ragged([40] * 60, seed))
            losses, sides[name] = planted_losses(dataset.n_losses, rng)
            calm = trend(rng.uniform(2, 6, dataset.n_losses)) + NOISE * rng.normal(size=losses.shape)
            for step, row, flat in zip(STEPS.tolist(), losses, calm.astype(np.float32), strict=True):
                store.append(model="spiky", dataset=name, step=step, losses=row)
                store.append(model="calm", dataset=name, step=step, losses=flat)
    return path, sides


@pytest.fixture
def spiky(_planted: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> Store:
    shutil.copytree(_planted[0], tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture
def sides(_planted: tuple[Path, dict[str, np.ndarray]]) -> np.ndarray:
    return np.concatenate([_planted[1]["d"], _planted[1]["e"]])


def test_planted_spikes_are_found_with_their_tokens(spiky: Store, sides: np.ndarray) -> None:
    """Spikes of ten times the noise of a loss: 3 % inverse tokens with ≥ 95 % precision and recall."""
    found = spikes(spiky, Selection(["d", "e"], ["spiky"]), search=Search(enrich=False), limit=1 << 19)
    (told,) = found.spikes
    assert told.steps == (18_000, 20_000, 22_000)
    assert told.chance is not None
    assert told.chance < 0.01
    assert told.low is not None
    assert told.high is not None
    assert told.low < HEIGHT * (0.6 - 0.03) < told.high
    for name, side in (("follow", 1), ("inverse", -1)):
        mask = told.classes.mask(name)
        right = np.count_nonzero(mask & (sides == side))
        assert right / mask.sum() >= 0.95, name
        assert right / (sides == side).sum() >= 0.95, name
    table = told.shares.filter(window_kind="spike").rows_by_key("token_class", named=True, unique=True)
    assert table["inverse"]["share"] == pytest.approx(told.classes.mask("inverse").mean())
    assert table["inverse"]["low"] < 0.03 < table["inverse"]["high"]
    placebo = told.shares.filter(window_kind="placebo")
    assert placebo.height == 2 * len(told.classes.placebos) > 40
    assert placebo["share"].to_numpy().max() < 0.01, "tokens that vary as ever rarely count"
    difference = told.shares.filter(window_kind="difference", token_class="follow").row(0, named=True)
    mean = placebo.filter(token_class="follow")["share"].mean()
    assert difference["share"] == pytest.approx(table["follow"]["share"] - mean)


def test_a_model_without_a_spike_has_none(spiky: Store) -> None:
    found = spikes(spiky, Selection(["d", "e"], ["calm"]))
    assert found.spikes == ()
    found.keep("none")
    assert spiky.sql("FROM spikes").fetchall() == []
    assert spiky.finding("spikes", "none").facts["model"] == "calm"
    assert checks.check(spiky, deep=True) == []


def test_a_long_rise_and_fall_is_no_spike() -> None:
    """It would leave too few windows of its length to judge its tokens by."""
    rng = np.random.default_rng(9)
    means = 5 + np.exp(-(((np.arange(51) - 25) / 8) ** 2)) + 0.001 * rng.normal(size=51)
    assert find_spikes(means)[0] == []
    means[40] += 0.5
    assert [spike.window.at for spike in find_spikes(means)[0]] == [40]


def test_the_noise_is_that_of_independent_checkpoints() -> None:
    rng = np.random.default_rng(6)
    curve = np.linspace(0, 3, 5000) ** 3 + 0.02 * rng.normal(size=5000)
    found = noise(curve)
    assert found.size == pytest.approx(0.02, rel=0.06)
    assert found.near == pytest.approx(1, abs=0.06)


def test_too_few_checkpoints_tell_nothing() -> None:
    with pytest.raises(TrajstoreError, match="window=BEFORE:AT:AFTER"):
        find_spikes(np.arange(15.0))


def test_heights_are_paired_differences() -> None:
    """Two sums by hand; the interval is that of the difference, not of two means apart."""
    sums = np.array([[10.0, 30.0], [14.0, 34.0], [6.0, 20.0]])
    many = np.repeat(sums, 40, axis=1)
    tokens = np.full(80, 4.0)
    strata = [Stratum("d", 80, np.arange(80), (Ratio(tokens, many),))]
    ((height, low, high),) = heights(strata, [Window(0, 1, 2)], Draws())
    assert height == pytest.approx(1.0)
    assert [low, high] == pytest.approx([1.0, 1.0])


def test_tau_is_what_normal_noise_exceeds_at_its_rate() -> None:
    """P(e0 − max(e1, e2) > x), and the share of flat tokens beyond their own τ."""
    rng = np.random.default_rng(7)
    e = rng.normal(size=(3, 2_000_000))
    x = noises_exceeded(0.001)
    assert np.mean(e[0] - e[1:].max(axis=0) > x) == pytest.approx(0.001, rel=0.08)
    block = (5 + 0.2 * rng.normal(size=(600, 2000))).astype(np.float32)
    window = Window(100, 101, 103)
    (found,) = classify(ArrayBlocks(block), np.zeros(2000, dtype=np.int64), [window])
    assert np.median(found.tau) == pytest.approx(0.2 * x, rel=0.03)


def test_changes_by_hand() -> None:
    block = np.array([[1, 1, 1, 3], [4, 0.5, 2, 2], [2, 3, 3, 1]], dtype=np.float32)
    np.testing.assert_allclose(change(block, Window(0, 1, 2)), [2, -0.5, 0, 0])


def test_placebos_have_the_same_length_and_no_spike() -> None:
    found = placebos(12, Window(3, 4, 6), [Window(9, 10, 11)])
    assert [(each.before, each.at, each.after) for each in found] == []
    found = placebos(14, Window(0, 1, 3), [Window(10, 11, 12)])
    assert [each.before for each in found] == [4, 5, 6]
    assert {(each.at - each.before, each.after - each.at) for each in found} == {(1, 2)}


def test_tokens_are_not_judged_by_another_spike() -> None:
    losses, _ = planted_losses(40, np.random.default_rng(11))
    windows = [Window(AT - 2, AT, AT + 2), Window(AT + 8, AT + 10, AT + 12)]
    for found in classify(ArrayBlocks(losses), np.zeros(40, dtype=np.int64), windows):
        assert found.placebos == placebos(len(STEPS), windows[0], windows[1:])
        assert all(each.is_apart(window) for each in found.placebos for window in windows)


def test_tau_is_above_numeric_noise() -> None:
    exact = np.full((len(STEPS), 3), 2.0, dtype=np.float32)
    (found,) = classify(ArrayBlocks(exact), np.zeros(3, dtype=np.int64), [Window(5, 6, 7)])
    assert found.tau.tolist() == pytest.approx([1e-3] * 3)


def test_blocks_change_nothing(sides: np.ndarray) -> None:
    losses, _ = planted_losses(300, np.random.default_rng(8))
    units = np.arange(300) // 10

    class Blocks:
        shape = losses.shape

        def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
            for first in range(0, 300, 70):
                yield first, losses[:, first : first + 70]

    (one,) = classify(ArrayBlocks(losses), units, [Window(AT - 2, AT, AT + 2)])
    (many,) = classify(Blocks(), units, [Window(AT - 2, AT, AT + 2)])
    np.testing.assert_array_equal(one.change, many.change)
    np.testing.assert_array_equal(one.counts, many.counts)
    np.testing.assert_allclose(one.means, many.means, rtol=1e-6)
    follow = one.mask("follow")
    np.testing.assert_allclose(one.means[:, 0], losses[:, follow].mean(axis=1), rtol=1e-5)
    table = shares(one, [("d", np.full(30, 10))], Draws())
    assert table.filter(kind="spike", **{"class": "follow"})["share"].item() == pytest.approx(follow.mean())


def test_a_window_and_a_tau_may_be_given(spiky: Store) -> None:
    search = Search(window=(15_000, 16_000, 17_000), tolerance=Tolerance(tau=0.4), enrich=False)
    found = spikes(spiky, Selection(["d"], ["spiky"], group="second_half"), search)
    (told,) = found.spikes
    assert told.chance is None
    assert found.noise is None
    matrix = spiky.matrix("d", "spiky", "second_half", [15_000, 16_000, 17_000]).values
    follows = matrix[1] - np.maximum(matrix[0], matrix[2]) > 0.4
    np.testing.assert_array_equal(told.classes.mask("follow"), follows)
    tau = 0.4
    macro = f"FROM spike('spiky', 15000, 16000, 17000, {tau}) SEMI JOIN groups.second_half"
    by_macro = spiky.sql(f"SELECT count(*) {macro} USING (dataset, context, position) WHERE dataset = 'd'")
    assert by_macro.fetchall() == [(int(follows.sum()),)]
    with pytest.raises(UnknownStep, match="window with 15500"):
        spikes(spiky, Selection(["d"], ["spiky"]), search=Search(window=(15_000, 15_500, 17_000)))
    with pytest.raises(BadOption, match="rising"):
        spikes(spiky, Selection(["d"], ["spiky"]), search=Search(window=(15_000, 15_000, 17_000)))
    with pytest.raises(BadOption, match="one model"):
        spikes(spiky, Selection(["d"]))


def test_a_finding_and_groups_are_kept(spiky: Store, sides: np.ndarray) -> None:
    for name, side in (("planted_inverse", -1), ("planted_follow", 1)):
        spiky.groups.add(name, spiky_sites(spiky, sides == side))
    found = spikes(spiky, Selection(["d", "e"], ["spiky"]))
    found.keep("first")
    with pytest.raises(FindingExists):
        found.keep("first")
    assert spiky.sql("SELECT model, at_step FROM spikes").fetchall() == [("spiky", 20_000)]
    counted = "SELECT token_class, count(*) FROM spike_tokens WHERE spike = 20000 GROUP BY ALL ORDER BY ALL"
    (told,) = found.spikes
    names = ("flat", "follow", "inverse")
    assert spiky.sql(counted).fetchall() == [(name, told.classes.mask(name).sum()) for name in names]
    inverse = told.groups.filter(token_class="inverse").row(0, named=True)
    assert inverse["group_name"] == "planted_inverse"
    assert inverse["p_adjusted"] < 1e-6
    follow = told.groups.filter(token_class="follow").row(0, named=True)
    assert follow["group_name"] == "planted_follow"
    assert follow["marked"] == np.count_nonzero(told.classes.mask("follow") & (sides == 1))
    assert spiky.sql("SELECT ratio FROM spike_groups WHERE p_adjusted < 1e-6 LIMIT 1").fetchall()
    assert keep_groups(spiky, "first", found) == list(group_names(20_000))
    assert keep_groups(spiky, "first", found) == list(group_names(20_000)), "the same again changes nothing"
    members = spiky.groups.members("spike_20000_inverse", spiky.dataset("d"))
    expected = told.classes.mask("inverse")[: spiky.dataset("d").n_losses]
    assert len(members) == expected.sum()
    top = tokens_in_context(spiky, found, told, "inverse", 3)
    assert top.height == 3
    assert (top["change"] < -top["tau"]).all()
    assert checks.check(spiky, deep=True) == []


def spiky_sites(store: Store, mask: np.ndarray) -> pl.DataFrame:
    return store.matrix(["d", "e"], "spiky", steps=[0]).columns.filter(mask)


def test_the_command(spiky: Store, tmp_path: Path) -> None:
    at = ["-s", str(spiky.path)]
    run = CliRunner().invoke
    words = ["spikes", "-m", "spiky", "-d", "d", "-d", "e", "--name", "first", "--no-enrich"]
    done = run(app, [*words, "--keep", "--plot", str(tmp_path / "spikes.png"), *at])
    assert done.exit_code == 0, done.output
    assert done.stdout == "", "the chart is asked for, not the table"
    assert (tmp_path / "spikes.png").stat().st_size > 10_000
    with Store(spiky.path) as again:
        assert "spike_20000_inverse" in again.groups.names()
    table = run(app, [*words, *at])
    assert table.exit_code == 0, "the finding is there, and the same"
    assert "20000" in table.stdout
    assert "inverse" in table.stdout
    kept = run(app, [*words[:-3], "--name", "second", "--no-enrich", "--keep", "--tau", "0.3", *at])
    assert kept.exit_code == 1
    assert "--replace" in kept.output
    with Store(spiky.path) as again:
        assert [each.name for each in again.findings()] == ["first"], "nothing was written"
    done = run(app, [*words, "--replace", "--keep", "--tau", "0.3", "--json", *at])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["spikes"][0]["at_step"] == 20_000
    assert {row["token_class"] for row in told["shares"]} == {"follow", "inverse"}
    of_calm = ["spikes", "-m", "calm", "-d", "d", "--window", "19000:20000:21000", "--tau", "0.3", "--keep"]
    done = run(app, [*of_calm, "--no-enrich", "--name", "calm", *at])
    assert done.exit_code == 1
    assert "--prefix spike_calm. " in done.stderr
    assert "mean losses" not in done.stderr, "it is known before anything is read"
    done = run(app, [*of_calm, "--no-enrich", "--name", "calm", "--prefix", "spike_calm", *at])
    assert done.exit_code == 0, done.output
    with Store(spiky.path) as again:
        assert {"spike_20000_follow", "spike_calm_20000_follow"} <= set(again.groups.names())
    assert run(app, [*of_calm, "--name", "c", "--prefix", "No", *at]).exit_code == 1
    done = run(app, ["spikes", "-m", "calm", "-d", "d", *at])
    assert done.exit_code == 0
    assert "Cannot tell whether the mean loss of calm has a spike" in done.stderr
    told = json.loads(run(app, ["spikes", "-m", "calm", "-d", "d", "--json", "--replace", *at]).stdout)
    assert told["verdict"] == "cannot tell"
    assert told["power"]["share"] < 0.8
    assert run(app, ["spikes", "-m", "spiky", "-d", "d", "--window", "1:2", *at]).exit_code == 2


def test_groups_of_another_spike_stay(spiky: Store) -> None:
    selection = Selection(["d"], ["spiky"])
    one = spikes(spiky, selection, search=Search(enrich=False))
    other = spikes(spiky, selection, search=Search(tolerance=Tolerance(tau=0.3), enrich=False))
    keep_groups(spiky, "one", one)
    before = spiky.groups.members("spike_20000_follow", spiky.dataset("d")).tolist()
    with pytest.raises(GroupError):
        keep_groups(spiky, "other", other)
    assert spiky.groups.members("spike_20000_follow", spiky.dataset("d")).tolist() == before
    assert keep_groups(spiky, "other", other, "looser")[0] == "looser_20000_follow"
    keep_groups(spiky, "other", other, replace=True)
    assert spiky.groups.members("spike_20000_follow", spiky.dataset("d")).tolist() != before


def test_tokens_in_context_are_those_that_go_furthest(spiky: Store) -> None:
    """By how many times τ they change, recomputed from the losses."""
    found = spikes(spiky, Selection(["d", "e"], ["spiky"]), search=Search(enrich=False))
    found.keep("first")
    (told,) = found.spikes
    before, at, after = spiky.matrix(["d", "e"], "spiky", steps=list(told.steps)).values
    tau = spiky.sql("SELECT tau FROM spike_tokens ORDER BY dataset, context, position").pl()["tau"].to_numpy()
    times = (np.minimum(before, after) - at) / tau
    top = tokens_in_context(spiky, found, told, "inverse", 5)
    np.testing.assert_allclose(-top["change"] / top["tau"], np.sort(times)[::-1][:5], rtol=1e-5)
    texts = spiky.sql("SELECT context, position, text FROM tokens WHERE dataset = 'd'").fetchall()
    known = {(context, position): text for context, position, text in texts}
    for row in top.filter(dataset="d").iter_rows(named=True):
        assert row["marked"] == known[row["context"], row["position"]]


def test_154_flat_checkpoints_have_none_and_21_falling_ones_cannot_tell(store: Store) -> None:
    """Of the same noise; what is said is in the finding, the chart and JSON too."""
    rng = np.random.default_rng(3)
    dataset = store.add_dataset("d", ragged([11] * 60))
    falling = 2 + 9 * (1 + np.geomspace(1, 1e5, 21) / 30) ** -0.5
    for model, means in (("flat", np.full(154, 5.0)), ("short", falling)):
        noisy = means + 0.02 * rng.normal(size=len(means))
        for step, mean in enumerate(noisy):
            losses = mean + 0.3 * rng.normal(size=dataset.n_losses)
            store.append(model=model, dataset="d", step=step, losses=losses.astype(np.float32))
    flat, short = (spikes(store, Selection(["d"], [model])) for model in ("flat", "short"))
    assert (flat.verdict, short.verdict) == ("none", "cannot tell")
    assert "There is none" in not_found(flat.facts)
    assert "Cannot tell" in not_found(short.facts)
    assert "Cannot tell" in spike_charts(short)[0].note
    short.keep("short")
    facts = store.finding("spikes", "short").facts
    kept = facts["power"]
    assert kept["share"] < 0.2
    assert not_found(facts) == not_found(short.facts)
    assert "was found" in not_found({name: facts[name] for name in facts if name != "power"})
    assert kept["height"] == pytest.approx(10 * short.facts["noise"])


def test_a_rise_in_one_text_is_no_spike(store: Store) -> None:
    """The mean rises far above its noise, but another choice of texts would not show it."""
    rng = np.random.default_rng(10)
    dataset = store.add_dataset("d", ragged([11] * 60))
    losses = trend(np.full(dataset.n_losses, 4.0)) + NOISE * rng.normal(size=(len(STEPS), dataset.n_losses))
    for model, texts in (("one", 1), ("many", 30)):
        rise = np.where(np.arange(dataset.n_losses) < 10 * texts, 60 / texts, 0)
        rows = losses + rise * np.isin(np.arange(len(STEPS)), AT)[:, None]
        for step, row in zip(STEPS.tolist(), rows, strict=True):
            store.append(model=model, dataset="d", step=step, losses=row.astype(np.float32))
    one, many = (
        spikes(store, Selection(["d"], [model]), search=Search(enrich=False)) for model in ("one", "many")
    )
    assert one.means[AT] - one.means[AT - 1] == pytest.approx(1, abs=0.05)
    assert one.spikes == ()
    assert [told.steps[1] for told in many.spikes] == [20_000]


def test_charts(spiky: Store) -> None:
    """Titles say model, group and dataset; shares are those of the table; steps are on a log axis."""
    found = spikes(spiky, Selection(["d"], ["spiky"], group="second_half"), Search(enrich=False))
    means, classes, shown = spike_charts(found)
    assert all("spiky, second_half of d" in chart.title for chart in (means, classes, shown))
    assert [mark.step for mark in means.marks] == [20_000]
    matrix = spiky.matrix("d", "spiky", "second_half").values
    np.testing.assert_allclose(means.panels[0].series[0].y, matrix.mean(axis=1), rtol=1e-5)
    assert means.axis().log
    assert means.axis().tick_labels[:2] == ["0", "1"]
    follow = found.spikes[0].classes.mask("follow")
    assert classes.panels[0].series[0].name == f"follow ({follow.sum()} tokens)"
    placebo, spike = shown.panels[0].series
    assert spike.y == pytest.approx((100 * follow.mean(),))
    assert spike.low[0] < spike.y[0] < spike.high[0]
    assert len(placebo.y) == len(found.spikes[0].classes.placebos)
    search = Search(window=(0, 20_000, 40_000), tolerance=Tolerance(tau=0.4), enrich=False)
    wide = spike_charts(spikes(spiky, Selection(["d"], ["calm"]), search=search))
    assert [mark.label for mark in wide[0].marks] == ["no spike of the mean"]
    assert [series.name for series in wide[2].panels[0].series] == ["the spike"], "there is no placebo window"
