"""Statements that a session takes: one at a time, and only those that read.

DuckDB lets a session write wherever it may read, so what a statement does is seen from its parse tree before it runs.
Views and macros are not looked into: DuckDB lets none of them hold COPY, INSERT, UPDATE or DELETE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from trajstore.errors import QueryError
from trajstore.store import catalog


def run_select(
    session: duckdb.DuckDBPyConnection, root: Path, query: str, frames: Mapping[str, Any]
) -> duckdb.DuckDBPyRelation:
    """The relation of one reading statement; raises `QueryError` for anything else and for DuckDB's errors.

    Each query has a connection of its own to the session's database, so that one half read does not block another.
    """
    connection = session.cursor()
    catalog.point(connection, root)
    for name, frame in frames.items():
        connection.register(name, frame)
    try:
        check_reading(connection, query)
        relation = connection.sql(query)
    except duckdb.Error as error:
        raise QueryError(explained(error)) from error
    if relation is None:
        raise QueryError(
            "This statement gives no rows; ask with SELECT, FROM, DESCRIBE, SUMMARIZE or EXPLAIN."
        )
    return relation


def check_reading(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise `QueryError` unless a text is one statement that reads; nothing is run."""
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise QueryError(f"One statement at a time: this text has {len(statements)}.")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN and (inner := _EXPLAIN.fullmatch(query)):
        # EXPLAIN ANALYZE runs what it explains.
        check_reading(connection, inner["query"])
    elif kind == duckdb.StatementType.SELECT:
        _check_select(connection, query)
    else:
        raise _refused(str(kind).rpartition(".")[2])


_EXPLAIN = re.compile(r"(?:\s|--[^\n]*\n)*EXPLAIN(\s+ANALYZE)?\b(?P<query>.*)", re.IGNORECASE | re.DOTALL)
_NODE = re.compile(r'"type":"(\w+)","modifiers":')
_READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_CALL = re.compile(r'"function_name":"(\w+)"')
_RUNNING_TEXT = {"query", "json_execute_serialized_sql", "enable_logging", "enable_profiling"}
"""Functions that run a text as SQL, where none of this can be seen, or write files of their own."""


def _check_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise `QueryError` for a SELECT that writes: since DuckDB 2.0, WITH may hold COPY, INSERT, UPDATE and DELETE."""
    # The full name, since a catalog can hold a macro of the short one.
    found = connection.execute("SELECT system.main.json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    tree = str(found[0][0])
    nodes = set(_NODE.findall(tree))
    if writing := sorted(nodes - _READING_NODES):
        raise _refused(writing[0].partition("_")[0])
    if not nodes:
        raise QueryError("This statement cannot be read as a SELECT.")
    if calls := sorted(_RUNNING_TEXT.intersection(name.lower() for name in _CALL.findall(tree))):
        raise QueryError(f"Sessions only read; {calls[0]}() is refused, since it could do more than that.")


def _refused(kind: str) -> QueryError:
    return QueryError(
        f"Sessions only read; {kind} is refused. Losses are added by trajstore score, groups by trajstore group "
        "add, and a result is written to a file by: trajstore sql QUERY -o FILE"
    )


def explained(error: Exception) -> str:
    """DuckDB's words for an error, and what they mean here."""
    text = str(error)
    if isinstance(error, duckdb.PermissionException):
        text += (
            "\nA query reads the store's own files and nothing else (trajstore check finds symbolic links, which count "
            "as what they point to). Open a folder of your own files to it with: trajstore sql --files DIR (in Python "
            "files=[DIR])"
        )
    elif isinstance(error, duckdb.IOException) and "slice.parquet" in text and "No such file" in text:
        text += "\nA slice was removed while the query read it. Ask again."
    return text
