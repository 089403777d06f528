"""Two names in one file system, exchanged at once, where the system can: Linux and macOS on most file systems.

Whoever looks finds either the one or the other under each name, and never none.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS."""

_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def exchange(first: Path, second: Path) -> bool:
    """Give two things that are there each other's names; False, and nothing done, where that cannot be done at once.

    Raises `OSError`, `FileNotFoundError` where one of them is not there.
    """
    call = _call()
    if call is None:
        return False
    sys.audit("os.rename", os.fspath(first), os.fspath(second), -1, -1)
    if call(os.fsencode(first), os.fsencode(second)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), os.fspath(first), None, os.fspath(second))


@cache
def _call() -> Callable[[bytes, bytes], int] | None:
    """The system's own call, or None where its library has none."""
    library = ctypes.CDLL(None, use_errno=True)
    if (linux := getattr(library, "renameat2", None)) is not None:
        return lambda first, second: int(linux(_AT_FDCWD, first, _AT_FDCWD, second, _EXCHANGE))
    if (macos := getattr(library, "renamex_np", None)) is not None:
        return lambda first, second: int(macos(first, second, _EXCHANGE))
    return None
