"""Whether a catalog's views and macros are those that this version and the store's group files make.

Compared is DuckDB's text of each, in a spelling that its versions share. Views and macros of one's own beside them are
let be, except in the schema `groups`, where each has a file.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from trajstore.schema import CATALOG
from trajstore.store import catalog, groupfiles, grouptables, lifecycle, migrate, scratch

Texts = dict[str, str]
"""Text of each view and macro by its full name."""

# What DuckDB 1.5 and 2.0 print differently.
_SPELLINGS = [
    (re.compile('"'), ""),
    (re.compile(r"\bmain\.(?=\w+\()"), ""),
    (re.compile(r"CAST\('t' AS BOOLEAN\)"), "true"),
    (re.compile(r"CAST\('f' AS BOOLEAN\)"), "false"),
]


def texts(sql: Callable[[str], duckdb.DuckDBPyRelation]) -> Texts:
    """What a session has; `sql` asks it."""
    views = "SELECT schema_name, view_name, sql, internal FROM system.main.duckdb_views()"
    columns = "schema_name, function_name, parameters, macro_definition, internal"
    macros = f"SELECT {columns} FROM system.main.duckdb_functions()"
    found = [(schema, name, text) for schema, name, text, internal in sql(views).fetchall() if not internal]
    found += [
        (schema, name, f"({', '.join(parameters)}) {text}")
        for schema, name, parameters, text, internal in sql(macros).fetchall()
        if not internal
    ]
    texts: dict[str, list[str]] = {}
    for schema, name, text in found:
        for pattern, plain in _SPELLINGS:
            text = pattern.sub(plain, text)
        texts.setdefault(f"{schema}.{name}", []).append(text)
    # A macro may be several, of which a call takes the one that it fits.
    return {name: "\n".join(sorted(each)) for name, each in texts.items()}


def meant(root: Path) -> Texts:
    """What it should have; raises `GroupError` or `DamagedFile` for a group's file that cannot be used.

    Made where no losses are, since DuckDB looks at all files of a view when it is made.
    """
    with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
        empty = Path(folder).resolve()
        lifecycle.stand_ins(empty)
        for name, group in groupfiles.own(root).items():
            if group.is_table:
                grouptables.publish_empty(empty, name)
        with catalog.empty_session(empty, [root]) as session:
            migrate.migrate(session, root)
            return texts(session.sql)


def differences(there: Texts, meant: Texts) -> Iterator[tuple[str, str]]:
    """(file inside the store, what is wrong) of each definition that is missing, too much or another."""
    groups = {name for name in there if name.startswith("groups.")}
    for name in sorted(meant.keys() | groups):
        schema, _, short = name.partition(".")
        is_group = schema == "groups"
        if name not in there:
            what = "the catalog has no view for it" if is_group else f"it has no {short}"
        elif name not in meant:
            what = "the catalog has a view, but there is no file"
        elif there[name] != meant[name]:
            what = (
                "the catalog's view is not what this group is defined as"
                if is_group
                else f"its {short} is not what this version of trajstore makes"
            )
        else:
            continue
        yield (f"groups/{short}.sql" if is_group else CATALOG), what
