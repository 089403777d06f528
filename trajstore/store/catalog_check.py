"""Checks that a catalog's views and macros are those that this version and the store's group files make.

Compared is DuckDB's text of each, in a spelling that its versions share. Views and macros of one's own beside them are
let be, except in the schema `groups`, where each has a file.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb

from trajstore import scratch
from trajstore.schema import CATALOG
from trajstore.store import stand_ins
from trajstore.store.catalog import catalog, group_views, migrate
from trajstore.store.files import finding_kinds, group_files, group_tables
from trajstore.store.files.finding_kinds import Tables
from trajstore.store.files.group_files import Definition
from trajstore.store.quoting import quoted

Texts = dict[str, str]
"""Text of each view and macro by its full name."""

# What DuckDB 1.5 and 2.0 print differently.
_SPELLINGS = [
    (re.compile('"'), ""),
    (re.compile(r"\bmain\.(?=\w+\()"), ""),
    (re.compile(r"CAST\('t' AS BOOLEAN\)"), "true"),
    (re.compile(r"CAST\('f' AS BOOLEAN\)"), "false"),
]


def catalog_texts(root: Path) -> Texts:
    """Return the texts of the catalog's views and macros, as a session sees them; raises `DamagedFile`."""
    with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
        place = Path(folder).resolve()
        with catalog.open_session(root, [place]) as session:
            group_views.settle(session, root)
            return _texts(session, place)


def expected_texts(root: Path) -> Texts:
    """Return the texts it should have; raises `GroupError` or `DamagedFile` for a group's file that cannot be used.

    They follow from this version's definitions, the store's group files and its kinds of findings alone, so a later
    check of the same ones takes them as they were made.
    """
    own = group_files.own(root)
    kinds = {kind: finding_kinds.tables_of(root, kind) for kind in finding_kinds.declared(root)}
    key = migrate.digest(), tuple(own.values()), str(kinds)
    if key in _made:
        return _made[key]
    texts = _make(root, own, kinds)
    if group_files.own(root) == own:  # else a writer has changed one meanwhile
        if len(_made) >= _MOST_MADE:
            _made.clear()
        _made[key] = texts
    return texts


_MOST_MADE = 16
_made: dict[tuple[str, tuple[Definition, ...], str], Texts] = {}
"""Texts by the digest of this version's definitions, a store's own groups, and its kinds of findings."""


def _make(root: Path, own: Mapping[str, Definition], kinds: Mapping[str, Tables]) -> Texts:
    """The texts of a catalog made where no losses are, since DuckDB looks at all files of a view when it is made."""
    with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
        empty = Path(folder).resolve()
        stand_ins.put(empty)
        for kind, tables in kinds.items():
            finding_kinds.declare(empty, kind, tables)
        for name, group in own.items():
            if group.is_table:
                group_tables.publish_empty_table(empty, name)
        with catalog.empty_session(empty, [root]) as session:
            migrate.migrate(session, root)
            return _texts(session, empty)


def _texts(session: duckdb.DuckDBPyConnection, place: Path) -> Texts:
    """The texts of a session's views and macros; `place` is a folder in which it may write."""
    views = "SELECT schema_name, view_name, sql, internal FROM system.main.duckdb_views()"
    columns = "schema_name, function_name, macro_definition, internal"
    macros = f"SELECT {columns} FROM system.main.duckdb_functions()"
    definitions = [
        (f"{schema}.{name}", text)
        for ask in (views, macros)
        for schema, name, text, internal in session.execute(ask).fetchall()
        if not internal
    ]
    texts: dict[str, list[str]] = {}
    for name, text in [*definitions, *_heads(session, place)]:
        for pattern, plain in _SPELLINGS:
            text = pattern.sub(plain, text)
        texts.setdefault(name, []).append(text)
    # A macro may be several, of which a call takes the one that it fits.
    return {name: "\n".join(sorted(parts)) for name, parts in texts.items()}


def _heads(session: duckdb.DuckDBPyConnection, place: Path) -> Iterator[tuple[str, str]]:
    """(full name, parameters with their defaults) of each macro in the schema main, which no table of DuckDB's has."""
    session.execute(f"EXPORT DATABASE memory TO {quoted(str(place / 'export'))}")
    text = (place / "export" / "schema.sql").read_bytes().decode()
    for name, parameters in _HEAD.findall(text):
        yield f"main.{name}", parameters


_HEAD = re.compile(r"^CREATE MACRO (\w+) \((.*?)\) AS ", re.MULTILINE | re.DOTALL)


def differences(present: Texts, meant: Texts) -> Iterator[tuple[str, str]]:
    """(file inside the store, what is wrong) of each definition that is missing, too much or another."""
    groups = {name for name in present if name.startswith("groups.")}
    for name in sorted(meant.keys() | groups):
        schema, _, short = name.partition(".")
        is_group = schema == "groups"
        if name not in present:
            what = "the catalog has no view for it" if is_group else f"it has no {short}"
        elif name not in meant:
            what = "the catalog has a view, but there is no file"
        elif present[name] != meant[name]:
            what = (
                "the catalog's view is not what this group is defined as"
                if is_group
                else f"its {short} is not what this version of trajstore makes"
            )
        else:
            continue
        yield (f"groups/{short}.sql" if is_group else CATALOG), what
