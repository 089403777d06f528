"""query: the questions that come with trajstore, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from trajstore.cli.dataclass_options import Only, dataclass_options
from trajstore.cli.output import print_json, print_table, print_text, say
from trajstore.cli.queries.query_output import AnswerOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajstore.store.queries.named_queries import NamedQuery


@dataclass(frozen=True)
class _AnswerOptions(AnswerOptions):
    explain: Annotated[
        bool, typer.Option("--explain", help="Show its parameters, columns and SQL instead of running it.")
    ] = False


@dataclass_options()
def query(
    name: Annotated[str, typer.Argument(help="The query's name; list lists them.")],
    output: Annotated[_AnswerOptions, Only("parameter explain kind out store as_json")],
) -> None:
    """Ask one of the questions that come with trajstore.

    trajstore query list names them with their parameters.

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
        _list(list(named_queries.shipped().values()), output.as_json)
        return
    question = named_queries.find_query(name)
    if output.explain:
        _explain(question, output.as_json)
        return
    with output.open() as store:
        values = output.values
        parameters = named_queries.bind(store, store.groups, question, values)
        rows = output.answer(store, question.sql, parameters)
    if not rows:
        say(_no_rows(question, values))


def _no_rows(query: NamedQuery, values: Mapping[str, str]) -> str:
    """Say that a query has no rows, and with which parameters."""
    conditions = [
        f"{parameter.name}={values.get(parameter.name, parameter.default)}" for parameter in query.parameters
    ]
    why = f" where {', '.join(conditions)}" if conditions else ""
    return f"Nothing in this store answers {query.name}{why}. What they mean: trajstore query {query.name} --explain"


def _list(queries: list[NamedQuery], as_json: bool) -> None:
    """All queries, each with its parameters as they are given."""
    if as_json:
        print_json([_as_json(query) for query in queries])
        return
    rows = [[query.name, " ".join(_usage(query)), " ".join(query.description.split())] for query in queries]
    print_table(["query", "parameters", "answers"], rows)


def _usage(query: NamedQuery) -> list[str]:
    """Its parameters: name, or name=default."""
    return [
        parameter.name if parameter.default is None else f"{parameter.name}={parameter.default}"
        for parameter in query.parameters
    ]


def _explain(query: NamedQuery, as_json: bool) -> None:
    """All of one query."""
    from trajstore.sql_headers import KINDS

    if as_json:
        print_json({**_as_json(query), "sql": query.sql})
        return
    print_text(query.description + "\n")
    rows = [
        [parameter.name, KINDS[parameter.kind], parameter.unit, parameter.default or "", parameter.meaning]
        for parameter in query.parameters
    ]
    print_table(["parameter", "is", "unit", "default", "meaning"], rows)
    typer.echo()
    print_table(
        ["column", "unit", "meaning"],
        [[column.name, column.unit, column.meaning] for column in query.columns],
    )
    print_text(f"\n{query.example}\n\n{query.sql}")


def _as_json(query: NamedQuery) -> dict[str, object]:
    return {
        "query": query.name,
        "description": query.description,
        "parameters": [vars(parameter) for parameter in query.parameters],
        "columns": [vars(column) for column in query.columns],
        "example": query.example,
    }
