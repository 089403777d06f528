"""sql: questions to the store."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from trajstore.cli.dataclass_options import dataclass_options
from trajstore.cli.output import WrongUsage
from trajstore.cli.queries.query_output import AnswerOptions
from trajstore.errors import QueryError
from trajstore.text import describe_file_error


@dataclass_options()
def sql(
    query: Annotated[str | None, typer.Argument(help="One reading statement; - reads it from stdin.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the query from a file.")] = None,
    *,
    output: AnswerOptions,
) -> None:
    """Ask the store in SQL (DuckDB's).

    Sessions only read, and only the store's files and those in --files.

    Tables, views and macros: trajstore schema. A table on the terminal stops at 200 rows and says how many there are;
    files hold every row. $NAME in the query stands for the value of -p NAME=VALUE, which is a number, true, false,
    null or a list where it reads as JSON, and else a text ('"512"' is the text 512). Ctrl-C stops the query.

    \b
    Example:
      trajstore sql "SELECT step, avg(loss) FROM losses WHERE model = 'tiny' GROUP BY step ORDER BY step"
      trajstore sql "FROM trajectory('digits')" -o digits.csv
      trajstore sql -f question.sql -p model=tiny -p steps='[512, 1000]' --format markdown
      trajstore sql --files notes "SELECT * FROM 'notes/words.csv' JOIN tokens USING (text) LIMIT 20"
    """
    text = _query(query, file)
    parameters = {name: _value(value) for name, value in output.values.items()}
    with output.open() as store:
        output.answer(store, text, parameters)


def _value(text: str) -> Any:
    """The value that a text stands for: JSON's where it is JSON of a kind that SQL has, else the text."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return text if isinstance(value, dict) else value


def _query(query: str | None, file: Path | None) -> str:
    """The query's text, from where it was given."""
    if query is None and file is None:
        raise WrongUsage('give the query, as in trajstore sql "FROM slices", or a file with -f')
    if query is not None and file is not None:
        raise WrongUsage("give the query or a file with -f, and not both")
    if query == "-":
        return sys.stdin.read()
    if file is None:
        return str(query)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"Cannot read {file}: {describe_file_error(error)}.") from error
