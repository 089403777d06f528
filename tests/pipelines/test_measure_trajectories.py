"""Trajectories of measures: means and intervals as those of groups, from the values of contexts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from tests.helpers.tiny_models import random_dataset
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.cli import app
from trajstore.errors import (
    BadOption,
    NothingChosen,
    NotMeasured,
    PlotError,
    TrajstoreError,
    UnknownName,
    UnknownStep,
)
from trajstore.measures.context_means import context_measures
from trajstore.pipelines.measure_trajectories import measure_matrix, measure_trajectory
from trajstore.pipelines.measures.checkpoint_comparison import SCHEMA as COMPARED
from trajstore.pipelines.measures.checkpoint_comparison import compare_measures
from trajstore.pipelines.measures.curves import SCHEMA, measure_curves
from trajstore.pipelines.phases import phases
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

STEPS = [0, *(2**n for n in range(12))]
CONTEXTS = 60


def _values(model: str, step: int, head: int) -> np.ndarray:
    """A head that forms at step 16, and one that does not."""
    noise = np.random.default_rng([step, head, len(model)]).normal(0, 0.05, CONTEXTS)
    return (0.8 if step >= 16 and head == 0 else 0.1) + noise


@pytest.fixture
def measured(store: Store) -> Store:
    store.add_dataset("d", random_dataset([4] * CONTEXTS))
    for model in ("a", "bb"):
        store.publish_model(ModelFacts(model))
        for step in STEPS:
            rows = [
                row
                for head in (0, 1)
                for row in context_measures("heads", _values(model, step, head), layer=1, head=head)
            ]
            store.add_measures("heads", rows, model=model, step=step, dataset="d")
            store.add_measures(
                "norm",
                [Measure("norm", float(step), layer=n, stderr=0.5) for n in (0, 1)],
                model=model,
                step=step,
            )
    return store


def test_means_and_intervals_are_over_contexts(measured: Store) -> None:
    frame = measure_trajectory(measured, "heads", Selection(models=["a"])).frame
    assert dict(frame.schema) == SCHEMA
    assert frame.select("layer", "head").unique().height == 2
    for head in (0, 1):
        own = frame.filter(head=head).sort("step")
        assert own["step"].to_list() == STEPS
        for row in own.iter_rows(named=True):
            values = _values("a", row["step"], head)
            half = 1.96 * values.std(ddof=1) / CONTEXTS**0.5
            assert row["value"] == pytest.approx(values.mean())
            assert row["value"] - row["low"] == pytest.approx(half, rel=0.25)
            assert row["high"] - row["value"] == pytest.approx(half, rel=0.25)
            assert (row["contexts"], row["interval"], row["unit"]) == (CONTEXTS, "bootstrap", "context")


def test_one_number_a_checkpoint_has_the_interval_of_its_standard_error(measured: Store) -> None:
    frame = measure_trajectory(measured, ["norm"], Selection(models=["a"]), layer=1).frame
    assert frame["layer"].unique().to_list() == [1]
    assert frame["value"].to_list() == [float(step) for step in STEPS]
    assert frame["high"].to_numpy() - frame["value"].to_numpy() == pytest.approx(0.98, abs=1e-3)
    assert set(frame["interval"]) == {"stderr"}
    none = measure_trajectory(measured, "norm", interval=Interval("none")).frame
    assert none["low"].null_count() == none.height


def test_differences_and_means_of_measures(measured: Store) -> None:
    def curve(*names: str, **how: str) -> pl.DataFrame:
        comparison, chosen = Comparison(**how), Selection(steps="0,256")  # type: ignore[arg-type]
        return measure_trajectory(measured, names, chosen, head=0, comparison=comparison).frame

    for step in STEPS:
        rows = context_measures("base", _values("a", step, 0) / 2, layer=1)
        measured.add_measures("base", rows, model="a", step=step, dataset="d")
    values = {(model, step): _values(model, step, 0) for model in ("a", "bb") for step in (0, 256)}
    # Of models, paired by context.
    frame = curve("heads", minus_model="bb")
    assert set(frame["model"]) == {"a − bb"}
    # Of measures, paired by context: half of each is left.
    halved = curve("heads", minus="base")
    assert set(halved["measure"]) == {"heads − base"}
    for step in (0, 256):
        for row, paired in (
            (
                frame.row(by_predicate=pl.col("step") == step, named=True),
                values["a", step] - values["bb", step],
            ),
            (halved.row(by_predicate=pl.col("step") == step, named=True), values["a", step] / 2),
        ):
            assert row["value"] == pytest.approx(paired.mean())
            half = 1.96 * paired.std(ddof=1) / CONTEXTS**0.5
            assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.25)
            assert (row["contexts"], row["layer"], row["head"]) == (CONTEXTS, 1, 0)
    mean = curve("heads", by="dataset")
    assert set(mean["model"]) == {"mean of 2 models"}
    both = [np.mean([values["a", step], values["bb", step]]) for step in (0, 256)]
    assert mean["value"].to_list() == pytest.approx(both)
    # Numbers of checkpoints, as independent ones.
    for minus in ({"minus_model": "a"}, {"minus": "offset"}):
        measured.add_measures("offset", [Measure("offset", 1.0)], model="bb", step=256, replace=True)
        frame = measure_trajectory(measured, "norm", layer=1, comparison=Comparison(**minus)).frame
        row = frame.filter(step=256).to_dicts()[0]
        if "minus" in minus:
            assert (frame.height, row["value"], row["interval"], row["low"]) == (1, 255.0, "none", None)
        else:
            assert (frame.height, row["value"], row["interval"]) == (len(STEPS), 0.0, "stderr")
            assert row["high"] == pytest.approx(1.96 * 0.5**0.5, abs=1e-3)
    with pytest.raises(UnknownName, match="offset"):
        measure_trajectory(measured, "norm", Selection(models=["a"]), comparison=Comparison(minus="offset"))
    with pytest.raises(BadOption, match="another measure"):
        measure_trajectory(measured, "norm", comparison=Comparison(minus="norm"))


def test_tokens_seen_at_steps_that_are_not_scored(measured: Store) -> None:
    measured.publish_model(ModelFacts("c", tokens_per_step=10, n_nonembedding=2))
    measured.add_measures("norm", [Measure("norm", 1.0, layer=0)], model="c", step=7)
    for x, column, place in (("tokens", "tokens_seen", 70), ("flops", "flops", 840)):
        made = measure_trajectory(measured, "norm", Selection(models=["c"]), x=x)  # type: ignore[arg-type]
        assert made.frame[column].to_list() == [place]
        (chart,) = made.charts()
        assert chart.panels[0].series[0].x == (place,)
    with pytest.raises(TrajstoreError, match="tokens that a had seen at step 0 are not known"):
        measure_trajectory(measured, "norm", x="tokens")


def test_a_measure_of_which_contexts_differ_by_step_keeps_its_own_mean(measured: Store) -> None:
    values = _values("a", 4096, 0)
    values[0] = np.nan
    measured.add_measures(
        "heads", context_measures("heads", values, layer=1, head=0), model="a", step=4096, dataset="d"
    )
    curve = measure_curves(measured, ["heads"], Selection(models=["a"]), head=0)[0]
    assert curve.by_context is None
    assert curve.values[-1] == pytest.approx(values[1:].mean())


def test_phases_resample_contexts(measured: Store) -> None:
    found = phases(measured, measures=["heads"], selection=Selection(models=["a"]), most=2)
    assert all(
        curve.resampled is not None and curve.resampled.shape == (1000, len(STEPS)) for curve in found.curves
    )
    events = found.frame.filter(series="heads, layer 1, head 0")
    rise = events.filter(kind="fastest_rise").row(0, named=True)
    assert 8 <= rise["low"] <= rise["step"] <= rise["high"] <= 16


def test_charts_are_small_multiples(measured: Store) -> None:
    heads, norm = measure_trajectory(measured, ["heads", "norm"]).charts()
    assert [panel.title for panel in heads.panels] == ["layer 1 · head 0", "layer 1 · head 1"]
    assert [series.name for series in heads.panels[0].series] == ["a", "bb"]
    assert (
        heads.panels[0].series[0].low[3] < heads.panels[0].series[0].y[3] < heads.panels[0].series[0].high[3]
    )
    assert [panel.title for panel in norm.panels] == ["layer 0", "layer 1"]
    many = [Measure("many", 1.0, layer=layer, head=head) for layer in range(9) for head in range(8)]
    measured.add_measures("many", many, model="a", step=0)
    with pytest.raises(PlotError, match="72 curves side by side, and 64 are the most"):
        measure_trajectory(measured, "many").charts()
    (one,) = measure_trajectory(measured, "many", layer=3).charts()
    assert len(one.panels) == 8


def test_a_matrix_has_a_column_for_each_layer_and_head(measured: Store, tmp_path: Path) -> None:
    words = ["matrix", str(tmp_path / "m.npz"), "--measure", "heads,norm", "-s", str(measured.path)]
    assert CliRunner().invoke(app, [*words, "--steps", "0,256"]).exit_code == 0
    with np.load(tmp_path / "m.npz") as file:
        values = file["measures"]
        assert list(zip(file["models"], file["steps"], strict=True)) == [
            ("a", 0),
            ("a", 256),
            ("bb", 0),
            ("bb", 256),
        ]
    columns = pl.read_parquet(tmp_path / "m.columns.parquet")
    assert columns.select("measure", "layer", "head").rows() == [
        ("heads", 1, 0),
        ("heads", 1, 1),
        ("norm", 0, None),
        ("norm", 1, None),
    ]
    expected = [
        [_values(model, step, 0).mean(), _values(model, step, 1).mean(), step, step]
        for model in ("a", "bb")
        for step in (0, 256)
    ]
    assert values == pytest.approx(np.array(expected, np.float32))
    measured.add_measures("norm", [Measure("norm", 1.0, layer=0)], model="a", step=9999)
    with pytest.raises(NothingChosen, match="a at step 9999 has no .*missing='nan'"):
        measure_matrix(measured, ["norm"])
    assert np.isnan(measure_matrix(measured, "norm", missing="nan").values).sum() == 1
    assert CliRunner().invoke(app, [*words, "--pad-first"]).exit_code == 2


def test_errors_say_what_there_is(measured: Store) -> None:
    with pytest.raises(UnknownName, match="'head'.*heads"):
        measure_trajectory(measured, "head")
    with pytest.raises(NothingChosen, match="no such layer or head; it has: layer 1; head 0, 1"):
        measure_trajectory(measured, "heads", head=7)
    with pytest.raises(UnknownStep):
        measure_trajectory(measured, "heads", Selection(steps="3"))


def test_the_command(measured: Store, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["trajectory", *words, "-s", str(measured.path)])
        return result.exit_code, result.stdout, result.stderr

    code, out, _ = run("--measure", "heads", "--head", "0", "-m", "a", "--steps", "0,256", "--json")
    assert code == 0
    assert [(row["step"], row["head"], row["contexts"]) for row in json.loads(out)] == [
        (0, 0, 60),
        (256, 0, 60),
    ]
    code, out, _ = run("--measure", "heads,norm", "--layer", "1", "--text")
    assert (code, "layer 1" in out or "head 0" in out) == (0, True)
    plot = tmp_path / "p.svg"
    assert run("--measure", "heads", "--plot", str(plot))[0] == 0
    assert "head 1" in plot.read_text()
    for words in (
        ("g", "--measure", "heads"),
        ("--measure", "heads", "--contexts", "0:2"),
        ("g", "--layer", "1"),
        (),
    ):
        assert run(*words)[0] == 2


def test_two_checkpoints_side_by_side(
    measured: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one model or of two, paired by context; numbers as independent ones."""
    for one, other, sides in (
        ("a", "bb", (("a", 2048), ("bb", 2048))),
        ("a@256", "a@0", (("a", 256), ("a", 0))),
        ("bb@8", "a@last", (("bb", 8), ("a", 2048))),
    ):
        result = compare_measures(measured, [one, other], "heads")
        assert dict(result.frame.schema) == COMPARED
        assert result.frame.select("layer", "head").rows() == [(1, 0), (1, 1)]
        for row in result.frame.iter_rows(named=True):
            mine, theirs = (_values(*side, row["head"]) for side in sides)
            assert (row["model"], row["step"], row["minus_model"], row["minus_step"]) == (
                *sides[0],
                *sides[1],
            )
            assert (row["value"], row["minus_value"]) == pytest.approx((mine.mean(), theirs.mean()))
            assert row["difference"] == pytest.approx(row["value"] - row["minus_value"])
            half = 1.96 * (mine - theirs).std(ddof=1) / CONTEXTS**0.5
            assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.25)
            assert (row["contexts"], row["interval"]) == (CONTEXTS, "bootstrap")
    numbers = compare_measures(measured, ["a@16", "bb"], ["norm", "heads"], step="64", layer=1).frame
    (norm,) = numbers.filter(measure="norm").to_dicts()
    assert (norm["value"], norm["minus_value"], norm["difference"], norm["contexts"]) == (16, 64, -48, None)
    assert norm["high"] - norm["difference"] == pytest.approx(1.96 * 0.5**0.5, abs=1e-3)
    assert numbers.filter(measure="heads").height == 2

    for step in (0, 256):
        measured.add_measures("k", [Measure("k", float(step))], model="a", step=step)
    words = ["compare", "a@256", "a@0", "-s", str(measured.path), "--measure"]
    printed = CliRunner().invoke(app, [*words, "heads"]).stdout.splitlines()
    assert printed[0].split()[:6] == ["measure", "layer", "head", "dataset", "a@256", "a@0"]
    shown = CliRunner().invoke(app, [*words, "heads", "--json", "--plot", str(tmp_path / "heads.html")])
    assert json.loads(shown.stdout) == compare_measures(measured, ["a@256", "a@0"], "heads").frame.to_dicts()
    assert "heads: a@256" in (tmp_path / "heads.html").read_text(encoding="utf-8")
    notes = CliRunner().invoke(app, [*words, "k,heads", "--name", "both"]).stderr
    assert notes.splitlines() == [
        "difference: a@256 minus a@0.",
        "No interval: k, of which a checkpoint has one value with no standard error.",
        "Kept as the finding both: FROM compare_measures WHERE finding = 'both'",
    ]
    assert "No interval" not in CliRunner().invoke(app, [*words, "k", "--ci", "none"]).stderr
    monkeypatch.setattr("trajstore.cli.analyses.compare._ROWS", 2)
    short = CliRunner().invoke(app, [*words, "k,heads"])
    assert [line.split()[0] for line in short.stdout.splitlines()] == ["measure", "k", "heads"]
    assert "Those of 3 values that differ most" in short.stderr
    assert "--measure goes with" in CliRunner().invoke(app, [*words, "heads", "--keep"]).output


