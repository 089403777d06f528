"""The catalog and the sessions that ask it: nobody holds `catalog.duckdb` open.

A session copies the small catalog into an in-memory DuckDB and lets go of the file at once. A write opens the catalog
for milliseconds. Both try again while another process has the file.

A catalog may come from somebody else, so every connection is closed to all files but the store's before it touches the
catalog, and its configuration is locked: DuckDB's own memory limit (80 % of the machine's) and a private folder for
what queries spill. Knows no table by name but the ones DuckDB has.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from trajstore import scratch
from trajstore.errors import DamagedFile, QueryError, StoreUnusable
from trajstore.schema import CATALOG, CATALOG_STORAGE
from trajstore.store.catalog import passed_checks, read_only
from trajstore.store.disk import catalog_lock
from trajstore.store.quoting import identifier, quoted

_PATIENCE = 30.0
"""Seconds for which a locked catalog is tried again; a write takes milliseconds."""

_in_process = threading.RLock()
"""DuckDB refuses to open a file twice in one process with different modes, so threads take turns."""


@dataclass(frozen=True)
class OpenedCatalog:
    """A connection that has a catalog, attached or copied into memory."""

    connection: duckdb.DuckDBPyConnection
    sha256: str | None
    """Of its file; None where that cannot be told."""


def open_session(root: Path, folders: Sequence[Path] = ()) -> duckdb.DuckDBPyConnection:
    """A read-only session on the store: a private copy of the catalog in memory, closed to all other files.

    `folders` are of our own and in reach as well. Raises `DamagedFile` where a view or macro may do more than read.
    """
    copy = copied(root, folders)
    try:
        check_definitions(copy, root)
    except BaseException:
        copy.connection.close()
        raise
    return copy.connection


def copied(root: Path, folders: Sequence[Path] = (), memory: str | None = None) -> OpenedCatalog:
    """A copy of which nothing but tables may be read before `check_definitions`, which may take as long again."""
    connection = empty_session(root, folders, memory)
    try:
        with _in_process, passed_checks.opened(root / CATALOG) as file:
            _attach(connection, root, "READ_ONLY")
            sha256 = file.sha256()
            passed_checks.once(sha256, "size", lambda: _check_size(connection, root))
            connection.execute("COPY FROM DATABASE cat TO memory")
            connection.execute("DETACH cat")
    except duckdb.Error as error:
        connection.close()
        raise DamagedFile(root / CATALOG, str(error).splitlines()[0], REBUILD) from error
    except BaseException:
        connection.close()
        raise
    return OpenedCatalog(connection, sha256)


_MOST_VALUES = 1_000_000
_MOST_BYTES = 1 << 27
"""Values in a catalog's tables, and bytes of their texts, beyond which it is none: a few rows are the rule."""
_LENGTH = re.compile(r"max.string.length\W+(\d+)", re.IGNORECASE)


