"""Slices are published while the next pass runs, no further behind than a checkpoint, whatever ends the job."""

from __future__ import annotations

import errno
import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.tiny_models import random_dataset, save_run
from trajstore.errors import StoreUnusable
from trajstore.scoring.job import publish as publishing
from trajstore.scoring.job import publishing_thread
from trajstore.scoring.run import score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = [0, 1, 2, 4, 8]


@pytest.fixture
def run(store: Store, tmp_path: Path) -> str:
    """A run, and the datasets d and e in the store."""
    store.add_dataset("d", random_dataset(seed=1))
    store.add_dataset("e", random_dataset((7, 7), seed=2))
    return str(save_run(tmp_path / "run", STEPS))


class Job:
    """The work of a job in its order, with a stand-in for the time that publishing takes."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: list[int] = []
        """Steps whose pass has begun."""
        self.done = 0
        """Passes that are done."""
        self.before_append: Callable[[int], object] = lambda step: None
        self.before_pass: Callable[[int], None] = lambda step: None
        append, whole = store.append, publishing.Publisher.score

        def appended(**slice_: Any) -> Path:
            self.before_append(slice_["step"])
            return append(**slice_)

        def scored(publisher: publishing.Publisher, checkpoint: Any, *rest: Any, **options: Any) -> Any:
            self.passes.append(checkpoint.step)
            self.before_pass(checkpoint.step)
            finished = whole(publisher, checkpoint, *rest, **options)
            self.done += 1
            return finished

        monkeypatch.setattr(store, "append", appended)
        monkeypatch.setattr(publishing.Publisher, "score", scored)

    def wait_for(self, passes: int) -> None:
        """Wait until so many passes are done."""
        end = time.monotonic() + 60
        while self.done < passes:
            assert time.monotonic() < end, "the pass waits for the slice"
            time.sleep(0.005)


@pytest.fixture
def job(store: Store, monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(store, monkeypatch)


def publishing_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("trajstore-publish")]


def test_the_next_pass_runs_while_slices_are_published(store: Store, run: str, job: Job) -> None:
    job.before_append = lambda step: job.wait_for(STEPS.index(step) + 2) if step < 8 else None
    report = score(store, run, ["d"])
    assert (report.written, report.failures) == (5, [])
    assert publishing_threads() == []


def test_no_pass_begins_more_than_a_checkpoint_ahead(store: Store, run: str, job: Job) -> None:
    seen = []

    def slow(step: int) -> None:
        if step == 0:
            job.wait_for(2)
            time.sleep(0.3)
            seen.append(list(job.passes))

    job.before_append = slow
    assert score(store, run, ["d"]).written == 5
    assert seen == [[0, 1]]


def test_the_losses_of_two_checkpoints_are_in_memory_at_most(
    store: Store, run: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: weakref.WeakSet[publishing.FinishedPass] = weakref.WeakSet()
    most = 0
    whole = publishing.Publisher.score

    def counted(*arguments: Any, **options: Any) -> publishing.FinishedPass:
        nonlocal most
        finished = whole(*arguments, **options)
        kept.add(finished)
        gc.collect()
        most = max(most, len(kept))
        return finished

    monkeypatch.setattr(publishing.FinishedPass, "__hash__", object.__hash__)
    monkeypatch.setattr(publishing.Publisher, "score", counted)
    job.before_append = lambda step: job.wait_for(min(2 * STEPS.index(step) + 4, 10))
    assert score(store, run, ["d", "e"]).written == 10
    assert most == 4  # of two datasets each


def test_what_is_finished_is_published_after_an_interrupt(store: Store, run: str, job: Job) -> None:
    def interrupted(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    job.before_pass = interrupted
    job.before_append = lambda step: time.sleep(0.2)
    with pytest.raises(KeyboardInterrupt):
        score(store, run, ["d", "e"])
    assert [store.steps("run", name) for name in "de"] == [[0, 1], [0, 1]]
    assert list((store.path / "tmp").iterdir()) == []
    assert publishing_threads() == []


def test_nothing_is_published_after_what_ended_the_job(store: Store, run: str, job: Job) -> None:
    def full(step: int) -> None:
        job.wait_for(min(2 * STEPS.index(step) + 3, 10))
        if step == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    job.before_append = full
    with pytest.raises(StoreUnusable, match=r"run on d at step 1 .*No space left on device"):
        score(store, run, ["d", "e"])
    assert [store.steps("run", name) for name in "de"] == [[0], [0]]
    assert max(job.passes) == 2
    assert publishing_threads() == []


def test_a_slice_that_cannot_be_published_is_named_with_its_step(store: Store, run: str, job: Job) -> None:
    def broken(step: int) -> None:
        if step in (1, 8):
            raise RuntimeError("not this one")

    job.before_append = broken
    report = score(store, run, ["d"])
    assert report.failures == [(1, "RuntimeError: not this one"), (8, "RuntimeError: not this one")]
    assert store.steps("run", "d") == [0, 2, 4]
    assert (report.written, report.tokens) == (3, 3 * 39)


def test_a_store_that_does_not_answer_is_given_up_once_the_job_is_stopped(
    store: Store, run: str, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing_thread, "GRACE", 0.1)
    answers = threading.Event()

    def interrupted(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    job.before_pass = interrupted
    job.before_append = lambda step: step == 1 and answers.wait(100)
    with pytest.raises(KeyboardInterrupt):
        score(store, run, ["d", "e"])
    assert [store.steps("run", name) for name in "de"] == [[0], [0]]
    answers.set()  # what was under way is published, and nothing after it
    end = time.monotonic() + 60
    while publishing_threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert [store.steps("run", name) for name in "de"] == [[0, 1], [0]]
