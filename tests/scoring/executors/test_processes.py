"""A plan shared out to a process on each of several devices gives the store that one process gives."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.forked import InPlaceOfSpawned
from tests.helpers.tiny_models import save_run
from trajstore.errors import BadOption, DeviceError, ScoringStopped
from trajstore.forward.device import choose_devices
from trajstore.progress import SILENT
from trajstore.scoring.executors import processes
from trajstore.scoring.options import ScoringOptions
from trajstore.scoring.run import score
from trajstore.store import checks

if TYPE_CHECKING:
    from trajstore.store.store import Store

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(170)]

STEPS = [0, 1, 2, 4, 8, 16]
MODULE = """
import os, time
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

class Model(GPTNeoXForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        if os.environ.get("STEP1") == "hangs":
            time.sleep(1000)
        if os.environ.get("STEP1") == "dies":
            os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def _quick_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes forked where the test itself starts them; a command in a process of its own spawns them."""
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: InPlaceOfSpawned())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(tmp_path / "run", STEPS)


@pytest.fixture
def own_code(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run, whose step 1 has code that does what STEP1 says."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    (run / "step1" / "own.py").write_text(MODULE)
    file = run / "step1" / "config.json"
    own = {"auto_map": {"AutoModelForCausalLM": "own.Model"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    return run


class Heard:
    """Progress that keeps what is said and counts the tokens."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.notes: list[str] = []
        self.total = self.done = 0
        self.stop = SILENT.stop

    def start(self, label: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.done += amount
        self.notes.append(note)

    def say(self, message: str) -> None:
        self.said.append(message)


def slices(store: Store, model: str) -> dict[tuple[str, int], bytes]:
    return {
        (dataset, step): store.slice_losses(model, dataset, step).tobytes()
        for dataset, steps in store.scored(model)[model].items()
        for step in steps
    }


def test_two_processes_give_the_store_that_one_gives(ready: Store, run: Path) -> None:
    """Each checkpoint is scored once, one that cannot be read is named, and the time is that of both."""
    (run / "step4" / "model.safetensors").write_bytes(b"")
    alone = score(ready, str(run), ["d", "e"], name="alone", device="cpu")
    heard = Heard()
    report = score(ready, str(run), ["d", "e"], name="run", devices="cpu,cpu", progress=heard)
    assert (report.written, report.skipped, report.left) == (10, 0, 0)
    assert (report.tokens, report.failures) == (alone.tokens, alone.failures)
    assert slices(ready, "run") == slices(ready, "alone")
    assert heard.done == report.tokens
    assert [line for line in heard.said if "step 4 was not scored" in line] == [
        f"step 4 was not scored: {report.failures[0][1]}"
    ]
    begun = [note for note in heard.notes if re.fullmatch(r"step \d+", note)]
    assert sorted(begun) == sorted(f"step {step}" for step in STEPS)
    runs = {ready.slice_facts("run", "d", step).provenance.run for step in STEPS if step != 4}
    assert len(runs) == 1
    profile = report.profile
    assert profile.seconds == pytest.approx(2 * report.seconds)
    assert profile.stages["pass"] > 0
    assert sum(profile.shares.values()) == pytest.approx(1)
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_is_named_and_the_rest_goes_on(
    ready: Store, own_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP1", "dies")
    heard = Heard()
    report = score(
        ready, str(own_code), ["d"], devices=["cpu", "cpu"], trust_remote_code=True, progress=heard
    )
    assert ready.steps("run", "d") == [0, 2, 4, 8, 16]
    ((step, reason),) = report.failures
    assert (step, report.written) == (1, 5)
    assert "the process that scored it ended (exit code -9)" in reason
    assert sum("step 1 was not scored" in line for line in heard.said) == 1
    assert multiprocessing.active_children() == []


def test_a_checkpoint_that_hangs_keeps_no_other_device(
    ready: Store, own_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP1", "hangs")
    options = {"devices": "cpu,cpu", "timeout": "20s", "trust_remote_code": True}
    report = score(ready, str(own_code), ["d"], steps="0:2", **options)
    assert ready.steps("run", "d") == [0, 2]
    ((step, reason),) = report.failures
    assert (step, report.written) == (1, 2)
    assert reason.startswith("it was not done within 20 s (timeout), so its process was ended")
    assert multiprocessing.active_children() == []


def workers_of(group: int) -> list[str]:
    """The processes of a group that are alive."""
    alive = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state != "Z":
                alive.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return alive


def test_ctrl_c_ends_all_processes_and_keeps_what_is_finished(
    ready: Store, own_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP1", "hangs")
    words = ["score", str(own_code), "-s", str(ready.path), "-d", "d", "--trust-remote-code"]
    command = subprocess.Popen(
        [sys.executable, "-m", "trajstore", *words, "--devices", "cpu,cpu"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 150
        while "run" not in ready.model_names() or ready.steps("run", "d") != [0, 2, 4, 8, 16]:
            assert time.monotonic() < end, "the other process scores no more"
            assert command.poll() is None
            time.sleep(0.1)
        os.killpg(command.pid, signal.SIGINT)
        _, said = command.communicate(timeout=60)
    finally:
        command.kill()
        command.wait()
    assert command.returncode == 1
    assert said.endswith("what was finished is kept, and the same command does the rest.\n")
    assert "Traceback" not in said
    end = time.monotonic() + 30
    while workers_of(command.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert workers_of(command.pid) == []
    assert list((ready.path / "tmp").iterdir()) == []
    assert checks.check(ready, deep=True) == []


def test_the_devices_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_devices(ScoringOptions(devices="0, 1").devices) == ["cuda:0", "cuda:1"]
    assert choose_devices([0, "cuda:2", "cpu"]) == ["cuda:0", "cuda:2", "cpu"]
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert choose_devices(["all"]) == ["cuda:0", "cuda:1", "cuda:2"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match="There is no GPU for torch"):
        choose_devices(["all"])
    with pytest.raises(BadOption, match="Cannot read device='cpu'. It takes no value beside devices"):
        ScoringOptions(devices="cpu,cpu", device="cpu")


def test_a_device_that_there_is_not_ends_it(ready: Store, run: Path) -> None:
    with pytest.raises(ScoringStopped, match=r"Scoring with devices takes .* There is no device 'nope'"):
        score(ready, str(run), ["d"], steps=0, devices="nope")
    assert ready.model_names() == []
    assert multiprocessing.active_children() == []


def test_all_threads_are_shared_by_the_processes_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_threads", lambda: 8)
    made: list[Any] = []
    monkeypatch.setattr(processes, "_Process", made.append)
    nothing: Any = None
    for devices in (["cpu", "cpu"], ["cuda:0", "cuda:1"]):
        processes.Processes("", nothing, nothing, None, devices, ScoringOptions(), SILENT).start(0)
    assert [make.args[4] for make in made] == [4, 8]
