"""The catalog's schema: numbered migrations, and the definitions (views, macros, groups) that follow the code.

A migration and its ledger row are one transaction; so are all definitions together. Released migrations never
change. Listing changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import duckdb

from trajstore import __version__, sqlfiles
from trajstore.errors import StoreTooNew, StoreTooOld
from trajstore.sqlfiles import SqlFile
from trajstore.store import catalog, groupfiles

DEFINITIONS = "views, macros and groups"
"""How the set of definitions is called beside the migrations' names."""


@dataclass(frozen=True)
class Migration:
    """One line of `migrate --list`."""

    name: str
    """The file's stem, or `DEFINITIONS`."""
    applied_at: str | None
    """When, UTC; None while it is pending."""


def history(connection: duckdb.DuckDBPyConnection) -> list[Migration]:
    """What has been applied and what is pending, in order."""
    applied = _applied(connection)
    lines = [Migration(file.name, applied.get(file.name)) for file in sqlfiles.load("migrations")]
    known = {line.name for line in lines}
    lines += [Migration(name, when) for name, when in applied.items() if name not in known]
    return [*lines, Migration(DEFINITIONS, _definitions_applied(connection))]


def check_current(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Raise `StoreTooNew` or `StoreTooOld` unless the catalog is what this version works with."""
    _check_not_newer(connection, root)
    if pending := [line.name for line in history(connection) if line.applied_at is None]:
        raise StoreTooOld(root, pending)


def migrate(connection: duckdb.DuckDBPyConnection, root: Path) -> list[str]:
    """Apply what is pending to the catalog on `connection`; returns its names."""
    _check_not_newer(connection, root)
    done: list[str] = []
    applied = _applied(connection)
    for file in sqlfiles.load("migrations"):
        if file.name not in applied:
            with catalog.transaction(connection):
                connection.execute(file.text)
                connection.execute("INSERT INTO migrations SELECT ?, now() AT TIME ZONE 'UTC'", [file.name])
            done.append(file.name)
    if _definitions_applied(connection) is None:
        with catalog.transaction(connection):
            _define(connection, root)
        done.append(DEFINITIONS)
    return done


def _check_not_newer(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    known = {file.name for file in sqlfiles.load("migrations")}
    unknown = [name for name in _applied(connection) if name not in known]
    if not unknown and _has_table(connection, "definitions"):
        versions = connection.execute("SELECT trajstore FROM definitions").fetchall()
        unknown = [f"definitions of {v}" for (v,) in versions if _number(v) > _number(__version__)]
    if unknown:
        raise StoreTooNew(root, unknown)


def _number(version: str) -> tuple[int, ...]:
    """A version as numbers that compare."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _applied(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Time of each applied migration, by name; none in a catalog without a ledger."""
    if not _has_table(connection, "migrations"):
        return {}
    rows = connection.execute(
        "SELECT name, strftime(applied_at, '%Y-%m-%d %H:%M:%S') FROM migrations ORDER BY name"
    ).fetchall()
    return dict(rows)


def _definitions_applied(connection: duckdb.DuckDBPyConnection) -> str | None:
    """When this version's definitions were put in, or None if the catalog holds others."""
    if not _has_table(connection, "definitions"):
        return None
    found = connection.execute(
        "SELECT strftime(applied_at, '%Y-%m-%d %H:%M:%S') FROM definitions WHERE sha256 = ?", [_digest()]
    ).fetchall()
    return str(found[0][0]) if found else None


def _has_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE table_name = ? AND database_name = current_database()", [name]
    ).fetchall()
    return bool(found)


def _shipped() -> list[tuple[str, SqlFile]]:
    return [(kind, file) for kind in ("views", "macros", "groups") for file in sqlfiles.load(kind)]


def _digest() -> str:
    """sha256 over all shipped definitions with their names."""
    digest = hashlib.sha256()
    for kind, file in _shipped():
        digest.update(f"{kind}/{file.name}\0{file.text}\0".encode())
    return digest.hexdigest()


def _define(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Put in every shipped definition, then the store's own groups from their files."""
    for kind, file in _shipped():
        if kind == "groups":
            groupfiles.create_view(connection, groupfiles.Definition(file.name, file.body, file.description))
        else:
            connection.execute(file.text)
    groupfiles.create_all(connection, root)
    connection.execute("DELETE FROM definitions")
    connection.execute(
        "INSERT INTO definitions SELECT ?, ?, now() AT TIME ZONE 'UTC'", [_digest(), __version__]
    )
