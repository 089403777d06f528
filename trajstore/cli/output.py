"""Output of commands: data on stdout, messages and progress bars on stderr, three exit codes."""

from __future__ import annotations

import contextlib
import enum
import errno
import json
import os
import re
import sys
import textwrap
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from trajstore.arguments.spelling import spelled
from trajstore.cli.option_spelling import CommandLineSpelling
from trajstore.cli.streams import stream_behind, visible_streams
from trajstore.display import duration
from trajstore.errors import BadOption, PassedOver, StaleGroup, StoreNotFound, TrajstoreError, bounded
from trajstore.text import shown, visible, visible_json

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.text import Text

    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart


class Exit(enum.IntEnum):
    """Exit codes of commands."""

    DONE = 0
    FAILED = 1
    WRONG_USAGE = 2


class WrongUsage(typer.BadParameter):
    """Words that are needed, or do not go together: no value of one option is at fault."""

    def format_message(self) -> str:
        """Return the message as it is."""
        return self.message


_UsageError: Any = (
    typer.BadParameter.__base__
)  # click's, or that of the copy that newer versions of typer carry
_EXTRA = re.compile(r"Got unexpected extra argument(?:s|\(s\))? \((.*)\)", re.DOTALL)
_BOUNDS = {"greater": "or more", "less": "or less"}
_NUMBERS = {"integer": "a whole number", "number": "a number"}
_OF_A_LIBRARY = re.compile(
    r"Input should be (?:(greater|less) than or equal to (\S+)|a valid (integer|number)\b.*)", re.DOTALL
)


def _in_our_words(message: str) -> str:
    """A message on an option's value, where it is a library's sentence on its input."""
    match = _OF_A_LIBRARY.fullmatch(message)
    if match is None:
        return message
    return f"it takes {_NUMBERS[match[3]] if match[3] else f'{match[2]} {_BOUNDS[match[1]]}'}"


_HOW_A_STORE_IS_CHOSEN = (
    "(A store is chosen by --store/-s, else by the variable TRAJSTORE, else it is ./store.)"
)


class CommandGroup(TyperGroup):
    """Commands whose user errors are a message, not a traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **more: Any) -> Any:
        """Run as a program; what is printed as text, by whomever, is made visible."""
        arguments = _quiet_first(sys.argv[1:] if args is None else args)
        Talk.quiet = False
        with visible_streams(), spelled(CommandLineSpelling()):
            return super().main(arguments, *rest, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run; `TrajstoreError` and Ctrl-C exit with 1, `BadOption` with 2."""
        try:
            with _telling_what_is_stale():
                return super().invoke(ctx)
        except _UsageError as error:
            error.message = _in_our_words(error.message)
            if (extra := _EXTRA.fullmatch(error.message)) and "sql" in {
                p.name for p in error.ctx.command.params
            }:
                error.message = f"{extra[1]!r} has no place here: a query is given with --sql QUERY."
            raise
        except TrajstoreError as error:
            chosen = f"\n{_HOW_A_STORE_IS_CHOSEN}" if isinstance(error, StoreNotFound) else ""
            say(f"Error: {bounded(str(error))}{chosen}", needed=True)
            raise typer.Exit(Exit.WRONG_USAGE if isinstance(error, BadOption) else Exit.FAILED) from error
        except BrokenPipeError:
            # Whoever read our output has enough (as head does), which is no failure.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(Exit.DONE) from None
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
            mend = (
                " Nothing is half-written; free the disk or mend the file system, and run it again."
                if full
                else ""
            )
            say(f"Error: {error}.{mend}", needed=True)
            raise typer.Exit(Exit.FAILED) from error
        except KeyboardInterrupt as error:
            raise _stopped() from error
        except RuntimeError as error:
            if "Query interrupted" not in str(error):  # DuckDB's word for Ctrl-C, where it was at work
                raise
            raise _stopped() from error


def _stopped() -> typer.Exit:
    """Return the error that ends a command after Ctrl-C."""
    say(
        "Stopped. Nothing is half-written: what was finished is kept, and the same command does the rest.",
        needed=True,
    )
    return typer.Exit(Exit.FAILED)


@contextlib.contextmanager
def _telling_what_is_stale() -> Iterator[None]:
    """Warnings of stale groups and of what was passed over as talk, without the place in the code they come from."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, PassedOver | StaleGroup):
                say(f"Warning: {message}", needed=True)
            else:
                usual(message, category, *rest, **more)

        warnings.showwarning = tell
        yield


def open_store(path: Path) -> Store:
    """The store that a command was pointed at."""
    from trajstore.store.store import Store

    return Store(path)


class Talk:
    """The amount of messages beside a command's data."""

    quiet = False


def be_quiet(quiet: bool) -> None:
    """From here on only errors, warnings and questions are said."""
    Talk.quiet = Talk.quiet or quiet


def _quiet_first(args: Sequence[str]) -> list[str]:
    """Arguments with --quiet, which every command takes, before the command."""
    ours = list(args[: args.index("--")]) if "--" in args else list(args)
    flags = [word for word in ours if word in ("--quiet", "-q")]
    return [*flags[:1], *(word for word in ours if word not in flags), *args[len(ours) :]]


def say(message: str, *, needed: bool = False) -> None:
    """A line of talk; --quiet leaves out what is not needed, and no warning."""
    if Talk.quiet and not needed:
        message = "\n".join(line for line in message.splitlines() if line.startswith("Warning: "))
        if not message:
            return
    typer.echo(visible(message), err=True)


def say_next(command: str) -> None:
    """A command that goes on from here, as the last line of talk."""
    say(f"Next: {command}")


