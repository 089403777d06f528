"""A process among several that share a plan: it scores one checkpoint after another, straight into the store.

A worker keeps what does not change from checkpoint to checkpoint. What was found once for the whole job, it is given.
Exceptions do not travel, their words do. Imports no Ray: whoever starts the process makes it a worker of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trajstore.arguments.spelling import spelled
from trajstore.errors import DeviceError, NotCausal, SlicesDiffer, StoreUnusable, UnfitContext, describe_error
from trajstore.progress import SILENT
from trajstore.scoring.job.job import ScoringJob
from trajstore.scoring.settings import choose_settings
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajstore.arguments.spelling import Spelling
    from trajstore.progress import Progress
    from trajstore.scoring.options import ScoringOptions
    from trajstore.scoring.plan import Pending, Plan
    from trajstore.scoring.plan_check import Tokenizers
    from trajstore.scoring.report import ScoringReport


@dataclass(frozen=True)
class Outcome:
    """The outcome of scoring a checkpoint; one of its fields is set."""

    reports: dict[int, ScoringReport] | None = None
    """Of each step that is done with."""
    unfit: str | None = None
    """Why the model cannot score any of the plan's datasets."""
    not_causal: str | None = None
    """Why the model can be scored on nothing at all."""
    fatal: str | None = None
    """Why nothing can be scored there."""


@dataclass
class Worker:
    """A plan's work as one process of several does it."""

    path: str
    """The store's."""
    plan: Plan
    tokenizers: Tokenizers
    """Of the whole job."""
    run_id: str | None
    """Likewise."""
    threads: int
    """Torch's."""
    options: ScoringOptions
    spelling: Spelling
    """Of its messages."""
    progress: Progress = SILENT
    without_store: str = ""
    """Advice where the store cannot be opened."""
    lags: bool = field(default=False, kw_only=True)
    """True where an outcome is given while slices are still on their way to the store: their checkpoint is reported of
    with the next, or by `finish`."""

    def start(self) -> str | None:
        """Open the store and make sure of the device; gives the reason where that cannot be done."""
        import torch

        torch.set_num_threads(self.threads)
        with spelled(self.spelling):
            try:
                settings = choose_settings(self.options, self.run_id)
            except DeviceError as error:
                return str(error)
            try:
                self.job = ScoringJob(
                    Store(self.path), self.plan, settings, self.tokenizers, self.options, self.progress
                )
            except Exception as error:
                return f"{describe_error(error)} {self.without_store}".rstrip()
        return None

    def score(self, pending: Pending, following: Pending | None) -> Outcome:
        """Make a checkpoint's missing slices; meanwhile the one that follows is got ready."""

        def work() -> None:
            self.job.score(pending, following)
            if not self.lags:
                self.job.finish()

        return self._outcome(work)

    def finish(self) -> Outcome:
        """Wait until all slices are published."""
        return self._outcome(self.job.finish)

    def _outcome(self, work: Callable[[], None]) -> Outcome:
        try:
            with spelled(self.spelling):
                work()
        except UnfitContext as error:
            return Outcome(unfit=str(error))
        except NotCausal as error:
            return Outcome(not_causal=str(error))
        except (StoreUnusable, DeviceError, SlicesDiffer) as error:
            return Outcome(fatal=str(error))
        return Outcome(reports=self.job.take_reports())

    def close(self) -> None:
        """Publish what is finished and leave the store."""
        with spelled(self.spelling):
            self.job.close()
