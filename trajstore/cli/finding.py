"""finding list, show, drop: stored results of analyses."""

from __future__ import annotations

from typing import Annotated

import typer

from trajstore.cli.output import (
    DEFAULT_STORE,
    CommandGroup,
    JsonOption,
    StoreOption,
    open_store,
    print_json,
    print_rows,
    print_table,
    say,
)

Kind = Annotated[str, typer.Argument(help="The analysis, such as pca.")]
Name = Annotated[str, typer.Argument(help="The finding's name.")]


def list_(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the findings: kind, name, when each was made.

    \b
    Example:
      trajstore finding list
    """
    with open_store(store) as opened:
        found = opened.findings()
    rows = [{"kind": each.kind, "finding": each.name, "made": each.made} for each in found]
    print_rows(rows, as_json, ["kind", "finding", "made"])


def show(kind: Kind, name: Name, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show what a finding was made of and how; its tables are views in SQL (trajstore schema).

    \b
    Example:
      trajstore finding show pca first
    """
    with open_store(store) as opened:
        found = opened.finding(kind, name)
    facts = {"kind": found.kind, "finding": found.name, "made": found.made, **found.facts}
    if as_json:
        print_json(facts)
    else:
        print_table(["fact", "value"], [[key, value] for key, value in facts.items() if value is not None])


def drop(kind: Kind, name: Name, store: StoreOption = DEFAULT_STORE) -> None:
    """Remove a finding for good; losses and groups are never touched.

    \b
    Example:
      trajstore finding drop pca first
    """
    with open_store(store) as opened:
        opened.drop_finding(kind, name)
    say(f"Dropped the {kind} finding {name}.")


def register(app: typer.Typer) -> None:
    """Add this family's commands."""
    family = typer.Typer(
        cls=CommandGroup, no_args_is_help=True, rich_markup_mode=None, help="Stored results of analyses."
    )
    family.command("list")(list_)
    family.command("show")(show)
    family.command("drop")(drop)
    app.add_typer(family, name="finding")
