"""Tables of losses computed elsewhere, read in batches: Parquet, CSV and JSON lines of any size, and Arrow batches.

A private DuckDB connection reads one file and nothing of the store; it streams, so that memory does not grow with the
file. Of formats that DuckDB does not read, a function gives Arrow batches of whatever columns and types. Values are
cast to the types of the long format, and what cannot be cast is null. Nothing is checked here.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from trajstore.errors import BadSource, shortened
from trajstore.store.quoting import identifier, quoted

Reader = Callable[[Path], pa.RecordBatchReader]
"""Opens a file as Arrow batches, anew with each call."""

TEXT = ("model", "dataset")
"""Columns of the long format that hold text; `loss` holds float32, all others whole numbers."""

BATCH = 1 << 17
"""Rows of a batch."""
_TABLES = {
    "parquet": "read_parquet({}, hive_partitioning = false)",
    "jsonl": "read_json({}, format = 'newline_delimited')",
}
_ARROW = "foreign_table"
_MEMORY = "256MB"
_THREADS = 2

# Beyond this a double no longer tells neighbouring whole numbers apart.
_EXACT = 2**53 - 1
UNREADABLE = -(2**63 - 1)
"""A token that is there and is no whole number."""


def column_names(path: Path, kind: str, reader: Reader | None = None) -> list[str]:
    """The columns of a file; raises `BadSource` where it cannot be read as what it is said to be.

    `kind` is parquet, csv or jsonl, which DuckDB reads, or the name of what `reader` opens.
    """
    with _reading(path, kind):
        if reader is not None:
            return list(reader(path).schema.names)
        with _connection() as connection:
            if kind == "csv":
                return _header(connection, path)[0]
            return list(
                connection.sql(f"SELECT * FROM {_TABLES[kind].format(_literal(path))} LIMIT 0").columns
            )


def batches(
    path: Path, kind: str, columns: Mapping[str, str], unit: str = "nats", reader: Reader | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in its order, in batches with the columns asked for; `kind` and `reader` as above.

    `columns` gives the file's name for each column of the long format. Text is utf8, whole numbers are int64, the loss
    is float32 in nats whatever the `unit`: "bits" are multiplied by ln 2, and of a "perplexity" the logarithm is taken.
    A value that is no such number is null.
    """
    texts = kind in ("csv", "jsonl")
    chosen = ", ".join(f"{_cast(ours, theirs, unit, texts)} AS {ours}" for ours, theirs in columns.items())
    with _reading(path, kind), _connection() as connection:
        if reader is None:
            source = _source(connection, path, kind, list(columns.values()))
        else:
            connection.register(source := _ARROW, reader(path))
        yield from connection.sql(f"SELECT {chosen} FROM {source}").arrow(BATCH)


def _cast(ours: str, theirs: str, unit: str, texts: bool) -> str:
    """The SQL of one column of the long format."""
    name = identifier(theirs)
    if ours in TEXT:
        return f"CAST({name} AS VARCHAR)"
    if texts:
        # DuckDB takes a cast of a bare column into its CSV reader, where what cannot be cast is an error.
        name = f"trim({name})"
    if ours == "loss":
        # Straight to float32, since rounding a decimal number twice can end one bit away.
        double = f"TRY_CAST({name} AS DOUBLE)"
        number = {
            "nats": name,
            "bits": f"{double} * ln(2)",
            "perplexity": f"CASE WHEN {double} > 0 THEN ln({double}) END",
        }[unit]
        return f"TRY_CAST({number} AS FLOAT)"
    number = f"TRY_CAST({name} AS DOUBLE)"  # a cast to BIGINT would round 3.7
    whole = f"{number} = floor({number}) AND abs({number}) <= {_EXACT}"
    if ours == "token":  # may be absent, and then is not compared
        absent = f"{name} IS NULL OR isnan({number})" + (f" OR {name} = ''" if texts else "")
        return (
            f"CASE WHEN coalesce({absent}, false) THEN NULL WHEN {whole} THEN CAST({number} AS BIGINT) "
            f"ELSE {UNREADABLE} END"
        )
    return f"CASE WHEN {whole} THEN CAST({number} AS BIGINT) END"


def _source(connection: duckdb.DuckDBPyConnection, path: Path, kind: str, columns: list[str]) -> str:
    """The table function that reads a file: CSV and JSON as text, of JSON only these columns."""
    if kind == "csv":
        names, delimiter = _header(connection, path)
        options = f"delim = {quoted(delimiter)}, quote = '\"', escape = '\"', header = true, skip = 0"
        return f"read_csv({_literal(path)}, auto_detect = false, columns = {_all_text(names)}, {options})"
    if kind == "jsonl":
        fields = f"columns = {_all_text(columns)}"
        return f"read_json({_literal(path)}, format = 'newline_delimited', {fields})"
    return _TABLES[kind].format(_literal(path))


def _header(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[list[str], str]:
    """The names in the first line of a CSV file, and what stands between them: a comma, tab, semicolon or bar.

    DuckDB's own guess would pass over a first line that does not fit the others.
    """
    line = "columns = {'line': 'VARCHAR'}, delim = '\x01', quote = '', escape = '', header = false"
    rows = connection.sql(f"FROM read_csv({_literal(path)}, auto_detect = false, {line}) LIMIT 1").fetchall()
    text = str(rows[0][0]) if rows else ""
    delimiter = max(",\t;|", key=text.count)
    names = next(csv.reader([text], delimiter=delimiter), [])
    if len(set(names)) < len(names):
        raise BadSource(f"{path} has two columns of one name: {', '.join(names)}.")
    return names, delimiter


def _all_text(names: list[str]) -> str:
    """DuckDB's map of columns to types, all of them text."""
    return "{" + ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in names) + "}"


def _literal(path: Path) -> str:
    text = str(path.absolute())
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadSource(
            f"The path {text} is not UTF-8, which DuckDB wants. Give the file another name."
        ) from None
    return quoted(glob.escape(text))


def arrow_reader(path: Path) -> pa.RecordBatchReader:
    """An Arrow file (Feather) or stream, mapped rather than read."""
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid:
        return pa.ipc.open_stream(pa.memory_map(str(path)))
    numbers = range(file.num_record_batches)
    return pa.RecordBatchReader.from_batches(file.schema, (file.get_batch(number) for number in numbers))


@contextlib.contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own, small, that reads in the order of the file."""
    config: dict[str, Any] = {"memory_limit": _MEMORY, "threads": _THREADS, "preserve_insertion_order": True}
    config["autoinstall_known_extensions"] = False
    with duckdb.connect(":memory:", config=config) as connection:
        connection.execute("SET enable_progress_bar = false")  # it goes to stdout
        yield connection


@contextlib.contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Errors of reading as `BadSource`."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        first_lines = itertools.takewhile(
            lambda line: not line.startswith(("Possible", "* ", "file =")), lines
        )
        raise BadSource(f"{path} cannot be read as {kind}: {shortened('; '.join(first_lines))}") from error
