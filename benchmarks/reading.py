"""Rows on reading: matrices, a group's trajectory and memory, against numpy, pyarrow, DuckDB and Polars.

Every peer reads files that are in the system's cache and gives float32 (steps, columns) in canonical order, or
means by step. Ours comes with its labels and has verified each page's checksum; of the peers only the pyarrow loop has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

from benchmarks.subprocesses import PivotJob, apart, matrix_pull, polars_pivot
from benchmarks.synthetic import DATASET, GROUP, MODEL, Family
from benchmarks.timing import Contender, Rounds, Row, Say, clocked, compare
from trajstore.analysis.trajectories import group_trajectory
from trajstore.store.catalog import quoted

Right = Callable[[np.ndarray], bool]
"""Whether an answer is the expected one."""

THREADS = (1, 2)


def matrix_rows(family: Family, rounds: Rounds, say: Say) -> list[Row]:
    """Time of the whole matrix."""
    right = _equal_to(family.losses)
    one, two = (_pull(family, threads, right) for threads in THREADS)
    load = Contender("np.load of one .npy", clocked(lambda: np.load(family.npy), right))
    loop = Contender(
        "loop of pyarrow reads of the slices, page checksums verified", clocked(lambda: _loop(family), right)
    )
    sorted_one, sorted_two = (
        Contender("DuckDB, ORDER BY and reshape", _sql_matrix(family, threads, right), threads, rounds.slow)
        for threads in THREADS
    )
    lazy = _pivot("Polars lazy pivot, steps known", _pivot_job(family, lazy=True), rounds.slow)
    eager = _pivot("Polars scan, collect, pivot", _pivot_job(family, lazy=False), rounds.slowest)
    pairs = [
        (one, load),
        (two, load),
        (one, loop),
        (one, sorted_one),
        (two, sorted_two),
        (two, lazy),
        (two, eager),
    ]
    what = f"Matrix {family.size.steps} × {family.size.columns:,}"
    return compare(what, pairs, rounds.usual, say)


def group_rows(family: Family, rounds: Rounds, say: Say) -> list[Row]:
    """Time of the matrix of a group of about one token in a hundred."""
    expected = family.losses[:, family.members]
    np.save(family.folder / "group.npy", expected)
    right = _equal_to(expected)
    one, two = (_pull(family, threads, right, GROUP) for threads in THREADS)
    load = Contender(
        "np.load of one .npy, mapped, columns taken by index",
        clocked(lambda: np.load(family.npy, mmap_mode="r")[:, family.members], right),
    )
    sorted_one, sorted_two = (
        Contender(
            "DuckDB, SEMI JOIN, ORDER BY and reshape", _sql_matrix(family, threads, right, GROUP), threads
        )
        for threads in THREADS
    )
    pivot = _pivot(
        "Polars semi join, lazy pivot, steps known", _pivot_job(family, lazy=True, group=True), rounds.slow
    )
    pairs = [(one, load), (two, load), (one, sorted_one), (two, sorted_two), (two, pivot)]
    what = f"Matrix through a group of {_share(family)}, {family.size.steps} × {expected.shape[1]:,}"
    return compare(what, pairs, rounds.usual, say)


def trajectory_rows(family: Family, rounds: Rounds, say: Say) -> list[Row]:
    """Time of the group's mean by step, ours with its interval, against a mean over all tokens without one."""
    expected = family.losses[:, family.members].mean(axis=1, dtype=np.float64)
    ours = [
        Contender("matrix and group_trajectory", _trajectory(family, threads, _close_to(expected)), threads)
        for threads in THREADS
    ]
    macro = Contender("trajectory macro", _macro(family, _close_to(expected)), THREADS[-1])
    means = _close_to(family.losses.mean(axis=1, dtype=np.float64))
    bare = [
        Contender("DuckDB, mean by step of all tokens, no group", _sql_means(family, threads, means), threads)
        for threads in THREADS
    ]
    what = f"Trajectory of a group of {_share(family)}"
    found = compare(what, [*zip(ours, bare, strict=True), (macro, bare[-1])], rounds.usual, say)
    return [*found[:-1], replace(found[-1], what=f"{what}, in SQL (trajectory macro)")]