def _check_size(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Raise `DamagedFile` where the attached catalog has more in its tables than a session should hold."""
    values = size = 0
    ask = "SELECT schema_name, table_name, estimated_size FROM system.main.duckdb_tables() WHERE database_name = 'cat'"
    for schema, table, rows in connection.execute(ask).fetchall():
        values += rows
        if values <= _MOST_VALUES:
            name = quoted(f"cat.{identifier(schema)}.{identifier(table)}")
            segments = f"SELECT count, stats::VARCHAR FROM system.main.pragma_storage_info({name})"
            for count, stats in connection.execute(segments).fetchall():
                values += count
                length = _LENGTH.search(stats or "")
                size += count * int(length[1]) if length else 0
        if values > _MOST_VALUES or size > _MOST_BYTES:
            raise DamagedFile(
                root / CATALOG,
                f"its tables, up to {schema}.{table}, hold {values:,} values with up to {size:,} bytes of text, where "
                "a catalog has a few rows",
                REBUILD,
            )


def check_definitions(opened: OpenedCatalog, root: Path) -> None:
    """Raise `DamagedFile` unless all that a copied or attached catalog can run only reads."""
    try:
        passed_checks.once(
            opened.sha256, "definitions", lambda: read_only.check_definitions(opened.connection)
        )
    except QueryError as error:
        raise DamagedFile(root / CATALOG, str(error), REBUILD) from error


REBUILD = "Make it anew from the files, which hold all of it: trajstore rebuild"
"""Remedy for a damaged catalog."""


def empty_session(
    root: Path, folders: Sequence[Path] = (), memory: str | None = None
) -> duckdb.DuckDBPyConnection:
    """A session without a catalog that can reach the store's files, and those in `folders`, and no others.

    `memory` is what its queries may take before they spill to disk, as "512MB"; DuckDB's own limit if not given.
    """
    connection = duckdb.connect(":memory:", config={"memory_limit": memory} if memory else {})
    allowed = ", ".join(quoted(str(folder)) for folder in (root, *folders))
    point(connection, root)
    connection.execute(f"SET temp_directory = {quoted(scratch.spill_folder())}")
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


@contextlib.contextmanager
def maintaining(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that may change the catalog, in a turn of its own; no other process can use it meanwhile.

    Raises `StoreUnusable` where the file cannot be written, or stays with others too long.
    """
    with (
        catalog_lock.turn(root),
        _in_process,
        _written(root / CATALOG),
        passed_checks.opened(root / CATALOG) as file,
        contextlib.closing(empty_session(root)) as connection,
    ):
        _attach(connection, root, "READ_WRITE")
        check_definitions(OpenedCatalog(connection, file.sha256()), root)
        connection.execute("USE cat")
        yield connection


@contextlib.contextmanager
def writing(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A transaction on the catalog itself: committed at the end, rolled back on any error."""
    with maintaining(root) as connection, transaction(connection):
        yield connection


@contextlib.contextmanager
def creating(root: Path, file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a new catalog in `file`, inside the store at `root`, where its views find their files."""
    with _written(file), contextlib.closing(empty_session(root)) as connection:
        connection.execute(f"ATTACH {quoted(str(file))} AS cat (STORAGE_VERSION '{CATALOG_STORAGE}')")
        connection.execute("USE cat")
        yield connection


@contextlib.contextmanager
def _written(file: Path) -> Iterator[None]:
    """Raise `StoreUnusable` for what DuckDB raises when a disk is full or broken."""
    try:
        yield
    except (duckdb.IOException, duckdb.TransactionException, duckdb.FatalException) as error:
        reason = str(error).splitlines()[0]
        raise StoreUnusable(
            f"{file} could not be written, so nothing was changed: {reason}. Free the disk or mend the file system, "
            "and run the command again."
        ) from error


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


def point(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Tell the views where the store is."""
    connection.execute(f"SET VARIABLE store = {quoted(str(root))}")


def _attach(connection: duckdb.DuckDBPyConnection, root: Path, mode: str) -> None:
    """Attach the catalog as `cat`, waiting for whoever has it."""
    path = root / CATALOG
    deadline = time.monotonic() + _PATIENCE
    pause = 0.002
    while True:
        try:
            connection.execute(f"ATTACH {quoted(str(path))} AS cat ({mode}, TYPE duckdb)")
            return
        except duckdb.Error as error:
            if not any(words in str(error) for words in _BUSY):
                raise _unattached(path, mode, error) from error
            if time.monotonic() > deadline:
                raise StoreUnusable(
                    f"{path} has been held open by another program for {_PATIENCE:.0f} s. Close that program (work on "
                    f"a copy of the catalog in the DuckDB shell), then try again. DuckDB says: {error}"
                ) from error
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def tables(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The catalog's tables in the schema main, each with DuckDB's text of it."""
    # No function but by its full name, since a catalog can hold a macro of the short one.
    ask = "SELECT database_name, schema_name, table_name, sql FROM system.main.duckdb_tables()"
    rows = connection.execute(ask).fetchall()
    return {name: sql for database, schema, name, sql in rows if schema == "main" and database != "system"}


_BUSY = ("Could not set lock on file", "Unique file handle conflict")


def _unattached(path: Path, mode: str, error: duckdb.Error) -> StoreUnusable | DamagedFile:
    reason = str(error).splitlines()[0]
    if not os.access(path, os.R_OK):
        return StoreUnusable(f"{path} cannot be read here. DuckDB says: {reason}")
    if mode == "READ_WRITE" and not os.access(path, os.W_OK):
        return StoreUnusable(f"{path} cannot be written here, so nothing was changed. DuckDB says: {reason}")
    return DamagedFile(path, reason, REBUILD)
