"""Answers of queries, as relations, frames and files; a file's rows are streamed, never all held.

Parameters ($name) are bound, never pasted. Ctrl-C stops a query that runs.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, TypeVar

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trajstore.errors import QueryError
from trajstore.store.catalog import read_only
from trajstore.store.catalog.statements import select
from trajstore.store.disk import layout
from trajstore.store.quoting import identifier
from trajstore.store.session import Session
from trajstore.text import shown, visible_json

T = TypeVar("T")

_BATCH = 100_000
_FEW = 8192
"""Rows of a batch where an answer's bytes are limited."""
_TURN = 0.05
"""Seconds after which a wait looks for Ctrl-C."""


def frame(
    session: Session,
    query: str,
    limit: int | None = None,
    files: Sequence[Path] = (),
    parameters: Mapping[str, Any] | None = None,
) -> tuple[pl.DataFrame, int]:
    """(the first `limit` rows of the answer, how many there are in all); raises `QueryError`.

    `files` are folders of the user's own that the query may read as well.
    """
    connection = _connection(session, query, files)

    def read() -> tuple[pa.Table, int]:
        reader = _reader(connection, query, parameters, "table")
        kept, total = [], 0
        for batch in reader:
            if limit is None or total < limit:  # an empty slice would keep its batch
                kept.append(batch.slice(0, None if limit is None else limit - total))
            total += batch.num_rows
        return pa.Table.from_batches(kept, reader.schema), total

    with answering():
        table, rows = interruptible(connection, read)
        answer = pl.from_arrow(table)
    assert isinstance(answer, pl.DataFrame)
    return answer, rows


def first_rows(
    session: Session,
    query: str,
    limit: int,
    parameters: Mapping[str, Any] | None = None,
    kind: str = "table",
    most_bytes: int = sys.maxsize,
) -> tuple[pl.DataFrame, bool]:
    """(the first `limit` rows of the answer, True where it has more), without reading the rest; raises `QueryError`.

    It ends sooner with the rows that go beyond `most_bytes`, some thousands at a time.
    Those of `kind` "json" have no column that JSON cannot hold. Another thread may stop it by interrupting the
    session's connections; Ctrl-C does not.
    """
    connection = _connection(session, query, ())
    with answering(), contextlib.closing(connection):
        reader = _reader(connection, query, parameters, kind, min(_FEW, limit + 1))
        kept, rows, size = [], 0, 0
        for batch in reader:
            if size > most_bytes:
                limit = rows
            kept.append(batch.slice(0, limit - rows))
            rows += batch.num_rows
            size += batch.nbytes
            if rows > limit:
                break
        answer = pl.from_arrow(pa.Table.from_batches(kept, reader.schema))
    assert isinstance(answer, pl.DataFrame)
    return answer, rows > limit


def write(
    session: Session,
    query: str,
    file: BinaryIO,
    kind: str,
    files: Sequence[Path] = (),
    parameters: Mapping[str, Any] | None = None,
) -> int:
    """Write the answer as csv, json (an array of objects), markdown or parquet; returns the number of rows.

    `files` as in `frame`.
    """
    connection = _connection(session, query, files)

    def copy() -> int:
        reader = _reader(connection, query, parameters, kind)
        rows = 0
        with _WRITERS[kind](file, reader.schema) as put:
            for batch in reader:
                put(batch)
                rows += batch.num_rows
        return rows

    with answering():
        return interruptible(connection, copy)


def _reader(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Mapping[str, Any] | None,
    kind: str,
    batch: int = _BATCH,
) -> pa.RecordBatchReader:
    """The answer's rows; raises `QueryError` where a column's type has no place in this kind of answer."""
    reader = select(connection, query, parameters).arrow(batch)
    for column in reader.schema:
        types = [*_types(column.type)]
        if any(pa.types.is_interval(of) or pa.types.is_union(of) for of in types):
            noun = "an INTERVAL or a UNION"
        elif kind == "json" and any(pa.types.is_binary(of) or pa.types.is_large_binary(of) for of in types):
            noun = "bytes (BLOB or BIT)"
        elif kind == "csv" and types[1:]:
            noun = "a list or another nested type"
        else:
            continue
        raise QueryError(
            f"The column {column.name} is {noun}, which has no place in this answer. Give it as a text: "
            f"CAST({identifier(column.name)} AS VARCHAR)"
        )
    return reader


def _types(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type, and all those nested in it."""
    yield kind
    for number in range(kind.num_fields):
        yield from _types(kind.field(number).type)


def _connection(session: Session, query: str, files: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    layout.check_large_files(session.path)
    session.notice(query)
    return session.connection(files)


def interruptible(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """Return what `work` gives, which asks through the connection; Ctrl-C stops its query, then goes on its way.

    Done in a thread, since Python sees no signal while DuckDB has the one that signals come to. Raised in the middle of
    a wait, Ctrl-C can leave a lock that the thread waits for, so it is raised between waits.
    """
    with ThreadPoolExecutor(1) as pool, _ctrl_c_held_back() as let_through:
        running = pool.submit(work)
        try:
            # By turns: once Polars is imported, a signal does not end a wait.
            while not wait([running], timeout=_TURN).done:
                let_through()
        except BaseException:
            # More than once: between two batches there is nothing to interrupt.
            while not running.done():
                connection.interrupt()
                wait([running], timeout=_TURN)
            raise
    return running.result()


@contextlib.contextmanager
def _ctrl_c_held_back() -> Iterator[Callable[[], None]]:
    """Ctrl-C does nothing until the given function is called, or the block ends; then it does what it did before."""
    held: list[tuple[int, FrameType | None]] = []
    before = signal.getsignal(signal.SIGINT)

    def let_through() -> None:
        while held and callable(before):
            before(*held.pop(0))

    # Signals come to the main thread, and only there can be held back.
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield let_through
        return
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield let_through
    finally:
        signal.signal(signal.SIGINT, before)
        let_through()


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Errors of a running query as `QueryError`."""
    try:
        yield
    except pl.exceptions.DuplicateError as error:
        raise QueryError("Two columns of the answer have one name; tell them apart with AS.") from error
    except (duckdb.Error, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise QueryError(read_only.explained(error)) from error
    except OSError as error:
        # Arrow's words for what DuckDB raised between two batches; an error of the disk has a number.
        if error.errno is not None:
            raise
        raise QueryError(str(error)) from error


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
            lines = visible_json(pl.DataFrame(batch).write_ndjson().rstrip("\n")).replace("\n", ",\n")
            file.write((("\n" if first else ",\n") + lines).encode())
            first = False

    file.write(b"[")
    yield put
    file.write(b"\n]\n")


@contextlib.contextmanager
def _markdown(file: BinaryIO, schema: pa.Schema) -> Iterator[Put]:
    def line(cells: Sequence[object]) -> bytes:
        escaped = (shown(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(escaped)} |\n".encode()

    def put(batch: pa.RecordBatch) -> None:
        for row in pl.DataFrame(batch).iter_rows():
            file.write(line(row))

    file.write(line(schema.names))
    file.write(line(["---:" if _is_number(kind) else "---" for kind in schema.types]))
    yield put


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


_WRITERS = {"csv": _csv, "json": _json, "markdown": _markdown, "parquet": _parquet}
