"""The catalog and the sessions that ask it: nobody holds `catalog.duckdb` open.

A session copies the small catalog into an in-memory DuckDB and lets go of the file at once; it can then read the
store's files and nothing else, and change nothing. A write opens the catalog for milliseconds. Both try again
while another process has the file. Knows no table by name but the ones DuckDB has.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from trajstore.errors import DamagedFile, QueryError, StoreUnusable
from trajstore.schema import CATALOG, CATALOG_STORAGE

_PATIENCE = 30.0
"""Seconds for which a locked catalog is tried again; a write takes milliseconds."""

_in_process = threading.RLock()
"""DuckDB refuses to open a file twice in one process with different modes, so threads take turns."""


def quoted(text: str) -> str:
    """A text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def open_session(root: Path) -> duckdb.DuckDBPyConnection:
    """A read-only session on the store: a private copy of the catalog in memory, closed to all other files."""
    connection = duckdb.connect(":memory:")
    try:
        with _in_process:
            _attach(connection, root, "READ_ONLY")
            connection.execute("COPY FROM DATABASE cat TO memory")
            connection.execute("DETACH cat")
        _confine(connection, root)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def maintaining(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that may change the catalog; no other process can use it meanwhile."""
    with (
        _in_process,
        _changing(root, lambda connection: _attach(connection, root, "READ_WRITE")) as connection,
    ):
        yield connection


@contextlib.contextmanager
def writing(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A transaction on the catalog itself: committed at the end, rolled back on any error."""
    with maintaining(root) as connection, transaction(connection):
        yield connection


@contextlib.contextmanager
def creating(root: Path, file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a new catalog in `file`, whose views find the store at `root`."""
    attach = f"ATTACH {quoted(str(file))} AS cat (STORAGE_VERSION '{CATALOG_STORAGE}')"
    with _changing(root, lambda connection: connection.execute(attach)) as connection:
        yield connection


@contextlib.contextmanager
def _changing(
    root: Path, attach: Callable[[duckdb.DuckDBPyConnection], object]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A confined connection that works in the database which `attach` attaches as `cat`."""
    connection = duckdb.connect(":memory:")
    try:
        attach(connection)
        connection.execute("USE cat")
        _confine(connection, root)
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of the block's statements, or none of them."""
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def run_select(
    session: duckdb.DuckDBPyConnection, root: Path, query: str, frames: Mapping[str, Any]
) -> duckdb.DuckDBPyRelation:
    """The relation of one reading statement; raises `QueryError` for anything else and for DuckDB's errors.

    Each query has a connection of its own to the session's database, so that one half read does not block another.
    """
    connection = session.cursor()
    _point(connection, root)
    for name, frame in frames.items():
        connection.register(name, frame)
    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    if len(statements) != 1:
        raise QueryError(f"One statement at a time: this text has {len(statements)}.")
    if statements[0].type not in _READING:
        kind = str(statements[0].type).rpartition(".")[2]
        raise QueryError(
            f"Sessions only read; {kind} is refused. Losses are added by trajstore score, groups by trajstore group "
            "add, and a result is written to a file by: trajstore sql QUERY -o FILE"
        )
    try:
        relation = connection.sql(query)
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    if relation is None:
        raise QueryError(
            "This statement gives no rows; ask with SELECT, FROM, DESCRIBE, SUMMARIZE or EXPLAIN."
        )
    return relation


_READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def _confine(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Point the views at the store, then close the session to every other file, for good."""
    # A folder of its own, which DuckDB makes when a query spills and removes with the session.
    spill = Path(tempfile.gettempdir()) / f"trajstore-{secrets.token_hex(8)}"
    _point(connection, root)
    connection.execute(f"SET temp_directory = {quoted(str(spill))}")
    connection.execute(f"SET allowed_directories = [{quoted(str(root))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _point(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Tell the views where the store is."""
    connection.execute(f"SET VARIABLE store = {quoted(str(root))}")


def _attach(connection: duckdb.DuckDBPyConnection, root: Path, mode: str) -> None:
    """Attach the catalog as `cat`, waiting for whoever has it."""
    path = root / CATALOG
    deadline = time.monotonic() + _PATIENCE
    pause = 0.002
    while True:
        try:
            connection.execute(f"ATTACH {quoted(str(path))} AS cat ({mode})")
            return
        except duckdb.IOException as error:
            if "lock" not in str(error):
                raise DamagedFile(
                    path,
                    str(error).splitlines()[0],
                    "Move it away and run trajstore init: all it holds is in the files",
                ) from error
            if time.monotonic() > deadline:
                raise StoreUnusable(
                    f"{path} has been held open by another program for {_PATIENCE:.0f} s. Close that program (work on "
                    f"a copy of the catalog in the DuckDB shell), then try again. DuckDB says: {error}"
                ) from error
        except duckdb.Error as error:
            raise DamagedFile(
                path,
                str(error).splitlines()[0],
                "Move it away and run trajstore init: all it holds is in the files",
            ) from error
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
