"""Matrices as files: the values, and their labels beside them.

`OUT.npy` holds float32 (rows, columns); `OUT.npz` the same, packed, as `losses`, with `models` and `steps` of its rows;
`OUT.parquet` and `OUT.arrow` a row for each checkpoint with model, step and a list of its losses. All have
`OUT.rows.parquet` (model, step) and `OUT.columns.parquet` (dataset, context, position, token, text) beside them, in the
order of the values. So one of them is there, never two.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from trajstore.errors import BadTarget
from trajstore.output_files import check_target, write_together
from trajstore.store.matrix.matrix import LossMatrix

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


def save_matrix(matrix: LossMatrix, out: Path) -> list[Path]:
    """Write a matrix and its labels, all of them or none; returns the files, the values' last. Raises `BadTarget`."""
    check_matrix_target(out)
    rows, columns = (out.with_suffix(suffix) for suffix in _LABELS)
    values = _ENCODERS[out.suffix.lower()](matrix)
    write_together([(rows, _parquet(matrix.rows)), (columns, _parquet(matrix.columns)), (out, values)])
    return [rows, columns, out]


def _npy(matrix: LossMatrix) -> memoryview:
    sink = io.BytesIO()
    np.save(sink, matrix.values)
    return sink.getbuffer()


def _npz(matrix: LossMatrix) -> memoryview:
    sink = io.BytesIO()
    models, steps = (matrix.rows[name].to_list() for name in ("model", "step"))
    np.savez_compressed(sink, losses=matrix.values, models=np.array(models, str), steps=np.array(steps, int))
    return sink.getbuffer()


def _arrow(matrix: LossMatrix) -> memoryview:
    """In batches of a row, so that it can be read row by row."""
    table = _wide(matrix).to_arrow()
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    return sink.getbuffer()


def _wide(matrix: LossMatrix) -> pl.DataFrame:
    """model, step, losses (list of float32 in the order of the columns)."""
    losses = pl.Series("losses", matrix.values, dtype=pl.Array(pl.Float32, matrix.values.shape[1]))
    return matrix.rows.with_columns(losses.arr.to_list())


def _parquet(frame: pl.DataFrame) -> memoryview:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getbuffer()


_ENCODERS = {".npy": _npy, ".npz": _npz, ".parquet": lambda matrix: _parquet(_wide(matrix)), ".arrow": _arrow}
