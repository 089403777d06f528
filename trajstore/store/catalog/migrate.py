"""The catalog's schema: numbered migrations, and the definitions (views, macros, groups) that follow the code.

A migration and its ledger row are one transaction; so are all definitions together. Released migrations never
change. Listing changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from trajstore import sqlfiles
from trajstore.errors import DamagedFile, StoreTooNew, StoreTooOld
from trajstore.schema import CATALOG
from trajstore.sqlfiles import SqlFile
from trajstore.store.catalog import catalog, finding_views, group_views, passed_checks, read_only
from trajstore.store.catalog.catalog import OpenedCatalog
from trajstore.store.files import group_files
from trajstore.store.quoting import identifier, quoted
from trajstore.version import __version__

DEFINITIONS = "views, macros and groups"
"""Name of the set of definitions beside the migrations' names."""


@dataclass(frozen=True)
class Migration:
    """A migration, and when it was applied."""

    name: str
    """The file's stem, or `DEFINITIONS`."""
    applied_at: str | None
    """When, UTC; None while it is pending."""


def history(connection: duckdb.DuckDBPyConnection) -> list[Migration]:
    """Return the applied and the pending migrations, in order."""
    applied = _applied(connection)
    lines = [Migration(file.name, applied.get(file.name)) for file in sqlfiles.load("migrations")]
    known = {line.name for line in lines}
    lines += [Migration(name, when) for name, when in applied.items() if name not in known]
    return [*lines, Migration(DEFINITIONS, _definitions_applied(connection))]


def check_current(opened: OpenedCatalog, root: Path) -> None:
    """Raise `StoreTooNew` or `StoreTooOld` unless the catalog is what this version works with."""

    def check() -> None:
        _check_not_newer(opened.connection, root)
        if pending := [line.name for line in history(opened.connection) if line.applied_at is None]:
            raise StoreTooOld(root, pending)

    known = " ".join(file.name for file in sqlfiles.load("migrations"))
    passed_checks.once(opened.sha256, f"current {__version__} {digest()} {known}", check)


def migrate(
    connection: duckdb.DuckDBPyConnection, root: Path, finish: Callable[[], None] = lambda: None
) -> list[str]:
    """Apply what is pending to the catalog on `connection`; returns its names.

    `finish` does the rest of it in the store's files. It runs before the last commit, so that a store whose files are
    not done yet asks to be migrated.
    """
    _check_not_newer(connection, root)
    applied = _applied(connection)
    pending: list[SqlFile | None] = [file for file in sqlfiles.load("migrations") if file.name not in applied]
    if _definitions_applied(connection) is None:
        pending.append(None)
    for number, file in enumerate(pending, start=1):
        with catalog.transaction(connection):
            if file is None:
                _define(connection, root)
            else:
                connection.execute(file.text)
                connection.execute("INSERT INTO migrations SELECT ?, now() AT TIME ZONE 'UTC'", [file.name])
            if number == len(pending):
                finish()
    if not pending:
        finish()
    return [file.name if file else DEFINITIONS for file in pending]


def _check_not_newer(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Raise `StoreTooNew`, or `DamagedFile` where the tables of what was applied are not ours."""
    known = {file.name for file in sqlfiles.load("migrations")}
    for table, text in catalog.tables(connection).items():
        # Reading such a column would run what computes it.
        if table in ("migrations", "definitions") and "GENERATED" in text.upper():
            raise DamagedFile(
                root / CATALOG, f"its table {table} has a column that is computed", catalog.REBUILD
            )
    try:
        applied, definitions = _applied(connection), _definitions(connection)
    except duckdb.Error as error:
        raise DamagedFile(root / CATALOG, str(error).splitlines()[0], catalog.REBUILD) from error
    unknown = [name for name in applied if name not in known]
    unknown += [f"definitions of {v}" for _, v, _ in definitions if _number(v) > _number(__version__)]
    if unknown:
        raise StoreTooNew(root, unknown)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _applied(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Time of each applied migration, by name; none in a catalog without a ledger."""
    # No function is called here: the catalog has not been looked through yet, and may hold a macro of its name.
    if "migrations" not in catalog.tables(connection):
        return {}
    rows = connection.execute("SELECT name, applied_at FROM main.migrations ORDER BY name").fetchall()
    return {str(name): _time(when) for name, when in rows}


def _definitions_applied(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Return when this version's definitions were put in, or None if the catalog holds others."""
    shipped = digest()
    return next((when for sha256, _, when in _definitions(connection) if sha256 == shipped), None)


def _definitions(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str]]:
    """(sha256, version of trajstore, time) of the catalog's definitions: one, or none before the first."""
    if "definitions" not in catalog.tables(connection):
        return []
    rows = connection.execute("SELECT sha256, trajstore, applied_at FROM main.definitions").fetchall()
    return [(str(sha256), str(version), _time(when)) for sha256, version, when in rows]


def _time(when: object) -> str:
    return str(when)[:19]


def _shipped() -> list[tuple[str, SqlFile]]:
    return [(kind, file) for kind in ("views", "macros", "groups") for file in sqlfiles.load(kind)]


def digest() -> str:
    """sha256 over all shipped definitions with their names."""
    sha256 = hashlib.sha256()
    for kind, file in _shipped():
        sha256.update(f"{kind}/{file.name}\0{file.text}\0".encode())
    return sha256.hexdigest()


def _define(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Put in every shipped definition, then what the store's own files define: findings of other packages, groups."""
    for kind, file in _shipped():
        if kind != "groups":
            connection.execute(file.text)
        if kind == "macros":
            connection.execute(_commented(file))
    finding_views.create_all(connection, root)
    for _, cause in group_views.create_views(connection, group_files.shipped().values()):
        raise cause
    group_views.create_all(connection, root)
    read_only.check_definitions(connection)
    connection.execute("DELETE FROM definitions")
    connection.execute(
        "INSERT INTO definitions SELECT ?, ?, now() AT TIME ZONE 'UTC'", [digest(), __version__]
    )


def _commented(file: SqlFile) -> str:
    """The statement that keeps a macro's header comment in the catalog."""
    kind = "MACRO TABLE" if re.search(r"\bAS\s+TABLE\b", file.body, re.IGNORECASE) else "MACRO"
    return f"COMMENT ON {kind} {identifier(file.name)} IS {quoted(file.description)}"
