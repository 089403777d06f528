"""Tokens and texts of datasets that are read once for many groups, instead of once for each.

Most groups that come with trajstore look for a pattern in the views `tokens` and `context_texts`, and making the texts
takes longer than to search them. On one connection they are kept as temporary tables of the views' names, which DuckDB
finds first, so that the groups' own queries read them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import duckdb

from trajstore.errors import QueryError
from trajstore.store.catalog import read_only
from trajstore.store.files.datasets import Dataset
from trajstore.store.quoting import quoted
from trajstore.store.session import Session

VIEWS = ("tokens", "context_texts")
"""The views that can be kept, the second made of the first."""
ACROSS_CONTEXTS = frozenset({"hapax", "shared_phrase"})
"""Groups that come with trajstore whose tokens in one context depend on other contexts."""
_TOKENS_A_THREAD = 1 << 16
"""Tokens for which another thread is worth its table of texts: DuckDB reads a table of so few rows with one."""


KeptTables = duckdb.DuckDBPyConnection
"""The connection that has the tables."""


@contextlib.contextmanager
def kept_tables(
    session: Session, views: Sequence[str], datasets: Sequence[Dataset], contexts: range | None = None
) -> Iterator[KeptTables]:
    """Tables of these of `VIEWS`, for the block: of these datasets alone, and if given of their contexts in a range.

    They take some 100 bytes a token. Raises `QueryError` where they cannot be made.
    """
    condition = f"dataset IN ({', '.join(quoted(dataset.name) for dataset in datasets)})"
    tokens = sum(dataset.n_tokens for dataset in datasets)
    if contexts is not None:
        condition += f" AND context >= {contexts.start} AND context < {contexts.stop}"
        tokens = min(tokens, len(contexts) * max(int(dataset.lengths.max()) for dataset in datasets))
    connection = session.connection()
    made: list[str] = []
    try:
        try:
            for view in views:
                rows = f"FROM memory.main.{view} WHERE {condition}"
                parts = _parts(connection, tokens) if view == "context_texts" else 1
                _keep(connection, view, rows, parts, made)
        except duckdb.Error as error:
            raise QueryError(read_only.explained(error)) from error
        yield connection
    finally:  # others may hold the connection
        with contextlib.suppress(duckdb.Error):
            for relation in reversed(made):
                connection.execute(f"DROP {relation}")


def _keep(connection: duckdb.DuckDBPyConnection, view: str, rows: str, parts: int, made: list[str]) -> None:
    """Make a view's table, or a view of several tables, of which each thread can read one."""
    tables = [view] if parts < 2 else [f"{view}_{part}" for part in range(parts)]
    for part, table in enumerate(tables):
        connection.execute(f"CREATE TEMP TABLE {table} AS {rows} AND context % {len(tables)} = {part}")
        made.append(f"TABLE temp.main.{table}")
    if len(tables) > 1:
        union = " UNION ALL ".join(f"FROM temp.main.{table}" for table in tables)
        connection.execute(f"CREATE TEMP VIEW {view} AS {union}")
        made.append(f"VIEW temp.main.{view}")


def _parts(connection: duckdb.DuckDBPyConnection, tokens: int) -> int:
    (threads,) = connection.execute("SELECT current_setting('threads')").fetchall()[0]
    return min(int(threads), tokens // _TOKENS_A_THREAD)
