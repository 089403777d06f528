"""The views of the findings of other packages: one for each table of each kind that a store knows."""

from __future__ import annotations

from pathlib import Path

import duckdb

from trajstore.errors import DamagedFile
from trajstore.store.files import finding_kinds
from trajstore.store.files.finding_kinds import Tables
from trajstore.store.quoting import identifier, quoted


def create_views(connection: duckdb.DuckDBPyConnection, kind: str, tables: Tables) -> None:
    """Make or remake the views of a kind, each column with its meaning."""
    for table, schema in tables.items():
        name = identifier(finding_kinds.view_of(kind, table))
        columns = ", ".join(map(identifier, schema.names))
        connection.execute(
            f"CREATE OR REPLACE VIEW {name} AS SELECT finding, {columns} FROM read_parquet("
            f"coalesce(getvariable('store') || '/', '') || 'findings/kind={kind}/*/{table}.parquet', "
            "hive_partitioning = true, hive_types = {'kind': VARCHAR, 'finding': VARCHAR})"
        )
        comments = {"finding": "name of the finding", **finding_kinds.meanings(schema)}
        connection.execute(f"COMMENT ON VIEW {name} IS {quoted(f'The {table} of {kind} findings.')}")
        for column, meaning in comments.items():
            connection.execute(f"COMMENT ON COLUMN {name}.{identifier(column)} IS {quoted(meaning)}")


def create_all(connection: duckdb.DuckDBPyConnection, root: Path) -> None:
    """Make the views of all kinds of other packages; raises `DamagedFile`."""
    made: dict[str, str] = {}
    for kind in finding_kinds.declared(root):
        tables = finding_kinds.tables_of(root, kind)
        for view in (finding_kinds.view_of(kind, table) for table in tables):
            if made.setdefault(view, kind) != kind:
                path = root / "findings" / f"kind={kind}"
                raise DamagedFile(path, f"{made[view]} findings have the view {view}", "Move it elsewhere")
        create_views(connection, kind, tables)
