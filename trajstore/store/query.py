"""Answers of queries, as frames and as files; a file's rows are streamed, never all held."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trajstore.errors import QueryError
from trajstore.store import statements

if TYPE_CHECKING:
    from trajstore.store.store import Store

_BATCH = 100_000


def frame(
    store: Store, query: str, limit: int | None = None, files: Sequence[Path] = ()
) -> tuple[pl.DataFrame, int]:
    """(the first `limit` rows of the answer, how many there are in all); raises `QueryError`.

    `files` are folders of the user's own that the query may read as well.
    """
    with answering():
        reader = store.sql(query, files).arrow(_BATCH)
        kept, total = [], 0
        for batch in reader:
            kept.append(batch if limit is None else batch.slice(0, max(0, limit - total)))
            total += batch.num_rows
        found = pl.from_arrow(pa.Table.from_batches(kept, reader.schema))
    assert isinstance(found, pl.DataFrame)
    return found, total


def write(store: Store, query: str, file: BinaryIO, kind: str, files: Sequence[Path] = ()) -> int:
    """Write the answer as csv, json (an array of objects) or parquet; returns the number of rows.

    `files` as in `frame`.
    """
    with answering():
        reader = store.sql(query, files).arrow(_BATCH)
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
    except pl.exceptions.DuplicateError as error:
        raise QueryError("Two columns of the answer have one name; tell them apart with AS.") from error
    except (duckdb.Error, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise QueryError(statements.explained(error)) from error


Put = Callable[[pa.RecordBatch], None]


@contextlib.contextmanager
def _csv(file: BinaryIO, schema: pa.Schema) -> Iterator[Put]:
    with pyarrow.csv.CSVWriter(
        file, schema, write_options=pyarrow.csv.WriteOptions(quoting_header="needed")
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
