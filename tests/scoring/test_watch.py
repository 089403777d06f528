"""A folder is followed: each checkpoint is scored when it is complete, never before, and what goes wrong is said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.progress import Heard
from tests.helpers.tiny_models import neox, random_dataset, save_run
from trajstore.checkpoints.completeness import MARKER, why_incomplete
from trajstore.checkpoints.loading import Loader
from trajstore.cli import app
from trajstore.errors import ModelMismatch, TrajstoreError, UnfitContext, UnknownName
from trajstore.scoring import watch as watching
from trajstore.scoring.run import score
from trajstore.scoring.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trajstore.checkpoints.loading import Checkpoint, ReadCheckpoint
    from trajstore.store.store import Store

EVERY = 0.05


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run of three checkpoints, to copy from."""
    return save_run(tmp_path / "finished" / "run", [0, 10, 20], name="checkpoint-{}")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files settle soon, and only what is slept counts as time: a busy machine makes nobody idle."""
    slept = 0.0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        time.sleep(seconds)

    monkeypatch.setattr(watching, "SETTLE", EVERY)
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: slept))


def losses(store: Store, step: int, dataset: str = "d", model: str = "run") -> np.ndarray:
    return store.slice_losses(model, dataset, step)


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# What is complete


def test_a_safetensors_file_is_complete_at_its_full_length_only(finished: Path) -> None:
    folder = finished / "checkpoint-10"
    assert why_incomplete(folder) is None
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for length in (0, 5, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert why_incomplete(folder) == "model.safetensors is cut off", length
    file.write_bytes(b"\xff" * len(whole))
    assert why_incomplete(folder) is not None
    file.unlink()
    assert "holds no weights" in str(why_incomplete(folder))


def test_an_index_needs_all_its_shards(tmp_path: Path) -> None:
    folder = tmp_path / "step1"
    neox(1).save_pretrained(folder, max_shard_size="4KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert why_incomplete(folder) is None
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[:-1])
    assert why_incomplete(folder) == f"{shards[1].name} is cut off"
    shards[1].unlink()
    assert why_incomplete(folder) is not None
    shards[1].write_bytes(whole)
    index = folder / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text[:50])
    assert why_incomplete(folder) == "model.safetensors.index.json is cut off"
    content = json.loads(text)
    content["weight_map"]["more"] = "model-00009-of-00009.safetensors"
    index.write_text(json.dumps(content))
    assert "model-00009-of-00009.safetensors" in str(why_incomplete(folder))


def test_a_bin_file_is_complete_with_its_zip_end(tmp_path: Path) -> None:
    folder = tmp_path / "step1"
    model = neox(1)
    model.config.save_pretrained(folder)
    file = folder / "pytorch_model.bin"
    torch.save(model.state_dict(), file)
    assert why_incomplete(folder) is None
    whole = file.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:length])
        assert why_incomplete(folder) == "pytorch_model.bin is cut off", length
    torch.save(model.state_dict(), file, _use_new_zipfile_serialization=False)
    assert why_incomplete(folder) is None


def test_the_configuration_is_needed_and_the_trainers_marker_believed(finished: Path) -> None:
    folder = finished / "checkpoint-10"
    (folder / MARKER).touch()
    assert MARKER in str(why_incomplete(folder))
    (folder / MARKER).unlink()
    config = folder / "config.json"
    config.write_bytes(config.read_bytes()[:20])
    assert why_incomplete(folder) == "config.json is cut off"
    config.unlink()
    assert why_incomplete(folder) == "it has no config.json"


# Following


def test_checkpoints_are_scored_as_they_come_and_never_half(
    ready: Store, finished: Path, tmp_path: Path
) -> None:
    """A writer saves one directly, in pieces; one under a temporary name; one in pieces in another order."""
    run = tmp_path / "run"

    def in_pieces(name: str, *, weights_first: bool) -> None:
        (run / name).mkdir(parents=True)
        for file in sorted((finished / name).iterdir(), key=lambda f: (f.suffix == ".json") == weights_first):
            data = file.read_bytes()
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                with (run / name / file.name).open("ab") as out:
                    out.write(part)
                time.sleep(3 * EVERY)

    def train() -> None:
        time.sleep(2 * EVERY)
        in_pieces("checkpoint-0", weights_first=False)
        shutil.copytree(finished / "checkpoint-10", run / "tmp-checkpoint-10")
        time.sleep(4 * EVERY)
        (run / "tmp-checkpoint-10").rename(run / "checkpoint-10")
        in_pieces("checkpoint-20", weights_first=True)

    heard = Heard()
    training = in_background(train)
    report = watch(ready, run, ["d", "e"], every=EVERY, until=20, progress=heard)
    training.join()
    assert (report.written, report.skipped, report.failures, report.tokens) == (6, 0, [], 3 * (39 + 14))
    score(ready, str(finished), ["d", "e"], name="after")
    for step in (0, 10, 20):
        for dataset in ("d", "e"):
            np.testing.assert_array_equal(losses(ready, step, dataset), losses(ready, step, dataset, "after"))
    assert "to be made" in heard
    assert not any(
        "step" in line for line in heard.lines if "no tokenizer" not in line and "Waiting" not in line
    )


def test_what_still_changes_is_not_scored_though_it_has_its_full_length(
    ready: Store, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was made in its full length is filled piece by piece, one from each look to the next."""
    file = finished / "checkpoint-20" / "model.safetensors"
    whole = file.read_bytes()
    places = list(range(len(whole) // 2, len(whole), len(whole) // 12))
    file.write_bytes(whole[: places[0]] + bytes(len(whole) - places[0]))
    assert why_incomplete(file.parent) is None
    nap = time.sleep

    def write_on(seconds: float) -> None:
        nap(0.002)  # so that the time of change is another
        if places:
            assert ready.steps("run", "d") in ([], [0, 10])
            places.pop(0)
            end = places[0] if places else len(whole)
            file.write_bytes(whole[:end] + bytes(len(whole) - end))

    monkeypatch.setattr(watching.time, "sleep", write_on)
    assert watch(ready, finished, ["d"], every=EVERY, until=20).failures == []
    score(ready, str(finished), ["d"], name="after")
    np.testing.assert_array_equal(losses(ready, 20), losses(ready, 20, model="after"))


def test_what_is_there_is_scored_once_and_then_skipped(ready: Store, finished: Path) -> None:
    score(ready, str(finished), ["d"], steps=10)
    first = watch(ready, finished, ["d", "e"], every=EVERY, until=20)
    assert (first.written, first.skipped, first.failures) == (5, 1, [])
    again = watch(ready, finished, ["d", "e"], every=EVERY, until=20)
    assert (again.written, again.skipped, again.failures) == (0, 6, [])


def test_steps_choose_among_those_to_come(ready: Store, finished: Path) -> None:
    report = watch(ready, finished, ["d"], steps="10:20,500", every=EVERY, idle=4 * EVERY)
    assert (report.written, report.failures) == (2, [])
    assert ready.steps("run", "d") == [10, 20]
    for spec in ("log", "0,last"):
        with pytest.raises(TrajstoreError, match="cannot be told of checkpoints to come"):
            watch(ready, finished, ["d"], steps=spec)


def test_a_failure_is_tried_again_when_its_files_change(
    ready: Store, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = finished / "checkpoint-10" / "model.safetensors"
    whole = file.read_bytes()
    other = neox(1, layers=2)
    other.save_pretrained(finished / "checkpoint-10")  # complete, and of another model

    heard, sleep, looks = Heard(), watching.time.sleep, 0

    def mend(seconds: float) -> None:
        nonlocal looks
        sleep(seconds)
        looks += "step 10 was not scored" in heard
        if looks == 5:  # not tried again as long as nothing changes
            config = (finished / "checkpoint-20" / "config.json").read_bytes()
            (finished / "checkpoint-10" / "config.json").write_bytes(config)
            file.write_bytes(whole)

    monkeypatch.setattr(watching.time, "sleep", mend)
    report = watch(ready, finished, ["d"], every=EVERY, idle=20 * EVERY, progress=heard)
    assert (report.written, report.failures) == (3, [])
    assert sum("step 10 was not scored" in line for line in heard.lines) == 1


def test_a_failure_that_stays_is_in_the_report(ready: Store, finished: Path) -> None:
    neox(1, layers=2).save_pretrained(finished / "checkpoint-20")
    report = watch(ready, finished, ["d"], every=EVERY, until=20)
    assert report.written == 2
    ((step, reason),) = report.failures
    assert step == 20
    assert "of another run" in reason


def test_a_dataset_that_does_not_fit_is_named_once_and_left_out(ready: Store, finished: Path) -> None:
    ready.add_dataset("long", random_dataset((33, 4)))
    report = watch(ready, finished, ["long", "d"], every=EVERY, idle=4 * EVERY)
    assert report.written == 3
    ((_, reason),) = report.failures
    assert "The dataset long does not fit the model" in reason


def test_one_that_does_not_fit_keeps_no_second_run_from_following(ready: Store, finished: Path) -> None:
    """The first run has scored all that fits, so that nothing but the other dataset is missing."""
    ready.add_dataset("long", random_dataset((33, 4)))
    assert watch(ready, finished, ["d", "long"], steps=[0, 10], every=EVERY, until=10).written == 2
    report = watch(ready, finished, ["d", "long"], steps=[0, 10], every=EVERY, idle=4 * EVERY)
    assert (report.written, report.skipped) == (0, 2)
    ((_, reason),) = report.failures
    assert "The dataset long does not fit the model" in reason


def test_what_is_removed_before_it_is_scored_is_said_and_no_failure(
    ready: Store, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, heard = Loader.read, Heard()

    def rotating(loader: Loader, checkpoint: Checkpoint, *rest: Any) -> ReadCheckpoint:
        """The Trainer keeps one checkpoint, the last, and saves that while the first is being scored."""
        if checkpoint.step == 10:
            for name in ("checkpoint-0", "checkpoint-10"):
                shutil.rmtree(finished / name)
        return whole(loader, checkpoint, *rest)

    monkeypatch.setattr(Loader, "read", rotating)
    report = watch(ready, finished, ["d"], every=EVERY, until=20, progress=heard)
    assert report.failures == []
    assert ready.steps("run", "d") == [0, 20]
    assert "checkpoint-10 was removed before it was scored" in heard


def test_what_was_read_before_it_is_removed_is_scored(
    ready: Store, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Loader.read

    def rotating(loader: Loader, checkpoint: Checkpoint, *rest: Any) -> ReadCheckpoint:
        read = whole(loader, checkpoint, *rest)
        if checkpoint.step == 10:
            shutil.rmtree(finished / "checkpoint-10")
        return read

    monkeypatch.setattr(Loader, "read", rotating)
    report = watch(ready, finished, ["d"], every=EVERY, until=20)
    assert report.failures == []
    assert ready.steps("run", "d") == [0, 10, 20]


def test_what_is_never_complete_is_a_failure_once_it_ends_by_itself(ready: Store, finished: Path) -> None:
    (finished / "checkpoint-20" / "model.safetensors").unlink()
    report = watch(ready, finished, ["d"], every=EVERY, idle=4 * EVERY)
    assert report.written == 2
    ((step, reason),) = report.failures
    assert step == 20
    assert "checkpoint-20 is not complete" in reason


@pytest.mark.parametrize("when", ["waiting", "scoring"])
def test_ctrl_c_ends_it_with_what_is_finished(
    ready: Store, finished: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    calls = 0

    def interrupted(work: Any, after: int) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > after:
                raise KeyboardInterrupt
            return work(*args, **kwargs)

        return wrapped

    if when == "waiting":
        monkeypatch.setattr(watching.time, "sleep", interrupted(time.sleep, 5))
    else:
        monkeypatch.setattr(ready, "append", interrupted(ready.append, 2))
    (finished / "checkpoint-30").mkdir()
    report = watch(ready, finished, ["d"], every=EVERY)
    assert (report.written, report.failures) == ((3, []) if when == "waiting" else (2, []))
    assert list((ready.path / "tmp").iterdir()) == []


def test_what_no_later_checkpoint_would_mend_is_raised(ready: Store, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="no dataset 'f'"):
        watch(ready, tmp_path / "nothing", ["f"])
    ready.add_dataset("long", random_dataset((33, 4)))
    with pytest.raises(UnfitContext, match="positions for 32"):
        watch(ready, finished, ["long"], every=EVERY)
    score(ready, str(finished), ["d"])
    other = save_run(tmp_path / "other" / "run", [10], name="checkpoint-{}", seed=3)
    with pytest.raises(ModelMismatch, match="is another run"):
        watch(ready, other, ["e"], every=EVERY)


def test_a_folder_without_checkpoints_is_waited_for(ready: Store, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    heard = Heard()
    report = watch(ready, tmp_path / "run", ["d"], every=EVERY, idle=4 * EVERY, progress=heard)
    assert (report.written, report.skipped, report.failures) == (0, 0, [])
    assert sum("no subfolder named after a step" in line for line in heard.lines) == 1


# The command


def test_the_command_follows_until_it_is_interrupted(ready: Store, finished: Path) -> None:
    """As a user does: a training run goes on, Ctrl-C ends the watch, and that is no failure."""
    command = [sys.executable, "-m", "trajstore", "score", str(finished), "-s", str(ready.path), "-d", "d"]
    shutil.move(finished / "checkpoint-20", finished / "tmp-checkpoint-20")
    process = subprocess.Popen(
        [*command, "--watch", "--every", "0.1s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 90

    def until_scored(*steps: int) -> None:
        while (
            ready.steps("run", "d") != list(steps) and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(EVERY)

    try:
        until_scored(0, 10)
        (finished / "tmp-checkpoint-20").rename(finished / "checkpoint-20")
        until_scored(0, 10, 20)
        time.sleep(4 * EVERY)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, stdout) == (0, ""), stderr
    assert "Following" in stderr
    assert "run: 3 slices written, 0 there already" in stderr


def test_wrong_usage_is_refused(ready: Store, finished: Path) -> None:
    def refused(*words: str) -> str:
        found = CliRunner().invoke(app, ["score", str(finished), "-s", str(ready.path), "-d", "d", *words])
        assert found.stdout == ""
        return f"{found.exit_code} {found.stderr}"

    for words in (
        ["--idle", "1s"],
        ["--until", "3"],
        ["--watch", "--budget", "1h"],
        ["--watch", "--dry-run"],
    ):
        assert refused(*words).startswith("2 "), words
    for nothing in ("0", "0s", "0.0m"):
        assert "2 Error: Cannot read --every '0s'. It takes more than 0 seconds" in refused(
            "--watch", "--every", nothing
        )
    assert refused("--address", "auto").startswith("2 ")
    assert refused("--watch", "--executor", "ray").startswith("2 ")
    assert "2 Error: Cannot read --idle 'soon'" in refused("--watch", "--idle", "soon")
    assert "2 Error: Cannot read --executor 'slurm'. It takes local or ray" in refused("--executor", "slurm")
    (finished / "checkpoint-20" / "config.json").unlink()
    ended = refused("--watch", "--every", "0.05", "--idle", "0.2")
    assert ended.startswith("1 ")
    assert "step 20 was not scored" in ended
    assert ready.steps("run", "d") == [0, 10]
