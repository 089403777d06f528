"""Putting a group's files and its view in place, changing them, and taking them away.

Writers take turns. A definition and its view cannot change at once, so the new definition stands beside the old one
until the view is there, and then takes its name: whoever is killed before that leaves the old group, after it the new
one. Knows nothing of what a definition may be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from trajstore.arguments.spelling import option
from trajstore.errors import GroupError
from trajstore.store.catalog import catalog, group_views
from trajstore.store.disk import catalog_lock, layout
from trajstore.store.files import group_files, group_tables
from trajstore.store.files.group_files import Definition
from trajstore.store.files.group_tables import TableFacts
from trajstore.store.groups import trial
from trajstore.store.quoting import identifier


@dataclass(frozen=True)
class GroupTable:
    """A group's table before it is in a store."""

    made: TableFacts
    data: bytes


def put(root: Path, new: Definition, table: GroupTable | None, *, replace: bool) -> None:
    """Put a group in place; the views of groups that stand on it follow.

    Raises `GroupError` where it is there with another definition, unless `replace`, and where one that stands on it
    would no longer work.
    """
    path, rows = layout.group_path(root, new.name), group_tables.path_of(root, new.name)
    with catalog_lock.turn(root):
        # Whoever has the turn has the definitions: another job may have added one since.
        own = group_files.own(root)
        other = own.get(new.name)
        users = [own[user] for user in trial.users(root, new.name)] if other is not None else []
        with catalog.maintaining(root) as connection:
            group_views.take_back(connection, root)
            if other is not None and not replace:
                refuse_another(root, other, new, table)
            with layout.restoring(root, rows), _announced(connection, root, new) as announced:
                if table is not None:
                    layout.publish(root, rows, table.data, replace=True)
                with catalog.transaction(connection):
                    for broken, cause in group_views.create_views(connection, [new, *users]):
                        raise GroupError(f"The group {broken.name!r} cannot be made: {cause}") from cause
                announced.replace(path)
                layout.sync_folder(path.parent)
            if table is None:
                rows.unlink(missing_ok=True)


@contextlib.contextmanager
def _announced(connection: duckdb.DuckDBPyConnection, root: Path, new: Definition) -> Iterator[Path]:
    """A group's new definition in a file beside the old one's, until it takes that one's name.

    While it is there the catalog may have either view, and sessions make the old one themselves. If the block fails the
    old one is put back.
    """
    announced = group_files.announced_path(root, new.name)
    layout.publish(root, announced, new.file, replace=True)
    try:
        yield announced
    except BaseException:
        # The failure is told, and not that of putting back: whoever comes next does that.
        with contextlib.suppress(duckdb.Error, OSError):
            group_views.take_back(connection, root)
        raise


def refuse_another(root: Path, other: Definition, new: Definition, table: GroupTable | None) -> None:
    """Raise `GroupError` unless a group that is there is what the new one would be."""
    same_words = other.description == new.description or not new.description
    same = other.sql == new.sql
    if same and table is not None:
        have = group_tables.read_table(root, new.name)
        same = (have.sites_sha256, have.code) == (table.made.sites_sha256, table.made.code)
    if same and same_words:
        return
    raise GroupError(
        f"There is a group {new.name!r} with another {'description' if same else 'definition'}. Put this one in its "
        f"place: {option('replace', True)}, drop it first: trajstore group drop {new.name}, or choose another "
        "name."
    )


@dataclass(frozen=True)
class KeptGroup:
    """A group as it is in a store, to be put back after what may fail."""

    definition: Definition
    table: GroupTable | None


def kept(root: Path, name: str) -> KeptGroup | None:
    """One of the store's own groups; None where there is none. Raises `DamagedFile`."""
    definition = group_files.own(root).get(name)
    if definition is None:
        return None
    table = None
    if definition.is_table:
        made = group_tables.read_table(root, name)
        table = GroupTable(made, group_tables.path_of(root, name).read_bytes())
    return KeptGroup(definition, table)


def change_table(root: Path, name: str, seen: TableFacts, table: GroupTable) -> None:
    """Put a newer table in the place of the one that was `seen`; raises `GroupError` where another job has done so."""
    with catalog.maintaining(root) as connection:
        group_views.take_back(connection, root)
        definition = group_files.own(root).get(name)
        if definition is None or not definition.is_table or group_tables.read_table(root, name) != seen:
            raise GroupError(
                f"The group {name!r} was changed by another job meanwhile, and was left as it is."
            )
        layout.publish(root, group_tables.path_of(root, name), table.data, replace=True)


def remove(root: Path, name: str) -> None:
    """Take a group's view and files away; the same call again ends what was cut short."""
    with catalog.maintaining(root) as connection:
        group_views.take_back(connection, root)
        with catalog.transaction(connection):
            connection.execute(f"DROP VIEW IF EXISTS groups.{identifier(name)}")
        layout.remove(root, layout.group_path(root, name))
        # The table goes last: a definition without it would be a broken group.
        layout.remove(root, group_tables.path_of(root, name))
