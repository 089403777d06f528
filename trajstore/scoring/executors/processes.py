"""Scores a plan in processes of this machine: one for each of several devices, or one that has a time limit.

Each is ended where a checkpoint takes longer than it may. Nothing else stops a checkpoint for good: reading from a disk
that has gone, or building a model, hears of no wish to stop. What a process published of the checkpoint stays; the next
one gets a new process.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait as wait_for
from typing import TYPE_CHECKING, Any

from trajstore.arguments.spelling import current, option
from trajstore.display import duration
from trajstore.errors import ScoringStopped
from trajstore.scoring.executors.driver import Died
from trajstore.scoring.executors.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from trajstore.progress import Progress
    from trajstore.scoring.executors.worker import Outcome
    from trajstore.scoring.options import ScoringOptions
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.scoring.plan_check import Tokenizers

START = 600.0
"""Seconds that a process may take until it is ready to score."""
GRACE = 20.0
"""Seconds that a process at work has to publish what is finished, when all are ended."""
_TURN = 1.0


class Processes:
    """The workers of a driver as processes of this machine, one for each of `devices`."""

    attempts = 1
    speaks = True

    def __init__(
        self,
        path: str,
        plan: Plan,
        tokenizers: Tokenizers,
        run_id: str | None,
        devices: Sequence[str],
        options: ScoringOptions,
        progress: Progress,
    ) -> None:
        """`path` is the store's; `tokenizers` and `run_id` are those of the whole job."""
        self.places = len(devices)
        self._devices, self._progress = devices, _Once(progress)
        self._limit = options.timeout_seconds
        inner = replace(options, timeout=None, budget=None, devices=())
        on_cpu = sum(device in ("cpu", "auto") for device in devices)
        threads = max(1, _threads() // max(1, on_cpu))
        # A limit of time is of each checkpoint with its slices, and a budget counts those that are done.
        lags = self._limit is None and options.budget is None
        self._make = partial(Worker, path, plan, tokenizers, run_id, threads, lags=lags)
        self._options = inner
        self._processes: list[_Process] = []

    def start(self, place: int) -> _Process:
        """Begin a process on the device of this place."""
        options = replace(self._options, device=self._devices[place])
        process = _Process(partial(self._make, options, current()))
        self._processes.append(process)
        return process

    def score(self, worker: _Process, pending: Pending, following: Pending | None) -> None:
        """Have a checkpoint scored."""
        seconds = math.inf if self._limit is None else self._limit
        worker.begin("score", (pending, following), seconds)

    def finish(self, worker: _Process) -> None:
        """Have a process end what it still has to publish."""
        worker.begin("finish", (), math.inf)

    def wait(self) -> list[tuple[_Process, Outcome | str | Died | None]]:
        """Return what processes gave within a while, those that died or whose time is up too; pass on their talk."""
        at_work = [process for process in self._processes if process.ends is not None]
        end = min([time.monotonic() + _TURN, *(process.ends or 0.0 for process in at_work)])
        ready = set(wait_for([process.wire for process in at_work], max(0.0, end - time.monotonic())))
        results: list[tuple[_Process, Outcome | str | Died | None]] = []
        for process in at_work:
            if process.wire in ready:
                results.extend((process, result) for result in self._read(process))
            if process.ends is not None and process.ends <= time.monotonic():
                process.ends = None
                results.append((process, Died(self._overdue(process))))
        return results

    def end(self, worker: _Process) -> None:
        """End a process at once, whatever it is doing."""
        self._processes.remove(worker)
        worker.kill()

    def close(self) -> None:
        """End all processes; one that is scoring may first publish what is finished."""
        try:
            for process in self._processes:
                if process.at_work:
                    process.stop()
            end = time.monotonic() + GRACE
            for process in self._processes:
                if process.at_work:
                    process.join(end - time.monotonic())
        finally:
            while self._processes:
                self.end(self._processes[-1])

    def unusable(self, problem: str) -> ScoringStopped:
        """The error of a process that cannot use its device or the store."""
        option_name = option("timeout") if self._limit is not None else option("devices")
        return ScoringStopped(
            f"Scoring with {option_name} takes a process of its own, which cannot begin. {problem}"
        )

    def stopped(self, problem: str) -> ScoringStopped:
        """The error of a store, or slices there, that do not let scoring go on."""
        return ScoringStopped(problem)

    def _read(self, process: _Process) -> Iterator[Outcome | str | Died | None]:
        """Yield what a process gives, if that has come; talk that comes before it is passed on."""
        try:
            kind, value = process.wire.recv()
        except (EOFError, OSError):
            process.ends = None
            yield Died(process.how_it_ended())
            return
        if kind == "say":
            self._progress.say(value)
        elif kind == "advance":
            self._progress.advance(*value)
        else:
            process.ends = None
            yield value

    def _overdue(self, process: _Process) -> str:
        """Return why a process that takes too long is ended."""
        if not process.started:
            return f"It was not ready within {duration(START)}."
        return (
            f"it was not done within {duration(self._limit or 0.0)} ({option('timeout')}), so its process was ended; "
            "what it had finished is kept"
        )


class _Process:
    """A process with a `Worker` in it."""

    def __init__(self, make: Callable[[_Wired], Worker]) -> None:
        """Start it; `make` gives its worker."""
        context = multiprocessing.get_context("spawn")
        self.wire, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()
        self.started = False
        self.ends: float | None = time.monotonic() + START
        """When its time is up; None where it has nothing to do."""

    @property
    def at_work(self) -> bool:
        """Return whether it is scoring or publishing."""
        return self.started and self.ends is not None

    def begin(self, method: str, arguments: tuple[Any, ...], seconds: float) -> None:
        """Have its worker do something."""
        self.started, self.ends = True, time.monotonic() + seconds
        with contextlib.suppress(OSError):  # it is gone, which reading from it tells
            self.wire.send((method, arguments))

    def stop(self) -> None:
        """Have it end once what is finished is published."""
        self._process.terminate()

    def join(self, seconds: float) -> None:
        """Wait until it has ended, no longer than that."""
        self._process.join(max(0.0, seconds))

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()
        self.wire.close()

    def how_it_ended(self) -> str:
        """Return how a process that is gone came to its end."""
        self._process.join(5)
        return (
            f"the process that scored it ended (exit code {self._process.exitcode}), as where memory runs out; what it "
            "had finished is kept"
        )


class _Once:
    """Progress of several processes: what all of them say is said once."""

    def __init__(self, progress: Progress) -> None:
        self.advance = progress.advance
        self._progress = progress
        self._said: set[str] = set()

    def say(self, message: str) -> None:
        """A line of talk, if it is a new one."""
        if message not in self._said:
            self._said.add(message)
            self._progress.say(message)


class _Wired:
    """Progress that is told to whoever is at the other end of a wire."""

    def __init__(self, wire: Connection[Any, Any]) -> None:
        self._wire = wire

    def start(self, label: str, total: int, unit: str) -> None:
        """Nothing: the other end has begun its bar."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Move the bar."""
        self._wire.send(("advance", (amount, note)))

    def stop(self) -> None:
        """Nothing: the other end takes its bar away."""

    def say(self, message: str) -> None:
        """A line of talk."""
        self._wire.send(("say", message))


class _Stopped(BaseException):
    """The parent wants this process to end."""


def _serve(wire: Connection[Any, Any], make: Callable[[_Wired], Worker]) -> None:
    """Do what comes over a wire until it is closed, in a process made for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its parent's business, who then stops it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = make(_Wired(wire))
    wire.send(("ready", worker.start()))
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(EOFError, _Stopped):
        while True:
            method, arguments = wire.recv()
            wire.send(("done", getattr(worker, method)(*arguments)))
    worker.close()


def _stop(*_: object) -> None:
    """End what this process is doing, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


def _end_with_parent() -> None:
    """End this process, whatever it is doing, once its parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
