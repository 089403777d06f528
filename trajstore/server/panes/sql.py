"""SQL: one reading statement or named query in the request's confined session, and what an editor completes with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from trajstore.errors import BadOption
from trajstore.server.endpoints import Ask, post, values
from trajstore.store.queries import named_queries, query, schema_reference

if TYPE_CHECKING:
    from starlette.routing import Route


def routes() -> list[Route]:
    """Return the routes of the SQL pane."""
    return [post("sql", answer), values("sql/schema", schema), values("sql/queries", queries)]


def answer(ask: Ask) -> pl.DataFrame:
    """The answer of the posted `sql`, or of the named `query` with its `parameters`, up to `rows` rows.

    Raises `QueryError`, and what `named_queries.bind` raises.
    """
    text, parameters = _statement(ask)
    most = _most_rows(ask)
    kind = "json" if ask.body.get("kind") in ("json", "csv") else "table"  # our CSV has JSON in it
    frame, more = query.first_rows(ask.store, text, most, parameters, kind, ask.limits.answer)
    if more:
        ask.progress.say(
            f"The answer goes on: only its first {frame.height:,} rows are here. Ask for fewer with WHERE or GROUP BY, "
            "or write all of them to a file: trajstore sql QUERY -o FILE"
        )
    return frame


def _statement(ask: Ask) -> tuple[str, dict[str, named_queries.Value]]:
    """The text that is posted or named, and the values of its parameters."""
    if (name := ask.body.get("query")) is not None:
        named = named_queries.find_query(str(name))
        parameters = ask.body.get("parameters", {})
        if not isinstance(parameters, dict):
            raise BadOption("parameters", str(parameters), "an object of values by name")
        return named.sql, named_queries.bind(ask.store, ask.store.groups, named, parameters)
    text = ask.body.get("sql")
    if not isinstance(text, str) or not text.strip():
        raise BadOption(
            "sql", str(text), "the text of one reading statement, as in SELECT * FROM tokens LIMIT 5"
        )
    return text, {}


def _most_rows(ask: Ask) -> int:
    """The rows asked for, at most those that a reply may have."""
    rows = ask.body.get("rows", ask.limits.rows)
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise BadOption("rows", str(rows), "a whole number from 1")
    return min(rows, ask.limits.rows)


def schema(ask: Ask) -> list[dict[str, Any]]:
    """The tables, views, groups and macros of the session, each with its columns, units and meanings."""
    return [
        {
            "name": relation.name,
            "kind": relation.kind,
            "call": relation.call,
            "description": relation.description,
            "columns": [vars(column) for column in relation.columns],
        }
        for relation in schema_reference.relations(ask.store)
    ]


def queries(_: Ask) -> list[dict[str, Any]]:
    """The named queries, each with its parameters and SQL."""
    return [
        {
            "name": named.name,
            "description": " ".join(named.description.split()),
            "parameters": [vars(parameter) for parameter in named.parameters],
            "sql": named.sql,
        }
        for named in named_queries.shipped().values()
    ]
