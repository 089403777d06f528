"""Matrices as files: the values, and their labels beside them.

`OUT.npy` holds float32 (rows, columns); `OUT.parquet` a row for each checkpoint with model, step and a list of its
losses. Both have `OUT.rows.parquet` (model, step) and `OUT.columns.parquet` (dataset, context, position, token, text)
beside them, in the order of the values.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl

from trajstore.store.files import check_target, write_whole
from trajstore.store.matrix import LossMatrix

FORMATS = (".npy", ".parquet")


def save_matrix(matrix: LossMatrix, out: Path) -> list[Path]:
    """Write a matrix and its labels, each file whole or not at all; returns the files, the values' last."""
    check_target(out, FORMATS)
    rows, columns = out.with_suffix(".rows.parquet"), out.with_suffix(".columns.parquet")
    write_whole(rows, _parquet(matrix.rows))
    write_whole(columns, _parquet(matrix.columns))
    write_whole(out, _npy(matrix) if out.suffix == ".npy" else _parquet(_wide(matrix)))
    return [rows, columns, out]


def _npy(matrix: LossMatrix) -> memoryview:
    sink = io.BytesIO()
    np.save(sink, matrix.values)
    return sink.getbuffer()


def _wide(matrix: LossMatrix) -> pl.DataFrame:
    """model, step, losses (list of float32 in the order of the columns)."""
    losses = pl.Series("losses", matrix.values, dtype=pl.Array(pl.Float32, matrix.values.shape[1]))
    return matrix.rows.with_columns(losses.arr.to_list())


def _parquet(frame: pl.DataFrame) -> memoryview:
    sink = io.BytesIO()
    frame.write_parquet(sink)
    return sink.getbuffer()
