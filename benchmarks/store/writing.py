"""Rows on writing: the size of a slice's file, and the time to add one, against .npy and pyarrow."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness.synthetic import DATASET, MODEL, Family
from benchmarks.harness.timing import Contender, Row, Say, clocked, compare

# The options of a slice's file, given to pyarrow by hand.
SAME: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": False,
    "column_encoding": {
        "context": "PLAIN",
        "position": "PLAIN",
        "loss": "BYTE_STREAM_SPLIT",
    },
    "data_page_size": 8 << 20,
    "max_rows_per_page": 1 << 20,
    "write_page_checksum": True,
    "store_schema": False,
}

# The encodings that pack keys best, and take longer to write and to read.
TUNED: dict[str, Any] = {
    **SAME,
    "column_encoding": {
        "context": "DELTA_BINARY_PACKED",
        "position": "DELTA_BINARY_PACKED",
        "loss": "BYTE_STREAM_SPLIT",
    },
}

# A slice's file has its facts in the footer, which pyarrow's has not.
_FOOTER_BYTES = 4096


def size_rows(family: Family) -> list[Row]:
    """Bytes a row of every slice, against the losses alone and against pyarrow's defaults."""
    n = family.size.columns
    ours = [path.stat().st_size / n for path in family.slices]
    npy = [_npy_size(losses) / n for losses in family.losses]
    long = [
        _default_size(family, path, step) / n
        for path, step in zip(family.slices, family.size.labels, strict=True)
    ]
    what = "Bytes a row of a slice"
    return [
        Row(what, ours, ".npy of the losses alone, no keys", npy, "bytes a row"),
        Row(what, ours, "pyarrow write_table, defaults, long format with token", long, "bytes a row"),
    ]


def append_rows(family: Family, rounds: int, say: Say) -> list[Row]:
    """Time to add one slice, durable, against pyarrow's write of the same table followed by an fsync of the file."""
    ours = Contender("Store.append", _appending(family))
    tuned = Contender("pyarrow write_table, keys as DELTA_BINARY_PACKED, + fsync", _writing(family, TUNED))
    same = Contender("pyarrow write_table, a slice's encodings, + fsync", _writing(family, SAME))
    defaults = Contender("pyarrow write_table, defaults, + fsync", _writing(family, {}))
    try:
        return compare(
            "Append one slice, committed and fsynced",
            [(ours, tuned), (ours, same), (ours, defaults)],
            rounds,
            say,
        )
    finally:
        shutil.rmtree(family.store.path / "losses" / f"model={_APPENDED}")


_APPENDED = "appended"
"""Model of the slices that are added on the clock, and removed again."""


def _appending(family: Family) -> Callable[[], float]:
    """Adds the next slice, each time at a step of its own; its losses must be in the file."""
    steps = count()

    def once() -> float:
        step = next(steps)
        losses = family.losses[step % family.size.steps]

        def append() -> Path:
            return family.store.append(model=_APPENDED, dataset=DATASET, step=step, losses=losses)

        return clocked(append, lambda path: _holds(path, losses))()

    return once


def _writing(family: Family, options: dict[str, Any]) -> Callable[[], float]:
    """Writes the next slice's table with pyarrow; built off the clock, keys and all."""
    rows = count()
    target = family.folder / "peer.parquet"

    def once() -> float:
        row = next(rows) % family.size.steps
        table = _table(family.slices[row])

        def write() -> None:
            pq.write_table(table, target, **options)
            with target.open("rb") as file:
                os.fsync(file.fileno())

        def check(_: None) -> bool:
            size, ours = target.stat().st_size, family.slices[row].stat().st_size
            return _holds(target, family.losses[row]) and (not options or abs(size - ours) < _FOOTER_BYTES)

        return clocked(write, check)()

    return once


def _holds(path: Path, losses: np.ndarray) -> bool:
    """Return whether a file's loss column is these losses."""
    column = pq.read_table(path, columns=["loss"], partitioning=None).column(0)
    return np.array_equal(column.to_numpy(), losses)


def _table(path: Path) -> pa.Table:
    """A slice as a table: context, position, loss."""
    return pq.read_table(path, partitioning=None).replace_schema_metadata(None)


def _npy_size(losses: np.ndarray) -> int:
    """Bytes of a .npy file of these losses."""
    sink = io.BytesIO()
    np.save(sink, losses)
    return sink.tell()


def _default_size(family: Family, path: Path, step: int) -> int:
    """Bytes of one slice in the long format, as pyarrow writes it unless told otherwise."""
    slice_ = _table(path)
    constants = {"model": MODEL, "dataset": DATASET, "step": step}
    table = pa.table(
        {
            **{name: pa.repeat(value, slice_.num_rows) for name, value in constants.items()},
            "context": slice_["context"],
            "position": slice_["position"],
            "token": family.ids,
            "loss": slice_["loss"],
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.tell()
