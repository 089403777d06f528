"""Measures of an installed package in the scoring pass: kept beside the losses, which no failing measure costs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.helpers.tiny_models import random_dataset, save_run
from trajstore.cli import app
from trajstore.errors import TrajstoreError
from trajstore.plugins import PluginError
from trajstore.scoring.run import score
from trajstore.store.store import Store

EXAMPLE = Path(__file__).parent.parent / "example_plugin"
FAILING = """
from trajstore.measures import Measure, MeasureDefinition

def fail(inputs):
    raise ZeroDivisionError("by design")

failing = MeasureDefinition("failing", "f", "1", fail)
endless = MeasureDefinition("endless", "f", "1", lambda inputs: float("inf"))
parameters = MeasureDefinition(
    "parameters", "number of weights", "1", lambda inputs: sum(p.numel() for p in inputs.model.parameters()),
    needs=("model",),
)
"""
POINTS = """[trajstore.measures]
top_one = trajstore_example.measures:top_one
loss_spread = trajstore_example.measures:loss_spread
failing = failing_example:failing
endless = failing_example:endless
parameters = failing_example:parameters
lost = no_such_module:lost
"""


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the example's measures, and some that fail."""
    folder = tmp_path / "site"
    about = folder / "failing_example-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: failing_example\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text(POINTS)
    (folder / "failing_example.py").write_text(FAILING)
    for name in [name for name in sys.modules if name.startswith(("trajstore_example", "failing_example"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.syspath_prepend(str(folder))


def test_measures_are_kept_with_the_slices(store: Store, tmp_path: Path) -> None:
    dataset = store.add_dataset("d", random_dataset())
    run = save_run(tmp_path / "run", [0, 8])
    names = ["top_one", "loss_spread", "parameters"]
    report = score(store, str(run), ["d"], device="cpu", measures=names, columns=["entropy"])
    assert (report.written, report.failures, report.unmeasured) == (2, [], [])
    score(store, str(run), ["d"], device="cpu", name="plain", columns=["rank"])
    frame = store.measures("run")
    assert set(frame["name"]) == set(names)
    for step in (0, 8):
        at_step = frame.filter(step=step, dataset="d")
        losses = store.slice_losses("run", "d", step)
        assert np.array_equal(losses, store.slice_losses("plain", "d", step))
        rank = store.slice_column("plain", "d", step, "rank")
        assert at_step.filter(name="top_one")["value"].to_list() == [pytest.approx(np.mean(rank == 0))]
        ends = np.cumsum(dataset.lengths - 1)
        spreads = [np.std(part, dtype=np.float64) for part in np.split(losses, ends[:-1])]
        spread = at_step.filter(name="loss_spread").sort("context", nulls_last=True)
        assert spread["context"].to_list() == [*range(dataset.n_contexts), None]
        assert spread["value"].to_list() == pytest.approx([*spreads, np.mean(spreads)])
        assert at_step.filter(name="parameters")["value"].item() > 1000
    # What a measure needs of the pass is not kept for that.
    assert store.slice_columns("run", "d", 0) == ("entropy",)
    again = score(store, str(run), ["d"], device="cpu", measures=names, columns=["entropy"])
    assert (again.written, again.skipped) == (0, 2)


def test_a_measure_that_fails_costs_no_losses(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    run = save_run(tmp_path / "run", [0, 8])
    words = ["score", str(run), "-d", "d", "--device", "cpu", "-s", str(store.path)]
    result = CliRunner().invoke(app, [*words, "--measures", "failing,top_one,endless"])
    assert result.exit_code == 1
    assert "2 slices written" in result.stderr
    for step in (0, 8):
        assert (
            f"step {step} was scored, but the measure failing on d could not be computed: ZeroDivisionError: by design"
        ) in result.stderr
        assert f"step {step} was scored, but the measure endless on d cannot be kept" in result.stderr
    with Store(store.path) as again:
        assert again.steps("run", "d") == [0, 8]
        assert again.measures("run")["name"].to_list() == ["top_one", "top_one"]
    result = CliRunner().invoke(app, [*words, "--measures", "top_one"])
    assert result.exit_code == 0
    assert "those that are there already get none" in result.stderr


def test_what_cannot_be_measured_is_said_before_anything_is_scored(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    run = save_run(tmp_path / "run", [0])
    for name, error, reason in (
        ("nothing", PluginError, "no measure 'nothing'; there is: ablation, .*endless"),
        ("lost", PluginError, "The measure lost of the package failing_example 0.1 cannot be loaded"),
        ("noise_max", TrajstoreError, "The measure noise_max comes with repeat_noise=K"),
    ):
        with pytest.raises(error, match=reason):
            score(store, str(run), ["d"], device="cpu", measures=[name])
    assert store.model_names() == []
