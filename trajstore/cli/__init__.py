"""The command line: each command parses, calls one function of the library, and prints.

Nothing heavy is imported before a command runs, so that `trajstore --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.cli import demo
from trajstore.cli.analyses import (
    audit,
    compare,
    diff,
    finding,
    matrix,
    pca,
    phases,
    report,
    shapes,
    spikes,
    trajectory,
)
from trajstore.cli.data import dataset, ingest, measure, model, score, store, suite
from trajstore.cli.groups import group
from trajstore.cli.output import CommandGroup, be_quiet
from trajstore.cli.queries import query, schema, shell, sql
from trajstore.cli.streams import make_visible
from trajstore.version import __version__

app = typer.Typer(
    name="trajstore",
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"trajstore {__version__}")
        raise typer.Exit


@app.callback()
def trajstore(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and stop.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            callback=be_quiet,
            help="Say nothing but errors and warnings; also behind a command.",
        ),
    ] = False,
) -> None:
    """A store for the per-token losses of language-model checkpoints: score, ask in SQL, cut groups, pull matrices.

    The store is --store/-s PATH, else the variable TRAJSTORE, else ./store.
    """


for module in (
    demo,
    store,
    dataset,
    model,
    suite,
    score,
    measure,
    ingest,
    sql,
    query,
    schema,
    shell,
    group,
    trajectory,
    matrix,
    diff,
    compare,
    pca,
    spikes,
    phases,
    shapes,
    audit,
    finding,
    report,
):
    module.register(app)


def main() -> None:
    """Entry point of the `trajstore` command."""
    make_visible()  # for tracebacks as well
    app()
