"""Group definitions as files.

`STORE/groups/NAME.sql` is the truth: leading `--` lines describe the group, the last line holds the file's
digest, the rest is its query. The view in the catalog's schema `groups` follows from it (see `group_views` in
`trajstore.store.catalog`), so a lost catalog loses no group. The query of a group that is kept as a table reads
`STORE/groups/NAME.parquet` (see `group_tables`).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from trajstore import sqlfiles
from trajstore.errors import DamagedFile
from trajstore.schema import GROUP_NAME
from trajstore.store.disk import digests, layout
from trajstore.store.quoting import quoted
from trajstore.text import describe_file_error


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
        """Return whether its tokens are kept as a table."""
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


def announced_path(root: Path, name: str) -> Path:
    """Return the path at which a group's new definition waits for its view."""
    return layout.group_path(root, name).with_name(f".{name}{_ANNOUNCED}")


_ANNOUNCED = ".new"


def announced(root: Path) -> list[str]:
    """Groups whose new definition waits for its view, or was left there by a writer that died."""
    paths = (root / "groups").glob(f".*{_ANNOUNCED}")
    return sorted(path.name.removeprefix(".").removesuffix(_ANNOUNCED) for path in paths)


def signature(root: Path) -> frozenset[tuple[str, int, int]]:
    """Return (name, inode, time of change) of each group file, which tell one state of them from another."""
    states = set()
    with contextlib.suppress(FileNotFoundError), os.scandir(root / "groups") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another job has dropped it
                time = entry.stat(follow_symlinks=False).st_mtime_ns
                states.add((entry.name, entry.inode(), time))
    return frozenset(states)


def own(root: Path) -> dict[str, Definition]:
    """The store's own groups, by name, read from their files; raises `DamagedFile`."""
    definitions = {}
    for path in sorted((root / "groups").glob("*.sql")):
        if not GROUP_NAME.fullmatch(path.stem):
            continue  # check names it
        try:
            text = layout.plain(layout.unlinked(path)).read_bytes().decode()
        except FileNotFoundError:  # another job has dropped it
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise DamagedFile(
                path, f"it cannot be read as text ({describe_file_error(error)})", "Mend or remove it"
            ) from error
        description, sql = parse(text)
        definitions[path.stem] = Definition(path.stem, sql, description)
    return definitions
