"""Stores as older versions wrote them, made of one of this version."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trajstore import sqlfiles
from trajstore.schema import CATALOG, is_stand_in
from trajstore.sqlfiles import SqlFile
from trajstore.store.catalog import catalog, migrate
from trajstore.store.stand_ins import STAND_INS

_FOLDERS = {name: f".{name[1:]}" for name in ("losses", "tokens", "models", "measures", "findings")}


def with_hidden_stand_ins(path: Path) -> None:
    """Give a store the folders for files without rows that it had before the migration 0003, and that catalog."""
    columns = path / ".osses/model=_/dataset=_/step=0/columns.parquet"
    declared = (str(file.relative_to(path)) for file in path.glob("findings/*/finding=.empty/*.parquet"))
    for name in {*STAND_INS, *declared}:
        top, _, below = name.partition("/")
        below = below.replace("model=.empty.json", "none.json").replace("=.empty", "=_")
        below = below.replace("0/empty.", "0/none.").replace("0/llc.empty.", "1/llc.none.")
        place = path / _FOLDERS[top] / below
        place.parent.mkdir(parents=True, exist_ok=True)
        (path / name).rename(place)
    with duckdb.connect() as connection:
        columns_of = "context INTEGER, position INTEGER, loss FLOAT, rank INTEGER, entropy FLOAT"
        connection.execute(f"CREATE TABLE none ({columns_of}); COPY none TO '{columns}'")
    for top in _FOLDERS:
        for folder in sorted((path / top).rglob("*"), reverse=True):
            if is_stand_in(folder) and folder.is_dir():
                shutil.rmtree(folder)
    real = sqlfiles.load

    def older(kind: str) -> tuple[SqlFile, ...]:
        files = [file for file in real(kind) if file.name < "0003" or kind != "migrations"]
        return tuple(SqlFile(file.name, file.description, _older(file.text)) for file in files)

    (path / CATALOG).unlink()
    with pytest.MonkeyPatch.context() as patch, catalog.creating(path, path / CATALOG) as connection:
        patch.setattr(sqlfiles, "load", older)
        migrate.migrate(connection, path)


def _older(text: str) -> str:
    """A view's text as it was."""
    lines = text.split("\n")
    for top in _FOLDERS:
        new, old = f"|| '{top}/", f"|| '[{top[0]}.]{top[1:]}/"
        lines = [line if "FROM glob(" in line else line.replace(new, old) for line in lines]
    return (
        "\n".join(lines)
        .replace("dataset=*", "dataset=[A-Za-z0-9_]*")
        .replace("'/model=.empty/'", "'.osses/'")
    )


def answers(path: Path) -> dict[str, list[Any]]:
    """All rows of each view of a store's catalog, by a DuckDB that knows nothing of trajstore."""
    with duckdb.connect(str(path / CATALOG), read_only=True) as connection:
        connection.execute(f"SET VARIABLE store = '{path}'")
        views = connection.execute(
            "SELECT schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        return {view: connection.execute(f"FROM {view} ORDER BY ALL").fetchall() for (view,) in views}
