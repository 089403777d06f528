"""Follows a folder where a training run saves checkpoints, and scores each when it is complete.

The folder is looked at every few seconds. A checkpoint is scored once all that scoring reads is there in its full
length and none of its files changed between two looks; folders under a temporary name, as some Trainers write first,
name no step and are left alone. What fails is said, and tried again when its files change. A checkpoint that is removed
before it is scored, as by a limit on saved checkpoints, is said and is no failure.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajstore.arguments.spelling import option
from trajstore.checkpoints.completeness import Look, look, why_incomplete
from trajstore.checkpoints.revisions import step_pattern
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.display import duration
from trajstore.errors import BadOption, CheckpointError, TrajstoreError, UnfitContext, UnknownStep
from trajstore.progress import SILENT
from trajstore.schema import check_name
from trajstore.scoring.options import ScoringOptions, scoring_options
from trajstore.scoring.plan import Plan, plan
from trajstore.scoring.report import ScoringReport
from trajstore.scoring.run import run
from trajstore.store.matrix.steps import parts, resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trajstore.progress import Progress
    from trajstore.store.store import Store

SETTLE = 1.0
"""Seconds until the second look at what is new or has changed, if the next look is not due earlier."""


def watch(
    store: Store,
    folder: str | Path,
    datasets: Sequence[str],
    options: ScoringOptions | None = None,
    *,
    every: float = 10.0,
    idle: float | None = None,
    until: int | None = None,
    progress: Progress = SILENT,
    **keywords: Any,
) -> ScoringReport:
    """Score the checkpoints of `folder` on `datasets` as they come; returns when stopped by Ctrl-C or as asked.

    The folder need not exist yet. `every` is the time between two looks and `idle` how long nothing may happen before
    this ends, in seconds; `until` is a step: this ends once a checkpoint of that step or a later one was dealt with.
    Of the options, which may be given as keywords, `steps` is all, or numbers and ranges. The report's failures are
    those of the last attempt at each checkpoint and, unless stopped by Ctrl-C, the checkpoints that were not complete
    at the end. Raises what `plan` and `run` raise where the checkpoints to come would fare no better, and `BadOption`
    where `every` is no time at all.
    """
    if every <= 0:
        raise BadOption("every", f"{every:g}s", "more than 0 seconds, as in 10s")
    options = scoring_options(options, keywords)
    if options.pattern is not None:
        step_pattern(options.pattern)  # before it waits for checkpoints
    where = Path(folder).expanduser().resolve()
    watching = _Watch(store, where, datasets, options, progress)
    progress.say(f"Following {watching.folder}; Ctrl-C ends it.")
    try:
        watching.follow(every, idle, until)
        watching.note_incomplete()
    except KeyboardInterrupt:
        progress.say("Stopped. What was finished is kept; the same command goes on from there.")
    return watching.report()


class _Watch:
    """The state of a watched folder, and the counts of what was scored."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        datasets: Sequence[str],
        options: ScoringOptions,
        progress: Progress,
    ) -> None:
        self.started = self.news = time.monotonic()
        self.store, self.folder, self.progress, self.options = store, folder, progress, options
        self.datasets = [store.dataset(dataset).name for dataset in dict.fromkeys(datasets)]
        self.steps = _following(options.steps)
        self.name = check_name("model", folder.name if options.name is None else options.name)
        self.seen: dict[int, tuple[Path, Look]] = {}
        """Checkpoints that are not done, as the last look had them."""
        self.done: set[int] = set()
        """Steps with all slices."""
        self.tried: dict[int, tuple[Look, str]] = {}
        """Steps that were scored in vain: their files then, and the reason."""
        self.counts = ScoringReport()
        """Its failures are those of datasets that do not fit the model, which are left out since."""
        self.said = ""

    def follow(self, every: float, idle: float | None, until: int | None) -> None:
        """Look and score until there is a reason to end."""
        while True:
            ready, changed = self._look()
            if ready:
                self._score(ready)
                self.news = time.monotonic()
            elif until is not None and self._has_reached(until, changed):
                return
            elif idle is not None and time.monotonic() - self.news > idle:
                self.progress.say(f"Nothing new in {self.folder} for {duration(idle)}.")
                return
            time.sleep(min(every, SETTLE) if ready or changed else every)

    def note_incomplete(self) -> None:
        """Count as failures what was never complete."""
        for step in self.seen.keys() - self.tried.keys():
            folder, files = self.seen[step]
            reason = f"{folder} is not complete: {why_incomplete(folder) or 'its files were still changing'}."
            self.tried[step] = files, reason
            self.progress.say(reason)

    def report(self) -> ScoringReport:
        """Return the counts, with the failures of the last attempts."""
        tried = sorted((step, reason) for step, (_, reason) in self.tried.items())
        seconds = time.monotonic() - self.started
        return replace(self.counts, failures=self.counts.failures + tried, seconds=seconds)

    def _look(self) -> tuple[list[int], set[int]]:
        """Return the steps to score now, ascending, and the steps that have changed since the last look."""
        before, self.seen = self.seen, self._there()
        for step in sorted(before.keys() - self.seen.keys() - self.done):
            self.tried.pop(step, None)
            self.progress.say(f"{before[step][0]} was removed before it was scored.")
        changed = {step for step in self.seen if before.get(step) != self.seen[step]}
        if changed:
            self.news = time.monotonic()
        ready = [
            step
            for step, (folder, files) in self.seen.items()
            if step not in changed
            and (step not in self.tried or self.tried[step][0] != files)
            and why_incomplete(folder) is None
        ]
        return ready, changed

    def _has_reached(self, until: int, changed: set[int]) -> bool:
        """Return whether that step or a later one was dealt with, and none up to it is still being written."""
        dealt_with = self.done | self.tried.keys()
        return any(step >= until for step in dealt_with) and not any(step <= until for step in changed)

    def _there(self) -> dict[int, tuple[Path, Look]]:
        """Return the chosen checkpoints of the folder that are not done, ascending, with their files."""
        if not self.folder.is_dir():
            self._wait_for(f"{self.folder} to be made.")
            return {}
        try:
            checkpoints = find_checkpoints(str(self.folder), self.options.pattern).checkpoints
        except (CheckpointError, FileNotFoundError) as error:
            self._wait_for(f"checkpoints. {error}")
            return {}
        wanted = _among(self.steps, [checkpoint.step for checkpoint in checkpoints])
        candidates = {}
        for checkpoint in checkpoints:
            if checkpoint.step in wanted - self.done and not self._is_done(checkpoint.step):
                folder = Path(checkpoint.location)
                try:
                    candidates[checkpoint.step] = (folder, look(folder))
                except OSError:
                    continue
        return candidates

    def _is_done(self, step: int) -> bool:
        """Return whether a step has all its slices; slices that are there at first sight are counted as skipped."""
        present = sum(self.store.has_slice(self.name, dataset, step) for dataset in self.datasets)
        if step not in self.seen:
            self.counts.skipped += present
        if present == len(self.datasets):
            self.done.add(step)
        return step in self.done

    def _score(self, steps: list[int]) -> None:
        """Score checkpoints that are complete, and note which of them are done."""
        try:
            of_steps = replace(self.options, steps=steps, name=self.name)
            todo = plan(self.store, str(self.folder), self.datasets, of_steps)
            report = self._run(todo)
        except (UnknownStep, CheckpointError, FileNotFoundError):
            return  # one was removed meanwhile, which the next look says
        except UnfitContext as error:  # of all that is missing, which need not be all that is asked for
            self.counts.failures.append((steps[0], str(error)))
            self._leave_out({name for pending in todo.pending for name in pending.datasets})
            if not self.datasets:
                raise
            return
        unfit = [failure for failure in report.failures if failure[1] in report.unfit.values()]
        self.counts.add(replace(report, skipped=report.skipped - todo.present, failures=unfit))
        self._leave_out(report.unfit)
        for step in steps:
            self.tried.pop(step, None)
            if all(self.store.has_slice(self.name, dataset, step) for dataset in self.datasets):
                self.done.add(step)
            else:
                reasons = [
                    failure
                    for failure in report.failures
                    if failure[0] == step and failure not in self.counts.failures
                ]
                self.tried[step] = self.seen[step][1], " ".join(reason for _, reason in reasons)

    def _leave_out(self, unfit: Collection[str]) -> None:
        """Ask no more for datasets that do not fit the model."""
        self.datasets = [dataset for dataset in self.datasets if dataset not in unfit]

    def _run(self, todo: Plan) -> ScoringReport:
        """Do a plan; when interrupted, count what it has published."""
        try:
            return run(self.store, todo, self.options, progress=self.progress)
        except BaseException:
            self.counts.written += sum(
                self.store.has_slice(self.name, dataset, pending.checkpoint.step)
                for pending in todo.pending
                for dataset in pending.datasets
            )
            raise

    def _wait_for(self, what: str) -> None:
        """Say, once, why there is nothing to do yet."""
        if what != self.said:
            self.said = what
            self.progress.say(f"Waiting for {what}")


def _following(steps: str | int | Sequence[int]) -> list[str]:
    """Return the parts of a SPEC; raises `TrajstoreError` for one that depends on the steps to come."""
    spec_parts = parts(steps)
    for part in spec_parts:
        if part in ("log", "last"):
            raise TrajstoreError(
                f"{option('steps', part)} cannot be told of checkpoints to come: give all, numbers or ranges "
                "(0:10000:100)."
            )
    return spec_parts


def _among(spec: list[str], existing: list[int]) -> set[int]:
    """Return the existing steps that a SPEC chooses; a number without a checkpoint chooses none."""
    chosen: set[int] = set()
    for part in spec:
        try:
            chosen.update(resolve(part, existing, ""))
        except UnknownStep:
            continue
    return chosen
