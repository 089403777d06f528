"""sql: questions to the store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trajstore.cli.output import DEFAULT_STORE, JsonOption, StoreOption, open_store, print_table, say
from trajstore.errors import QueryError

_SHOWN = 200
_FORMATS = ("table", "csv", "json", "parquet")


def sql(
    query: Annotated[str | None, typer.Argument(help="One reading statement; - reads it from stdin.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the query from a file.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format", help="table, csv, json or parquet [default: by the name of -o, else table]."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file (.csv, .json, .parquet).")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Let the query read your files in this folder as well, under paths as you would type them here; "
            "may be given again.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Ask the store in SQL (DuckDB's). Sessions only read, and only the store's files and those in --files.

    Tables: losses, raw_losses, tokens, contexts, datasets, models, checkpoints, coverage, and a view for each group
    in the schema groups. A table on the terminal stops at 200 rows and says so; files hold every row.

    \b
    Example:
      trajstore sql "SELECT step, avg(loss) FROM losses WHERE model = 'tiny' GROUP BY step ORDER BY step"
      trajstore sql "FROM trajectory('digits')" -o digits.csv
      trajstore sql --files notes "SELECT * FROM 'notes/words.csv' JOIN tokens USING (text) LIMIT 20"
    """
    text = _query(query, file)
    chosen = kind or ("json" if as_json else "") or (out.suffix.removeprefix(".").lower() if out else "table")
    if chosen not in _FORMATS:
        raise typer.BadParameter(f"{chosen!r} is none of {', '.join(_FORMATS)}", param_hint="--format or -o")
    if (chosen == "table") != (out is None) and chosen in ("table", "parquet"):
        raise typer.BadParameter(
            f"{chosen} goes {'to the terminal, not to a file' if out else 'to a file: -o FILE.parquet'}"
        )
    with open_store(store) as opened:
        from trajstore.store import query as answers
        from trajstore.store.files import check_target, whole_file

        if out is not None:
            with whole_file(check_target(out, [out.suffix.lower()])) as target:
                rows = answers.write(opened, text, target, chosen, files or [])
            say(f"Wrote {rows:,} rows to {out}.")
        elif chosen == "table":
            frame, rows = answers.frame(opened, text, _SHOWN, files or [])
            print_table(frame.columns, frame.rows())
            if not rows:
                say("0 rows.")
            if rows > _SHOWN:
                say(f"The first {_SHOWN} of {rows:,} rows. For all of them: -o FILE.csv, or --format csv")
        else:
            answers.write(opened, text, sys.stdout.buffer, chosen, files or [])


def _query(query: str | None, file: Path | None) -> str:
    """The query's text, from where it was given."""
    if (query is None) == (file is None):
        raise typer.BadParameter("give the query, or a file with -f, and not both")
    if query == "-":
        return sys.stdin.read()
    if file is None:
        return str(query)
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise QueryError(f"Cannot read {file}: {error.strerror}.") from error


def register(app: typer.Typer) -> None:
    """Add this family's command."""
    app.command()(sql)
