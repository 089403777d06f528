"""query: the questions that come with trajstore, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.cli import options
from trajstore.cli.output import open_store, print_json, print_table, print_text, say
from trajstore.cli.queries.query_output import (
    FormatOption,
    OutputOption,
    ParameterOption,
    answer,
    chosen_format,
    given,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajstore.store.queries.named_queries import NamedQuery


def query(
    name: Annotated[str, typer.Argument(help="The query's name; list lists them.")],
    parameter: ParameterOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show its parameters, columns and SQL instead of running it.")
    ] = False,
    kind: FormatOption = None,
    out: OutputOption = None,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """Ask one of the questions that come with trajstore; trajstore query list names them with their parameters.

    Models and datasets are names or globs, joined by commas; a step may be last. What is not given is its default.

    \b
    Example:
      trajstore query list
      trajstore query most_improved -p from_step=512 -p datasets=docs -p top=5
      trajstore query in_context_learning -p late=100 -p early=20 -o score.csv
      trajstore query loss_by_frequency --explain
    """
    from trajstore.store.queries import named_queries

    if name == "list":
        _list(list(named_queries.shipped().values()), as_json)
        return
    found = named_queries.find_query(name)
    if explain:
        _explain(found, as_json)
        return
    chosen = chosen_format(kind, out, as_json)
    with open_store(store) as opened:
        values = given(parameter)
        rows = answer(
            opened, found.sql, named_queries.bind(opened, opened.groups, found, values), chosen, out
        )
    if not rows:
        say(_asked_in_vain(found, values))


def _asked_in_vain(query: NamedQuery, values: Mapping[str, str]) -> str:
    """With which parameters a query has no rows."""
    asked = [f"{each.name}={values.get(each.name, each.default)}" for each in query.parameters]
    why = f" where {', '.join(asked)}" if asked else ""
    return f"Nothing in this store answers {query.name}{why}. What they mean: trajstore query {query.name} --explain"


def _list(queries: list[NamedQuery], as_json: bool) -> None:
    """All queries, each with its parameters as they are given."""
    if as_json:
        print_json([_as_json(each) for each in queries])
        return
    rows = [[each.name, " ".join(_usage(each)), " ".join(each.description.split())] for each in queries]
    print_table(["query", "parameters", "answers"], rows)


def _usage(query: NamedQuery) -> list[str]:
    """Its parameters: name, or name=default."""
    return [each.name if each.default is None else f"{each.name}={each.default}" for each in query.parameters]


def _explain(query: NamedQuery, as_json: bool) -> None:
    """All of one query."""
    from trajstore.sql_headers import KINDS

    if as_json:
        print_json({**_as_json(query), "sql": query.sql})
        return
    print_text(query.description + "\n")
    rows = [
        [each.name, KINDS[each.kind], each.unit, each.default or "", each.meaning]
        for each in query.parameters
    ]
    print_table(["parameter", "is", "unit", "default", "meaning"], rows)
    typer.echo()
    print_table(
        ["column", "unit", "meaning"], [[each.name, each.unit, each.meaning] for each in query.columns]
    )
    print_text(f"\n{query.example}\n\n{query.sql}")


def _as_json(query: NamedQuery) -> dict[str, object]:
    return {
        "query": query.name,
        "description": query.description,
        "parameters": [vars(each) for each in query.parameters],
        "columns": [vars(each) for each in query.columns],
        "example": query.example,
    }
