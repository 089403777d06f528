"""Gets checkpoints ready to be loaded, the next one in a thread while another is scored: downloaded and read.

Read means that every byte of the weights was read once, which gives their fingerprint where no name tells it, and
leaves them in the system's memory for files, where loading finds them. The model itself is made by whoever asks for
it: transformers changes torch's default dtype for the whole process meanwhile, under which another model
must not be running.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from trajstore.checkpoints import hub
from trajstore.checkpoints.cache_limit import hold
from trajstore.checkpoints.weight_files import fingerprint, weight_files

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.checkpoints.cache_limit import CacheLimit
    from trajstore.checkpoints.loading import Checkpoint

_PIECE = 1 << 24
_TURN = 0.2
"""Seconds for which a thread that shall stop is waited for at a time."""


@dataclass(frozen=True)
class Ready:
    """A checkpoint whose files are on this disk and were read."""

    folder: Path
    weights: str
    """Fingerprint of the weights' files."""
    held: IO[bytes] | None
    """What keeps its files in the cache while it is open; None where nothing would remove them."""

    def release(self) -> None:
        """Its files are no longer used here."""
        if self.held is not None:
            self.held.close()


class Stopped(Exception):
    """Getting a checkpoint ready was given up on request."""


class Ahead:
    """Gets one checkpoint ready at a time; leave it by `close`, so that no thread stays."""

    def __init__(self, limit: CacheLimit | None) -> None:
        self._limit = limit
        self._work: _Work | None = None

    def begin(self, checkpoint: Checkpoint) -> None:
        """Start on a checkpoint that will be asked for next; it waits for its turn where the cache has no room."""
        self._start(checkpoint, patient=True)

    def take(self, checkpoint: Checkpoint) -> Ready:
        """The checkpoint, ready; raises what getting it ready raised, such as `CheckpointError`."""
        if self._work is None or self._work.checkpoint != checkpoint:
            self._start(checkpoint, patient=False)
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
        self._work = _Work(checkpoint, self._limit, patient=patient)

    def _finish(self) -> Ready | None:
        work = self._work
        assert work is not None
        work.result.exception()  # waits; on Ctrl-C, close still knows of the work
        self._work = None
        return work.result.result()


class _Work:
    """A thread that gets one checkpoint ready."""

    def __init__(self, checkpoint: Checkpoint, limit: CacheLimit | None, *, patient: bool) -> None:
        self.checkpoint = checkpoint
        self.result: Future[Ready | None] = Future()
        self._limit, self._patient = limit, patient
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

    def _get_ready(self) -> Ready | None:
        """Download if need be, and read; None where a patient work finds no room in the cache."""
        checkpoint = self.checkpoint
        held = hold(checkpoint)
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
            files = weight_files(folder)
            self._read(files)
            return Ready(folder, fingerprint(files), held)
        except BaseException:
            _released(held)
            raise

    def _has_room(self) -> bool:
        """Return whether the cache has room for the checkpoint, made if need be."""
        if self._limit is None:
            return True
        size = hub.download_bytes(self.checkpoint.location, self.checkpoint.revision)
        return self._limit.make_room(size or 0)

    def _read(self, files: list[Path]) -> None:
        """Read files through, and forget what was read."""
        buffer = bytearray(_PIECE)
        for path in files:
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    if self._stopped.is_set():
                        raise Stopped


def _released(held: IO[bytes] | None) -> None:
    if held is not None:
        held.close()
