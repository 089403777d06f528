"""What runs in another process when a plan is shared out: one checkpoint after another, straight into the store.

Exceptions do not travel, their words do. Imports no Ray: whoever starts the process makes it a worker of a cluster.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.errors import DeviceError, StoreUnusable, UnfitContext, told
from trajstore.scoring.cachelimit import CacheLimit
from trajstore.scoring.job import Report, RunOptions, run
from trajstore.scoring.prefetch import Ahead
from trajstore.store.store import Store

if TYPE_CHECKING:
    from trajstore.scoring.planning import Pending, Plan


@dataclass(frozen=True)
class Outcome:
    """What became of a checkpoint; one of its fields is set."""

    report: Report | None = None
    unfit: str | None = None
    """Why the model cannot score any of the checkpoint's datasets."""
    failure: str | None = None
    """Why the checkpoint could not be scored."""
    fatal: str | None = None
    """Why nothing can be scored there."""


class Worker:
    """The store as one process sees it, and the next checkpoint, which is being got ready."""

    def __init__(self, path: str, plan: Plan, threads: int, options: RunOptions) -> None:
        self.path, self.plan, self.threads, self.options = path, plan, threads, options

    def start(self) -> str | None:
        """Open the store; gives the reason where that cannot be done."""
        import torch

        torch.set_num_threads(self.threads)
        limit = self.options.get("cache_limit")
        needed = [pending.checkpoint for pending in self.plan.pending]
        self.limit = None if limit is None else CacheLimit(limit, needed)
        self.ahead = Ahead(self.limit)
        try:
            self.store = Store(self.path)
        except Exception as error:
            return f"{told(error)} Every machine of the cluster must reach the store under this path."
        return None

    def score(self, pending: Pending, following: Pending | None) -> Outcome:
        """Make a checkpoint's missing slices; meanwhile the one that follows is got ready."""
        with contextlib.suppress(Exception):  # what cannot be got ready fails again below
            self.ahead.take(pending.checkpoint).release()
        if following is not None:
            self.ahead.begin(following.checkpoint)
        try:
            return Outcome(report=run(self.store, self.plan.only(pending), **self.options))
        except UnfitContext as error:
            return Outcome(unfit=str(error))
        except (StoreUnusable, DeviceError) as error:
            return Outcome(fatal=str(error))
        except Exception as error:
            return Outcome(failure=told(error))
        finally:
            if self.limit is not None:
                self.limit.done_with(pending.checkpoint)
