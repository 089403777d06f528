"""DuckDB's parse trees of queries, which it gives as JSON: what they name, in the forms of its versions 1 and 2.

Nothing is run. A statement that is no SELECT has no tree, and neither has a PIVOT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import duckdb

Node = dict[str, Any]
"""An object of a tree: a statement, an expression, a table."""
T = TypeVar("T")

_QUERY = re.compile(r'"type":"(\w+)","modifiers":')
_CALL = re.compile(r'"function_name":"(\w+)"')


@dataclass(frozen=True)
class QueryNames:
    """The tables, views and functions that a query names."""

    relations: frozenset[str]
    """Tables and views, a group as groups.NAME."""
    functions: frozenset[str]
    """Functions and macros, in small letters."""
    readable: bool = True
    """True if DuckDB gives a tree of it, as it does not of a PIVOT; else it may stand on anything."""


def serialized(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """The JSON of a query's tree, which may be too deep for a parser of JSON."""
    # The full name, since a catalog can hold a macro of the short one.
    rows = connection.execute("SELECT system.main.json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    return str(rows[0][0])


def query_kinds(text: str) -> set[str]:
    """The kinds of the queries in a serialized tree, such as SELECT_NODE."""
    return set(_QUERY.findall(text))


def called(text: str) -> set[str]:
    """Names of the functions and macros that a serialized tree calls, in small letters."""
    return {name.lower() for name in _CALL.findall(text)}


def tree_of(query: str) -> Node:
    """A query's tree."""
    with _parser().cursor() as connection:
        tree: Node = json.loads(serialized(connection, query))
    return tree


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty database, which has nothing but DuckDB's parser."""
    return duckdb.connect(":memory:")


def walk(part: object, first: T, inherit: Callable[[Node, T], T]) -> Iterator[tuple[Node, T]]:
    """Each object in a part of a tree, with what `inherit` makes of it and of what the one above it has."""
    waiting: list[tuple[object, T]] = [(part, first)]
    while waiting:
        node, above = waiting.pop()
        if isinstance(node, dict):
            own = inherit(node, above)
            yield node, own
            waiting += [(value, own) for value in node.values()]
        elif isinstance(node, list):
            waiting += [(value, above) for value in node]


def objects(part: object) -> Iterator[Node]:
    """Each object in a part of a tree."""
    for node, _ in walk(part, None, lambda _, above: above):
        yield node


@cache
def names(query: str) -> QueryNames:
    """The tables, views, functions and macros that a query names."""
    tree = tree_of(query)
    relations: set[str] = set()
    functions: set[str] = set()
    ctes: set[str] = set()
    for node in objects(tree):
        if node.get("type") == "BASE_TABLE":
            schema, table = str(node["schema_name"]), str(node["table_name"])
            relations.add(f"{schema}.{table}".lower() if schema and schema != "main" else table.lower())
        if "function_name" in node:
            functions.add(str(node["function_name"]).lower())
        ctes |= {str(entry["key"]).lower() for entry in (node.get("cte_map") or {}).get("map", [])}
    return QueryNames(frozenset(relations - ctes), frozenset(functions), not tree["error"])


def names_column(part: object, name: str) -> bool:
    """Return whether a part of a tree names a column so."""
    columns = (node.get("column_names") or [""] for node in objects(part))
    return any(str(column[-1]).lower() == name for column in columns)


def text_of(node: Node) -> str | None:
    """The value of a constant that is a text; None for any other object."""
    if node.get("class") != "CONSTANT":
        return None
    if "literal" in node:  # since DuckDB 2.0
        literal = node["literal"]
        return str(literal["text"]) if literal.get("kind") == "STRING" else None
    value = node["value"]
    return str(value["value"]) if value["type"]["id"] == "VARCHAR" and not value["is_null"] else None
