"""A place on disk for what long work sorts by slice and does not keep in memory.

Files are nameless: nothing is left behind, whatever ends the process.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Hashable
from pathlib import Path
from typing import IO

import numpy as np

from trajstore.store.disk import layout


def nameless_file(root: Path) -> IO[bytes]:
    """A file in `STORE/tmp/` without a name."""
    return tempfile.TemporaryFile(dir=layout.temporary(root, "").parent)


_OVERHEAD = 128
"""Bytes that numpy needs for an array beside its data."""


class Spill:
    """Arrays of one dtype by key: added in any order, taken back key by key.

    Holds at most `budget` bytes of them in memory, and the rest in a nameless file.
    """

    def __init__(self, root: Path, dtype: np.dtype, budget: int) -> None:
        self._root, self._dtype, self._budget = root, dtype, budget
        self._held: dict[Hashable, list[np.ndarray]] = {}
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._places: dict[Hashable, array[int]] = {}
        """For each key: offset and size of one part after another, packed, since there can be millions."""

    def add(self, key: Hashable, records: np.ndarray) -> None:
        """Keep records, which must not change afterwards."""
        self._held.setdefault(key, []).append(records)
        self._bytes += records.nbytes + _OVERHEAD
        if self._bytes > self._budget:
            self._write()

    def take(self, key: Hashable) -> np.ndarray:
        """The records of a key in the order in which they were added, forgotten here; none for an unknown key."""
        parts = [np.empty(0, self._dtype)]
        places = self._places.pop(key, array("q"))
        for offset, size in zip(places[::2], places[1::2], strict=True):
            assert self._file is not None
            self._file.seek(offset)
            parts.append(np.frombuffer(self._file.read(size), self._dtype))
        held = self._held.pop(key, [])
        self._bytes -= sum(part.nbytes + _OVERHEAD for part in held)
        return np.concatenate(parts + held)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _write(self) -> None:
        if self._file is None:
            self._file = nameless_file(self._root)
        offset = self._file.seek(0, 2)
        for key, parts in self._held.items():
            size = sum(self._file.write(part.tobytes()) for part in parts)
            self._places.setdefault(key, array("q")).extend((offset, size))
            offset += size
        self._held.clear()
        self._bytes = 0
