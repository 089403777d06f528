"""Hands out a plan's checkpoints to workers, one at a time each, and counts what becomes of them.

The workers are processes of this machine or of a Ray cluster. A checkpoint that fails goes back to the queue where it
may be tried again, and so does that of a worker that died, which is replaced. A worker is told what it will probably
get next, so that it can get that ready.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from trajstore.errors import NotCausal, UnfitContext
from trajstore.progress import SILENT
from trajstore.scoring.backfill import is_to_do
from trajstore.scoring.report import ScoringReport

if TYPE_CHECKING:
    from trajstore.errors import TrajstoreError
    from trajstore.progress import Progress
    from trajstore.scoring.executors.worker import Outcome
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.scoring.time_budget import Budget
    from trajstore.store.store import Store


class Died(Exception):
    """A worker is gone; its words say how."""


class Workers(Protocol):
    """Processes with a `Worker` in each; what one gives comes by `wait`."""

    places: int
    """Largest number of workers at a time."""
    attempts: int
    """Number of times that a checkpoint is tried, and a worker that does not start."""
    speaks: bool
    """True where a worker itself moves the bar and says what goes wrong."""

    def start(self, place: int) -> Any:
        """Begin a worker, which gives the reason where it cannot work, else None."""

    def score(self, worker: Any, pending: Pending, following: Pending | None) -> None:
        """Have a checkpoint scored, whose `Outcome` the worker gives."""

    def finish(self, worker: Any) -> None:
        """Have a worker end what it still has to publish, of which it gives the `Outcome`."""

    def wait(self) -> list[tuple[Any, Outcome | str | Died | None]]:
        """Wait a while, and return what workers gave."""

    def end(self, worker: Any) -> None:
        """End a worker, whatever it is doing."""

    def close(self) -> None:
        """End all workers; those at work may first publish what is finished."""

    def unusable(self, problem: str) -> TrajstoreError:
        """The error of a worker that cannot begin."""

    def stopped(self, problem: str) -> TrajstoreError:
        """The error of a worker that cannot go on, nor any other."""


@dataclass(eq=False)
class _Task:
    """A checkpoint to score."""

    pending: Pending
    attempts: int = 0
    """Number of times that it was tried in vain."""
    lost: bool = False
    """True where its slices were lost, on their way to the store, with a worker that had begun another."""


@dataclass(eq=False)
class _Hand:
    """A worker as the driver knows it."""

    worker: Any
    place: int
    starts: int
    """Workers that were started in vain for this place, with this one."""
    at_work: bool = False
    scoring: _Task | None = None
    tasks: dict[int, _Task] = field(default_factory=dict)
    """Step → what it was given and has not reported of: what it scores, and what it may still be publishing."""
    following: _Task | None = None
    """Task that it is getting ready, and will be given if that is still to be done."""


class Job(Protocol):
    """A plan's work, by whomever it is done."""

    processes: int
    """Number of processes that do the work."""

    def score_all(self, budget: Budget) -> int:
        """Score what the budget allows; gives the number of slices that it does not."""

    def take_report(self) -> ScoringReport:
        """Return what was done."""

    def close(self) -> None:
        """Leave nothing behind but what is finished."""