def test_two_checkpoints_are_kept_as_a_finding(measured: Store) -> None:
    """Under a name of the checkpoints that are meant; what is there stays, and SQL has its rows."""
    words = ["compare", "a", "bb", "--measure", "heads,norm", "-s", str(measured.path)]
    for begins in ("Kept as the finding a-2048-vs-bb-2048-2-measures-", "There already, and the same: the "):
        assert begins in CliRunner().invoke(app, words).stderr
    [finding] = measured.findings("compare_measures")
    assert str(finding.subject) == "a, bb on d; heads, norm; steps 2048"
    frame = compare_measures(measured, ["a", "bb"], ["heads", "norm"]).frame
    assert_frame_equal(finding.table("values"), frame)
    rows = measured.sql(f"SELECT * FROM compare_measures WHERE finding = '{finding.name}'").pl()
    assert_frame_equal(rows.select(frame.columns), frame)
    measured.add_measures("norm", [Measure("norm", 1.0)], model="a", step=2048, replace=True)
    measured.add_measures("norm", [Measure("norm", 3.0)], model="bb", step=2048, replace=True)
    assert CliRunner().invoke(app, words).exit_code == 1
    assert CliRunner().invoke(app, [*words, "--replace"]).exit_code == 0
    assert finding.table("values").filter(measure="norm")["difference"].to_list() == [-2]


