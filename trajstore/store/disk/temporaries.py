"""Temporary files of a store: new paths for them, and the clean-up of those that writers who died have left.

Age tells the leftovers, since locks do not reach from each machine to each other that writes in a store.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

STALE_SECONDS = 24 * 3600.0
"""Age after which a temporary file is the leftover of a dead writer (no write takes a day)."""

_swept: set[tuple[int, Path]] = set()
"""The folders that this process has swept."""


def new_path(folder: Path, suffix: str) -> Path:
    """A new path in a folder of temporary files that nobody else uses; a process's first sweeps that folder."""
    folder.mkdir(exist_ok=True)
    if (os.getpid(), folder) not in _swept:
        _swept.add((os.getpid(), folder))
        sweep(folder)
    return folder / f"{os.getpid()}-{secrets.token_hex(8)}{suffix}"


def sweep(folder: Path, older_than: float = STALE_SECONDS) -> int:
    """Remove temporary files of dead writers, by age; returns how many. What cannot be removed stays."""
    removed = 0
    now = time.time()
    for entry in folder.glob("*"):
        with contextlib.suppress(OSError):
            facts = entry.lstat()
            if now - facts.st_mtime > older_than:
                remove: Callable[[Path], None] = shutil.rmtree if stat.S_ISDIR(facts.st_mode) else Path.unlink
                remove(entry)
                removed += 1
    return removed
