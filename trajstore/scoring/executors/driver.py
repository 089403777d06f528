"""Hands out a plan's checkpoints to workers of a Ray cluster, one at a time each, and counts what becomes of them.

A checkpoint that fails goes back to the queue, and so does that of a worker that died, which is replaced. A worker is
told what it will probably get next, so that it can get that ready.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trajstore.errors import ExecutorError, NotCausal, UnfitContext
from trajstore.scoring.backfill import is_to_do
from trajstore.scoring.report import ScoringReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajstore.progress import Progress
    from trajstore.scoring.executors.worker import Outcome
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.scoring.time_budget import Budget
    from trajstore.store.store import Store

ATTEMPTS = 3
"""How often a checkpoint is tried, and a worker that does not start."""
PATIENCE = 30.0
"""Seconds without news after which it is said what is waited for."""


@dataclass(eq=False)
class _Task:
    """A checkpoint to score."""

    pending: Pending
    attempts: int = 0
    """How often it was tried in vain."""


@dataclass(eq=False)
class _Hand:
    """A worker as the driver knows it."""

    actor: Any
    starts: int
    """Workers that were started for this place."""
    following: _Task | None = None
    """What it is getting ready, and will be given if that is still to be done."""


class Driver:
    """Hands out checkpoints, and counts."""

    def __init__(
        self, ray: Any, make: Callable[[], Any], places: int, store: Store, plan: Plan, progress: Progress
    ) -> None:
        """`make` asks for a worker (`workers.Worker` as an actor of Ray), of which there is room for `places`."""
        self.ray, self.make, self.places = ray, make, places
        self.store, self.plan, self.progress = store, plan, progress
        self.sizes = {name: store.dataset(name).n_tokens for name in plan.datasets}
        self.queue = [_Task(pending) for pending in plan.pending]
        self.spent = False
        """Whether the budget does not allow what is left in the queue."""
        self.hands: list[_Hand] = []
        """Those that live, as far as is known."""
        self.idle: list[_Hand] = []
        self.starting: dict[Any, _Hand] = {}
        self.busy: dict[Any, tuple[_Hand, _Task]] = {}
        self.counts = ScoringReport()

    def score_all(self, budget: Budget) -> None:
        """Score until the queue is empty, or the budget does not allow what is left in it."""
        for _ in range(min(self.places, len(self.queue))):
            self._start(1)
        budget.begin_work()
        while self.busy or (self.starting and self.queue and not self.spent):
            done, _ = self.ray.wait([*self.busy, *self.starting], num_returns=1, timeout=PATIENCE)
            if not done and not self.busy:
                self.progress.say(
                    "Waiting for a worker to start: the Ray cluster is busy, or has lost a machine."
                )
            for reference in done:
                before = self.counts.tokens
                if reference in self.starting:
                    self._started(reference)
                else:
                    self._finished(reference)
                budget.did(self.counts.tokens - before)
            self._assign(budget)

    def close(self) -> None:
        """End the workers."""
        for hand in self.hands:
            self.ray.kill(hand.actor)

    def _start(self, starts: int) -> None:
        """Ask for a worker."""
        hand = _Hand(self.make(), starts)
        self.hands.append(hand)
        self.starting[hand.actor.start.remote()] = hand

    def _started(self, reference: Any) -> None:
        """Take up a worker that is there, or ask for another."""
        hand = self.starting.pop(reference)
        try:
            problem = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.hands.remove(hand)
            if hand.starts < ATTEMPTS:
                self._start(hand.starts + 1)
                return
            problem = f"{ATTEMPTS} workers died before they began: {_first_line(error)}"
        if problem:
            raise ExecutorError(f"A worker of the Ray cluster cannot be used. {problem}")
        self.idle.append(hand)

    def _assign(self, budget: Budget) -> None:
        """Give every idle worker a checkpoint, as long as there are any."""
        while self.idle and self.queue and not self.spent:
            hand = self.idle[-1]
            promised = {id(each.following) for each, _ in self.busy.values()}
            free = [task for task in self.queue if id(task) not in promised] or self.queue
            task = hand.following if hand.following in free else free[0]
            # A budget's pace is that of all workers together.
            if not budget.allows(task.pending.tokens * len(self.hands)):
                self.spent = True
                return
            self.idle.pop()
            self.queue.remove(task)
            hand.following = next((each for each in free if each is not task), None)
            following = hand.following.pending if hand.following else None
            self.progress.advance(0, f"step {task.pending.checkpoint.step}")
            self.busy[hand.actor.score.remote(task.pending, following)] = (hand, task)

    def _finished(self, reference: Any) -> None:
        """Count what a worker has done, or what it had done when it died."""
        hand, task = self.busy.pop(reference)
        try:
            outcome: Outcome = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.hands.remove(hand)
            self._start(1)
            self._count_published(task)
            self._again(task, [f"the worker that scored it died: {_first_line(error)}"])
            return
        if outcome.fatal:
            raise ExecutorError(f"A worker of the Ray cluster cannot go on. {outcome.fatal}")
        if outcome.unfit:
            raise UnfitContext(outcome.unfit)
        if outcome.not_causal:
            raise NotCausal(outcome.not_causal)
        self.idle.append(hand)
        report = outcome.report
        assert report is not None
        new_warnings = [warning for warning in report.warnings if warning not in self.counts.warnings]
        self.counts.add(replace(report, failures=[], unfit={}))  # what fails is tried again
        self.progress.advance(report.tokens)
        for step, reason in report.unmeasured:
            self.progress.say(f"{self.plan.model} at step {step}: {reason}")
        for warning in new_warnings:  # every worker notices it
            self.progress.say(f"Warning: {warning}")
        self._leave_out(report.unfit, task)
        if reasons := [reason for _, reason in report.failures if reason not in report.unfit.values()]:
            self._again(task, reasons)

    def _count_published(self, task: _Task) -> None:
        """Count the slices that a worker published before it died."""
        there = [
            name
            for name in task.pending.all_datasets
            if not is_to_do(self.store, self.plan, task.pending, name)
        ]
        for name in there:
            self.counts.count_slice(self.sizes[name])
            self.progress.advance(self.sizes[name])

    def _again(self, task: _Task, reasons: list[str]) -> None:
        """Put what a checkpoint still lacks back to the queue, or note the failure if that was the last attempt."""
        task.attempts += 1
        step = task.pending.checkpoint.step
        if not self._narrow(task):
            return
        if task.attempts < ATTEMPTS:
            self.queue.append(task)
            self.progress.say(f"{self.plan.model} at step {step} will be tried again: {' '.join(reasons)}")
            return
        for reason in reasons:
            self._fail(step, reason)

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
                self._fail(task.pending.checkpoint.step, reason)
        if unfit:
            self.queue = [each for each in self.queue if self._narrow(each)]

    def _fail(self, step: int, reason: str) -> None:
        """Note a failure and say so at once."""
        self.counts.failures.append((step, reason))
        self.progress.say(f"step {step} was not scored: {reason}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
