"""Publishes what passes gave in a thread of its own, in their order, while the next pass runs.

It is the only thread of a job that writes to the store. What cannot be published is for whoever takes the results; a
store that cannot be written to, or slices there of another format, end it: nothing is published after that.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from trajstore.errors import SlicesDiffer, StoreUnusable
from trajstore.progress import StageTimes, stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trajstore.scoring.job.publish import FinishedPass

    Publication = tuple[FinishedPass, Future[list[str]]]


class PublishingThread:
    """Publishes finished passes one after another; leave it by `close`, so that none is lost and no thread stays."""

    def __init__(self, publish: Callable[[FinishedPass], list[str]]) -> None:
        """`publish` is called in the thread."""
        self._publish = publish
        self._thread = ThreadPoolExecutor(1, "trajstore-publish")
        self._waiting: deque[Publication] = deque()
        self._ended = False
        self.times = StageTimes()

    def put(self, finished: FinishedPass) -> None:
        """Have a pass published after those that were put before."""
        self._waiting.append((finished, self._thread.submit(self._run, finished)))

    def wait(self, checkpoints: int) -> None:
        """Wait until what is not published is of so many checkpoints at most."""
        steps = list(dict.fromkeys(finished.step for finished, done in self._waiting if not done.done()))
        late = set(steps[: len(steps) - checkpoints]) if len(steps) > checkpoints else set()
        for finished, done in self._waiting:
            if finished.step in late:
                done.exception()

    def take(self) -> Iterator[Publication]:
        """Yield, each once, the passes that are done with, those put first before others."""
        while self._waiting and self._waiting[0][1].done():
            yield self._waiting.popleft()

    def close(self) -> None:
        """Publish what is left, unless it has ended, and wait for it."""
        self._thread.shutdown()

    def _run(self, finished: FinishedPass) -> list[str]:
        """Publish a pass, in the thread."""
        if self._ended:
            raise CancelledError
        try:
            with self.times.kept(), stage("publish"):
                return self._publish(finished)
        except (StoreUnusable, SlicesDiffer):
            self._ended = True
            raise
