"""Files and folders that a process holds locked while it lives, and the clean-up of what killed ones have left.

The system lets go of a lock when a process ends, however it ends. In a store, in which several machines may write, age
tells instead: `trajstore/store/disk/temporaries.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from pathlib import Path


def hold(descriptor: int, path: Path) -> bool:
    """Lock what was just made at a path; False if another process sweeps it away.

    Where nothing can be locked it is used all the same, and never swept.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return path.exists()


def new_folder(parent: Path, prefix: str, suffix: str = "", mode: int = 0o777) -> tuple[Path, int]:
    """Make a folder that is held; returns it with the open file that holds the lock."""
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}{suffix}"
        folder.mkdir(mode=mode)
        with contextlib.suppress(FileNotFoundError):  # swept away before it was open
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if hold(descriptor, folder):
                return folder, descriptor
            os.close(descriptor)


def sweep(folder: Path, pattern: str) -> None:
    """Remove the files and folders of a pattern that nobody holds; what cannot be removed stays."""
    for old in folder.glob(pattern):
        with contextlib.suppress(OSError):
            descriptor = os.open(old, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                    shutil.rmtree(old, ignore_errors=True)
                else:
                    old.unlink()
            finally:
                os.close(descriptor)
