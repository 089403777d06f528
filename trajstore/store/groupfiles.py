"""Group definitions as files, and the view each becomes.

`STORE/groups/NAME.sql` is the truth: leading `--` lines describe the group, the last line holds the file's
digest, the rest is its query. The view in the catalog's schema `groups` follows from it, so a lost catalog loses no
group. The query of a group that is kept as a table reads `STORE/groups/NAME.parquet` (see `grouptables`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from trajstore import sqlfiles
from trajstore.errors import DamagedFile, GroupError, QueryError
from trajstore.store import digests, layout, statements
from trajstore.store.catalog import identifier, quoted


@dataclass(frozen=True)
class Definition:
    """A group before it is a view."""

    name: str
    sql: str
    """A query that gives dataset, context, position."""
    description: str

    @property
    def file(self) -> bytes:
        """The bytes of its file, with their digest."""
        header = "".join(f"-- {line}\n" for line in self.description.splitlines())
        return digests.sealed(f"{header}{self.sql}\n", ".sql")

    @property
    def is_table(self) -> bool:
        """Whether its tokens are kept as a table."""
        return self.sql == table_query(self.name)


def table_query(name: str) -> str:
    """The query of a group that is kept as a table."""
    return f"FROM kept_sites({quoted(name)})"


def parse(text: str) -> tuple[str, str]:
    """(description, query) of a definition's text: its leading `--` lines, and the rest."""
    return sqlfiles.split_header(digests.without_line(text))


def shipped() -> dict[str, Definition]:
    """The groups that come with trajstore, by name."""
    return {file.name: Definition(file.name, file.body, file.description) for file in sqlfiles.load("groups")}


def signature(root: Path) -> frozenset[tuple[str, int, int]]:
    """What tells one state of the group files from another: (name, inode, time of change) of each."""
    with contextlib.suppress(FileNotFoundError), os.scandir(root / "groups") as entries:
        return frozenset((e.name, e.inode(), e.stat(follow_symlinks=False).st_mtime_ns) for e in entries)
    return frozenset()


def own(root: Path) -> dict[str, Definition]:
    """The store's own groups, by name, read from their files; raises `DamagedFile`."""
    found = {}
    for path in sorted((root / "groups").glob("*.sql")):
        try:
            text = layout.plain(layout.unlinked(path)).read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise DamagedFile(path, f"it cannot be read as text ({error})", "Mend or remove it") from error
        description, sql = parse(text)
        found[path.stem] = Definition(path.stem, sql, description)
    return found


def create_view(connection: duckdb.DuckDBPyConnection, group: Definition) -> None:
    """Make or remake the group's view, each site once, with its description as the view's comment.

    Raises `QueryError` for a definition that does more than read, and DuckDB's errors.
    """
    statements.check_reading(connection, group.sql)
    name = f"groups.{identifier(group.name)}"
    # The line ends keep a comment at the query's end from swallowing the bracket.
    connection.execute(
        f"CREATE OR REPLACE VIEW {name} AS SELECT DISTINCT dataset, context, position FROM (\n{group.sql}\n)"
    )
    connection.execute(f"COMMENT ON VIEW {name} IS {quoted(group.description)}")


def create_views(
    connection: duckdb.DuckDBPyConnection, groups: Sequence[Definition]
) -> list[tuple[Definition, Exception]]:
    """Make the views of groups of which one may stand on another, in whatever order; gives those that do not work."""
    waiting = list(groups)
    while waiting:
        failed: list[tuple[Definition, Exception]] = []
        for group in waiting:
            try:
                create_view(connection, group)
            except (duckdb.Error, QueryError) as error:
                failed.append((group, error))
        if len(failed) == len(waiting):
            return failed
        waiting = [group for group, _ in failed]
    return []


def create_all(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Make the views of all the store's own groups; raises `GroupError` for one that does not work."""
    for broken, cause in create_views(connection, list(own(root).values())):
        raise GroupError(
            f"The group {broken.name!r} in {root / 'groups'} no longer works: {cause}\n"
            "Mend or remove that file, then run trajstore migrate."
        ) from cause
