"""Putting a group's files and its view in place, changing them, and taking them away.

All of it happens while the catalog is held, so that writers take turns. Where a definition changes its view goes first:
whoever is killed between file and view leaves the file, old or new, from which sessions make the view. Knows
nothing of what a definition may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trajstore.errors import GroupError
from trajstore.store import catalog, groupfiles, grouptables, layout
from trajstore.store.groupfiles import Definition
from trajstore.store.grouptables import Made


@dataclass(frozen=True)
class Table:
    """A group's table before it is in a store."""

    made: Made
    data: memoryview


def put(
    root: Path, new: Definition, table: Table | None, users: Sequence[Definition], *, replace: bool
) -> None:
    """Put a group in place; `users` are the groups that stand on it, whose views follow.

    Raises `GroupError` where it is there with another definition, unless `replace`.
    """
    path, rows = layout.group_path(root, new.name), grouptables.path_of(root, new.name)
    with catalog.maintaining(root) as connection:
        # Whoever has the catalog has the definitions: another job may have added one since.
        other = groupfiles.own(root).get(new.name)
        if other is not None and not replace:
            refuse_another(root, other, new, table)
        with layout.restoring(root, path), layout.restoring(root, rows):
            if other is not None and other != new:
                with catalog.transaction(connection):
                    connection.execute(f"DROP VIEW IF EXISTS groups.{catalog.identifier(new.name)}")
            if table is not None:
                layout.publish(root, rows, table.data, replace=True)
            with catalog.transaction(connection):
                for broken, cause in groupfiles.create_views(connection, [new, *users]):
                    raise GroupError(f"The group {broken.name!r} cannot be made: {cause}") from cause
                if other != new:
                    layout.publish(root, path, new.file, replace=True)
        if table is None:
            rows.unlink(missing_ok=True)


def refuse_another(root: Path, other: Definition, new: Definition, table: Table | None) -> None:
    """Raise `GroupError` unless a group that is there is what the new one would be."""
    same_words = other.description == new.description or not new.description
    same = other.sql == new.sql
    if same and table is not None:
        have = grouptables.read(root, new.name)
        same = (have.sites_sha256, have.code) == (table.made.sites_sha256, table.made.code)
    if same and same_words:
        return
    raise GroupError(
        f"There is a group {new.name!r} with another {'description' if same else 'definition'}. Put this one in its "
        f"place: --replace (in Python replace=True), drop it first: trajstore group drop {new.name}, or choose another "
        "name."
    )


def change_table(root: Path, name: str, seen: Made, table: Table) -> None:
    """Put a newer table in the place of the one that was `seen`; raises `GroupError` where another job has done so."""
    with catalog.maintaining(root):
        definition = groupfiles.own(root).get(name)
        if definition is None or not definition.is_table or grouptables.read(root, name) != seen:
            raise GroupError(
                f"The group {name!r} was changed by another job meanwhile, and was left as it is."
            )
        layout.publish(root, grouptables.path_of(root, name), table.data, replace=True)


def remove(root: Path, name: str) -> None:
    """Take a group's view and files away; the same call again ends what was cut short."""
    with catalog.maintaining(root) as connection:
        with catalog.transaction(connection):
            connection.execute(f"DROP VIEW IF EXISTS groups.{catalog.identifier(name)}")
        layout.remove(root, layout.group_path(root, name))
        # The table goes last: a definition without it would be a broken group.
        layout.remove(root, grouptables.path_of(root, name))
