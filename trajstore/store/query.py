"""Answers of queries, as frames and as files; a file's rows are streamed, never all held."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trajstore.errors import QueryError

if TYPE_CHECKING:
    from trajstore.store.store import Store

_BATCH = 100_000


def frame(store: Store, query: str, limit: int | None = None) -> tuple[pl.DataFrame, int]:
    """(the first `limit` rows of the answer, how many there are in all); raises `QueryError`."""
    with answering():
        reader = store.sql(query).arrow(_BATCH)
        kept, total = [], 0
        for batch in reader:
            kept.append(batch if limit is None else batch.slice(0, max(0, limit - total)))
            total += batch.num_rows
        found = pl.from_arrow(pa.Table.from_batches(kept, reader.schema))
    assert isinstance(found, pl.DataFrame)
    return found, total


def write(store: Store, query: str, file: BinaryIO, kind: str) -> int:
    """Write the answer as csv, json (an array of objects) or parquet; returns the number of rows."""
    with answering():
        reader = store.sql(query).arrow(_BATCH)
        rows = 0
        with _WRITERS[kind](file, reader.schema) as put:
            for batch in reader:
                put(batch)
                rows += batch.num_rows
    return rows


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Errors of a running query as `QueryError`."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        raise QueryError(str(error)) from error


Put = Callable[[pa.RecordBatch], None]


@contextlib.contextmanager
def _csv(file: BinaryIO, schema: pa.Schema) -> Iterator[Put]:
    with pyarrow.csv.CSVWriter(
        file, schema, write_options=pyarrow.csv.WriteOptions(quoting_header="none")
    ) as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _parquet(file: BinaryIO, schema: pa.Schema) -> Iterator[Put]:
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _json(file: BinaryIO, _: pa.Schema) -> Iterator[Put]:
    first = True

    def put(batch: pa.RecordBatch) -> None:
        nonlocal first
        if batch.num_rows:
            lines = pl.DataFrame(batch).write_ndjson().rstrip("\n").replace("\n", ",\n")
            file.write((("\n" if first else ",\n") + lines).encode())
            first = False

    file.write(b"[")
    yield put
    file.write(b"\n]\n")


_WRITERS = {"csv": _csv, "json": _json, "parquet": _parquet}
