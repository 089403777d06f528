"""One reading statement of a user's: checked, its parameters bound and never pasted, its errors told in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from trajstore.arguments.suggestions import nearest
from trajstore.display import count
from trajstore.errors import MissingParameter, QueryError, UnknownName
from trajstore.store.catalog import read_only

Parameters = Mapping[str, Any] | Sequence[Any]
"""Values of a query's parameters, by name or in order."""


def select(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Parameters | None = None
) -> duckdb.DuckDBPyRelation:
    """The relation of one reading statement; raises `QueryError` for anything else and for DuckDB's errors.

    DuckDB before 2.0 holds the whole answer of a query with parameters.
    """
    try:
        read_only.check_reading(connection, query)
        _check_parameters(connection, query, parameters or {})
    except duckdb.Error as error:
        raise QueryError(read_only.explained(error)) from error
    try:
        relation = connection.sql(query, params=parameters or None)
    except duckdb.Error as error:
        placed = _with_place(connection, query, parameters, error)
        raise QueryError(read_only.explained(placed) + _near_column(connection, str(error))) from error
    if relation is None:
        raise QueryError(
            "This statement gives no rows; ask with SELECT, FROM, DESCRIBE, SUMMARIZE or EXPLAIN."
        )
    return relation


def _check_parameters(connection: duckdb.DuckDBPyConnection, query: str, parameters: Parameters) -> None:
    """Raise `UnknownName`, `MissingParameter` or `QueryError` unless each parameter has a value, and no other."""
    wanted = {
        name for statement in read_only.extracted(connection, query) for name in statement.named_parameters
    }
    if not isinstance(parameters, Mapping):
        if isinstance(parameters, str) or len(parameters) != len(wanted):
            named = f" ({', '.join(f'${name}' for name in sorted(wanted))})" if wanted else ""
            raise QueryError(
                f"This query has {count(len(wanted), 'parameter')}{named}, and not those given: {parameters!r}. Give a "
                "list with a value for each ?, or a dict of values by name; folders that it may read are files=[…]."
            )
        return
    if unknown := sorted(parameters.keys() - wanted):
        raise UnknownName(
            "parameter of this query", f"${unknown[0]}", [f"${name}" for name in sorted(wanted)]
        )
    if missing := sorted(wanted - parameters.keys()):
        raise MissingParameter("This query", dict.fromkeys(missing, ""))


def _with_place(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Parameters | None, error: duckdb.Error
) -> duckdb.Error:
    """The error of a reading statement that cannot be bound, told with its line and a caret where that is known."""
    try:
        connection.execute(query, parameters or None)
    except duckdb.Error as placed:
        return placed
    return error


_NO_COLUMN = re.compile(r'does not have a column named "([^"]+)"|Column "([^"]+)" does not exist')


def _near_column(connection: duckdb.DuckDBPyConnection, message: str) -> str:
    """Names like that of a column which is not there, where DuckDB gives none."""
    match = _NO_COLUMN.search(message)
    if not match:
        return ""
    ask = "SELECT DISTINCT column_name FROM system.main.duckdb_columns() WHERE NOT internal"
    names = connection.execute(ask).fetchall()
    return "\n" + nearest(match[1] or match[2], [str(name) for (name,) in names]).strip()
