"""A store from somebody else, and a file beside it that nothing may show."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest
from typer.testing import Result

from tests.conftest import ragged
from tests.helpers import commands
from trajstore.store.quoting import quoted

if TYPE_CHECKING:
    from tests.conftest import NewStore

CANARY = "CANARY"
SLICE = "losses/model=a/dataset=d/step=8/slice.parquet"
SITES = "SELECT 'd' AS dataset, 0 AS context, 1 AS position"
WITH_MAY_WRITE = tuple(map(int, duckdb.__version__.split(".")[:1])) >= (2,)

OUTSIDE = "A query reads the store's own files and nothing else"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the store, which no command may show."""
    path = tmp_path / "outside" / "secret.csv"
    path.parent.mkdir()
    path.write_text(f"dataset,context,position\n{CANARY},0,1\n")
    return path


@pytest.fixture(scope="session")
def _made(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy: two models, two datasets, two steps, a group."""
    path = tmp_path_factory.mktemp("theirs") / "store"
    with new_store(path) as store:
        for name in ("d", "e"):
            dataset = store.add_dataset(name, ragged((9, 2, 30), seed=ord(name)))
            for model in ("a", "b"):
                for step in (0, 8):
                    losses = np.random.default_rng(step).gamma(2, 1, dataset.n_losses)
                    store.append(model=model, dataset=name, step=step, losses=losses)
        store.groups.add("mine", "FROM groups.digits")
    return path


@pytest.fixture
def theirs(_made: Path, store_path: Path) -> Path:
    """The path of a store that somebody else has made."""
    return Path(shutil.copytree(_made, store_path))


def doctor(path: Path, *statements: str) -> None:
    """Change the catalog with plain DuckDB, as its owner could."""
    with duckdb.connect(path / "catalog.duckdb") as connection:
        for statement in statements:
            connection.execute(statement)


def run(*words: object) -> Result:
    result = commands.run(*words)
    assert CANARY not in result.output
    return result


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def tree(text: str) -> str:
    """A statement as DuckDB's JSON, in an SQL literal: a function runs such a text wherever it stands."""
    with duckdb.connect() as connection:
        found = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
    return quoted(found[0][0])


WRITERS = [
    "COPY tokens TO '{to}'",
    "EXPLAIN ANALYZE COPY tokens TO '{to}'",
    "explain  analyze\nCOPY (SELECT 1) TO '{to}'",
    "EXPLAIN ANALYZE /* */ COPY (SELECT 1) TO '{to}'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{to}'",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "EXPLAIN ANALYZE DROP VIEW tokens",
    "WITH w AS (COPY (SELECT 1) TO '{to}') FROM w",
    "EXPLAIN ANALYZE WITH w AS (COPY (SELECT 1) TO '{to}') FROM w",
    "SELECT 1 UNION ALL (WITH w AS (COPY (SELECT 1) TO '{to}') SELECT 2)",
    "WITH w AS (DELETE FROM migrations RETURNING name) FROM w",
    "WITH w AS (INSERT INTO migrations VALUES ('x', now()) RETURNING name) FROM w",
    "FROM query('WITH w AS (COPY (SELECT 1) TO ''{to}'') FROM w')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM Enable_Logging(storage = 'file', storage_path = '{to}')",
    "FROM enable_profiling(format = 'json', save_location = '{to}.json')",
    "ATTACH '{to}'",
    "EXPORT DATABASE '{to}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '1TB'",
    "SET VARIABLE store = '/'",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CREATE SECRET s (TYPE http)",
    "EXPLAIN (FORMAT JSON) COPY tokens TO '{to}'",
    "EXPLAIN (ANALYZE, FORMAT 'json') COPY (SELECT 1) TO '{to}'",
    "EXPLAIN ANALYZE EXPLAIN ANALYZE COPY (SELECT 1) TO '{to}'",
    "EXPLAIN SELECT 1; COPY (SELECT 1) TO '{to}'",
    "EXPLAIN FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "/* /* */ EXPLAIN SELECT 1 -- */ */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{to}'",
    "-- \rEXPLAIN ANALYZE COPY (SELECT 1) TO '{to}' /*\nEXPLAIN SELECT 1 -- */",
    "EXPLAIN",
    "PIVOT tokens ON position USING count(*); COPY (SELECT 1) TO '{to}'",
    "PIVOT (WITH w AS (COPY (SELECT 1 AS x) TO '{to}') FROM w) ON x USING count(*)",
    "PIVOT (WITH w AS (COPY (SELECT 1 AS x) TO '{to}') FROM w) ON x IN (1) USING count(*)",
    "PIVOT (FROM query('SELECT 1 AS x')) ON x USING count(*)",
    "COPY (PIVOT tokens ON position USING count(*)) TO '{to}'",
    "EXPLAIN ANALYZE COPY (PIVOT tokens ON position USING count(*)) TO '{to}'",
    "CREATE TABLE p AS PIVOT tokens ON position USING count(*)",
    "SUMMARIZE (WITH w AS (COPY (SELECT 1) TO '{to}') FROM w)",
    "DESCRIBE FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM (DESCRIBE FROM query('SELECT 1'))",
    "SELECT (SELECT count(*) FROM checkpoint())",
    "FROM arrow_scan(1, 2, 3)",
]
