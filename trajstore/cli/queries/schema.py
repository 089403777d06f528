"""schema: what can be asked in SQL."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.cli import options
from trajstore.cli.output import open_store, print_json, print_table, print_text
from trajstore.sql_headers import KINDS

if TYPE_CHECKING:
    from trajstore.store.queries.schema_reference import Relation


def schema(
    table: Annotated[
        str | None, typer.Argument(help="A table, view, group or macro [default: all of them].")
    ] = None,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Show tables, views, groups and macros, or one's columns.

    Columns have their types, units and meaning.

    \b
    Example:
      trajstore schema
      trajstore schema losses
    """
    from trajstore.store.queries import schema_reference

    with open_store(store) as opened:
        relations = (
            schema_reference.relations(opened)
            if table is None
            else [schema_reference.relation(opened, table)]
        )
    if as_json:
        print_json([{**asdict(relation), "call": relation.call} for relation in relations])
    elif table is None:
        rows = [
            [relation.call, relation.kind, _names(relation), " ".join(relation.description.split())]
            for relation in relations
        ]
        print_table(["name", "kind", "columns", "description"], rows)
    else:
        _show(relations[0])


def _names(relation: Relation) -> str:
    """Its columns; for a group, whose columns are always the same, none."""
    return "" if relation.kind == "group" else ", ".join(column.name for column in relation.columns)


def _show(relation: Relation) -> None:
    """One of them."""
    print_text(f"{relation.call}: {relation.description}\n")
    if relation.parameters:
        rows = [
            [parameter.name, KINDS.get(parameter.kind, ""), parameter.unit, parameter.meaning]
            for parameter in relation.parameters
        ]
        print_table(["parameter", "is", "unit", "meaning"], rows)
        typer.echo()
    if relation.columns:
        rows = [[column.name, column.type, column.unit, column.meaning] for column in relation.columns]
        print_table(["column", "type", "unit", "meaning"], rows)
