"""Score ends cleanly on the command line when a checkpoint cannot be read, and with Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.helpers.forked import processes
from tests.helpers.tiny_models import neox, random_dataset, save_run
from trajstore.cli import app
from trajstore.store import checks

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from trajstore.store.store import Store

STEPS = (0, 1, 2, 3)


@pytest.fixture
def path(store: Store) -> Path:
    """A store with a dataset of 35 losses."""
    store.add_dataset("d", random_dataset())
    store.close()
    return store.path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_run(tmp_path / "run", STEPS)


def score(path: Path, folder: Path) -> Result:
    result = CliRunner().invoke(app, ["score", str(folder), "-d", "d", "-s", str(path)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    return result


def steps(path: Path) -> list[int]:
    with trajstore.open(path) as store:
        assert checks.check(store, deep=True) == []
        return store.steps("run", "d")


def test_an_unreadable_checkpoint_is_named_and_the_others_land(
    path: Path, folder: Path, one_thread: None
) -> None:
    weights = folder / "step1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    (folder / "step2" / "config.json").write_text("{")
    result = score(path, folder)
    assert result.exit_code == 1
    assert steps(path) == [0, 3]
    assert "run: 4 slices to score (156 tokens) at 4 checkpoints, 0 there already.\n" in result.stderr
    assert re.search(
        r"run: 2 slices written, 0 there already, in [\d.]+ s, [\d,]+ tokens/s\.\n", result.stderr
    )
    assert re.findall(r"^step (\d+) was not scored: \S", result.stderr, re.MULTILINE) == ["1", "2"]
    assert "The same command again scores only what is missing.\n" in result.stderr
    assert "Traceback" not in result.stderr
    again = score(path, folder)
    assert again.exit_code == 1
    assert "run: 2 slices to score (78 tokens) at 2 checkpoints, 2 there already.\n" in again.stderr
    for step in (1, 2):
        neox(step).save_pretrained(folder / f"step{step}")
    mended = score(path, folder)
    assert mended.exit_code == 0
    assert "run: 2 slices written" in mended.stderr
    assert steps(path) == list(STEPS)
    assert (
        score(path, folder).stderr == "run: 0 slices to score (0 tokens) at 0 checkpoints, 4 there already.\n"
    )


def _score_slowly(path: Path, folder: Path, said: Path, pipe: Connection) -> None:
    """The command in a process of its own; says when it has the losses of the third checkpoint, and keeps them long."""
    import torch

    from trajstore.store.store import Store

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
    append = Store.append

    def slow(self: Store, **slice_: Any) -> Path:
        if slice_["step"] == 2:
            pipe.send("scored")
            time.sleep(60)
        return append(self, **slice_)

    Store.append = slow  # type: ignore[method-assign]
    app(["score", str(folder), "-d", "d", "-s", str(path)])


def test_ctrl_c_keeps_what_is_finished(path: Path, folder: Path, tmp_path: Path, one_thread: None) -> None:
    said = tmp_path / "stderr"
    here, there = processes.Pipe()
    worker = processes.Process(target=_score_slowly, args=(path, folder, said, there))
    worker.start()
    assert here.poll(60)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    worker.join(30)
    assert worker.exitcode == 1
    told = said.read_text()
    assert told.endswith(
        "Stopped. Nothing is half-written: what was finished is kept, and the same command does the rest.\n"
    )
    assert "Traceback" not in told
    assert steps(path) == [0, 1]
    assert list((path / "tmp").iterdir()) == []
    again = score(path, folder)
    assert (again.exit_code, "2 there already" in again.stderr) == (0, True)
    assert steps(path) == list(STEPS)


def test_each_failure_is_said_once_and_others_only_where_there_are_any(path: Path, folder: Path) -> None:
    for step in STEPS:
        (folder / f"step{step}" / "model.safetensors").write_bytes(b"")
    told = score(path, folder).stderr
    assert told.count("is cut off") == len(STEPS)
    assert "The others are done" not in told
    quiet = CliRunner().invoke(app, ["-q", "score", str(folder), "-d", "d", "-s", str(path)]).stderr
    assert quiet.count("is cut off") == len(STEPS)
