"""group add, list, show, drop: named sets of tokens."""

from __future__ import annotations

from pathlib import Path
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
from trajstore.errors import GroupError

Name = Annotated[str, typer.Argument(help="The group's name.")]


def add(
    name: Name,
    sql: Annotated[str | None, typer.Option(help="Query that gives dataset, context, position.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="File with the query; its leading -- lines describe the group.")
    ] = None,
    description: Annotated[str, typer.Option(help="What the group is.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Add a group from a query over tokens, losses or other groups. Duplicates are removed.

    \b
    Example:
      trajstore group add surnames --sql "SELECT dataset, context, position FROM tokens WHERE text = ' Smith'"
      trajstore group add digits_again --sql "FROM groups.digits INTERSECT FROM groups.repeated_token"
    """
    if (sql is None) == (file is None):
        raise typer.BadParameter("give --sql or --file, and not both")
    if file is not None:
        try:
            sql = file.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise GroupError(f"Cannot read {file}: {error}.") from error
    with open_store(store) as opened:
        group = opened.groups.add(name, str(sql), description)
    found = ", ".join(f"{size:,} in {dataset}" for dataset, size in group.sizes.items())
    say(f"Group {name}: {found or 'no tokens in any dataset yet'}.")


def list_(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the groups with their number of tokens in each dataset.

    \b
    Example:
      trajstore group list
    """
    with open_store(store) as opened:
        groups = opened.groups.list()
        datasets = opened.dataset_names()
    if as_json:
        print_json(
            [{"group": each.name, "description": each.description, "sizes": each.sizes} for each in groups]
        )
        return
    rows = [
        {
            "group": each.name,
            **{name: each.sizes.get(name, 0) for name in datasets},
            "description": each.description,
        }
        for each in groups
    ]
    print_rows(rows, False)


def show(name: Name, store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """Show a group's query, description and number of tokens in each dataset.

    \b
    Example:
      trajstore group show induction_bigram
    """
    with open_store(store) as opened:
        group = opened.groups.show(name)
    if as_json:
        print_json({**vars(group), "group": group.name})
        return
    typer.echo("".join(f"-- {line}\n" for line in group.description.splitlines()) + group.sql + "\n")
    print_table(["dataset", "tokens"], list(group.sizes.items()))


def drop(name: Name, store: StoreOption = DEFAULT_STORE) -> None:
    """Remove one of the store's own groups; losses are never touched.

    \b
    Example:
      trajstore group drop surnames
    """
    with open_store(store) as opened:
        opened.groups.drop(name)
    say(f"Dropped the group {name}.")


def register(app: typer.Typer) -> None:
    """Add this family's commands."""
    family = typer.Typer(
        cls=CommandGroup,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Named sets of tokens, as SQL views.",
    )
    family.command("add")(add)
    family.command("list")(list_)
    family.command("show")(show)
    family.command("drop")(drop)
    app.add_typer(family, name="group")
