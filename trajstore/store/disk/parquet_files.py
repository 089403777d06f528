"""Parquet files of a store, opened for reading; and what is wrong with a file, as an error that names it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import DamagedFile
from trajstore.store.disk import layout


@contextlib.contextmanager
def sound(path: Path, mend: str = "", *, absent: bool = False) -> Iterator[None]:
    """Raise `DamagedFile` for what cannot be read of a file, or is not what it should be (`ValueError`).

    `mend` says what to do then. `FileNotFoundError` stays what it is, unless an `absent` file counts as damaged.
    """
    try:
        yield
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        if isinstance(error, FileNotFoundError) and not absent:
            raise
        raise DamagedFile(path, str(error), mend) from error


@contextlib.contextmanager
def opened(path: Path, mend: str = "", *, absent: bool = False) -> Iterator[pq.ParquetFile]:
    """A file that no link leads to, its pages' checksums verified on reading; raises in the block as `sound`."""
    with (
        sound(path, mend, absent=absent),
        # An open file: what a path means takes pyarrow a tenth of the time of reading a slice.
        pa.OSFile(os.fspath(layout.plain(layout.unlinked(path)))) as source,
        pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        yield file
