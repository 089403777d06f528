"""Runs on the Hub, the order of checkpoints, budgets, and the next checkpoint got ready while one is scored."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.tiny_models import cache_run, neox, save_run
from tests.scoring.job.conftest import STEPS
from trajstore.checkpoints import loading
from trajstore.checkpoints.prefetch import Ahead
from trajstore.checkpoints.weights import reading
from trajstore.errors import (
    BadOption,
    UnknownStep,
)
from trajstore.scoring import run as running
from trajstore.scoring.job import publish as publishing
from trajstore.scoring.plan import plan
from trajstore.scoring.run import run, score
from trajstore.scoring.time_budget import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.checkpoints.loading import Checkpoint, ReadCheckpoint
    from trajstore.store.store import Store


# Runs on the Hub


@pytest.fixture
def hub_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A Pythia of the wrong size in the Hub's cache, without the Hub; revision → commit."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    models = {name: neox(int(name[4:]), vocabulary=50304) for name in ("step0", "step512", "step1000")}
    return cache_run(tmp_path / "cache", "EleutherAI/pythia-14m-seed3", models)


def test_a_run_of_a_known_suite_knows_its_tokens(scored: Store, hub_run: dict[str, str]) -> None:
    todo = plan(scored, "EleutherAI/pythia-14m-seed3", ["d"])
    assert (todo.model, todo.tokens_per_step, todo.downloads) == ("pythia-14m-seed3", 2_097_152, ())
    assert todo.source.unreachable is not None
    assert run(scored, todo).written == 3
    provenance = scored.slice_facts("pythia-14m-seed3", "d", 1000).provenance
    assert (provenance.revision, provenance.commit) == ("step1000", hub_run["step1000"])
    assert (provenance.tokens_seen, provenance.tokens_exact) == (2_097_152_000, True)
    known = scored.model("pythia-14m-seed3")
    assert known is not None
    assert (known.repo, known.size, known.seed) == ("EleutherAI/pythia-14m-seed3", "14m", 3)


def test_what_is_not_on_this_disk_is_planned_as_a_download(
    scored: Store, hub_run: dict[str, str], tmp_path: Path
) -> None:
    snapshots = tmp_path / "cache" / "models--EleutherAI--pythia-14m-seed3" / "snapshots"
    shutil.rmtree(snapshots / hub_run["step512"])
    todo = plan(scored, "EleutherAI/pythia-14m-seed3", ["d"])
    assert (todo.downloads, todo.download_bytes) == (("step512",), None)
    report = run(scored, todo)
    assert [step for step, _ in report.failures] == [512]
    assert "not in the cache and cannot be downloaded" in report.failures[0][1]
    assert scored.steps("pythia-14m-seed3", "d") == [0, 1000]


def test_a_step_that_is_not_in_the_cache_is_an_error_that_says_so(
    scored: Store, hub_run: dict[str, str]
) -> None:
    with pytest.raises(
        UnknownStep, match=r"in the Hub's cache \(the Hub cannot be asked\)\. .*: 0, 512, 1000"
    ):
        plan(scored, "EleutherAI/pythia-14m-seed3", ["d"], steps=2000)


def test_a_local_copy_of_a_run_on_the_hub_is_the_same_run(
    scored: Store, hub_run: dict[str, str], tmp_path: Path
) -> None:
    score(scored, "EleutherAI/pythia-14m-seed3", ["d"])
    copied = save_run(tmp_path / "pythia-14m-seed3", [0, 512, 1000], vocabulary=50304)
    assert score(scored, str(copied), ["e"]).written == 3


# Order, budget, single checkpoints


def test_a_plan_in_coarse_to_fine_order(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="1")
    todo = plan(scored, str(runs / "run"), ["d"], order="bisect")
    assert [each.checkpoint.step for each in todo.pending] == [0, 8, 2, 4]
    assert (todo.present, todo.tokens) == (1, 4 * 39)


def test_shards_of_a_plan_do_not_depend_on_what_is_there(scored: Store, runs: Path) -> None:
    def steps(shard: str) -> list[int]:
        return [each.checkpoint.step for each in plan(scored, str(runs / "run"), ["d"], shard=shard).pending]

    before = [steps("0/2"), steps("1/2")]
    assert sorted(before[0] + before[1]) == STEPS
    score(scored, str(runs / "run"), ["d"], steps=before[0][0])
    assert [steps("0/2"), steps("1/2")] == [before[0][1:], before[1]]
    with pytest.raises(BadOption, match="I from 0 to N-1"):
        steps("2/2")


def test_a_budget_ends_before_what_does_not_fit(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass takes ten seconds of a clock of its own; within 35 seconds three checkpoints are done."""
    now = 0.0
    whole = publishing.token_scores

    def slow(*args: object, **kwargs: object) -> object:
        nonlocal now
        now += 10
        return whole(*args, **kwargs)

    monkeypatch.setattr(publishing, "token_scores", slow)
    monkeypatch.setattr(running, "Budget", lambda seconds: Budget(seconds, lambda: now))
    todo = plan(scored, str(runs / "run"), ["d"], order="bisect")
    report = run(scored, todo, budget=35)
    assert (report.written, report.left, report.failures) == (3, 2, [])
    assert scored.steps("run", "d") == [0, 2, 8]
    assert run(scored, plan(scored, str(runs / "run"), ["d"]), budget=0).left == 2
    assert run(scored, plan(scored, str(runs / "run"), ["d"]), budget=30).left == 0
    assert scored.steps("run", "d") == STEPS


