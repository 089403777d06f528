"""A plan shared out to the workers of a real Ray cluster of this machine gives the store that one process gives."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.progress import Heard
from tests.helpers.tiny_models import random_dataset, save_run
from tests.scoring.executors.conftest import slices, workers
from trajstore.checkpoints.loading import Loader
from trajstore.checkpoints.weights import fingerprints, reading
from trajstore.errors import ExecutorError, StoreNotFound, UnfitContext
from trajstore.scoring.executors import ray as executors
from trajstore.scoring.executors import worker as workers_module
from trajstore.scoring.executors.ray import run_on_ray
from trajstore.scoring.job import publish
from trajstore.scoring.plan import plan
from trajstore.scoring.run import score
from trajstore.scoring.time_budget import Budget
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ray = pytest.importorskip("ray", reason="Ray is not installed: pip install trajstore[ray]")

STEPS = [0, 1, 2, 4, 8, 16]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of this machine with room for two workers, stopped whatever happens."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as folder:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_AUTH_MODE", "")  # Ray sets it; this takes it away at the end
        patch.delenv("RAY_AUTH_MODE")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            ray.init(
                address="local",
                num_cpus=2,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=80 << 20,
                log_to_driver=False,
                logging_level="warning",
                _node_ip_address="127.0.0.2" if os.uname().sysname == "Linux" else None,
                _temp_dir=folder,
            )
            yield
        finally:
            ray.shutdown()


# A cluster


def test_two_workers_give_the_store_that_one_process_gives(
    cluster: None, ready: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", STEPS)
    (run / "step4" / "model.safetensors").write_bytes(b"")
    score(ready, str(run), ["d", "e"], name="alone")
    score(ready, str(run), ["d"], name="run", steps=2)
    heard = Heard()
    report = run_on_ray(ready, plan(ready, str(run), ["d", "e"], name="run"), progress=heard)
    assert (report.written, report.skipped, report.left) == (9, 1, 0)
    assert report.tokens == heard.done == 4 * 53 + 14
    assert heard.total == 5 * 53 + 14
    ((step, reason),) = report.failures
    assert (step, "cannot be read" in reason) == (4, True)
    assert slices(ready, "run") == slices(ready, "alone")
    assert len(slices(ready, "run")) == 10
    assert capsys.readouterr().out == ""
    assert ray.is_initialized()
    deadline = time.monotonic() + 20
    while workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers() == {}


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_checkpoint_scored(
    cluster: None, ready: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", STEPS)
    score(ready, str(run), ["d", "e"], name="alone")
    killed: list[int] = []
    ended = threading.Event()

    def kill() -> None:
        """Kill the first worker that is seen at work."""
        while not killed and not ended.wait(0.01):
            at_work = [
                process for process, title in workers().items() if title.startswith("ray::Worker.score")
            ]
            for process in at_work[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    killing = threading.Thread(target=kill)
    killing.start()
    heard = Heard()
    try:
        report = run_on_ray(ready, plan(ready, str(run), ["d", "e"], name="run"), progress=heard)
    finally:
        ended.set()
        killing.join()
    assert len(killed) == 1
    assert (report.written, report.skipped, report.failures) == (12, 0, [])
    assert slices(ready, "run") == slices(ready, "alone")
    assert sum("the worker that scored it died" in line for line in heard.lines) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_the_command_starts_a_cluster_of_this_machine_and_stops_it(
    ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray keeps the token that it makes
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run = save_run(tmp_path / "run", STEPS)
    command = [
        sys.executable,
        "-m",
        "trajstore",
        "score",
        str(run),
        "-s",
        str(ready.path),
        "-d",
        "d",
        "-d",
        "e",
    ]
    done = subprocess.run([*command, "--executor", "ray"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "run: 12 slices written, 0 there already" in done.stderr
    score(ready, str(run), ["d", "e"], name="alone")
    assert slices(ready, "run") == slices(ready, "alone")


def test_the_room_of_a_cluster() -> None:
    gpus = {"CPU": 16.0, "GPU": 4.0}
    assert executors._places({"CPU": 8.0}, "auto", 1) == (8, 0)
    assert executors._places({"CPU": 8.0}, "cpu", 3) == (2, 0)
    assert executors._places(gpus, "auto", 1) == (4, 1)
    assert executors._places(gpus, "cuda", 8) == (2, 1)
    assert executors._places(gpus, "cpu", 1) == (16, 0)
    for resources, device, each in [({"CPU": 8.0}, "cuda", 1), ({"CPU": 2.0}, "auto", 3), ({}, "auto", 1)]:
        with pytest.raises(ExecutorError, match="no room for a worker"):
            executors._places(resources, device, each)


def test_without_ray_or_a_cluster_it_is_said_what_to_do(
    ready: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = plan(ready, str(save_run(tmp_path / "run", [1])), ["d"])

    def unreachable(**_: Any) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", unreachable)
    with pytest.raises(
        ExecutorError, match=r"at head:6379: nobody answers\. Start a cluster \(ray start --head"
    ):
        run_on_ray(ready, todo, address="head:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorError, match=r"pip install 'trajstore\[ray\]'"):
        run_on_ray(ready, todo)


# The driver, with workers in this process


class Died(Exception):
    """The error that Ray raises for a worker that is gone."""


class InProcess:
    """The part of Ray that the driver uses, done at once, with workers that fail as a test says."""

    exceptions = SimpleNamespace(RayError=Died)

    def __init__(self) -> None:
        self.made = 0
        self.alive: set[int] = set()
        self.handed: list[tuple[int, int, int | None]] = []
        """(worker, step, the step that follows)."""
        self.before: Callable[[int, int], None] = lambda worker, step: None
        self.after: Callable[[int, int], None] = lambda worker, step: None
        self.on_start: Callable[[int], None] = lambda worker: None

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **_: Any) -> Callable[[type], Any]:
        return lambda cls: SimpleNamespace(remote=lambda *arguments: self.make(cls(*arguments)))

    def make(self, worker: Any) -> Any:
        self.made += 1
        number = self.made
        self.alive.add(number)

        def start() -> Any:
            self.on_start(number)
            return worker.start()

        def score(pending: Any, following: Any) -> Any:
            step = pending.checkpoint.step
            self.handed.append((number, step, following.checkpoint.step if following else None))
            self.before(number, step)
            outcome = worker.score(pending, following)
            self.after(number, step)
            return outcome

        def later(work: Callable[..., Any]) -> Any:
            return SimpleNamespace(remote=lambda *arguments: Later(number, lambda: work(*arguments)))

        return SimpleNamespace(number=number, start=later(start), score=later(score))

    def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, later: Later) -> Any:
        try:
            return later.work()
        except Died:
            self.alive.remove(later.number)
            raise

    def kill(self, worker: Any) -> None:
        self.alive.remove(worker.number)


class Later:
    """A worker's result to come."""

    def __init__(self, number: int, work: Callable[[], Any]) -> None:
        self.number, self.work = number, work


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Stands in for the cluster."""
    fake = InProcess()
    monkeypatch.setattr(executors, "_cluster", lambda _: contextlib.nullcontext(fake))
    return fake


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(tmp_path / "run", STEPS)


def failing(times: int, error: Exception, *steps: int) -> Callable[[int, int], None]:
    """Raises the error so often for one of the steps."""
    left = dict.fromkeys(steps, times)

    def work(_: int, step: int) -> None:
        if left.get(step, 0):
            left[step] -= 1
            raise error

    return work


def test_every_checkpoint_is_handed_out_and_read_once_in_one_run(
    fake: InProcess, ready: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the worker that has it ready."""
    read, whole = [], fingerprints.combined

    def counted(digests: Any) -> str:
        read.append(digests)
        return whole(digests)

    for module in (fingerprints, reading):
        monkeypatch.setattr(module, "combined", counted)
    report = run_on_ray(ready, plan(ready, str(run), ["d", "e"]))
    assert (report.written, report.skipped, report.failures, report.left) == (12, 0, [], 0)
    assert sorted(step for _, step, _ in fake.handed) == STEPS
    assert len(read) == len(STEPS)
    runs = {ready.slice_facts("run", name, step).provenance.run for name in "de" for step in STEPS}
    assert len(runs) == 1
    assert (fake.made, fake.alive) == (2, set())
    for worker in (1, 2):
        mine = [(step, following) for number, step, following in fake.handed if number == worker]
        assert all(following == later for (_, following), (later, _) in itertools.pairwise(mine))
    again = run_on_ray(ready, plan(ready, str(run), ["d", "e"]))
    assert (again.written, again.skipped, fake.made) == (0, 12, 2)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dead_workers_checkpoint_is_scored_by_another(
    fake: InProcess, ready: Store, run: Path, when: str
) -> None:
    setattr(fake, when, failing(1, Died("end of file\nmore"), 2))
    heard = Heard()
    report = run_on_ray(ready, plan(ready, str(run), ["d", "e"]), progress=heard)
    assert (report.written, report.skipped, report.failures) == (12, 0, [])
    assert report.tokens == heard.done == heard.total
    assert fake.made == 3
    again = [line for line in heard.lines if "step 2 will be tried again" in line]
    assert len(again) == (when == "before")
    assert sum(step == 2 for _, step, _ in fake.handed) == 1 + (when == "before")


