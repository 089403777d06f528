"""Matrices as files: the values, and their labels beside them.

`OUT.npy` holds float32 (rows, columns); `OUT.npz` the same, packed, as `losses`, with `models` and `steps` of its rows;
`OUT.parquet` and `OUT.arrow` a row for each checkpoint with model, step and a list of its losses. All have
`OUT.rows.parquet` (model, step) and `OUT.columns.parquet` (dataset, context, position, token, text) beside them, in the
order of the values. So one of them is there, never two.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from trajstore.errors import BadTarget
from trajstore.output_files import check_target, write_together

FORMATS = (".npy", ".npz", ".parquet", ".arrow")
_LABELS = (".rows.parquet", ".columns.parquet")


def check_matrix_target(out: Path | str) -> Path:
    """The path, if a matrix can be written there; raises `BadTarget`.

    Refuses a name whose labels are those of another file of values, or that is itself one of labels.
    """
    target = check_target(out, FORMATS)
    if target.name.lower().endswith(_LABELS):
        raise BadTarget(f"{target.name!r} is a name for a matrix's labels. Choose another name.")
    for suffix in _LABELS:
        check_target(target.with_suffix(suffix), (".parquet",))
    for other in target.parent.iterdir():
        if other.stem == target.stem and other.suffix.lower() in FORMATS and other.name != target.name:
            raise BadTarget(
                f"{other} is there, and {target.name} would have the same names for its labels "
                f"({', '.join(target.stem + suffix for suffix in _LABELS)}). Choose another name."
            )
    return target


class Labelled(Protocol):
    """An array with labels of its rows and columns."""

    @property
    def values(self) -> np.ndarray:
        """Float32 (rows, columns)."""

    @property
    def rows(self) -> pl.DataFrame:
        """With the columns model and step."""

    @property
    def columns(self) -> pl.DataFrame:
        """A row for each column of the array."""


def save_matrix(matrix: Labelled, out: Path, called: str = "losses") -> list[Path]:
    """Write a matrix and its labels, all of them or none; returns the files, the values' last. Raises `BadTarget`.

    Where a file's values have a name, it is what they are `called`.
    """
    check_matrix_target(out)
    rows, columns = (out.with_suffix(suffix) for suffix in _LABELS)
    values = _ENCODERS[out.suffix.lower()](matrix, called)
    write_together([(rows, _parquet(matrix.rows)), (columns, _parquet(matrix.columns)), (out, values)])
    return [rows, columns, out]


def _npy(matrix: Labelled, _called: str) -> memoryview:
    sink = io.BytesIO()
    np.save(sink, matrix.values)
    return sink.getbuffer()


def _npz(matrix: Labelled, called: str) -> memoryview:
    sink = io.BytesIO()
    models, steps = (matrix.rows[name].to_list() for name in ("model", "step"))
    arrays: dict[str, Any] = {
        called: matrix.values,
        "models": np.array(models, str),
        "steps": np.array(steps, int),
    }
    np.savez_compressed(sink, **arrays)
    return sink.getbuffer()


def _arrow(matrix: Labelled, called: str) -> memoryview:
    """In batches of a row, so that it can be read row by row."""
    table = _wide(matrix, called).to_arrow()
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return sink.getbuffer()


def _wide(matrix: Labelled, called: str) -> pl.DataFrame:
    """model, step, and the values as they are called (list of float32 in the order of the columns)."""
    values = pl.Series(called, matrix.values, dtype=pl.Array(pl.Float32, matrix.values.shape[1]))
    return matrix.rows.with_columns(values.arr.to_list())


def _parquet(frame: pl.DataFrame) -> memoryview:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getbuffer()


_ENCODERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": lambda matrix, called: _parquet(_wide(matrix, called)),
    ".arrow": _arrow,
}
