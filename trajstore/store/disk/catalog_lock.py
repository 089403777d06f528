"""Whoever changes a store's catalog, or the groups' files that it follows, takes a turn: one process after another.

A turn is a lock on `STORE/catalog.lock`, an empty file that stays. The system ends it with the process that holds it,
however that ends. Readers take none. Where a file system has no locks, DuckDB cannot write a catalog either, and an
error says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from trajstore.errors import StoreUnusable
from trajstore.schema import CATALOG
from trajstore.store.disk import layout

FILE = "catalog.lock"

_PATIENCE = 60.0
"""Seconds for which a turn is waited for; the longest, a catalog made anew for a store of many slices, takes a few."""

_threads = threading.RLock()
"""A file's lock is its process's, so threads take turns beside it."""
_held: dict[Path, int] = {}
"""Open files that hold this process's turns, by store."""


@contextlib.contextmanager
def turn(root: Path) -> Iterator[None]:
    """The block alone changes the store's catalog; a turn within a turn is the same one.

    Raises `StoreUnusable` where the lock's file cannot be written, or another job has had its turn for a minute.
    """
    if not _threads.acquire(timeout=_PATIENCE):
        raise _too_long(root)
    try:
        if root in _held:
            yield
            return
        descriptor = _locked(root)
        _held[root] = descriptor
        try:
            yield
        finally:
            del _held[root]
            os.close(descriptor)
    finally:
        _threads.release()


@contextlib.contextmanager
def put_aside(root: Path) -> Iterator[None]:
    """The block may put another catalog in the place of the store's: no other process has that one open meanwhile.

    DuckDB locks the file it has open, so whoever had the old one would write its log beside the new one. A file that is
    not there, or cannot be opened, is let be.
    """
    try:
        descriptor = _opened(root / CATALOG, os.O_RDWR)
    except OSError:
        yield
        return
    try:
        if not _lock(descriptor):
            raise StoreUnusable(
                f"{root / CATALOG} has been held open by another program for {_PATIENCE:.0f} s. Close that program "
                "(work on a copy of the catalog in the DuckDB shell), then try again."
            )
        yield
    finally:
        os.close(descriptor)


def _locked(root: Path) -> int:
    path = layout.unlinked(root / FILE)
    while True:
        try:
            descriptor = _opened(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreUnusable(
                f"{path} cannot be written here, so nothing was changed: {error.strerror}."
            ) from error
        try:
            layout.plain(path)
            if not _lock(descriptor):
                raise _too_long(root)
            # Somebody may have removed the file, and others have locked a new one.
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except FileNotFoundError:
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            os.close(descriptor)


def _opened(path: Path, how: int) -> int:
    """A file, open; a pipe in its place is not waited for, and a link not followed."""
    return os.open(path, how | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def _lock(descriptor: int) -> bool:
    """Lock an open file, waiting for whoever has it; False when that takes too long. Raises `StoreUnusable`."""
    deadline = time.monotonic() + _PATIENCE
    pause = 0.002
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise StoreUnusable(
                    f"The file system of the store cannot lock files ({error.strerror}), without which neither "
                    "trajstore nor DuckDB can write a catalog. Mount it with locks, or choose a folder elsewhere."
                ) from error
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _too_long(root: Path) -> StoreUnusable:
    return StoreUnusable(
        f"Another job has been changing the catalog of {root} for {_PATIENCE:.0f} s, so nothing was changed. Look "
        f"for a trajstore command that hangs (fuser {root / FILE} names its process), then run this one again."
    )
