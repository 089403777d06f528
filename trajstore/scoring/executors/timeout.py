"""Scores a plan in a process of its own that is ended where a checkpoint takes longer than it may.

Nothing else stops a checkpoint for good: reading from a disk that has gone, or building a model, hears of no wish to
stop. What the process published of the checkpoint stays; the next one gets a new process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trajstore.arguments.spelling import current, option
from trajstore.errors import NotCausal, ScoringStopped, UnfitContext
from trajstore.scoring.backfill import is_to_do
from trajstore.scoring.executors.worker import Outcome, Worker
from trajstore.scoring.report import ScoringReport
from trajstore.scoring.time_budget import duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from trajstore.arguments.spelling import Spelling
    from trajstore.progress import Progress
    from trajstore.scoring.options import ScoringOptions
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.scoring.plan_check import Tokenizers
    from trajstore.scoring.time_budget import Budget
    from trajstore.store.store import Store

START = 600.0
"""Seconds that a process may take until it is ready to score."""
_TURN = 1.0


class TimedJob:
    """The work of one run as `ScoringJob` does it, with a time limit for each checkpoint; leave it by `close`."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        run_id: str | None,
        tokenizers: Tokenizers,
        options: ScoringOptions,
        progress: Progress,
    ) -> None:
        self.store, self.plan, self.progress = store, plan, progress
        self.limit = options.timeout_seconds or 0.0
        inner = replace(options, timeout=None, budget=None)
        self._arguments = (str(store.path), plan, tokenizers, run_id, _threads(), inner, current())
        self._child: _Child | None = None
        self._counts = ScoringReport()

    def score_all(self, budget: Budget) -> int:
        """Score one checkpoint after another; gives the number of slices for which the time was too short."""
        budget.begin_work()
        queue = self.plan.pending
        for number, pending in enumerate(queue):
            if not budget.allows(pending.tokens):
                return sum(len(each.all_datasets) for each in queue[number:])
            following = queue[number + 1] if number + 1 < len(queue) else None
            before = self._counts.tokens
            self._score(pending, following)
            budget.did(self._counts.tokens - before)
        return 0

    def take_report(self) -> ScoringReport:
        """Return what was done since the last report."""
        report, self._counts = self._counts, ScoringReport()
        return report

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _score(self, pending: Pending, following: Pending | None) -> None:
        """Have a checkpoint scored, or note why it was not."""
        pending = replace(
            pending,
            datasets=tuple(name for name in pending.datasets if name not in self._counts.unfit),
            backfill=tuple(name for name in pending.backfill if name not in self._counts.unfit),
        )
        todo = [name for name in pending.all_datasets if is_to_do(self.store, self.plan, pending, name)]
        if self._child is None:
            self._child = _Child(self._arguments, self.progress)
        try:
            outcome = self._child.score(pending, following, self.limit)
        except (TimeoutError, EOFError) as error:
            self.close()
            self._count_published(pending, todo)
            self._fail(pending.checkpoint.step, str(error))
            return
        if outcome.fatal:
            raise ScoringStopped(outcome.fatal)
        if outcome.not_causal:
            raise NotCausal(outcome.not_causal)
        if outcome.unfit:
            raise UnfitContext(outcome.unfit)
        assert outcome.report is not None
        self._counts.add(outcome.report)

    def _count_published(self, pending: Pending, todo: list[str]) -> None:
        """Count what a process published of a checkpoint before it was ended."""
        there = [name for name in todo if not is_to_do(self.store, self.plan, pending, name)]
        for name in there:
            self._counts.count_slice(self.store.dataset(name).n_tokens)

    def _fail(self, step: int, reason: str) -> None:
        """Note a failure and say so at once."""
        self._counts.failures.append((step, reason))
        self.progress.say(f"step {step} was not scored: {reason}")


class _Child:
    """A process with a `Worker` in it."""

    def __init__(self, arguments: tuple[Any, ...], progress: Progress) -> None:
        """Start it; raises `ScoringStopped` where it cannot use its device or the store."""
        context = multiprocessing.get_context("spawn")
        self._wire, theirs = context.Pipe()
        self._progress = progress
        self._process = context.Process(target=_serve, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            problem = self._answer(START, "a process to score in did not start")
        except (TimeoutError, EOFError) as error:
            self.end()
            raise ScoringStopped(f"Scoring with {option('timeout')}: {error}") from error
        except BaseException:
            self.end()
            raise
        if problem:
            self.end()
            raise ScoringStopped(
                f"Scoring with {option('timeout')} takes a process of its own, which cannot begin. {problem}"
            )

    def score(self, pending: Pending, following: Pending | None, seconds: float) -> Outcome:
        """Return the outcome of scoring a checkpoint.

        Raises `TimeoutError` where it took longer, and `EOFError` where the process is gone; it must be ended then.
        """
        try:
            self._wire.send((pending, following))
        except OSError as error:
            raise EOFError(self._how_it_ended()) from error
        outcome: Outcome = self._answer(seconds, "it was not done")
        return outcome

    def end(self) -> None:
        """End the process at once, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._wire.close()

    def _answer(self, seconds: float, what: str) -> Any:
        """Return the next answer; talk that comes before it is passed on."""
        end = time.monotonic() + seconds
        for kind, value in self._messages(end):
            if kind == "say":
                self._progress.say(value)
            elif kind == "advance":
                self._progress.advance(*value)
            else:
                return value
        raise TimeoutError(
            f"{what} within {duration(seconds)} ({option('timeout')}), so its process was ended; what it had "
            "finished is kept"
        )

    def _messages(self, end: float) -> Iterator[tuple[str, Any]]:
        """(kind, value) as they come until the time is up; raises `EOFError` where the process is gone."""
        while (left := end - time.monotonic()) > 0:
            try:
                if self._wire.poll(min(left, _TURN)):
                    yield self._wire.recv()
            except (EOFError, OSError) as error:
                raise EOFError(self._how_it_ended()) from error

    def _how_it_ended(self) -> str:
        self._process.join(5)
        return (
            f"the process that scored it ended (exit code {self._process.exitcode}), as where memory runs out; what it "
            "had finished is kept"
        )


class _Told:
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


def _serve(
    wire: Connection[Any, Any],
    path: str,
    plan: Plan,
    tokenizers: Tokenizers,
    run_id: str | None,
    threads: int,
    options: ScoringOptions,
    spelling: Spelling,
) -> None:
    """Score what comes over a wire until it is closed, in a process made for it; arguments as of `Worker`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its parent's business, who then ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker(path, plan, tokenizers, run_id, threads, options, spelling, _Told(wire))
    wire.send(("ready", worker.start()))
    while True:
        try:
            pending, following = wire.recv()
        except EOFError:
            return
        wire.send(("done", worker.score(pending, following)))


def _end_with_parent() -> None:
    """End this process, whatever it is doing, once its parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _threads() -> int:
    import torch

    return torch.get_num_threads()
