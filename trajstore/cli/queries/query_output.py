"""Printed answers of queries: a table cut to the terminal, or all rows in a format."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.cli import options
from trajstore.cli.output import Exit, console, open_store, print_table, say
from trajstore.display import count
from trajstore.errors import BadOption
from trajstore.text import shown

if TYPE_CHECKING:
    from trajstore.store.store import Store

_SHOWN = 200
_NARROWEST = 12
"""Characters that a column cut to a terminal keeps at least."""
FORMATS = ("table", "csv", "json", "markdown", "parquet")


@dataclass(frozen=True)
class AnswerOptions:
    """The parameters of a query, how its answer is written, and what may be read."""

    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", "-p", metavar="NAME=VALUE", help="A value for $NAME; may be given again."
        ),
    ] = None
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="|".join(FORMATS),
            help="How the answer is written [default: by the name of -o, else table].",
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file (.csv, .json, .md, .parquet), every row."),
    ] = None
    files: options.Files = None
    store: options.Store = options.DEFAULT_STORE
    as_json: options.Json = False

    @property
    def values(self) -> dict[str, str]:
        """The values of parameters by name; raises `BadOption`."""
        values = {}
        for text in self.parameter or ():
            name, equals, value = text.partition("=")
            name = name.strip().removeprefix("$")
            if not equals or not name.isidentifier():
                raise BadOption("p", text, "NAME=VALUE, as in -p step=512")
            values[name] = value
        return values

    @property
    def format(self) -> str:
        """The format asked for; wrong usage where it does not go together with the output."""
        suffix = self.out.suffix.removeprefix(".").lower() if self.out else "table"
        chosen = self.kind or ("json" if self.as_json else "") or {"md": "markdown"}.get(suffix, suffix)
        if chosen not in FORMATS:
            raise typer.BadParameter(
                f"{chosen!r} is none of {', '.join(FORMATS)}", param_hint="--format or -o"
            )
        if self.out is not None and chosen == "table":
            raise typer.BadParameter("a table goes to the terminal, not to a file; take markdown or csv")
        if self.out is None and chosen == "parquet":
            raise typer.BadParameter("parquet goes to a file: -o FILE.parquet")
        return chosen

    def open(self) -> Store:
        """Open the store; before that wrong usage where format and output do not go together."""
        _ = self.format
        return open_store(self.store)

    def answer(self, store: Store, query: str, parameters: Mapping[str, Any]) -> int:
        """Print or write a query's answer, and give its rows; Ctrl-C stops the query."""
        from trajstore.output_files import check_target, whole_file
        from trajstore.store.queries import query as answers

        out, arguments = self.out, (self.files or (), parameters)
        try:
            if out is not None:
                with whole_file(check_target(out, [out.suffix.lower()])) as target:
                    rows = answers.write(store, query, target, self.format, *arguments)
                say(f"Wrote {count(rows, 'row')} to {out}.")
            elif self.format == "table":
                frame, rows = answers.frame(store, query, _SHOWN, *arguments)
                _print(frame.columns, frame.rows(), rows)
            else:
                rows = answers.write(store, query, sys.stdout.buffer, self.format, *arguments)
        except KeyboardInterrupt:
            say(
                "Stopped: the query was interrupted"
                + ("." if out is None else f", and {out} was not written.")
            )
            raise typer.Exit(Exit.FAILED) from None
        return rows


def _print(names: Sequence[str], rows: Sequence[Sequence[Any]], total: int) -> None:
    """The first rows of an answer, on a terminal cut to its width, and what is not shown."""
    left: Sequence[str] = ()
    names = [shown(name) for name in names]
    if _on_terminal():
        names, rows, left = cut(names, rows, _width())
    print_table(names, rows)
    if left:
        more = f"{count(len(left), 'more column')} {'has' if len(left) == 1 else 'have'} no room"
        say(f"{more}: {', '.join(left)}. For all of them: --format json")
    if total > len(rows):
        say(f"The first {len(rows)} of {count(total, 'row')}. For all of them: -o FILE.csv, or --format csv")
    else:
        say(f"{count(total, 'row')}.")


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def _width() -> int:
    return console().width


def cut(
    names: Sequence[str], rows: Sequence[Sequence[Any]], width: int
) -> tuple[list[str], list[list[Any]], list[str]]:
    """(columns, rows, columns left out) that fit in so many characters: long texts are cut first, then columns."""
    from rich.cells import cell_len, set_cell_size

    texts = [[shown(cell) for cell in row] for row in rows]
    wide = [max([cell_len(name), *(cell_len(row[at]) for row in texts)]) for at, name in enumerate(names)]
    is_text = [any(isinstance(row[at], str | list | dict) for row in rows) for at in range(len(names))]

    def least(at: int) -> int:
        return min(wide[at], max(_NARROWEST, cell_len(names[at]))) if is_text[at] else wide[at]

    keep = len(names)
    while keep > 1 and sum(least(at) + 2 for at in range(keep)) > width:
        keep -= 1
    room = list(wide[:keep])
    while sum(characters + 2 for characters in room) > width:
        at = max(range(keep), key=lambda at: room[at] - least(at))
        if room[at] <= least(at):
            break
        room[at] -= 1

    def fitted(row: int, at: int) -> Any:
        text = texts[row][at]
        if cell_len(text) <= room[at]:
            return rows[row][at]
        return set_cell_size(text, room[at] - 1).rstrip() + "…"

    fit = [[fitted(row, at) for at in range(keep)] for row in range(len(rows))]
    return list(names[:keep]), fit, list(names[keep:])
