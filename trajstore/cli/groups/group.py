"""group add, list, show, refresh, drop: named sets of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajstore.cli import options
from trajstore.cli.name_lists import complete_groups, several
from trajstore.cli.output import bars, open_store, print_json, print_rows, print_table, print_text, say
from trajstore.errors import GroupError
from trajstore.text import describe_file_error

if TYPE_CHECKING:
    from trajstore.store.groups.groups import Group

Name = Annotated[str, typer.Argument(help="The group's name.")]
Existing = Annotated[str, typer.Argument(autocompletion=complete_groups, help="The group's name.")]

_WIDEST = 4
"""Datasets that have a column each in the list of groups unless others are asked for."""


def add(
    name: Name,
    sql: Annotated[str | None, typer.Option(help="Query that gives dataset, context, position.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="File with the query; its leading -- lines describe the group.")
    ] = None,
    macro: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MACRO(…)",
            help="Table macro with its arguments (see trajstore schema), or groups joined by &, | and -.",
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Function that gets a context's tokens as a Polars frame and gives a bool for each; or a name of "
            "group list --available.",
        ),
    ] = None,
    sites: Annotated[
        Path | None,
        typer.Option(
            help="File of sites, .csv or .parquet, with the columns dataset, context, position; others are left aside."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None, options.datasets("With --python: run on these datasets only; commas join them.")
    ] = None,
    description: Annotated[str, typer.Option(help="What the group is.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put this in the place of a group of that name.")
    ] = False,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Add a group of tokens.

    It comes from a query over tokens, losses or other groups, a macro, joined groups, Python, or sites.

    Exactly one of --sql, --file, --from, --python and --sites. Duplicates are removed. A Python function is run over
    every context, and what it finds is kept; trajstore group refresh finds it anew.

    \b
    Example:
      trajstore group add surnames --sql "SELECT dataset, context, position FROM tokens WHERE text = ' Smith'"
      trajstore group add digits_again --sql "FROM groups.digits INTERSECT FROM groups.repeated_token"
      trajstore group add the_500th --from "position_is(499)"
      trajstore group add late_digits --from "digits & position_between(21, 127)"
      trajstore group add rhyming --python mygroups:rhymes
      trajstore group add chosen --sites chosen.csv
    """
    if [sql, file, macro, python, sites].count(None) != 4:
        raise typer.BadParameter("give one of --sql, --file, --from, --python and --sites, and no other")
    if dataset and python is None:
        raise typer.BadParameter("--dataset goes with --python")
    with open_store(store) as opened:
        groups = opened.groups
        if macro is not None:
            group = groups.add_macro(name, macro, description, replace=replace)
        elif python is not None:
            group = groups.add_python(
                name, python, description, datasets=dataset, replace=replace, progress=bars()
            )
        elif sites is not None:
            group = groups.add_sites(name, sites, description, replace=replace)
        else:
            group = groups.add(name, sql if file is None else _text(file), description, replace=replace)
    sizes = ", ".join(f"{size:,} in {dataset}" for dataset, size in group.sizes.items())
    say(f"Group {name}: {sizes or 'no tokens in any dataset yet'}.")
    if replace and group.used_by:
        say(f"It is used by {', '.join(group.used_by)}, which follow it.")


def _text(file: Path) -> str:
    """The query in a file."""
    try:
        return file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise GroupError(f"Cannot read {file}: {describe_file_error(error)}.") from error


