"""The command line: each command parses, calls one function of the library, and prints.

Nothing heavy is imported before a command runs, so that `trajstore --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from trajstore.cli import demo, serve
from trajstore.cli.analyses import (
    audit,
    compare,
    diff,
    finding,
    heads,
    matrix,
    pca,
    phases,
    report,
    shapes,
    spikes,
    trajectory,
    unigram_first,
)
from trajstore.cli.analyses.of_packages import Commands
from trajstore.cli.data import dataset, ingest, measure, model, score, store, suite
from trajstore.cli.groups import balance, examples, group
from trajstore.cli.lazy_command import add_command
from trajstore.cli.output import CommandGroup, be_quiet
from trajstore.cli.queries import query, schema, shell, sql
from trajstore.cli.streams import make_visible
from trajstore.version import __version__

app = typer.Typer(
    name="trajstore",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(shown: bool) -> None:
    if shown:
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


def _add_family(name: str, about: str, *commands: Callable[..., None]) -> None:
    """Add a command whose own commands are these, by their functions' names: `list` of `list_`."""
    family = typer.Typer(cls=CommandGroup, no_args_is_help=True, rich_markup_mode=None, help=about)
    for command in commands:
        add_command(family, command, command.__name__.rstrip("_"))
    app.add_typer(family, name=name)


# In the order of --help.
for command in (
    *(demo.demo, store.init, store.migrate, store.status, store.check, store.rebuild, store.drop),
    *(score.score, measure.measure, ingest.ingest, sql.sql, query.query, schema.schema, shell.shell),
    *(trajectory.trajectory, matrix.matrix, compare.compare, pca.pca, spikes.spikes, phases.phases),
    *(unigram_first.unigram_first, shapes.shapes, audit.audit, report.report, serve.serve),
):
    add_command(app, command)
_add_family("dataset", "Fixed contexts to score models on.", *dataset.COMMANDS)
_add_family("model", "Training runs in the store.", *model.COMMANDS)
_add_family("suite", "Published suites of checkpoints.", *suite.COMMANDS)
_add_family(
    "group", "Named sets of tokens, as SQL views.", *group.COMMANDS, examples.examples, balance.balance
)
_add_family("diff", "Differences between steps, models or prompts.", *diff.COMMANDS)
_add_family("heads", "Kinds and matches of attention heads.", *heads.COMMANDS)
_add_family("finding", "Stored results of analyses.", *finding.COMMANDS)


def main() -> None:
    """Entry point of the `trajstore` command."""
    make_visible()  # for tracebacks as well
    app()
