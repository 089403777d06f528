"""shell: an interactive SQL prompt, DuckDB's own."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

import typer

from trajstore.cli import options
from trajstore.cli.output import Exit, say


def shell(files: options.Files = None, store: options.Store = options.DEFAULT_STORE) -> None:
    """Ask the store in SQL at an interactive prompt.

    This is DuckDB's own command line, on a private copy of the catalog.

    It has a history, queries over several lines (end them with ;), completion by Tab of tables, columns and groups,
    times, and a pager for long answers. Its commands: .tables lists tables, views and groups with their columns (it
    has no \\d), DESCRIBE losses the columns of one, .schema losses its definition, .timer off, .once FILE.csv with
    .mode csv writes the next answer to a file, .help, .quit.

    It reads the store's files and those in --files; the copy is read-only and forgotten at the end. Do not write into
    the store with COPY … TO, nor ATTACH its catalog: it cannot be kept from that. Groups added meanwhile are there
    from the next start on.
    Queries can also be piped in.

    \b
    Install it with: pip install duckdb-cli
    \b
    Example:
      trajstore shell
      echo "FROM groups.digits LIMIT 5;" | trajstore shell
    """
    from trajstore import scratch
    from trajstore.store.queries import shell as duckdb

    with tempfile.TemporaryDirectory(prefix="shell-", dir=scratch.folder()) as folder:
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        command = duckdb.command(store, Path(folder).resolve(), files or (), terminal=terminal)
        if terminal:
            say(
                f"The store {store}, to be read. .tables lists what there is, .help the commands, .quit ends."
            )
        code = _run(command, scratch.held_open())
    if code and not terminal:  # on a terminal it only says that some query failed, which was seen
        raise typer.Exit(Exit.FAILED)


def _run(command: list[str], files: tuple[int, ...]) -> int:
    """Run a program that Ctrl-C is meant for, which keeps these files open; returns its exit code."""
    with subprocess.Popen(command, pass_fds=files) as process:

        def hand_on(number: int, _: FrameType | None) -> None:
            process.send_signal(number)

        def leave(_: int, __: FrameType | None) -> None:
            """The terminal gives Ctrl-C to both; the program stops its query, and the prompt goes on."""

        before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGINT, leave),
                (signal.SIGTERM, hand_on),
                (signal.SIGHUP, hand_on),
            )
        }
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