def list_(
    sizes: Annotated[bool, typer.Option("--sizes/--no-sizes", help="Count the tokens of each.")] = True,
    dataset: Annotated[
        list[str] | None,
        options.datasets(
            "A column for each of these; commas join them [default: for each of four at most, else the sum]."
        ),
    ] = None,
    available: Annotated[
        bool,
        typer.Option(
            "--available", help="Instead, the named functions that group add --python can make one of."
        ),
    ] = False,
    store: options.Store = options.DEFAULT_STORE,
    as_json: options.Json = False,
) -> None:
    """List the groups with their number of tokens in each dataset.

    Sizes are counted once and kept in STORE/cache, except those of groups over losses.

    \b
    Example:
      trajstore group list
      trajstore group list --no-sizes
      trajstore group list --available
    """
    if available:
        _list_available(as_json)
        return
    with open_store(store) as opened:
        groups = opened.groups.list(sizes=sizes, progress=bars())
        every = opened.dataset_names() if sizes else []
        datasets = [opened.dataset(name).name for name in dataset or (every if len(every) <= _WIDEST else [])]
    if as_json:
        print_json([_facts(group, counted=sizes) for group in groups])
        return
    rows = [
        {
            "group": group.name,
            **{name: None if group.problem else group.sizes.get(name, 0) for name in datasets},
            **(
                {}
                if datasets or not sizes
                else {"tokens": None if group.problem else sum(group.sizes.values())}
            ),
            "description": _noted(group),
        }
        for group in groups
    ]
    print_rows(rows, False)
    if len(every) > _WIDEST and not datasets:
        say(f"tokens: in all {len(every)} datasets together; -d DATASET shows one, --json all.")


def _list_available(as_json: bool) -> None:
    """The named group functions, and why those that cannot be used cannot."""
    from trajstore.store.groups.named_functions import available

    functions = available()
    columns = ("name", "function", "description", "package")
    print_rows(
        [{name: getattr(function, name) for name in columns} for function in functions], as_json, columns
    )
    for function in functions:
        if function.problem:
            say(
                f"{function.name} of the package {function.package} cannot be used: {function.problem}",
                needed=True,
            )


def _noted(group: Group) -> str:
    """A group's description, with what is to be said of it first."""
    note = "".join(f"[{word}] " for word in ("stale", "problem") if getattr(group, word))
    return note + group.description


def _facts(group: Group, *, counted: bool = True) -> dict[str, Any]:
    """A group for JSON."""
    facts = {"group": group.name, **vars(group), "code": None if group.code is None else vars(group.code)}
    del facts["name"], facts["used_by"]
    if not counted:
        del facts["sizes"]
    return facts


def show(name: Existing, store: options.Store = options.DEFAULT_STORE, as_json: options.Json = False) -> None:
    """Show a group's query, origin and sizes.

    Also its description, what it stands on, what stands on it, and its size in each dataset.

    \b
    Example:
      trajstore group show induction_bigram
    """
    with open_store(store) as opened:
        group = opened.groups.show(name)
    if as_json:
        print_json({**_facts(group), "used_by": group.used_by})
        return
    print_text("".join(f"-- {line}\n" for line in group.description.splitlines()) + group.sql + "\n")
    facts = [
        ("origin", group.origin),
        ("sha256", group.sha256.removeprefix("sha256:")),
        ("made", group.made and f"{group.made} UTC"),
        ("function", group.code and group.code.function),
        ("its source", group.code and group.code.function_sha256.removeprefix("sha256:")),
        ("its module", group.code and group.code.module_sha256.removeprefix("sha256:")),
        ("stands on", ", ".join(group.depends_on)),
        ("used by", ", ".join(group.used_by)),
        ("stale", group.stale),
        ("problem", group.problem),
    ]
    for what, value in facts:
        if value:
            print_text(f"{what + ':':12}{value}")
    typer.echo()
    print_table(["dataset", "tokens"], list(group.sizes.items()))


def refresh(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="GROUP", callback=several, autocompletion=complete_groups, help="Groups."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All groups by a Python function.")] = False,
    store: options.Store = options.DEFAULT_STORE,
) -> None:
    """Find anew what is stale of groups by a Python function.

    Stale is what was found by other code (the module's file has changed), in a dataset that has changed, or before a
    dataset came. Where the code is the same, only datasets that changed or came are run over.

    \b
    Example:
      trajstore group refresh rhyming
      trajstore group refresh --all
    """
    if bool(names) == every:
        raise typer.BadParameter("name groups, or give --all")
    with open_store(store) as opened:
        done = opened.groups.refresh(names or None, progress=bars())
    say(f"Found anew: {', '.join(done)}." if done else "Nothing was stale.")


def drop(name: Existing, store: options.Store = options.DEFAULT_STORE) -> None:
    """Remove one of the store's own groups; losses are never touched.

    \b
    Example:
      trajstore group drop surnames
    """
    with open_store(store) as opened:
        opened.groups.drop(name)
    say(f"Dropped the group {name}.")


COMMANDS = (add, list_, show, refresh, drop)
