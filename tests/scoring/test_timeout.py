"""A checkpoint that takes longer than it may is given up, its process ended, and the sweep goes on."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.helpers.forked import InPlaceOfSpawned
from tests.helpers.tiny_models import neox, random_dataset, save_run
from trajstore.cli import app
from trajstore.errors import ScoringStopped
from trajstore.progress import SILENT
from trajstore.scoring import score, token_losses
from trajstore.scoring.executors import processes
from trajstore.scoring.executors.driver import Driver
from trajstore.scoring.executors.processes import Processes
from trajstore.scoring.options import ScoringOptions
from trajstore.scoring.plan import plan
from trajstore.scoring.plan_check import Tokenizers
from trajstore.scoring.time_budget import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(170)]

MODULE = """
import os, time
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

class Model(GPTNeoXForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        if os.environ.get("STEP1") == "hangs" and config.eos_token_id == 7:
            time.sleep(1000)
        if os.environ.get("STEP1") == "dies" and config.eos_token_id == 7:
            os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def _quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: InPlaceOfSpawned())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose step 1 has code that does what STEP1 says."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    run = save_run(tmp_path / "run", [0, 1, 2])
    (run / "step1" / "own.py").write_text(MODULE)
    file = run / "step1" / "config.json"
    own = {"auto_map": {"AutoModelForCausalLM": "own.Model"}, "eos_token_id": 7}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    return run


def command(store: Store, run: Path, *words: str, code: int = 0) -> Result:
    parts = ["score", str(run), "-s", str(store.path), "-d", "d", "--device", "cpu", *words]
    result = CliRunner().invoke(app, parts)
    assert result.exit_code == code, result.output
    return result


def test_a_checkpoint_that_hangs_is_given_up_and_the_others_are_scored(
    store: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_dataset("d", random_dataset())
    monkeypatch.setenv("STEP1", "hangs")
    began = time.monotonic()
    said = command(store, run, "--trust-remote-code", "--timeout", "8s", code=1).stderr
    assert time.monotonic() - began < 160
    assert "step 1 was not scored: it was not done within 8 s (--timeout), so its process was ended" in said
    assert "run: 2 slices written, 0 there already" in said
    assert store.steps("run", "d") == [0, 2]
    assert list((store.path / "tmp").iterdir()) == []
    assert multiprocessing.active_children() == []
    for step in (0, 2):
        wanted = np.concatenate(token_losses(neox(step), store.dataset("d").ids()))
        np.testing.assert_allclose(store.slice_losses("run", "d", step), wanted, atol=1e-5)
    assert store.slice_facts("run", "d", 0).provenance.run == store.slice_facts("run", "d", 2).provenance.run


def test_a_process_that_dies_is_one_checkpoints_failure(
    store: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add_dataset("d", random_dataset())
    monkeypatch.setenv("STEP1", "dies")
    report = score(store, str(run), ["d"], device="cpu", timeout=100.0, trust_remote_code=True)
    assert store.steps("run", "d") == [0, 2]
    assert (report.written, report.tokens) == (2, 2 * 39)
    ((step, reason),) = report.failures
    assert step == 1
    assert "the process that scored it ended (exit code -9)" in reason


def test_failures_and_refusals_are_those_of_a_job_in_this_process(store: Store, run: Path) -> None:
    from trajstore.errors import UnfitContext

    store.add_dataset("d", random_dataset())
    weights = run / "step1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    report = score(store, str(run), ["d"], device="cpu", timeout=100.0)
    ((step, reason),) = report.failures
    assert (step, report.written) == (1, 2)
    assert "cannot be read: it is cut off" in reason
    assert score(store, str(run), ["d"], steps="0,2", timeout=100.0).skipped == 2
    store.add_dataset("long", random_dataset((40,)))
    with pytest.raises(UnfitContext, match="The dataset long does not fit the model"):
        score(store, str(run), ["long"], steps=0, device="cpu", timeout=100.0)


@pytest.mark.parametrize("asked", ["0s", "soon"])
def test_a_time_of_nothing_is_wrong_usage(store: Store, run: Path, asked: str) -> None:
    store.add_dataset("d", random_dataset())
    assert f"Cannot read --timeout '{asked}'" in command(store, run, "--timeout", asked, code=2).stderr


def test_a_process_that_cannot_open_the_store_says_so(store: Store, run: Path) -> None:
    """As where its disk has gone meanwhile: a Ray cluster has nothing to do with it."""
    store.add_dataset("d", random_dataset())
    todo = plan(store, str(run), ["d"])
    options = ScoringOptions(device="cpu", timeout=100.0)
    gone = str(store.path / "gone")
    workers = Processes(gone, todo, Tokenizers(None, True, {}), None, ["cpu"], options, SILENT)
    job = Driver(workers, store, todo, SILENT)
    with (
        contextlib.closing(job),
        pytest.raises(
            ScoringStopped, match="process of its own, which cannot begin. There is no store"
        ) as said,
    ):
        job.score_all(Budget(None))
    assert "cluster" not in str(said.value)
    assert multiprocessing.active_children() == []