def memory_rows(family: Family, runs: int) -> list[Row]:
    """Memory that a pull takes above what its process had before, against the size of the values alone."""
    costs = [apart(matrix_pull, family.store.path, THREADS[-1]) for _ in range(runs)]
    peaks = [float(cost.peak) for cost in costs]
    size = [float(family.losses.nbytes)] * runs
    return [
        Row(
            "Peak memory of the matrix pull",
            peaks,
            "the matrix's own size",
            size,
            "bytes",
            f"{THREADS[-1]} / –",
        )
    ]


def _share(family: Family) -> str:
    """How much of the losses is in the group."""
    return f"{len(family.members) / family.size.columns:.1%}"


def _pull(family: Family, threads: int, right: Right, group: str | None = None) -> Contender:
    """Ours."""

    def pull() -> np.ndarray:
        return family.store.matrix(DATASET, MODEL, group, threads=threads).values

    return Contender("Store.matrix", clocked(pull, right), threads)


def _loop(family: Family) -> np.ndarray:
    """The slices' loss columns by pyarrow straight into an array; trusts the files' order."""
    values = np.empty((family.size.steps, family.size.columns), dtype=np.float32)
    for row, path in zip(values, family.slices, strict=True):
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            row[:] = file.read(columns=["loss"], use_threads=False).column(0).to_numpy()
    return values


def _trajectory(family: Family, threads: int, right: Right) -> Callable[[], float]:
    def trajectory() -> np.ndarray:
        matrix = family.store.matrix(DATASET, MODEL, GROUP, threads=threads)
        return group_trajectory(matrix)["mean"].to_numpy()

    return clocked(trajectory, right)


def _macro(family: Family, right: Right) -> Callable[[], float]:
    query = f"SELECT mean FROM trajectory({quoted(GROUP)}) WHERE model = {quoted(MODEL)} ORDER BY step"
    return clocked(lambda: np.asarray(family.store.sql(query).fetchnumpy()["mean"]), right)


def _sql_matrix(family: Family, threads: int, right: Right, group: str | None = None) -> Callable[[], float]:
    connection = _duckdb(family, threads)
    members = f"SELECT context, position FROM read_parquet({quoted(str(_tokens(family)))}) WHERE token = {family.token}"
    chosen = f"SEMI JOIN ({members}) USING (context, position)" if group else ""
    query = f"SELECT loss FROM {_read(family)} {chosen} ORDER BY step, context, position"

    def matrix() -> np.ndarray:
        return np.asarray(connection.sql(query).fetchnumpy()["loss"]).reshape(family.size.steps, -1)

    return clocked(matrix, right)


def _sql_means(family: Family, threads: int, right: Right) -> Callable[[], float]:
    connection = _duckdb(family, threads)
    query = f"SELECT avg(loss::DOUBLE) AS mean FROM {_read(family)} GROUP BY step ORDER BY step"
    return clocked(lambda: np.asarray(connection.sql(query).fetchnumpy()["mean"]), right)


def _duckdb(family: Family, threads: int) -> duckdb.DuckDBPyConnection:
    """A plain DuckDB, opened off the clock."""
    return duckdb.connect(config={"threads": threads, "temp_directory": str(family.folder / "spill")})


def _read(family: Family) -> str:
    """The slices as a table function."""
    files = family.store.path / "losses" / f"model={MODEL}" / "*" / "*" / "slice.parquet"
    return f"read_parquet({quoted(str(files))}, hive_partitioning = true, hive_types = {{'step': BIGINT}})"


def _tokens(family: Family) -> Path:
    return family.store.path / "tokens" / f"dataset={DATASET}" / "tokens.parquet"


def _pivot_job(family: Family, *, lazy: bool, group: bool = False) -> PivotJob:
    expected = family.folder / "group.npy" if group else family.npy
    tokens = _tokens(family) if group else None
    return PivotJob(family.slices, family.size.labels, lazy, expected, tokens, family.token)


def _pivot(name: str, job: PivotJob, runs: int) -> Contender:
    """A pivot in a process of its own, whose start is not on the clock."""
    return Contender(name, lambda: apart(polars_pivot, job).seconds, THREADS[-1], runs)


def _equal_to(expected: np.ndarray) -> Right:
    return lambda values: np.array_equal(values, expected)


def _close_to(expected: np.ndarray) -> Right:
    return lambda values: bool(np.allclose(values, expected, rtol=1e-6))
