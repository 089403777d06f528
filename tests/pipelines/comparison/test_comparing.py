"""Models of a store compared: every number against numpy or scipy over the same slices, and what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from tests.cli.test_cli import path, run
from tests.conftest import PLANTED_LENGTHS, PLANTED_STEPS, ragged
from tests.helpers.progress import Heard
from trajstore.analysis.comparison import Density
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.errors import (
    BadOption,
    FindingExists,
    MissingSlices,
    NothingChosen,
    TrajstoreError,
    UnknownStep,
)
from trajstore.pipelines.comparison.comparison import compare, density
from trajstore.pipelines.comparison.result import Question, request
from trajstore.pipelines.comparison.winner_groups import group_names, keep_groups
from trajstore.pipelines.groups.enrichment import enriched, memberships
from trajstore.store.files.slices import Provenance
from trajstore.store.matrix.matrix import choose_sites
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.charts.matplotlib import picture
from trajstore.view.charts.plotly import figure
from trajstore.view.figures.comparison import comparison_charts

__all__ = ["path"]

ON_D = Selection(datasets=["d"], steps="all")


@pytest.fixture
def seeds(store: Store) -> Store:
    """Two seeds, 60 contexts of 25 tokens, three steps; at 1, a few tokens of the group odd are learned by one."""
    dataset = store.add_dataset("d", ragged([25] * 60, 3))
    rng = np.random.default_rng(0)
    base = rng.gamma(4, 1, dataset.n_losses)
    odd = np.tile(np.arange(1, 25), 60) % 2 == 1
    early = np.flatnonzero(odd)[rng.permutation(odd.sum())[:12]]
    for step, apart in ((0, 0.0), (1, 4.0), (2, 0.0)):
        for model in ("one", "two"):
            losses = base + rng.normal(0, 0.1, dataset.n_losses) + 5
            losses[early] -= apart * (model == "one")
            store.append(model=model, dataset="d", step=step, losses=losses.astype(np.float32))
    store.groups.add("odd", "FROM tokens WHERE position % 2 = 1")
    return store


def losses(store: Store, model: str, step: int, dataset: str = "d") -> np.ndarray:
    return store.slice_losses(model, dataset, step).astype(np.float64)


def test_every_correlation_is_scipy_s(planted: Store) -> None:
    found = compare(planted, ["a", "b"], Question(groups=False), ON_D)
    assert found.models == ("a", "b")
    assert found.against == (("a", 64, "d"), ("b", 64, "d"))
    assert found.correlations.height == 8 * 5 - 1, "a with b at the end is once"
    tokens = planted.dataset("d").frame(["position", "token"])
    share = np.log(tokens["token"].value_counts().sort("token")["count"].to_numpy() / tokens.height)
    z = share[np.searchsorted(np.unique(tokens["token"]), tokens.filter(pl.col("position") > 0)["token"])]
    for row in found.correlations.iter_rows(named=True):
        x = losses(planted, row["model"], row["step"])
        y = losses(planted, row["other"], row["other_step"])
        assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
        assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert row["rms"] == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
        assert row["difference"] == pytest.approx(np.mean(x - y), abs=1e-12)
        rest = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
        assert row["partial"] == pytest.approx(stats.pearsonr(*rest).statistic)
        assert (row["dataset"], row["tokens"], row["units"]) == ("d", 97, 6)
        if row["pearson"] < 1 - 1e-9:
            assert row["pearson_low"] < row["pearson"] < row["pearson_high"]
    assert found.of_pairs().select("model", "step", "other").rows() == [
        ("a", step, "b") for step in PLANTED_STEPS
    ]
    assert found.at_step().select("step", "interval").rows() == [(64, "jackknife")]


def test_outliers_their_winners_and_their_groups(seeds: Store) -> None:
    question = Question(step="1", outliers=0.02)
    found = compare(seeds, ["one", "two"], question, ON_D)
    apart = losses(seeds, "one", 1) - losses(seeds, "two", 1)
    largest = np.argsort(-np.abs(apart))[:29]
    assert found.outliers["difference"].to_list() == pytest.approx(apart[largest])
    assert found.outliers["winner"].to_list() == ["one" if value < 0 else "two" for value in apart[largest]]
    rows = 24 * found.outliers["context"].to_numpy() + found.outliers["position"].to_numpy() - 1
    assert rows.tolist() == largest.tolist()
    assert found.outliers.filter(winner="one").height >= 12

    best = found.enriched.row(0, named=True)
    assert (best["winner"], best["group"]) == ("one", "odd")
    assert best["p_adjusted"] < 0.01
    assert best["low"] > 1
    tested = found.enriched["p"].drop_nulls()
    assert best["p_adjusted"] == pytest.approx(min(1, best["p"] * len(tested)))

    won = largest[apart[largest] < 0]
    for step in (0, 1, 2):
        row = found.followed.filter(winner="one", step=step).row(0, named=True)
        expected = (losses(seeds, "one", step) - losses(seeds, "two", step))[won].mean()
        assert row["mean"] == pytest.approx(expected, abs=1e-6)
        assert row["tokens"] == len(won)
    assert found.followed.filter(winner="one", step=2)["mean"].item() == pytest.approx(0, abs=0.2), (
        "made up by then"
    )


def test_a_group_only(seeds: Store) -> None:
    found = compare(seeds, ["one", "two"], Question(group="odd", groups=False), ON_D)
    inside = np.tile(np.arange(1, 25), 60) % 2 == 1
    x, y = losses(seeds, "one", 2)[inside], losses(seeds, "two", 2)[inside]
    (row,) = found.at_step().iter_rows(named=True)
    assert row["tokens"] == 720
    assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert row["interval"] == "bootstrap"
    assert (found.outliers["position"] % 2 == 1).all()


def test_against_a_checkpoint_of_another_model(planted: Store) -> None:
    planted.append(model="c", dataset="d", step=7, losses=losses(planted, "a", 8).astype(np.float32))
    question = Question(against=("c@7", "b@4"), groups=False)
    found = compare(planted, ["a", "b"], question, Selection(["d"], steps="8"))
    with_c = found.correlations.filter(other="c")
    assert with_c.select("model", "step", "other_step").rows() == [
        *(("a", 8, 7), ("b", 8, 7)),
        *(("a", 64, 7), ("b", 64, 7)),
    ]
    assert with_c["pearson"][0] == pytest.approx(1)
    with pytest.raises(BadOption, match="against='c'"):
        compare(planted, ["a", "b"], Question(against=("c",)), ON_D)
    with pytest.raises(UnknownStep, match="against=9 matches no checkpoint of c on d"):
        compare(planted, ["a", "b"], Question(against=("c@9",)), ON_D)


def test_any_number_of_models(planted: Store) -> None:
    for step in (0, 8, 64):
        half = (losses(planted, "a", step) + losses(planted, "b", step)) / 2
        planted.append(model="c", dataset="d", step=step, losses=half.astype(np.float32))
    heard = Heard()
    found = compare(planted, ["*"], Question(), ON_D, heard)
    assert found.models == ("a", "b", "c")
    pairs = found.of_pairs()
    assert pairs.select("step", "model", "other").rows() == [
        (step, *pair) for step in (0, 8, 64) for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    for row in pairs.iter_rows(named=True):
        x, y = (losses(planted, row[name], row["step"]) for name in ("model", "other"))
        assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.outliers.is_empty()
    assert "Left out on d, as not all have them: steps 1, 2, 4, 16, 32 of a." in heard.lines
    (chart,) = comparison_charts(found)
    assert [len(panel.series) for panel in chart.panels] == [2]


def test_what_cannot_be_compared(planted: Store) -> None:
    with pytest.raises(TrajstoreError, match="two models at least; a is a"):
        compare(planted, ["a"])
    with pytest.raises(TrajstoreError, match=r"is for measures.*diff steps -m a --steps 8,64\. .*step=STEP"):
        compare(planted, ["a@8", "a@64"])
    with pytest.raises(BadOption, match="step='all'"):
        compare(planted, ["a", "b"], Question(step="all"))
    with pytest.raises(UnknownStep, match="step=9 matches no checkpoint of a and b on d"):
        compare(planted, ["a", "b"], Question(step="9"))
    with pytest.raises(BadOption, match="outliers="):
        Question(outliers=0.5)
    planted.append(model="c", dataset="d", step=3, losses=losses(planted, "a", 8).astype(np.float32))
    with pytest.raises(NothingChosen, match="a, c have no step in common"):
        compare(planted, ["a", "c"])


def test_it_is_kept_as_a_finding_and_groups(seeds: Store) -> None:
    question = Question(step="1", outliers=0.02)
    found = compare(seeds, ["one", "two"], question, ON_D)
    name = request(found.models, question, ON_D).default_name
    assert name.startswith("one-vs-two-1-")
    assert name != request(found.models, Question(step="1"), ON_D).default_name
    found.keep(name)
    with pytest.raises(FindingExists):
        found.keep(name)
    facts = seeds.finding("compare", name).facts
    assert facts["datasets"]["d"]["tokens_sha256"] == seeds.dataset("d").tokens_sha256
    assert facts["datasets"]["d"]["loss_sha256"]["one"] == seeds.slice_facts("one", "d", 1).loss_sha256
    stored = seeds.sql(f"FROM compare_outliers WHERE finding = '{name}'").pl()
    assert stored["difference"].to_list() == found.outliers["difference"].to_list()
    by_group = seeds.sql(
        "SELECT group_name FROM compare_groups WHERE p_adjusted < 0.01 AND ratio > 1"
    ).fetchall()
    assert ("odd",) in by_group
    assert seeds.sql("SELECT count(*) FROM compare_correlations").fetchall() == [(found.correlations.height,)]
    assert seeds.sql("SELECT count(*) FROM compare_outlier_steps").fetchall() == [(found.followed.height,)]

    sizes = keep_groups(seeds, "f", found, question)
    assert sizes["compare_one_two_1_one_wins"] == found.outliers.filter(winner="one").height
    members = seeds.groups.members("compare_one_two_1_one_wins", seeds.dataset("d"))
    won = found.outliers.filter(winner="one")
    assert members.tolist() == sorted((25 * won["context"] + won["position"]).to_list())
    keep_groups(seeds, "f", found, question, "mine")
    seeds.groups.add("early_of_mine", "FROM groups.mine_one_wins WHERE position < 9")
    again = Heard()
    told = compare(seeds, ["one", "two"], question, ON_D, again).enriched["group"]
    assert "odd" in told
    assert not {"mine_one_wins", "early_of_mine", "compare_one_two_1_one_wins"} & set(told)
    assert any(
        line.startswith("Left out of the groups, as they were chosen by losses: compare_one")
        for line in again.lines
    )


def test_where_a_group_is_not_there(planted: Store) -> None:
    planted.groups.add("of_d", "FROM tokens WHERE dataset = 'd' AND position > 1")
    found = compare(planted, ["a", "b"], Question(group="of_d", groups=False), Selection(steps="8"))
    assert found.correlations["dataset"].unique().to_list() == ["d"]
    with pytest.raises(NothingChosen, match="No token of of_d in e"):
        compare(planted, ["a", "b"], Question(group="of_d"), Selection(["e"]))


def test_how_they_were_scored_is_compared(planted: Store) -> None:
    half = Provenance(dtype="bfloat16", vocab="tokenizer")
    planted.append(model="c", dataset="d", step=8, losses=losses(planted, "a", 8) + 1, provenance=half)
    heard = Heard()
    compare(planted, ["a", "c"], Question(groups=False), Selection(["d"]), heard)
    assert (
        "On d the dtypes differ (a float32, c bfloat16), and part of what differs in the losses is theirs."
        in heard.lines
    )
    assert any("softmax differ (a full, c tokenizer)" in line for line in heard.lines)


def test_partial_slices(planted: Store) -> None:
    whole = losses(planted, "a", 64) + 0.1 * np.arange(97)
    kept = np.r_[whole[:8], whole[9:38]].astype(np.float32)
    planted.append(model="c", dataset="d", step=64, losses=kept, contexts=[0, 2])
    with pytest.raises(MissingSlices, match="c on d at step 64 .without contexts 1, 3–5"):
        compare(planted, ["a", "c"], Question(groups=False), ON_D)
    found = compare(planted, ["a", "c"], Question(groups=False, missing="nan", outliers=0.1), ON_D)
    (row,) = found.at_step().iter_rows(named=True)
    there = np.r_[0:8, 9:38]
    x = losses(planted, "a", 64)
    assert (row["tokens"], row["units"], row["interval"]) == (37, 2, "none")
    assert row["pearson"] == pytest.approx(stats.pearsonr(x[there], whole[there]).statistic)
    assert row["spearman"] == pytest.approx(stats.spearmanr(x[there], whole[there]).statistic)
    assert found.outliers.select("context", "position").rows() == [(2, p) for p in (29, 28, 27, 26)]


def test_groups_that_read_the_losses_are_no_finding(seeds: Store) -> None:
    seeds.groups.add("easy", "SELECT dataset, context, position FROM losses WHERE model = 'one' AND loss < 4")
    sites = choose_sites(seeds.dataset("d"), None, None, "predict", pad_first=False)
    heard, marked = Heard(), np.arange(1440) % 7 == 0
    found = enriched(seeds, [sites], marked, ["one"], Interval(kind="none"), progress=heard)
    assert heard.lines == ["Left out of the groups, as they were chosen by losses: easy."]
    assert "odd" in found["group"]
    assert "easy" in enriched(seeds, [sites], marked, ["two"], Interval(kind="none"))["group"]


def test_contexts_of_two_datasets_are_units_of_their_own(planted: Store) -> None:
    planted.groups.add("early", "FROM tokens WHERE position < 5")
    sites = [
        choose_sites(planted.dataset(name), None, None, "predict", pad_first=False) for name in ("d", "e")
    ]
    found = memberships(planted, sites)
    assert found.units.tolist() == np.repeat(np.arange(12), [n - 1 for n in PLANTED_LENGTHS] * 2).tolist()
    of_context = [position < 5 for n in PLANTED_LENGTHS for position in range(1, n)]
    assert dict(found)["early"].tolist() == of_context * 2


def test_names_of_groups() -> None:
    names = group_names(("Pythia-1.4b", "x"), Question())
    assert names["Pythia-1.4b"] == "compare_pythia_1_4b_x_last_pythia_1_4b_wins"


def test_a_density_counts_every_token() -> None:
    x, y = np.random.default_rng(0).gamma(2, 1, (2, 5000))
    found = density(x, np.append(y[:-1], np.nan))
    counts = np.array(found.counts)
    assert counts.sum() == 4999
    row, column = (np.searchsorted(found.x, v[0], side="right") - 1 for v in (y, x))
    assert counts[row, column] >= 1
    assert found.x == found.y


def test_a_density_is_drawn() -> None:
    cells = Density((0.0, 1.0, 2.0), (0.0, 1.0, 2.0), ((0, 3), (200, 1)), "tokens")
    panel = Panel("", (Series("line", (0.0, 2.0), (0.0, 2.0), mode="lines"),), density=cells)
    chart = Chart("t", "x", "y", (panel, panel), step_axis=False, share_y=False)
    drawn = figure(chart)
    heat = [trace for trace in drawn.data if trace.type == "heatmap"]
    assert len(heat) == 2
    assert np.array(heat[0].z) == pytest.approx(
        np.array([[np.nan, np.log10(3)], [np.log10(200), 0]]), nan_ok=True
    )
    assert {heat[0].coloraxis, heat[1].coloraxis} == {"coloraxis", "coloraxis2"}
    assert drawn.layout.coloraxis.colorbar.ticktext[-1] == "200"
    assert len(picture([chart])) > 5000


def test_the_command(path: Path, tmp_path: Path) -> None:
    words = ["compare", "a", "b", "-d", "d", "--step", "8", "--steps", "0,8,64", "-s", path]
    done = run(*words, "--no-groups", "--keep", "--name", "ab", "--plot", tmp_path / "c.png")
    assert done.stdout == "", "the chart is asked for, not the table"
    table = run(*words, "--no-groups", "--keep", "--name", "ab")
    assert "correlation (Pearson)" in table.stdout
    assert "A ~ B@64" in table.stdout
    at_8 = table.stdout.split("\n\n")[1].splitlines()[2].split()
    with Store(path) as store:
        x = {(model, step): losses(store, model, step) for model in "ab" for step in (8, 64)}
    others = [("b", 8), ("a", 64), ("b", 64)]
    expected = [np.corrcoef(x["a", 8], x[other])[0, 1] for other in others]
    expected += [np.corrcoef(x["b", 8], x[other])[0, 1] for other in others[1:]]
    assert at_8[:2] == ["d", "8"]
    assert [float(at_8[number]) for number in (2, 7, 8, 9, 10)] == pytest.approx(expected, rel=1e-4)
    assert "A is a, B is b; A − B below 0" in done.stderr
    assert "Added the group compare_a_b_8_" in done.stderr
    assert (tmp_path / "c.png").stat().st_size > 20_000
    again = run("compare", "a", "b", "-d", "e", "--step", "8", "--keep", "-s", path, ok=False).stderr
    assert "There is a group 'compare_a_b_8_" in again
    assert "--prefix compare_a_b_8_e." in again
    assert "correlations" not in again, "it is known before anything is read"
    of_e = ["compare", "a", "b", "-d", "e", "--step", "8", "--steps", "8", "--no-groups", "-s", path]
    assert "Added the group on_e_" in run(*of_e, "--keep", "--prefix", "on_e").stderr
    assert "--keep" in run(*of_e, "--prefix", "other", ok=False).stderr
    assert "There is a compare finding 'ab'" in run(*words, "--name", "ab", ok=False).stderr
    told = json.loads(run(*words, "--name", "ab", "--replace", "--no-groups", "--json").stdout)
    assert told["finding"] == "ab"
    assert {len(told["correlations"]), len(told["groups"])} == {14, 0}
    assert "two models at least" in run("compare", "a", "a", "-s", path, "--keep", ok=False).stderr


def test_several_datasets_are_shown_in_short(path: Path) -> None:
    """A line for each dataset, the largest differences first, and the outliers of all."""
    done = run("compare", "a", "b", "--step", "8", "--no-groups", "--outliers", "0.05", "-s", path)
    datasets, outliers = ([line.split() for line in part.splitlines()] for part in done.stdout.split("\n\n"))
    with Store(path) as store:
        apart = {
            name: np.square(losses(store, "a", 8, name) - losses(store, "b", 8, name)).mean()
            for name in store.dataset_names()
        }
    assert [row[0] for row in datasets[1:]] == sorted(apart, key=lambda name: -apart[name])
    differences = [abs(float(row[7])) for row in outliers[1:]]
    assert differences[:5] == sorted(differences[:5], reverse=True)
    assert "-d DATASET shows one of them" in done.stderr


def test_the_command_on_three_models_prints_a_matrix(planted: Store) -> None:
    for step in (0, 8, 64):
        half = (losses(planted, "a", step) + losses(planted, "b", step)) / 2
        planted.append(model="c", dataset="d", step=step, losses=half.astype(np.float32))
    words = ["compare", "a", "b", "c", "-d", "d", "--steps", "0,8", "--against", "b@8", "-s", planted.path]
    matrix, _, by_step, against = run(*words).stdout.split("\n\n")
    x = np.array([losses(planted, model, 64) for model in "abc"])
    names, *rows = (line.split() for line in matrix.splitlines())
    assert names == ["dataset", "step", "pearson", "a", "b", "c"]
    for number, row in enumerate(rows):
        assert row[:3] == ["d", "64", "abc"[number]]
        expected = np.delete(np.corrcoef(x)[number], number)
        assert [float(value) for value in row[3:]] == pytest.approx(expected, rel=1e-4)
    assert len(by_step.splitlines()) == 4
    header, *rows = (line.split() for line in against.splitlines())
    assert header == ["dataset", "step", "model", "~", "b@8"]
    told = {(int(step), model): float(value) for _, step, model, value in rows}
    assert set(told) == {(step, model) for step in (0, 8, 64) for model in "abc"}
    for (step, model), value in told.items():
        both = np.corrcoef(losses(planted, model, step), losses(planted, "b", 8))
        assert value == pytest.approx(both[0, 1], rel=1e-4)