def test_checkpoints_that_cannot_be_compared(measured: Store) -> None:
    measured.add_measures("k", [Measure("k", 1.0, params={"n": 1})], model="a", step=0)
    measured.add_measures("k", [Measure("k", 1.0, params={"n": 2}), Measure("k", 2.0)], model="bb", step=0)
    with pytest.raises(NothingChosen, match="a@0 and bb@0 have no value of k on one dataset"):
        compare_measures(measured, ["a", "bb"], "k")
    measured.add_measures("k", [Measure("k", 4.0)], model="a", step=1)
    result = compare_measures(measured, ["bb@0", "a@1"], "k")
    assert (result.frame["difference"].to_list(), result.frame["interval"].to_list()) == ([-2.0], ["none"])
    assert result.left_out == ('k with {"n": 2} of bb@0',)
    for checkpoints, error in (
        (["a"], "compared between two checkpoints"),
        (["a@0", "a@0"], "compared between two checkpoints"),
        (["a@last", "a@2048"], "named twice"),
        (["a@x", "bb"], "one step, or last"),
        (["a@3", "bb"], "a@3 matches no checkpoint of a with norm"),
        (["c@0", "bb"], "model 'c'"),
    ):
        with pytest.raises(TrajstoreError, match=error):
            compare_measures(measured, checkpoints, "norm")
    measured.add_measures("own", [Measure("own", 4.0)], model="a", step=1)
    with pytest.raises(UnknownName, match="no measure 'own' of bb"):
        compare_measures(measured, ["a", "bb"], "own")


