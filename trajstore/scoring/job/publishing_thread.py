"""Publishes what passes gave in a thread of its own, in their order, while the next pass runs.

It is the only thread of a job that writes to the store. What cannot be published is for whoever takes the results; a
store that cannot be written to, or slices there of another format, end it: nothing is published after that. Nor does a
job that is stopped wait for ever for a store that does not answer.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

from trajstore.errors import SlicesDiffer, StoreUnusable
from trajstore.progress import StageTimes, stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trajstore.scoring.job.publish import FinishedPass

    Publication = tuple[FinishedPass, Future[list[str]]]


GRACE = 10.0
"""Seconds for which what is finished is waited for when a job is left."""


class PublishingThread:
    """Publishes finished passes one after another; leave it by `close`, so that none is lost."""

    def __init__(self, publish: Callable[[FinishedPass], list[str]]) -> None:
        """`publish` is called in the thread."""
        self._publish = publish
        self._waiting: deque[Publication] = deque()
        """Publications that are not taken yet."""
        self._queue: deque[Publication] = deque()
        """Publications that are not begun yet."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._at_work = False
        """True while the thread will see what comes into the queue; it ends when there is nothing more."""
        self._ended = False
        self.times = StageTimes()

    def put(self, finished: FinishedPass) -> None:
        """Have a pass published after those that were put before."""
        publication: Publication = finished, Future()
        self._waiting.append(publication)
        with self._lock:
            self._queue.append(publication)
            if not self._at_work:
                self._at_work = True
                thread = threading.Thread(target=self._run, name="trajstore-publish", daemon=True)
                thread.start()
                self._thread = thread

    def wait(self, checkpoints: int) -> None:
        """Wait until what is not published is of so many checkpoints at most."""
        steps = list(dict.fromkeys(finished.step for finished, done in self._waiting if not done.done()))
        late = set(steps[: len(steps) - checkpoints]) if len(steps) > checkpoints else set()
        for finished, done in self._waiting:
            if finished.step in late:
                done.exception()

    def steps(self) -> set[int]:
        """The steps of what is not taken yet."""
        return {finished.step for finished, _ in self._waiting}

    def take(self) -> Iterator[Publication]:
        """Yield, each once, the passes that are done with, those put first before others."""
        while self._waiting and self._waiting[0][1].done():
            yield self._waiting.popleft()

    def close(self) -> None:
        """Publish what is left, unless it has ended, and wait for it a while; what is not begun then is given up."""
        try:
            if self._thread is not None:
                self._thread.join(GRACE)
        finally:
            self._ended = True

    def _run(self) -> None:
        """Publish what there is, in the thread."""
        while True:
            with self._lock:
                if not self._queue:
                    self._at_work = False
                    return
                finished, done = self._queue.popleft()
            try:
                done.set_result(self._publish_next(finished))
            except BaseException as error:
                done.set_exception(error)
            del finished, done  # so that the losses are gone while the next ones are published

    def _publish_next(self, finished: FinishedPass) -> list[str]:
        if self._ended:
            raise CancelledError
        try:
            with self.times.kept(), stage("publish"):
                return self._publish(finished)
        except (StoreUnusable, SlicesDiffer):
            self._ended = True
            raise
