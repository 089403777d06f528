"""The view that each group's definition becomes, in the catalog's schema `groups`.

A group may stand on others, so views are made in an order in which each finds those that it names.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import duckdb

from trajstore import sqlfiles
from trajstore.errors import GroupError, QueryError
from trajstore.store.catalog import dependencies, read_only
from trajstore.store.disk import layout
from trajstore.store.files import group_files, group_tables
from trajstore.store.files.group_files import Definition
from trajstore.store.quoting import identifier, quoted


def create_view(connection: duckdb.DuckDBPyConnection, group: Definition) -> None:
    """Make or remake the group's view, each site once, with its description as the view's comment.

    Raises `QueryError` for a definition that does more than read, and DuckDB's errors.
    """
    read_only.check_reading(connection, group.sql)
    name = f"groups.{identifier(group.name)}"
    # The line ends keep a comment at the query's end from swallowing the bracket.
    connection.execute(
        f"CREATE OR REPLACE VIEW {name} AS SELECT DISTINCT dataset, context, position FROM (\n{group.sql}\n)"
    )
    connection.execute(f"COMMENT ON VIEW {name} IS {quoted(group.description)}")


def create_views(
    connection: duckdb.DuckDBPyConnection, groups: Iterable[Definition]
) -> list[tuple[Definition, Exception]]:
    """Make the views of groups, each after those it stands on; gives the groups that do not work, the cause first.

    Inside a transaction what follows a failure means nothing, since DuckDB 2 ends a transaction at its first error.
    Raises `GroupError` for groups that stand on each other.
    """
    failed: list[tuple[Definition, Exception]] = []
    for group in dependencies.ordered(groups):
        try:
            create_view(connection, group)
        except (duckdb.Error, QueryError) as error:
            failed.append((group, error))
    return failed


def settle(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Give each group whose replacement has not ended the view of its file, or none where it has no file.

    Changes what the connection holds, a session's copy or the catalog itself, and no file.
    """
    names = group_files.announced(root)
    own = group_files.own(root) if names else {}
    for name in names:
        try:
            if name in own:
                create_view(connection, own[name])
                continue
        except (duckdb.Error, QueryError):
            pass  # no view is made where it is asked for, with the cause
        connection.execute(f"DROP VIEW IF EXISTS groups.{identifier(name)}")


def take_back(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Undo in the catalog what writers that died have begun and not ended; for whoever has the turn."""
    settle(connection, root)
    forget_announced(root)


def forget_announced(root: Path) -> None:
    """Remove the files of definitions that never got their view, for whoever has the turn and has seen to the views."""
    names = group_files.announced(root)
    own = group_files.own(root) if names else {}
    for name in names:
        if name not in own or not own[name].is_table:
            layout.remove(root, group_tables.path_of(root, name))
        layout.remove(root, group_files.announced_path(root, name))


def create_all(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Make the views of all the store's own groups; raises `GroupError` for one that does not work."""
    own = group_files.own(root)
    for name in own:
        if name.lower() in sqlfiles.view_names():
            raise GroupError(
                f"{layout.group_path(root, name)} defines a group of the name of a view of the store, on which groups "
                "stand. Remove it, or give it another name."
            )
    for broken, cause in create_views(connection, own.values()):
        raise GroupError(
            f"The group {broken.name!r} in {root / 'groups'} no longer works: {cause}\n"
            "Mend or remove that file, then run the command again."
        ) from cause