def test_a_measure_that_is_not_there_is_told_how_to_have_it(store: Store) -> None:
    for name in "de":
        store.add_dataset(name, random_dataset([4]))
    for model in ("a", "bb"):
        store.publish_model(ModelFacts(model))
    store.add_measures("own", [Measure("own", 1.0)], model="a", step=0, dataset="d")
    see = "See: trajstore measure list"
    for name, datasets, mend in (
        ("rankme", None, "Measure it: trajstore measure rankme -m a,bb -d D"),
        ("rankme", ["d"], "Measure it: trajstore measure rankme -m a,bb -d d"),
        ("prefix_matching", ["d"], "Measure it: trajstore measure prefix_matching -m a,bb --probe repeats"),
        ("weight_norm", None, "Measure it: trajstore measure weight_norm -m a,bb"),
        ("llc", None, "-d D -p nbeta=VALUE -p step_size=VALUE -p gamma=VALUE"),
        ("noise_max", None, "trajstore score MODEL -d D repeat_noise=K"),
        ("rankmee", None, f"there is: own. Did you mean rankme? {see}"),
        ("owns", None, f"Did you mean own? {see}"),
        ("own", ["e"], "It is measured on d."),
        ("heads", None, "name one of these."),
    ):
        with pytest.raises(NotMeasured, match=f"{re.escape(mend)}$"):
            measure_curves(store, [name], Selection(datasets))
