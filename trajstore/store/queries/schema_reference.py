"""The reference of SQL: every table, view and macro of a session with its columns, units and meaning.

All of it is read from the comments in the catalog. A column's comment ends with its unit in square brackets; a column
without a comment means what the one of its name in `raw_losses` or `tokens` means. A macro's comment is its header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trajstore import sql_headers
from trajstore.errors import UnknownName
from trajstore.sql_headers import Parameter
from trajstore.store.session import Session

_RELATIONS = """
    FROM (
        SELECT schema_name, view_name AS name, 'view' AS kind, comment
        FROM system.main.duckdb_views()
        WHERE NOT internal
        UNION ALL
        SELECT schema_name, table_name, 'table', comment FROM system.main.duckdb_tables() WHERE NOT internal
    )
    ORDER BY schema_name <> 'main', kind <> 'view', name
"""
_COLUMNS = """
    SELECT schema_name, table_name, column_name, data_type, comment
    FROM system.main.duckdb_columns()
    WHERE NOT internal
    ORDER BY schema_name, table_name, column_index
"""
_MACROS = """
    SELECT DISTINCT function_name, parameters, comment
    FROM system.main.duckdb_functions()
    WHERE NOT internal AND schema_name = 'main'
    ORDER BY function_name
"""


_SHARED = ("raw_losses", "tokens")
"""Views whose columns mean the same wherever a column has their name, the first before the second."""


@dataclass(frozen=True)
class ColumnFacts:
    """One column of a relation."""

    name: str
    type: str
    """DuckDB's; "" for a macro's column, whose type is known when it is called."""
    unit: str
    """"" where it has none."""
    meaning: str


@dataclass(frozen=True)
class Relation:
    """A table, view or macro."""

    name: str
    """As a query names it: losses, groups.digits, trajectory."""
    kind: str
    """table, view, group or macro."""
    description: str
    parameters: tuple[Parameter, ...]
    """Of a macro."""
    columns: tuple[ColumnFacts, ...]
    """None for a macro that gives a value."""

    @property
    def call(self) -> str:
        """The name, for a macro with its parameters in brackets."""
        inside = ", ".join(parameter.name for parameter in self.parameters)
        return f"{self.name}({inside})" if self.kind == "macro" else self.name


def relations(session: Session) -> list[Relation]:
    """Views, tables, groups and macros, in this order and by name."""
    columns: dict[str, list[ColumnFacts]] = {}
    for schema, table, name, kind, comment in session.sql(_COLUMNS).fetchall():
        meaning, unit = sql_headers.split_unit(comment or "")
        columns.setdefault(_full(schema, table), []).append(ColumnFacts(name, kind, unit, meaning))
    of_losses, of_tokens = (
        {column.name: column for column in columns.get(view, []) if column.meaning} for view in _SHARED
    )
    words = of_tokens | of_losses
    rows = []
    for schema, name, kind, comment in session.sql(_RELATIONS).fetchall():
        full = _full(schema, name)
        is_group = schema == "groups"  # of tokens, some of which have no loss
        meant = of_losses | of_tokens if is_group else words
        explained = tuple(_explained(column, meant) for column in columns.get(full, []))
        rows.append(Relation(full, "group" if is_group else kind, comment or "", (), explained))
    macros = session.sql(_MACROS).fetchall()
    return rows + [_macro(name, parameters, comment or "", words) for name, parameters, comment in macros]


def relation(session: Session, name: str) -> Relation:
    """One of them, a group with or without `groups.`; raises `UnknownName`."""
    known = {entry.name: entry for entry in relations(session)}
    for full_name in (name, f"groups.{name}"):
        if full_name in known:
            return known[full_name]
    raise UnknownName("table, view or macro", name, list(known), "See all of them: trajstore schema")


def _full(schema: str, name: str) -> str:
    return name if schema == "main" else f"{schema}.{name}"


def _explained(column: ColumnFacts, words: Mapping[str, ColumnFacts]) -> ColumnFacts:
    """The column, with what its name means where it has no comment of its own."""
    if column.meaning or column.name not in words:
        return column
    shared = words[column.name]
    return ColumnFacts(column.name, column.type, column.unit or shared.unit, shared.meaning)


def _macro(name: str, parameters: list[str], comment: str, words: Mapping[str, ColumnFacts]) -> Relation:
    """A macro from its header; one without a header of our form keeps its comment as it is."""
    try:
        header = sql_headers.parse(comment)
    except ValueError:
        header = sql_headers.Header(comment, (), (), "")
    documented = {parameter.name: parameter for parameter in header.parameters}
    columns = [ColumnFacts(column.name, "", column.unit, column.meaning) for column in header.columns]
    return Relation(
        name,
        "macro",
        header.description,
        tuple(documented.get(parameter, Parameter(parameter, "", "", None, "")) for parameter in parameters),
        tuple(_explained(column, words) for column in columns),
    )
