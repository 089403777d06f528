"""Rows on matrices: the whole one, one through a group, and memory, against numpy, zarr, pyarrow, DuckDB and Polars.

Every peer reads files that are in the system's cache and gives float32 (steps, columns) in canonical order. Ours
comes with its labels and has verified each page's checksum; of the peers only the pyarrow loop has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow.parquet as pq

from benchmarks.harness.peers import THREADS, Right, equal_to, plain_duckdb, read_slices, tokens_path
from benchmarks.harness.subprocesses import PivotJob, apart, matrix_pull, polars_pivot, save_zarr, zarr_read
from benchmarks.harness.synthetic import DATASET, MODEL, Family
from benchmarks.harness.timing import Contender, Rounds, Row, Say, clocked, compare
from trajstore.store.quoting import quoted


def matrix_rows(family: Family, rounds: Rounds, say: Say) -> list[Row]:
    """Time of the whole matrix."""
    right = equal_to(family.losses)
    one, two = (_pull(family, threads, right) for threads in THREADS)
    load = Contender("np.load of one .npy", clocked(lambda: np.load(family.npy), right))
    zarr_one, zarr_two = _zarr(family, rounds.slow)
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
        (one, zarr_one),
        (two, zarr_two),
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
    group = family.small
    expected = family.losses[:, group.members]
    np.save(family.folder / "group.npy", expected)
    right = equal_to(expected)
    one, two = (_pull(family, threads, right, group.name) for threads in THREADS)
    whole_one, whole_two = (
        Contender("Store.matrix of all columns", _pulling(family, threads, equal_to(family.losses)), threads)
        for threads in THREADS
    )
    load = Contender(
        "np.load of one .npy, mapped, columns taken by index",
        clocked(lambda: np.load(family.npy, mmap_mode="r")[:, group.members], right),
    )
    sorted_one, sorted_two = (
        Contender(
            "DuckDB, SEMI JOIN, ORDER BY and reshape",
            _sql_matrix(family, threads, right, group.condition),
            threads,
        )
        for threads in THREADS
    )
    pivot = _pivot(
        "Polars semi join, lazy pivot, steps known", _pivot_job(family, lazy=True, group=True), rounds.slow
    )
    pairs = [
        (one, whole_one),
        (two, whole_two),
        (one, load),
        (two, load),
        (one, sorted_one),
        (two, sorted_two),
        (two, pivot),
    ]
    what = f"Matrix through a group of {group.share:.1%}, {family.size.steps} × {expected.shape[1]:,}"
    return compare(what, pairs, rounds.usual, say)


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


def _pull(family: Family, threads: int, right: Right, group: str | None = None) -> Contender:
    return Contender("Store.matrix", _pulling(family, threads, right, group), threads)


def _pulling(family: Family, threads: int, right: Right, group: str | None = None) -> Callable[[], float]:
    return clocked(lambda: family.store.matrix(DATASET, MODEL, group, threads=threads).values, right)


def _loop(family: Family) -> np.ndarray:
    """The slices' loss columns by pyarrow straight into an array; trusts the files' order."""
    values = np.empty((family.size.steps, family.size.columns), dtype=np.float32)
    for row, path in zip(values, family.slices, strict=True):
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            row[:] = file.read(columns=["loss"], use_threads=False).column(0).to_numpy()
    return values


def _zarr(family: Family, runs: int) -> list[Contender]:
    """zarr as it comes, a chunk a row as it would be appended; in a process of its own, for the number of threads."""
    array = family.folder / "matrix.zarr"
    apart(save_zarr, family.npy, array)
    return [
        Contender(
            "zarr 3, default codec, a chunk a row",
            lambda threads=threads: apart(zarr_read, array, threads, family.npy).seconds,  # type: ignore[misc]
            threads,
            runs,
        )
        for threads in THREADS
    ]


def _sql_matrix(
    family: Family, threads: int, right: Right, condition: str | None = None
) -> Callable[[], float]:
    connection = plain_duckdb(family.folder, threads)
    tokens = f"read_parquet({quoted(str(tokens_path(family)))})"
    members = f"SELECT context, position FROM {tokens} WHERE {condition}"
    chosen = f"SEMI JOIN ({members}) USING (context, position)" if condition else ""
    query = (
        f"SELECT loss FROM {read_slices(family.store.path, MODEL)} {chosen} ORDER BY step, context, position"
    )

    def matrix() -> np.ndarray:
        return np.asarray(connection.sql(query).fetchnumpy()["loss"]).reshape(family.size.steps, -1)

    return clocked(matrix, right)


def _pivot_job(family: Family, *, lazy: bool, group: bool = False) -> PivotJob:
    expected = family.folder / "group.npy" if group else family.npy
    tokens = tokens_path(family) if group else None
    return PivotJob(family.slices, family.size.labels, lazy, expected, tokens, family.token)


def _pivot(name: str, job: PivotJob, runs: int) -> Contender:
    """A pivot in a process of its own, whose start is not on the clock."""
    return Contender(name, lambda: apart(polars_pivot, job).seconds, THREADS[-1], runs)
