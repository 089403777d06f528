"""Where a job's time went: the shares are of all of it, and what is slow shows up in its own stage."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.helpers.tiny_models import neox, random_dataset, save_run
from trajstore.checkpoints.weights import reading
from trajstore.checkpoints.weights.swapping import SwappableModel
from trajstore.cli import app
from trajstore.progress import StageTimes, stage
from trajstore.scoring.job import publish
from trajstore.scoring.profile import Profile
from trajstore.scoring.run import score
from trajstore.store.disk import layout
from trajstore.store.files import slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.loopback_hub import LoopbackHub
    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

SLOW = 0.25
STEPS = [0, 1, 2, 4]


@pytest.fixture
def run(store: Store, tmp_path: Path) -> str:
    store.add_dataset("d", random_dataset())
    return str(save_run(tmp_path / "run", STEPS))


def make_slow(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    """Let a function take longer than anything else here."""
    whole = getattr(module, name)

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(SLOW)
        return whole(*arguments, **options)

    monkeypatch.setattr(module, name, slow)


class SlowFile:
    """A file of weights, opened for reading, that can be made slow."""

    def __init__(self, file: Any) -> None:
        self.file = file

    @staticmethod
    def opened(whole: Callable[..., Any]) -> Callable[..., Any]:
        """Return what opens such files as this, and others as before."""

        def open_(path: Path, *mode: Any, **options: Any) -> Any:
            file = whole(path, *mode, **options)
            return SlowFile(file) if path.suffix == ".safetensors" and mode == ("rb",) else file

        return open_

    def __enter__(self) -> SlowFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def readinto(self, piece: memoryview) -> int:
        return self.file.readinto(piece)  # type: ignore[no-any-return]


class SlowDigest:
    """A hash of weights that can be made slow."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.hexdigest = self.digest.hexdigest

    def update(self, piece: memoryview) -> None:
        self.digest.update(piece)


@pytest.mark.parametrize(
    ("stage_name", "module", "function", "waits"),
    [
        ("pass", publish, "token_scores", None),
        ("measure", publish, "measure_noise", None),
        ("copy", SwappableModel, "put", None),
        ("read", SlowFile, "readinto", "wait_for_weights"),
        ("hash", SlowDigest, "update", "wait_for_weights"),
        ("encode", slices, "encode_slice", "wait_for_publishing"),
        ("publish", layout, "publish", "wait_for_publishing"),
    ],
)
def test_what_is_slow_shows_up_in_its_stage(
    store: Store,
    run: str,
    monkeypatch: pytest.MonkeyPatch,
    stage_name: str,
    module: Any,
    function: str,
    waits: str | None,
) -> None:
    monkeypatch.setattr(Path, "open", SlowFile.opened(Path.open))
    monkeypatch.setattr(reading, "hashlib", SimpleNamespace(sha256=SlowDigest))
    make_slow(monkeypatch, module, function)
    profile = score(store, run, ["d"]).profile
    stages = profile.stages
    assert stages[stage_name] >= 3 * SLOW
    assert max(stages, key=lambda name: (name != waits) * stages[name]) == stage_name
    shares = profile.shares
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > -1e-6
    if waits is None:
        assert shares[stage_name] == pytest.approx(stages[stage_name] / profile.seconds)
    else:  # the passes wait for what they are a checkpoint ahead of
        assert stages[waits] >= SLOW


def test_a_slow_download_shows_up_in_its_stage(store: Store, loopback: LoopbackHub, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    for step in STEPS:
        loopback.add_model("org/run", f"step{step}", neox(step), tmp_path / "made")
    loopback.fail("/stored/", times=len(STEPS), delay=2 * SLOW)
    target = tmp_path / "profile.json"
    words = [
        "score",
        "org/run",
        "-d",
        "d",
        "--device",
        "cpu",
        "-s",
        str(store.path),
        "--profile",
        str(target),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    written = json.loads(target.read_text())
    assert written["stages"]["download"] >= 2 * SLOW * len(STEPS)
    waited = written["shares"]["wait_for_weights"]
    assert waited * written["seconds"] >= 2 * SLOW * (len(STEPS) - 1)
    assert f"waiting for weights {waited:.0%}".replace("%", " %") in result.stderr


def test_a_stage_inside_another_counts_once() -> None:
    times = StageTimes()
    with times.kept(), stage("publish"):
        time.sleep(0.05)
        with stage("encode"):
            time.sleep(0.1)
        with stage("encode"):
            time.sleep(0.1)
    with stage("publish"):  # nobody keeps its time
        time.sleep(0.01)
    seconds = times.take()
    assert seconds == {"publish": pytest.approx(0.05, abs=0.04), "encode": pytest.approx(0.2, abs=0.08)}
    assert times.take() == {}


def test_a_profile_in_words() -> None:
    profile = Profile(
        200.0, {"pass": 182.0, "wait_for_weights": 12.0, "wait_for_publishing": 5.5, "encode": 90.0}
    )
    assert str(profile) == "pass 91 %, waiting for weights 6 %, publishing 3 %"
    profile.add(Profile(100.0, {"pass": 88.0, "read": 1.0}))
    assert profile.stages["pass"] == 270.0
    assert profile.shares["other"] == pytest.approx(1 - (270 + 12 + 5.5) / 300)
    assert (str(Profile()), Profile().shares) == ("", {})


def test_the_command_says_it_and_writes_it_down(store: Store, run: str, tmp_path: Path) -> None:
    words = ["score", run, "-d", "d", "--device", "cpu", "-s", str(store.path), "--profile"]
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "profile.txt")])
    assert refused.exit_code != 0
    assert "must end in .json" in refused.stderr
    assert store.model_names() == []
    target = tmp_path / "profile.json"
    result = CliRunner().invoke(app, [*words, str(target)])
    assert result.exit_code == 0, result.stderr
    written = json.loads(target.read_text())
    assert written.keys() == {"seconds", "stages", "shares"}
    assert {"pass", "build", "encode", "publish", "wait_for_weights"} <= written["stages"].keys()
    assert sum(written["shares"].values()) == pytest.approx(1)
    assert f"pass {written['shares']['pass']:.0%}".replace("%", " %") in result.stderr