def test_a_checkpoint_that_kills_every_worker_is_given_up(fake: InProcess, ready: Store, run: Path) -> None:
    fake.before = failing(99, Died("out of memory"), 2)
    report = run_on_ray(ready, plan(ready, str(run), ["d"]))
    assert report.written == 5
    assert report.failures == [(2, "the worker that scored it died: out of memory")]
    assert fake.made == 2 + executors.Actors.attempts
    assert fake.alive == set()


def test_what_fails_once_is_tried_again_for_what_it_lacks(
    fake: InProcess, ready: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = Store.append, 0

    def flaky(store: Store, **slice_: Any) -> Path:
        nonlocal calls
        if (slice_["step"], slice_["dataset"]) == (2, "e"):
            calls += 1
            if calls < executors.Actors.attempts:
                raise RuntimeError("not now")
        return whole(store, **slice_)

    monkeypatch.setattr(Store, "append", flaky)
    heard = Heard()
    report = run_on_ray(ready, plan(ready, str(run), ["d", "e"]), progress=heard)
    assert (report.written, report.skipped, report.failures) == (12, 0, [])
    assert calls == executors.Actors.attempts
    assert heard.done == heard.total


def test_a_dataset_that_does_not_fit_is_named_once(fake: InProcess, ready: Store, run: Path) -> None:
    ready.add_dataset("long", random_dataset((33, 4)))
    score(ready, str(run), ["d"], steps=0)
    report = run_on_ray(ready, plan(ready, str(run), ["d", "long"]))
    assert report.written == 5
    ((_, reason),) = report.failures
    assert "The dataset long does not fit the model" in reason
    with pytest.raises(UnfitContext, match="does not fit the model"):
        run_on_ray(ready, plan(ready, str(run), ["long"]))
    assert fake.alive == set()


def test_what_a_dead_worker_left_is_counted_without_what_does_not_fit(
    fake: InProcess, ready: Store, run: Path
) -> None:
    ready.add_dataset("long", random_dataset((33, 4)))
    fake.after = failing(1, Died("end of file"), 4)
    heard = Heard()
    report = run_on_ray(ready, plan(ready, str(run), ["d", "long"]), progress=heard)
    assert (report.written, report.tokens) == (6, 6 * 39)
    assert heard.done == report.tokens
    assert len(report.failures) == 1


def test_what_a_budget_leaves_is_counted_without_what_does_not_fit(
    fake: InProcess, ready: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.add_dataset("long", random_dataset((33, 4)))
    whole = Budget.allows
    monkeypatch.setattr(
        Budget,
        "allows",
        lambda budget, tokens: whole(budget, tokens) and (budget._seconds is None or len(fake.handed) < 2),
    )
    report = run_on_ray(ready, plan(ready, str(run), ["d", "long"]), budget=1e9)
    assert (report.written, report.left) == (2, 4)


def test_a_worker_tells_of_any_error_and_lives_on(
    fake: InProcess, ready: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Loader, "fill", broken)
    report = run_on_ray(ready, plan(ready, str(run), ["d"], steps=[2]))
    assert report.failures == [(2, "PermissionError: [Errno 13] Permission denied")]
    assert fake.made == 1
    monkeypatch.setattr(workers_module, "Store", broken)
    with pytest.raises(ExecutorError, match=r"PermissionError: .*under this path"):
        run_on_ray(ready, plan(ready, str(run), ["d"], steps=[2]))
    assert fake.alive == set()


def test_footers_are_read_for_the_plan_and_not_for_each_checkpoint(
    fake: InProcess, ready: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside those, one before each slice that is published, and that of a step's other dataset."""
    score(ready, str(run), ["d"])
    read, whole = [], Store.slice_facts

    def counted(store: Store, model: str, dataset: str, step: int) -> Any:
        read.append((dataset, step))
        return whole(store, model, dataset, step)

    todo = plan(ready, str(run), ["d", "e"])
    monkeypatch.setattr(Store, "slice_facts", counted)
    assert run_on_ray(ready, todo).written == len(STEPS)
    of_the_plan, for_each = len(STEPS), 1 + 1
    assert len(read) <= of_the_plan + for_each * len(STEPS)


def test_noise_that_cannot_be_measured_is_told_and_keeps_no_losses(
    fake: InProcess, ready: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmeasurable(*_: Any) -> Any:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(publish, "measure_noise", unmeasurable)
    heard = Heard()
    report = run_on_ray(ready, plan(ready, str(run), ["d"]), repeat_noise=1, progress=heard)
    assert (report.written, report.failures) == (6, [])
    assert sorted(step for step, _ in report.unmeasured) == STEPS
    assert sum("on d could not be measured: ZeroDivisionError: by zero" in said for said in heard.lines) == 6


def test_a_store_that_workers_cannot_use_ends_it(
    fake: InProcess, ready: Store, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "append", full)
    with pytest.raises(ExecutorError, match="No space left on device"):
        run_on_ray(ready, plan(ready, str(run), ["d"]))

    def absent(path: object) -> None:
        raise StoreNotFound(path)

    monkeypatch.setattr(workers_module, "Store", absent)
    with pytest.raises(ExecutorError, match=r"(?s)There is no store at .*under this path"):
        run_on_ray(ready, plan(ready, str(run), ["d"]))
    assert fake.alive == set()


def test_workers_that_do_not_start_end_it(fake: InProcess, ready: Store, run: Path) -> None:
    def dying(_: int) -> None:
        raise Died("killed")

    fake.on_start = dying
    with pytest.raises(
        ExecutorError, match=f"{executors.Actors.attempts} workers died before they began: killed"
    ):
        run_on_ray(ready, plan(ready, str(run), ["d"]))


def test_a_budget_leaves_the_rest_of_the_queue(fake: InProcess, ready: Store, run: Path) -> None:
    report = run_on_ray(ready, plan(ready, str(run), ["d", "e"]), budget=0.0)
    assert (report.written, report.failures, report.left) == (0, [], 12)
    assert fake.alive == set()
