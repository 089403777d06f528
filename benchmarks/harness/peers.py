"""Parts that peers of several blocks share: DuckDB on the slices without a store, and checks of answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np

from benchmarks.harness.synthetic import DATASET, MODEL, Family
from benchmarks.harness.timing import clocked
from trajstore.store.quoting import quoted

Right = Callable[[np.ndarray], bool]
"""Function that returns True if an answer is the expected one."""

THREADS = (1, 2)


def plain_duckdb(folder: Path, threads: int) -> duckdb.DuckDBPyConnection:
    """A plain DuckDB, opened off the clock."""
    connection = duckdb.connect(config={"threads": threads, "temp_directory": str(folder / "spill")})
    connection.execute("SET enable_progress_bar = false")
    return connection


def read_slices(store: Path, model: str = "*") -> str:
    """The slices of a store as a table function."""
    files = store / "losses" / f"model={model}" / "*" / "*" / "slice.parquet"
    return f"read_parquet({quoted(str(files))}, hive_partitioning = true, hive_types = {{'step': BIGINT}})"


def tokens_path(family: Family) -> Path:
    """The dataset's tokens."""
    return family.store.path / "tokens" / f"dataset={DATASET}" / "tokens.parquet"


def bare_means(family: Family, threads: int) -> Callable[[], float]:
    """DuckDB's mean of all losses by step, with no group and no store."""
    connection = plain_duckdb(family.folder, threads)
    query = f"SELECT avg(loss::DOUBLE) AS mean FROM {read_slices(family.store.path, MODEL)} GROUP BY step ORDER BY step"
    right = close_to(means(family, family.whole.members))
    return clocked(lambda: np.asarray(connection.sql(query).fetchnumpy()["mean"]), right)


def means(family: Family, members: np.ndarray) -> np.ndarray:
    """Mean loss of these columns at each step, float64 (steps,)."""
    by_step: np.ndarray = family.losses[:, members].mean(axis=1, dtype=np.float64)
    return by_step


def equal_to(expected: np.ndarray) -> Right:
    """Equal to the bit."""
    return lambda values: np.array_equal(values, expected)


def close_to(expected: np.ndarray) -> Right:
    """Equal but for the order of additions."""
    return lambda values: bool(np.allclose(values, expected, rtol=1e-6))
