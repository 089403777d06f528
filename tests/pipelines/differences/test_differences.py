"""Differences between steps, models and prompts, against numpy over the same slices and values by hand."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from tests.cli.test_cli import path, run
from tests.conftest import PLANTED_LENGTHS, PLANTED_STEPS, NewStore, new_dataset, ragged
from tests.helpers.progress import Heard
from trajstore.analysis.differences import Scale
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.errors import (
    FindingExists,
    MissingSlices,
    NothingChosen,
    TrajstoreError,
    UnknownName,
)
from trajstore.pipelines.differences.checkpoint_pairs import of_models, of_prompts, of_steps
from trajstore.pipelines.differences.differences import DifferenceMethod, differences
from trajstore.pipelines.differences.result import DiffOptions, diff, diff_of, request
from trajstore.store import checks
from trajstore.store.files.measures import Measure
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store
from trajstore.view.figures.differences import difference_chart

__all__ = ["path"]
from tests.pipelines.differences.conftest import CONTEXT, ON_D, losses

# From a store


def test_steps_against_numpy(planted: Store) -> None:
    planted.groups.add("third", "FROM tokens WHERE token % 3 = 0")
    chosen = of_steps(planted, ["third", "every_token"], replace(ON_D, steps="1,8,64"))
    found = differences(planted, chosen, DifferenceMethod(top=4, matrix=True))
    inside = (
        planted.sql("FROM tokens WHERE dataset = 'd' AND position > 0 ORDER BY ALL").pl()["token"] % 3 == 0
    )
    assert found.matrix is not None
    expected = []
    for model, (before, step) in itertools.product("ab", [(1, 8), (8, 64)]):
        changed = losses(planted, model, step) - losses(planted, model, before)
        expected.append(changed)
        for group, mask in (("third", inside.to_numpy()), ("every_token", np.ones(len(changed), dtype=bool))):
            row = found.summary.filter(group=group, model=model, step=step).row(0, named=True)
            assert (row["minus_model"], row["minus_step"]) == (model, before)
            assert row["mean"] == pytest.approx(changed[mask].mean(), rel=1e-5)
            assert row["tokens"] == mask.sum()
            assert row["contexts"] == len(np.unique(CONTEXT[mask]))
            assert row["fell"] == pytest.approx(np.mean(changed[mask] < 0))
            assert row["low"] < row["mean"] < row["high"]
            assert row["noise"] is None
    assert found.matrix.values == pytest.approx(np.array(expected), abs=1e-6)
    assert found.matrix.rows.rows()[1] == ("a", 64, "a", 8)
    largest = np.sort(np.concatenate(expected))
    assert found.changes.filter(end="fell")["difference"].to_list() == pytest.approx(largest[:4], rel=1e-5)
    assert found.changes.filter(end="rose")["difference"].to_list() == pytest.approx(
        largest[::-1][:4], rel=1e-4
    )
    for row in found.changes.iter_rows(named=True):
        here = (np.array(PLANTED_LENGTHS)[: row["context"]] - 1).sum() + row["position"] - 1
        assert row["loss"] == losses(planted, row["model"], row["step"])[here]
        assert row["minus_loss"] == losses(planted, row["model"], row["minus_step"])[here]
        assert row["relative"] == pytest.approx(row["difference"] / row["minus_loss"])


def test_an_interval_of_units_alike_is_student_s(store: Store) -> None:
    """Contexts of the same length: the mean of their means, paired."""
    dataset = store.add_dataset("d", ragged([11] * 8))
    rng = np.random.default_rng(2)
    pair = [rng.gamma(2, 1, dataset.n_losses).astype(np.float32) for _ in range(2)]
    for step, values in enumerate(pair):
        store.append(model="a", dataset="d", step=step, losses=values)
    row = differences(store, of_steps(store)).summary.row(0, named=True)
    by_context = (pair[1].astype(np.float64) - pair[0]).reshape(8, 10).mean(axis=1)
    low, high = stats.t.interval(0.95, 7, by_context.mean(), stats.sem(by_context))
    assert (row["low"], row["high"]) == pytest.approx((low, high), rel=1e-5)


def test_models_at_the_steps_that_both_have(planted: Store) -> None:
    (planted.path / "losses/model=b/dataset=d/step=16/slice.parquet").unlink()
    heard = Heard()
    chosen = of_models(planted, "b", "a", selection=ON_D, progress=heard)
    found = differences(planted, chosen, DifferenceMethod(Scale(relative=True), matrix=True))
    assert heard.lines == ["Left out on d, as not all have them: steps 16 of a."]
    assert found.matrix is not None
    steps = [step for step in PLANTED_STEPS if step != 16]
    assert found.matrix.rows.rows() == [("a", step, "b", step) for step in steps]
    a, b = (np.array([losses(planted, model, step) for step in steps]) for model in "ab")
    assert found.matrix.values == pytest.approx((a - b) / b, abs=1e-6)
    assert found.summary["mean"].to_list() == pytest.approx(((a - b) / b).mean(axis=1), abs=1e-7)


def test_the_noise_is_the_larger_of_both_slices(planted: Store) -> None:
    changed = losses(planted, "a", 8) - losses(planted, "a", 4)
    for step, noise in ((4, 0.01), (8, float(np.median(np.abs(changed))))):
        measure = Measure("noise_p99", noise)
        planted.add_measures("noise", [measure], model="a", step=step, dataset="d")
    selection = Selection(["d"], ["a"], "2,4,8")
    found = differences(planted, of_steps(planted, selection=selection), DifferenceMethod(top=400))
    first, second = found.summary.sort("step")["noise"]
    assert (first, second) == (0.01, noise)
    assert found.summary.filter(step=8).select(pl.col("fell") + pl.col("rose")).item() == pytest.approx(
        48 / 97
    )
    last = found.changes.filter(step=8)
    assert last["in_noise"].to_list() == (np.abs(last["difference"]) <= noise).to_list()
    assert last["in_noise"].sum() == 49
    # Beside the noise, which is in nats, so are the differences, however they are expressed.
    relative = differences(
        planted,
        of_steps(planted, selection=selection),
        DifferenceMethod(Scale(relative=True, least=50.0), top=400),
    )
    assert relative.summary["mean"].to_list() == pytest.approx((found.summary["mean"] / 50).to_list())
    same = ["step", "noise", "fell", "rose"]
    assert relative.summary.select(same).equals(found.summary.select(same))
    assert relative.changes.filter(step=8)["in_noise"].sum() == 49


def test_partial_slices(planted: Store) -> None:
    dataset = planted.dataset("d")
    planted.append(model="c", dataset="d", step=1, losses=[np.ones(8), np.ones(29)], contexts=[0, 2])
    planted.append(model="c", dataset="d", step=2, losses=np.full(dataset.n_losses, 3.0))
    chosen = of_steps(planted, selection=Selection(["d"], ["c"]))
    with pytest.raises(MissingSlices, match="c on d at step 1 .without contexts 1, 3–5"):
        differences(planted, chosen)
    found = differences(planted, chosen, DifferenceMethod(missing="nan", matrix=True))
    assert found.matrix is not None
    assert np.nansum(found.matrix.values) == 2 * 37
    assert np.isnan(found.matrix.values).sum() == dataset.n_losses - 37
    assert found.summary.is_empty()


def test_a_matrix_without_holes(planted: Store) -> None:
    (planted.path / "losses/model=b/dataset=e/step=16/slice.parquet").unlink()
    chosen = of_models(planted, "a", "b")
    with pytest.raises(MissingSlices, match="b on e at step 16"):
        differences(planted, chosen, DifferenceMethod(matrix=True))
    assert differences(planted, chosen).summary.height == 15
    found = differences(planted, chosen, DifferenceMethod(missing="nan", matrix=True)).matrix
    assert found is not None
    assert np.isnan(found.values).sum() == planted.dataset("e").n_losses


# Prompts: two categories of two problems, of three tokens each; few-shot has a separator between them.
PROBLEMS = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"], ["j", "k", "l"]]


@pytest.fixture
def prompted(new_store: NewStore, tmp_path: Path) -> Store:
    store = new_store(tmp_path / "prompted")

    def items(numbers: list[int | None], positions: list[int | None]) -> pl.DataFrame:
        roles = [None if n is None else "answer" if n == 2 else "question" for n in positions]
        schema = {"item": pl.Int64, "item_position": pl.Int32, "role": pl.String}
        return pl.DataFrame([numbers, positions, roles], schema=schema)

    def contexts(categories: list[str], shots: list[int]) -> pl.DataFrame:
        zero = new_dataset([["a", "b"]] * len(categories)).contexts
        return zero.with_columns(category=pl.Series(categories), shot=pl.Series(shots))

    every = new_dataset([*PROBLEMS, ["\n", "\n"]])
    ids = {
        text: int(number)
        for texts, row in zip(every.texts, every.ids, strict=True)
        for text, number in zip(texts, row, strict=True)
    }

    def made(texts: list[list[str]], labels: pl.DataFrame, of: pl.DataFrame) -> None:
        new = replace(
            every,
            ids=[np.array([ids[t] for t in c], dtype=np.int32) for c in texts],
            texts=texts,
            contexts=of,
            items=labels,
        )
        store.add_dataset("few" if len(texts) == 2 else "zero", new)

    made(
        PROBLEMS,
        items([n for n in range(4) for _ in range(3)], [0, 1, 2] * 4),
        contexts(["x", "x", "y", "y"], [0] * 4),
    )
    shots = [[*PROBLEMS[n], "\n", *PROBLEMS[n + 1]] for n in (0, 2)]
    places = [0, 1, 2, None, 0, 1, 2]
    numbers = [None if p is None else n + (i > 3) for n in (0, 2) for i, p in enumerate(places)]
    made(shots, items(numbers, places * 2), contexts(["x", "y"], [1, 1]))
    rng = np.random.default_rng(4)
    for step in (0, 1):
        store.append(model="a", dataset="zero", step=step, losses=rng.gamma(2, 1, 8).astype(np.float32))
        store.append(model="a", dataset="few", step=step, losses=rng.gamma(2, 1, 12).astype(np.float32))
    return store


def test_prompts_item_by_item(prompted: Store) -> None:
    prompted.groups.add("answer_token", "FROM tokens WHERE role = 'answer'")
    found = differences(
        prompted,
        of_prompts(prompted, "zero", "few", ["every_token", "answer_token"], all_items=True),
        DifferenceMethod(matrix=True),
    )
    matrix = found.matrix
    assert matrix is not None
    assert matrix.rows.rows() == [("a", step, "a", step, "few", "zero") for step in (0, 1)]
    # No first token: zero-shot has no loss there. Rows of few-shot: b c \n d e f, of which d is a first token.
    assert matrix.columns["text"].to_list() == ["b", "c", "e", "f", "h", "i", "k", "l"]
    for step, values in enumerate(matrix.values):
        zero, few = losses(prompted, "a", step, "zero"), losses(prompted, "a", step, "few")
        expected = few[[0, 1, 4, 5, 6, 7, 10, 11]] - zero
        assert values == pytest.approx(expected, abs=1e-6)
        row = found.summary.filter(group="every_token", step=step).row(0, named=True)
        assert (row["dataset"], row["tokens"], row["unit"], row["units"]) == ("few − zero", 8, "category", 2)
        assert row["mean"] == pytest.approx(expected.mean(), rel=1e-6)
        of_answers = found.summary.filter(group="answer_token", step=step)
        assert of_answers["mean"].item() == pytest.approx(expected[1::2].mean(), rel=1e-6)
    lowest = found.changes.row(0, named=True)
    assert lowest["dataset"] == "few"
    assert (
        lowest["text"]
        == prompted.sql(
            "SELECT text FROM tokens WHERE dataset = 'few' "
            f"AND context = {lowest['context']} AND position = {lowest['position']}"
        ).fetchall()[0][0]
    )
    stored = losses(prompted, "a", lowest["step"], "few")
    assert lowest["loss"] == stored[6 * lowest["context"] + lowest["position"] - 1]


def test_items_under_the_same_prompt_are_left_out(prompted: Store) -> None:
    """Problems 0 and 2 are the first of their few-shot contexts: no example stands before them."""
    heard = Heard()
    chosen = of_prompts(prompted, "zero", "few", progress=heard)
    found = differences(prompted, chosen, DifferenceMethod(matrix=True))
    assert found.matrix is not None
    assert found.matrix.columns["item"].to_list() == [1, 1, 3, 3]
    for step, values in enumerate(found.matrix.values):
        zero, few = losses(prompted, "a", step, "zero"), losses(prompted, "a", step, "few")
        assert values == pytest.approx(few[[4, 5, 10, 11]] - zero[[2, 3, 6, 7]], abs=1e-6)
    assert "Left out: 2 of 4 items" in " ".join(heard.lines)
    done = run("diff", "prompts", "zero", "few", "-s", str(prompted.path))
    assert "Left out: 2 of 4 items" in done.stderr
    assert "--all-items" in done.stderr
    assert (
        "Left out"
        not in run("diff", "prompts", "zero", "few", "--all-items", "-s", str(prompted.path)).stderr
    )


def test_items_behind_other_texts_of_one_length_are_kept(store: Store) -> None:
    """Not the place in the context counts, but what stands before it."""
    schema = {"item": pl.Int64, "item_position": pl.Int32, "role": pl.String}
    items = pl.DataFrame([[None, 0, 0, None, 1, 1], [None, 0, 1] * 2, [None] * 6], schema=schema)
    texts = [["p", "a", "b"], ["p", "c", "d"]], [["p", "a", "b"], ["q", "c", "d"]]
    every = new_dataset([*texts[0], *texts[1]])
    for name, some, of in (("one", slice(0, 2), texts[0]), ("other", slice(2, 4), texts[1])):
        contexts = new_dataset(of).contexts
        store.add_dataset(
            name, replace(every, ids=every.ids[some], texts=every.texts[some], items=items, contexts=contexts)
        )
        store.append(model="a", dataset=name, step=1, losses=np.ones(4, dtype=np.float32))
    chosen = of_prompts(store, "one", "other")
    assert chosen.columns["item"].to_list() == [1, 1]
    same = replace(every, ids=every.ids[:2], texts=every.texts[:2], items=items, contexts=contexts)
    store.add_dataset("same", same)
    with pytest.raises(NothingChosen, match="all_items=True"):
        of_prompts(store, "one", "same")


def test_what_cannot_be_compared(planted: Store) -> None:
    with pytest.raises(NothingChosen, match="steps='last' takes in a single step"):
        of_steps(planted, selection=Selection(steps="last"))
    with pytest.raises(UnknownName, match="no model 'c' here"):
        of_models(planted, "a", "c")
    with pytest.raises(UnknownName, match="no group 'no_such'"):
        of_steps(planted, ["no_such"])
    with pytest.raises(TrajstoreError, match="d is one"):
        of_prompts(planted, "d", "d")
    with pytest.raises(TrajstoreError, match="a is one"):
        of_models(planted, "a", "a")


def test_no_intervals(planted: Store) -> None:
    found = differences(
        planted, of_models(planted, "a", "b"), DifferenceMethod(interval=Interval(kind="none"))
    )
    assert found.summary["low"].is_null().all()


def test_they_are_kept_as_a_finding(planted: Store) -> None:
    planted.groups.add("third", "FROM tokens WHERE token % 3 = 0")
    planted.add_measures("noise", [Measure("noise_p99", 0.05)], model="a", step=8, dataset="d")
    asked = DiffOptions(
        "steps", (), ("third", "position_is(2)"), Selection(["d"], ["a"], "1,8,64"), DifferenceMethod(top=6)
    )
    chosen = asked.chosen(planted)
    found = diff_of(planted, asked, chosen)
    name = request(asked, chosen).default_name
    assert name.startswith("steps-a-1-8-64-2-groups-")
    assert name != request(replace(asked, how=DifferenceMethod(Scale(relative=True))), chosen).default_name
    many = replace(asked, selection=Selection(["d"], ["a"], ",".join(map(str, range(1000)))))
    assert len(request(many, chosen).default_name) < 80
    found.keep(name)
    with pytest.raises(FindingExists):
        found.keep(name)
    facts = planted.finding("diff", name).facts
    assert (facts["asked"]["kind"], facts["models"], facts["pairs"], facts["slices"]) == (
        "steps",
        ["a"],
        2,
        3,
    )
    assert list(facts["groups_sha256"]) == ["third"]
    assert planted.finding("diff", name).table("slices").rows() == [
        ("a", step, "d", planted.slice_facts("a", "d", step).loss_sha256) for step in (1, 8, 64)
    ]
    tokens = planted.sql("FROM tokens WHERE dataset = 'd' AND position > 0 ORDER BY context, position").pl()
    third, second = (tokens["token"] % 3 == 0).to_numpy(), (tokens["position"] == 2).to_numpy()
    changed = {8: losses(planted, "a", 8) - losses(planted, "a", 1)}
    changed[64] = losses(planted, "a", 64) - losses(planted, "a", 8)
    rows = planted.sql(
        "SELECT group_name, step, mean, fell, mean_of, minus_dataset FROM diff_groups"
    ).fetchall()
    assert len(rows) == 4
    for group, step, mean, fell, mean_of, minus in rows:
        of_group = changed[step][third if group == "third" else second]
        assert mean == pytest.approx(of_group.mean(), rel=1e-5)
        assert fell == pytest.approx(np.mean(of_group < -0.05))
        assert (mean_of, minus) == ("difference", "d")
    assert planted.sql("SELECT DISTINCT noise FROM diff_tokens").fetchall() == [(0.05,)]
    # What is kept joins with the losses.
    joined = planted.sql(
        "SELECT difference FROM diff_tokens AS kept "
        "JOIN losses AS after USING (model, dataset, step, context, position) "
        "JOIN losses AS before ON (before.model, before.dataset, before.step, before.context, before.position) "
        "= (minus_model, minus_dataset, minus_step, kept.context, kept.position) "
        "WHERE change = 'fell' AND difference = after.loss::DOUBLE - before.loss::DOUBLE ORDER BY difference"
    ).fetchall()
    lowest = np.sort(np.concatenate([each[third | second] for each in changed.values()]))[:6]
    assert [value for (value,) in joined] == pytest.approx(lowest, abs=1e-12)
    assert checks.check(planted, deep=True) == []


def test_a_place_is_in_a_group_that_has_it_under_either_prompt(prompted: Store) -> None:
    for name, other in (("zero", "few"), ("few", "zero")):
        prompted.groups.add(f"of_{name}", f"FROM tokens WHERE dataset = '{name}' AND role = 'answer'")
        chosen = of_prompts(prompted, "zero", "few", [f"of_{name}"], steps="1", all_items=True)
        assert [len(part.sites.tokens) for part in chosen.parts] == [4], other
        found = differences(prompted, chosen).summary["mean"].item()
        zero, few = (losses(prompted, "a", 1, of) for of in ("zero", "few"))
        assert found == pytest.approx((few[[1, 5, 7, 11]] - zero[1::2]).mean(), rel=1e-6)


def test_the_larger_texts_of_two_prompts_are_resampled(store: Store) -> None:
    """Without categories: two problems stand in one context of the second, so there are two units and not four."""
    schema = {"item": pl.Int64, "item_position": pl.Int32, "role": pl.String}
    items = pl.DataFrame([[n // 3 for n in range(12)], [0, 1, 2] * 4, [None] * 12], schema=schema)
    store.add_dataset("zero", replace(new_dataset(PROBLEMS), items=items))
    few = [[*PROBLEMS[0], *PROBLEMS[1]], [*PROBLEMS[2], *PROBLEMS[3]]]
    store.add_dataset("few", replace(new_dataset(few), items=items))
    rng = np.random.default_rng(4)
    for name, count in (("zero", 8), ("few", 10)):
        store.append(model="a", dataset=name, step=1, losses=rng.gamma(2, 1, count).astype(np.float32))
    for first, second, sign in (("zero", "few", 1), ("few", "zero", -1)):
        row = differences(store, of_prompts(store, first, second, all_items=True)).summary.row(0, named=True)
        changed = sign * (
            losses(store, "a", 1, "few")[[0, 1, 3, 4, 5, 6, 8, 9]] - losses(store, "a", 1, "zero")
        )
        by_text = changed.reshape(2, 4).mean(axis=1)
        low, high = stats.t.interval(0.95, 1, by_text.mean(), stats.sem(by_text))
        assert (row["unit"], row["units"], row["interval"]) == ("context", 2, "t")
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((by_text.mean(), low, high), rel=1e-5)


def test_kept_prompts_name_both_datasets(prompted: Store) -> None:
    asked = DiffOptions(
        "prompts", ("zero", "few"), (), Selection(steps="1"), DifferenceMethod(Scale(relative=True)), True
    )
    chosen = asked.chosen(prompted)
    how = DifferenceMethod(Scale(relative=True))
    diff(prompted, Selection(steps="1"), prompts=("zero", "few"), how=how, all_items=True).keep("p")
    assert request(asked, chosen).default_name.startswith("prompts-zero-vs-few-1-")
    zero, few = losses(prompted, "a", 1, "zero"), losses(prompted, "a", 1, "few")[[0, 1, 4, 5, 6, 7, 10, 11]]
    (row,) = prompted.sql("SELECT dataset, minus_dataset, mean_of, mean FROM diff_groups").fetchall()
    assert row[:3] == ("few", "zero", "relative")
    assert row[3] == pytest.approx(((few - zero) / np.maximum(zero, 0.1)).mean(), rel=1e-6)
    items = prompted.sql(
        "SELECT item, tokens.item_position, minus_loss FROM diff_tokens "
        "JOIN tokens USING (dataset, context, position) WHERE minus_dataset = 'zero'"
    ).fetchall()
    assert items
    for item, position, loss in items:
        assert loss == zero[2 * item + position - 1]


# The command


def test_the_commands(path: Path, tmp_path: Path) -> None:
    done = run("diff", "steps", "-m", "a", "-d", "d", "--steps", "0,8,64", "--top", "2", "-s", path)
    first, *_ = done.stdout.splitlines()
    assert first.split()[:6] == ["group", "model", "dataset", "step", "minus_step", "tokens"]
    assert "noise of these losses was not measured" in done.stderr
    words = ["diff", "models", "a", "b", "--steps", "log", "--relative", "-o", tmp_path / "d.npy"]
    done = run(*words, "--plot", tmp_path / "d.png", "--json", "-s", path)
    told = json.loads(done.stdout)
    assert set(told) == {"finding", "summary", "changes"}
    assert len(told["changes"]) == 10
    assert f"Kept as the finding {told['finding']}" in done.stderr
    assert told["finding"].startswith("models-a-vs-b-log-")
    assert "There already, and the same" in run(*words, "-s", path).stderr
    run("diff", "models", "a", "b", "--top", "0", "--name", "mine", "-s", path)
    run("diff", "models", "a", "b", "--name", "mine", "--replace", "--relative", "-s", path)
    shown = run(
        "sql", "SELECT change, count(*) FROM diff_tokens WHERE finding = 'mine' GROUP BY ALL", "-s", path
    )
    assert "fell" in shown.stdout
    assert '"relative": true' in run("finding", "show", "diff", "mine", "--json", "-s", path).stdout
    run("finding", "drop", "diff", "mine", "-s", path)
    assert {row["minus_model"] for row in told["summary"]} == {"a"}
    assert np.load(tmp_path / "d.npy").shape == (8, 194)
    assert pl.read_parquet(tmp_path / "d.rows.parquet").columns == [
        "model",
        "step",
        "minus_model",
        "minus_step",
    ]
    assert (tmp_path / "d.png").stat().st_size > 10_000
    assert "Relative: (loss − minus_loss) / max(minus_loss, 0.1)" in done.stderr
    assert "There is no dataset 'no'" in run("diff", "prompts", "no", "d", "-s", path, ok=False).stderr


def test_a_group_chosen_by_the_losses_is_said_to_be(path: Path) -> None:
    words = ["diff", "steps", "-m", "a", "-d", "d", "--steps", "8,64", "-s", path]
    assert "chosen by losses" not in run(*words).stderr
    done = run(*words, "-g", "improved('a', 8, 64, 0.1)")
    assert "improved('a', 8, 64, 0.1) was chosen by losses of a" in done.stderr


def test_a_relative_chart_says_what_it_divides_by(planted: Store, prompted: Store) -> None:
    def label(store: Store, asked: DiffOptions) -> tuple[str, str]:
        found = differences(store, asked.chosen(store), asked.how)
        made = difference_chart(found.summary, relative=asked.how.scale.relative, level=0.95)
        return made.title.partition(" of ")[0], made.y_label

    how = DifferenceMethod(Scale(relative=True))
    of_a = Selection(["d"], ["a"], "0,8")
    assert label(planted, DiffOptions("steps", (), (), of_a, how)) == (
        "Relative difference in loss",
        "difference / loss before",
    )
    of_both = DiffOptions("models", ("a", "b"), (), Selection(["d"], None, "8"), how)
    assert label(planted, of_both) == ("Relative difference in loss", "difference / loss of a")
    items = DiffOptions("prompts", ("zero", "few"), (), Selection(steps="1"), how, True)
    assert label(prompted, items)[1] == "difference / loss on zero"
    assert label(planted, replace(of_both, how=DifferenceMethod()))[1] == "difference (nats a token)"