class Driver:
    """Hands out checkpoints, and counts."""

    def __init__(self, workers: Workers, store: Store, plan: Plan, progress: Progress) -> None:
        self.workers, self.store, self.plan, self.progress = workers, store, plan, progress
        self.talk = SILENT if workers.speaks else progress
        """Where what workers report is said."""
        self.sizes = {name: store.dataset(name).n_tokens for name in plan.datasets}
        self.queue = [_Task(pending) for pending in plan.pending]
        self.processes = min(workers.places, len(self.queue))
        self.spent = False
        """True once the budget does not allow what is left in the queue."""
        self.hands: list[_Hand] = []
        """Workers that live, as far as is known."""
        self.starting: list[_Hand] = []
        self.idle: list[_Hand] = []
        self.counts = ScoringReport()

    def score_all(self, budget: Budget) -> int:
        """Score until the queue is empty, or the budget does not allow what is left in it; gives its slices."""
        for place in range(self.processes):
            self._start(place, 1)
        budget.begin_work()
        while self._busy() or (self.starting and self.queue and not self.spent):
            for worker, result in self.workers.wait():
                before = self.counts.tokens
                hand = next(hand for hand in self.hands if hand.worker is worker)
                if hand in self.starting:
                    self._started(hand, result)
                else:
                    self._finished(hand, result)
                budget.did(self.counts.tokens - before)
            self._assign(budget)
        return sum(len(task.pending.all_datasets) for task in self.queue)

    def take_report(self) -> ScoringReport:
        """Return what was done since the last report."""
        report, self.counts = self.counts, ScoringReport()
        return report

    def close(self) -> None:
        """End the workers."""
        self.workers.close()

    def _busy(self) -> list[_Hand]:
        return [hand for hand in self.hands if hand.at_work]

    def _start(self, place: int, starts: int) -> None:
        """Ask for a worker."""
        hand = _Hand(self.workers.start(place), place, starts)
        self.hands.append(hand)
        self.starting.append(hand)

    def _lose(self, hand: _Hand) -> None:
        """Strike off a worker that died."""
        self.hands.remove(hand)
        self.workers.end(hand.worker)

    def _started(self, hand: _Hand, problem: Any) -> None:
        """Take up a worker that is there, or ask for another."""
        self.starting.remove(hand)
        if isinstance(problem, Died):
            self._lose(hand)
            if hand.starts < self.workers.attempts:
                self._start(hand.place, hand.starts + 1)
                return
            many = f"{hand.starts} workers died before they began: " if hand.starts > 1 else ""
            problem = f"{many}{problem}"
        if problem:
            raise self.workers.unusable(problem)
        self.idle.append(hand)

    def _assign(self, budget: Budget) -> None:
        """Give every idle worker a checkpoint, as long as there are any; then let them end what they have begun."""
        while self.idle and self.queue and not self.spent:
            hand = self.idle[-1]
            promised = {id(busy.following) for busy in self._busy()}
            free = [task for task in self.queue if id(task) not in promised] or self.queue
            task = hand.following if hand.following in free else free[0]
            # A budget's pace is that of all workers together.
            if not budget.allows(task.pending.tokens * len(self.hands)):
                self.spent = True
                break
            self.idle.pop()
            self.queue.remove(task)
            hand.at_work, hand.scoring, hand.tasks[task.pending.checkpoint.step] = True, task, task
            hand.following = next((other for other in free if other is not task), None)
            following = hand.following.pending if hand.following else None
            self.progress.advance(0, f"step {task.pending.checkpoint.step}")
            self.workers.score(hand.worker, task.pending, following)
        for hand in [hand for hand in self.idle if hand.tasks]:
            self.idle.remove(hand)
            hand.at_work = True
            self.workers.finish(hand.worker)

    def _finished(self, hand: _Hand, outcome: Any) -> None:
        """Count what a worker has done, or what it had done when it died."""
        scored, hand.at_work, hand.scoring = hand.scoring, False, None
        if isinstance(outcome, Died):
            self._lose(hand)
            self._start(hand.place, 1)
            for task in hand.tasks.values():
                self._count_published(task)
                in_vain = task is scored or task.lost
                task.lost = True
                self._again(task, [str(outcome)], self.progress, in_vain=in_vain)
            return
        if outcome.fatal:
            raise self.workers.stopped(outcome.fatal)
        if outcome.unfit:
            raise UnfitContext(outcome.unfit)
        if outcome.not_causal:
            raise NotCausal(outcome.not_causal)
        self.idle.append(hand)
        for step, report in outcome.reports.items():
            self._count(hand.tasks.pop(step), report)

    def _count(self, task: _Task, report: ScoringReport) -> None:
        """Count what became of a checkpoint."""
        new_warnings = [warning for warning in report.warnings if warning not in self.counts.warnings]
        self.counts.add(replace(report, failures=[], unfit={}))  # what fails may be tried again
        self.talk.advance(report.tokens)
        for step, reason in report.unmeasured:
            self.talk.say(f"{self.plan.model} at step {step}: {reason}")
        for warning in new_warnings:  # every worker notices it
            self.talk.say(f"Warning: {warning}")
        self._leave_out(report.unfit, task)
        if reasons := [reason for _, reason in report.failures if reason not in report.unfit.values()]:
            self._again(task, reasons, self.talk)

    def _count_published(self, task: _Task) -> None:
        """Count the slices that a worker published before it died."""
        published = [
            name
            for name in task.pending.all_datasets
            if not is_to_do(self.store, self.plan, task.pending, name)
        ]
        for name in published:
            self.counts.count_slice(self.sizes[name])
            self.talk.advance(self.sizes[name])

    def _again(self, task: _Task, reasons: list[str], talk: Progress, *, in_vain: bool = True) -> None:
        """Put what a checkpoint still lacks back to the queue, or note the failure if that was the last attempt.

        An attempt counts where it was made `in_vain` by the checkpoint itself.
        """
        task.attempts += in_vain
        step = task.pending.checkpoint.step
        if not self._narrow(task):
            return
        if task.attempts < self.workers.attempts:
            self.queue.append(task)
            talk.say(f"{self.plan.model} at step {step} will be tried again: {' '.join(reasons)}")
            return
        for reason in reasons:
            self._fail(step, reason, talk)

    def _narrow(self, task: _Task) -> bool:
        """Leave a task only the datasets that lack its slice and fit the model; whether there are any."""
        lacking, thin = (
            tuple(
                name
                for name in names
                if name not in self.counts.unfit and is_to_do(self.store, self.plan, task.pending, name)
            )
            for names in (task.pending.datasets, task.pending.backfill)
        )
        tokens = sum(self.sizes[name] for name in (*lacking, *thin))
        task.pending = replace(task.pending, datasets=lacking, backfill=thin, tokens=tokens)
        return bool(lacking or thin)

    def _leave_out(self, unfit: dict[str, str], task: _Task) -> None:
        """Note, once, datasets that do not fit the model."""
        for name, reason in unfit.items():
            if name not in self.counts.unfit:
                self.counts.unfit[name] = reason
                self._fail(task.pending.checkpoint.step, reason, self.talk)
        if unfit:
            self.queue = [queued for queued in self.queue if self._narrow(queued)]

    def _fail(self, step: int, reason: str, talk: Progress) -> None:
        """Note a failure and say so at once."""
        self.counts.failures.append((step, reason))
        talk.say(f"step {step} was not scored: {reason}")


def carry_out(job: Job, plan: Plan, budget: Budget, started: float, progress: Progress) -> ScoringReport:
    """Do a plan's work, begun at `started`, and return its report; whatever ends it, the job is closed."""
    report = ScoringReport(skipped=plan.present)
    progress.start(f"scoring {plan.model}", plan.tokens, "tokens")
    try:
        report.left = job.score_all(budget)
    finally:
        job.close()
        progress.stop()
    report.add(job.take_report())
    report.seconds = time.monotonic() - started
    report.profile.seconds = report.seconds * job.processes
    return report