# The next checkpoint, got ready while one is scored


class Order:
    """The events and their steps, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, int]] = []
        begin, take, scored = Ahead.begin, Ahead.take, publishing.Publisher.score

        def begun(ahead: Ahead, checkpoint: Checkpoint) -> None:
            self.events.append(("begin", checkpoint.step))
            begin(ahead, checkpoint)

        def taken(ahead: Ahead, checkpoint: Checkpoint) -> ReadCheckpoint:
            self.events.append(("take", checkpoint.step))
            return take(ahead, checkpoint)

        def score(
            publisher: publishing.Publisher, checkpoint: Checkpoint, *rest: Any, **options: Any
        ) -> publishing.FinishedPass:
            self.events.append(("score", checkpoint.step))
            return scored(publisher, checkpoint, *rest, **options)

        monkeypatch.setattr(Ahead, "begin", begun)
        monkeypatch.setattr(Ahead, "take", taken)
        monkeypatch.setattr(publishing.Publisher, "score", score)


def test_the_next_checkpoint_is_begun_before_one_is_scored(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(monkeypatch)
    score(scored, str(runs / "run"), ["d", "e"], steps="0:2")
    assert order.events == [
        ("take", 0), ("begin", 1), ("score", 0), ("score", 0),
        ("take", 1), ("begin", 2), ("score", 1), ("score", 1),
        ("take", 2), ("score", 2), ("score", 2),
    ]  # fmt: skip
    assert ahead_threads() == []


def test_a_runs_model_is_built_once(scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that a job does with it keeps the next checkpoint's weights from being put into it."""
    built, whole = [], loading._built

    def counted(folder: Path, *rest: Any, **keywords: Any) -> object:
        built.append(folder.name)
        return whole(folder, *rest, **keywords)

    monkeypatch.setattr(loading, "_built", counted)
    assert score(scored, str(runs / "run"), ["d", "e"]).written == 2 * len(STEPS)
    assert built == ["step0"]


def ahead_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "trajstore-ahead"]


def test_an_error_of_the_next_checkpoint_is_its_own(scored: Store, runs: Path) -> None:
    (runs / "run" / "step1" / "model.safetensors").unlink()
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == [1]
    assert "step1 holds no weights" in report.failures[0][1]
    assert scored.steps("run", "d") == [0, 2, 4, 8]


def test_no_thread_stays_after_an_interrupt(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PIECE", 1)  # so small that reading outlasts the pass

    def interrupted(*args: object, **kwargs: object) -> object:
        assert ahead_threads() == ["trajstore-ahead"]
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing, "token_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(scored, str(runs / "run"), ["d"])
    assert ahead_threads() == []