def print_text(text: str) -> None:
    """A text of one line or several on stdout."""
    typer.echo(visible(text))


def print_sentence(sentence: str) -> None:
    """A sentence in lines of 100 characters at most, all but the first one set in."""
    print_text(textwrap.fill(sentence, 100, subsequent_indent="  ", break_on_hyphens=False))


def print_json(value: Any) -> None:
    """A value as JSON on stdout; what would steer a terminal is escaped in it."""
    typer.echo(visible_json(json.dumps(value, indent=1, ensure_ascii=False)))


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console of rich on stdout or stderr; what it prints must be visible already."""
    from rich.console import Console

    return Console(file=stream_behind(sys.stderr if stderr else sys.stdout), width=width, soft_wrap=False)


def _cell(value: Any) -> Text:
    """A cell of a table; a text of rich keeps its style."""
    from rich.text import Text

    if isinstance(value, Text) and value.plain == shown(value.plain):
        return value
    return Text(shown(value))


def print_rows(rows: Sequence[dict[str, Any]], as_json: bool, columns: Iterable[str] = ()) -> None:
    """Records as a table, or as JSON; `columns` names the header where there are no rows."""
    if as_json:
        print_json(list(rows))
        return
    names = list(rows[0]) if rows else list(columns)
    print_table(names, [[row[name] for name in names] for row in rows])


def print_table(names: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """A plain table: numbers and the columns of `right` to the right, not folded when piped, no spaces at a line's end.

    A cell may be a text of rich, which keeps its style.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, name in enumerate(names):
        numeric = bool(rows) and all(isinstance(row[number], int | float | None) for row in rows)
        table.add_column(
            _cell(name), justify="right" if numeric or name in right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(_cell, row))
    stdout = console(width=None if sys.stdout.isatty() else 4000)
    with stdout.capture() as printed:
        stdout.print(table)
    stdout.file.writelines(f"{line.rstrip()}\n" for line in printed.get().removesuffix("\n").split("\n"))


def print_frame(frame: pl.DataFrame) -> None:
    """A frame as a table."""
    print_table(frame.columns, frame.rows())


def print_tokens(tokens: pl.DataFrame, *columns: str | pl.Expr, called: str = "token") -> None:
    """Some columns of tokens, then the tokens in their context, in brackets under this name."""
    import polars as pl

    marked = pl.format("[{}]", "marked").alias(called)
    shown = tokens.select(*columns, "before", marked, "after")
    print_table(shown.columns, shown.rows(), right=["before"])


def print_facts(facts: Mapping[str, Any]) -> None:
    """Facts as a table, without those that are not known."""
    print_table(["fact", "value"], [[key, value] for key, value in facts.items() if value is not None])


def has_colors() -> bool:
    """Return whether stdout shows colours: it is a terminal that has them, and NO_COLOR is not set."""
    stdout = console()
    return stdout.color_system is not None and not stdout.no_color


def print_chart(chart: Chart) -> None:
    """A chart in characters, as wide as the terminal up to 100 columns."""
    from trajstore.view.charts.text import text

    stdout = console()
    stdout.print(text(chart, min(stdout.width, 100)), soft_wrap=True, highlight=False)


def size(n_bytes: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


class Bars:
    """Progress as bars on stderr; where that is no terminal, a line at the start and one every half minute."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._plain: _Lines | None = None
        self.said: set[str] = set()
        """Lines of talk that were shown."""

    def start(self, label: str, total: int, unit: str) -> None:
        """Begin a bar of `total` units."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        self.stop()
        if Talk.quiet:
            return
        stderr = console(stderr=True)
        if not stderr.is_terminal:
            self._plain = _Lines(label, total, unit)
            return
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("left"),
            TextColumn(
                "{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
            ),
            console=stderr,
            transient=True,
        )
        self._unit = unit
        self._task = self._bar.add_task(shown(label), total=total, note="", rate="")
        self._bar.start()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Move the bar; units a second are shown once they are known."""
        if self._bar is not None:
            speed = self._bar.tasks[0].speed
            rate = f"{short(speed)} {self._unit}/s" if speed else ""
            self._bar.update(self._task, advance=amount, note=shown(note), rate=rate)
        elif self._plain is not None:
            self._plain.advance(amount, note)

    def stop(self) -> None:
        """Take the bar away."""
        self._plain = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, message: str) -> None:
        """A line of talk, above the bar."""
        if not Talk.quiet:
            self.said.add(message)
        if self._bar is not None and not Talk.quiet:
            self._bar.console.print(visible(message), markup=False, highlight=False)
        else:
            say(message)


class _Lines:
    """Progress where there is no terminal, as in a scheduler's log."""

    _EVERY = 30.0

    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label, self._total, self._unit, self._done = label, total, unit, 0
        self._start = self._last = time.monotonic()
        say(f"{label}: {total:,} {unit.removesuffix('s') if total == 1 else unit}")

    def advance(self, amount: int, note: str) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last < self._EVERY or not self._done:
            return
        self._last = now
        rate = self._done / (now - self._start)
        left = duration((self._total - self._done) / rate)
        share = f"{100 * self._done / self._total:.0f} %"
        say(f"{self._label}: {share}, {short(rate)} {self._unit}/s, {left} left {note}")


def short(number: float) -> str:
    """A number in three digits or so: 950, 13.6k, 2.1M."""
    for unit in ("", "k", "M"):
        if number < 1000:
            return f"{number:.0f}{unit}" if not unit or number >= 100 else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.1f}G"


def bars() -> Bars:
    """The command line's progress."""
    return Bars()
