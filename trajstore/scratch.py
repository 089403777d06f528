"""A folder of this process's own for what queries spill, and for other files that nobody wants once it has ended.

It lies in the system's temporary folder, under one that only this user can enter. A process ended by a signal leaves
it: the next one that needs such a folder removes those whose process is gone, which their locks tell.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import stat
import tempfile
import threading
from pathlib import Path

from trajstore import leftovers
from trajstore.errors import StoreUnusable

_PREFIX = "process-"

_mine: dict[int, tuple[Path, int]] = {}
"""The folder and the open file that holds its lock, by process: one that was forked makes its own."""


_one_at_a_time = threading.Lock()


def folder() -> Path | None:
    """This process's folder, made on first use and removed at its end; None where none can be made.

    Raises `StoreUnusable` where the folder above it is somebody else's.
    """
    with _one_at_a_time:
        mine = _mine.get(os.getpid())
        if mine is not None and not mine[0].exists():  # cleaners of temporary folders take what looks old
            os.close(mine[1])
            mine = None
        if mine is None:
            try:
                private = _private()
                leftovers.sweep(private, f"{_PREFIX}*")
                mine = leftovers.new_folder(private, _PREFIX, mode=0o700)
            except OSError:
                return None
            _mine[os.getpid()] = mine
            atexit.register(_remove, os.getpid())
        return mine[0]


def spill_folder() -> str:
    """A path for what one session's queries spill; "" where none can be.

    DuckDB makes it when a query spills, and removes it with the session.
    """
    mine = folder()
    return "" if mine is None else str(mine / secrets.token_hex(8))


def held_open() -> tuple[int, ...]:
    """Files to pass to a program that uses the folder, so that it is kept while that program lives."""
    return (_mine[os.getpid()][1],) if folder() is not None else ()


def _private() -> Path:
    """The folder above, which only this user can enter."""
    private = Path(tempfile.gettempdir()) / f"trajstore-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    facts = private.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise StoreUnusable(
            f"{private}, where queries spill, is not a folder of yours alone. Remove it, or set TMPDIR elsewhere."
        )
    return private


def _remove(process: int) -> None:
    if process == os.getpid() and process in _mine:
        made, descriptor = _mine.pop(process)
        shutil.rmtree(made, ignore_errors=True)
        os.close(descriptor)
