"""The temporary folder that a benchmark works in: gone at its end, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trajstore.errors import TrajstoreError


class NoSpace(TrajstoreError):
    """A disk without room for what a benchmark would write."""


@contextlib.contextmanager
def working_folder(needed: int = 0) -> Iterator[Path]:
    """A folder for all files, also those that sessions, peers and processes put aside; removed at the end.

    Raises `NoSpace` unless `needed` bytes, and a tenth more, are free there.
    """
    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    free = shutil.disk_usage(before[0]).free
    if free < 1.1 * needed:
        raise NoSpace(
            f"{before[0]} has {free / 1e9:.1f} GB free, {1.1 * needed / 1e9:.1f} GB are needed. Set TMPDIR to a folder "
            "on a larger disk."
        )
    with tempfile.TemporaryDirectory(prefix="trajstore-bench-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = before[0]
            if before[1] is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before[1]


def end_as_an_exit_does() -> None:
    """Let SIGTERM end this process as an exit does, so that the folder goes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
