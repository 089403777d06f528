"""Gets checkpoints ready to be loaded, the next one in a thread while another is scored: downloaded and read.

The model is filled by whoever asks for it: transformers changes torch's default dtype for the whole process meanwhile,
under which another model must not be running.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import IO, TYPE_CHECKING

from trajstore.checkpoints import hub
from trajstore.checkpoints.cache_limit import hold

if TYPE_CHECKING:
    from trajstore.checkpoints.cache_limit import CacheLimit
    from trajstore.checkpoints.loading import Checkpoint, Loader, ReadCheckpoint

_TURN = 0.2
"""Seconds for which a thread that shall stop is waited for at a time."""


class Ahead:
    """Gets one checkpoint ready at a time; leave it by `close`, so that no thread stays."""

    def __init__(self, loader: Loader, limit: CacheLimit | None) -> None:
        self._loader, self._limit = loader, limit
        self._work: _Work | None = None

    def begin(self, checkpoint: Checkpoint) -> None:
        """Start on a checkpoint that will be asked for next; it waits for its turn where the cache has no room."""
        self._start(checkpoint, patient=True)

    def take(self, checkpoint: Checkpoint) -> ReadCheckpoint:
        """The checkpoint, ready; raises what getting it ready raised, such as `CheckpointError`."""
        if self._work is None or self._work.checkpoint != checkpoint:
            self._start(checkpoint, patient=False)
        self._loader.prepare(checkpoint)
        ready = self._finish()
        if ready is None:  # there was no room, and what was scored since may have made some
            self._start(checkpoint, patient=False)
            ready = self._finish()
        assert ready is not None
        return ready

    def close(self) -> None:
        """Stop and wait for what was begun and not taken."""
        work, self._work = self._work, None
        if work is not None:
            work.stop()

    def _start(self, checkpoint: Checkpoint, *, patient: bool) -> None:
        self.close()
        self._work = _Work(checkpoint, self._loader, self._limit, patient=patient)

    def _finish(self) -> ReadCheckpoint | None:
        work = self._work
        assert work is not None
        work.result.exception()  # waits; on Ctrl-C, close still knows of the work
        self._work = None
        return work.result.result()


class _Work:
    """A thread that gets one checkpoint ready."""

    def __init__(
        self, checkpoint: Checkpoint, loader: Loader, limit: CacheLimit | None, *, patient: bool
    ) -> None:
        self.checkpoint = checkpoint
        self.result: Future[ReadCheckpoint | None] = Future()
        self._loader, self._limit, self._patient = loader, limit, patient
        self._stopped = threading.Event()
        self._downloading = False
        self._thread = threading.Thread(target=self._run, name="trajstore-ahead", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up, and wait until the thread has ended."""
        self._stopped.set()
        while self._thread.is_alive():
            if self._downloading:
                hub.break_off()  # again and again, since the next file may have begun meanwhile
            self._thread.join(_TURN)
        if self.result.exception() is None and (ready := self.result.result()) is not None:
            ready.release()

    def _run(self) -> None:
        try:
            self.result.set_result(self._get_ready())
        except BaseException as error:
            self.result.set_exception(error)

    def _get_ready(self) -> ReadCheckpoint | None:
        """Download if need be, and read; None where a patient work finds no room in the cache."""
        checkpoint = self.checkpoint
        held = hold(checkpoint)
        start = time.perf_counter()
        try:
            folder = checkpoint.present()
            if folder is None:
                if not self._has_room() and self._patient:
                    _released(held)
                    return None
                if self._limit is not None:
                    self._limit.claim(held)
                self._downloading = True
                folder = hub.fetch(checkpoint.location, checkpoint.revision, stopped=self._stopped.is_set)
                self._downloading = False
            downloaded = time.perf_counter() - start
            read = self._loader.read(checkpoint, folder, self._stopped.is_set)
        except BaseException:
            _released(held)
            raise
        read.held = held
        read.seconds["download"] += downloaded
        return read

    def _has_room(self) -> bool:
        """Return whether the cache has room for the checkpoint, made if need be."""
        if self._limit is None:
            return True
        size = hub.download_bytes(self.checkpoint.location, self.checkpoint.revision)
        return self._limit.make_room(size or 0)


def _released(held: IO[bytes] | None) -> None:
    if held is not None:
        held.close()
