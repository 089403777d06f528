"""The demo's words, from trajectories made by hand; its whole run is marked slow."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from trajstore.cli import app
from trajstore.demo.sentences import Training, changed_most, repeats_learned
from trajstore.demo.sorting.run import SortingDemo
from trajstore.progress import SILENT

STEPS = [0, 100, 200, 400, 600, 800, 1000]


def curve(means: list[float], group: str = "g", tokens: int = 100, model: str = "m") -> pl.DataFrame:
    n = len(means)
    return pl.DataFrame(
        {
            "group": [group] * n,
            "model": [model] * n,
            "dataset": ["d"] * n,
            "step": STEPS,
            "tokens": [tokens] * n,
            "mean": [float(mean) for mean in means],
        }
    )


@pytest.mark.parametrize(
    ("by", "mix_change", "expected"),
    [
        (200, 900, False),
        (200, 500, False),
        (200, 300, True),
        (600, 500, True),
        (800, 500, True),
        (1000, 500, False),
    ],
)
def test_an_event_within_one_checkpoint_of_the_mix_is_a_change_of_data(
    by: int, mix_change: int, expected: bool
) -> None:
    training = Training(STEPS, mix_change)
    when = training.since(by)
    assert when.high == by
    assert ("change of data" in training.text(when)) is expected


def test_the_step_at_which_copying_is_learned() -> None:
    fresh = curve([6.3, 6.3, 6.3, 6.5, 6.6, 6.6, 6.6])
    said = repeats_learned(curve([6.3, 6.2, 5.0, 1.0, 0.5, 0.4, 0.3]), fresh, 900)
    assert said == (
        "m learns the repeated half between steps 200 and 400: 5.00 → 1.00 nats a token, 0.30 at step 1000; "
        "the fresh half meanwhile goes 6.30 → 6.50."
    )


def test_a_model_that_does_not_learn_is_said_not_to() -> None:
    fresh = curve([6.3] * 7)
    said = repeats_learned(curve([6.3, 6.2, 6.1, 5.9, 6.0, 6.2, 6.25]), fresh, 900)
    assert said.startswith("m does not learn the repeated half by step 1000: there it costs 6.25")
    assert "lowest 5.90, at step 400" in said


def test_the_group_that_changed_most_leaves_out_small_ones() -> None:
    frame = pl.concat(
        [
            curve([6, 6, 6, 6, 5, 4, 4.0], "some"),
            curve([3, 3, 3, 3, 3, 8, 8.0], "worse"),
            curve([9, 9, 9, 0, 0, 0, 0.0], "few", tokens=3),
        ]
    )
    said = changed_most(frame, 100)
    assert "is worse on d (100 tokens): 3.00 → 8.00" in said
    assert said.endswith("fastest between steps 600 and 800.")


def test_the_demo_serves_its_store_on_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = SortingDemo([], pl.DataFrame({"step": [0]}), 1.0, tmp_path / "d" / "sorting" / "store")
    served: list[Path] = []
    monkeypatch.setattr("trajstore.demo.sorting.run.run_sorting", lambda folder, progress: made)
    monkeypatch.setattr("trajstore.server.serve.serve", lambda store, **options: served.append(store))
    words = ["demo", str(tmp_path / "d"), "--sorting"]
    said = CliRunner().invoke(app, words)
    assert f"trajstore serve -s {made.store} --open" in said.stderr.replace("\n", " ")
    assert served == []
    assert CliRunner().invoke(app, [*words, "--serve"]).exit_code == 0
    assert served == [made.store]


@pytest.mark.slow
def test_the_quick_demo(tmp_path: Path) -> None:
    from trajstore.demo.groups import CURVES
    from trajstore.demo.measure_lines import LINES
    from trajstore.demo.run import run_demo
    from trajstore.store.store import Store

    done = run_demo(tmp_path / "demo", quick=True, progress=SILENT)
    assert "learns the repeated half between steps" in done.sentences[1]
    assert "change of data" not in done.sentences[1]
    assert done.report.stat().st_size > 1_000_000
    assert "Induction bump on repeats: tiny-2l-seed0 between steps" in " ".join(done.sentences)
    assert [line.split(": ")[0] for line in done.measures[1:]] == list(LINES)
    (panel,) = done.curves.panels
    assert [series.name for series in panel.series] == list(CURVES)
    assert all(series.low[-1] < series.y[-1] < series.high[-1] for series in panel.series)
    with Store(done.store) as store:
        assert {line.missing == [] for line in store.coverage()} == {True}
        assert store.groups.show("answers").sizes["arithmetic"] > 500
        kinds = {"spikes", "shapes", "phases", "head_kinds", "unigram_first"}
        assert {finding.kind for finding in store.findings()} == kinds
        formed = store.sql("SELECT nearest FROM head_kinds WHERE finding = 'demo' AND layer = 1").fetchall()
        assert formed == [("prefix_matching",)] * 2
    again = run_demo(tmp_path / "demo", quick=True, progress=SILENT)
    assert (again.sentences, again.measures) == (done.sentences, done.measures)
    assert again.seconds["training"] < 2
