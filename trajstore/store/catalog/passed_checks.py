"""Checks that a catalog has passed in this process, by the bytes of its file: the same bytes are not checked again.

A check of a catalog takes longer than copying it, and what it says follows from the file and from this process's
DuckDB and trajstore alone. Nothing is kept beyond the process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_MOST_BYTES = 1 << 24
"""Bytes beyond which a file is not hashed: a catalog has one or two million."""
_passed: set[tuple[str, str]] = set()
"""(sha256 of a catalog's file, name of the check)."""


class CatalogFile:
    """A catalog's file, open beside DuckDB, which has it attached."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path, self._descriptor = path, descriptor

    def sha256(self) -> str | None:
        """The hash of the bytes that DuckDB has attached; None where that cannot be told.

        To be called while the file is attached: DuckDB's lock then keeps it as it is. A file that has a log beside it,
        or was put in place since this one was opened, is not what DuckDB has.
        """
        log = self._path.with_name(f"{self._path.name}.wal")
        if self._descriptor is None or os.path.lexists(log):
            return None
        try:
            state = os.fstat(self._descriptor)
            if state.st_size > _MOST_BYTES or not os.path.samestat(state, self._path.lstat()):
                return None
            content = os.pread(self._descriptor, state.st_size, 0)
        except OSError:
            return None
        return hashlib.sha256(content).hexdigest() if len(content) == state.st_size else None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[CatalogFile]:
    """A catalog's file for the block, which attaches and detaches it: closing it sooner would end DuckDB's lock.

    A file that cannot be opened has no hash, and DuckDB will say why.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield CatalogFile(path, None)
        return
    try:
        yield CatalogFile(path, descriptor)
    finally:
        os.close(descriptor)


def once(sha256: str | None, name: str, check: Callable[[], None]) -> None:
    """Run a check, unless a catalog of these bytes has passed it; raises what it raises, and then keeps nothing."""
    if sha256 is not None and (sha256, name) in _passed:
        return
    check()
    if sha256 is not None:
        _passed.add((sha256, name))
