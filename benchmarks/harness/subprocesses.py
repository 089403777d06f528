"""Work in a process of its own: for a peer whose memory must be given back, and for peaks of memory.

The process starts afresh (spawn), imports what it needs before the clock starts, and ends with the work.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.harness.synthetic import DATASET, MODEL
from benchmarks.harness.timing import WrongAnswer
from trajstore.store.store import Store

T = TypeVar("T")


class NoAnswer(Exception):
    """A process ended without an answer: an error, which it printed, or no memory left."""


@dataclass(frozen=True)
class PivotJob:
    """A Polars pivot of the long format, to be done in a process of its own."""

    slices: list[Path]
    steps: list[int]
    lazy: bool
    """True to name the steps beforehand, which lets the pivot run on the plan."""
    expected: Path
    """The .npy file of the matrix that must come out."""
    tokens: Path | None = None
    """The dataset's tokens.parquet, where only one token's losses are asked for."""
    token: int = -1


@dataclass(frozen=True)
class Cost:
    """The cost of a piece of work."""

    seconds: float
    peak: int
    """Bytes of memory: the highest of the process, or what that is above the memory before the work."""


def apart(work: Callable[..., T], *arguments: object) -> T:
    """The answer of `work`, computed in a new process; raises `NoAnswer` where that gives none."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        answer: T = ours.recv()
    except EOFError:
        raise NoAnswer(f"the process of {work.__name__} ended without an answer") from None
    finally:
        process.kill()
        process.join()
    return answer


def _answer(to: Connection, work: Callable[..., T], arguments: Sequence[object]) -> None:
    to.send(work(*arguments))
    to.close()


def polars_pivot(job: PivotJob) -> Cost:
    """Time and memory from the files to a matrix, float32 (steps, columns); raises `WrongAnswer`."""
    before = start_peak()
    start = time.perf_counter()
    values = _pivot(job)
    cost = Cost(time.perf_counter() - start, peak() - before)
    if not np.array_equal(values, np.load(job.expected)):
        raise WrongAnswer("the Polars pivot is not the matrix")
    return cost


def _pivot(job: PivotJob) -> np.ndarray:
    long = pl.scan_parquet(
        job.slices,
        hive_partitioning=True,
        hive_schema={"model": pl.String, "dataset": pl.String, "step": pl.Int64},
    ).select("step", "context", "position", "loss")
    keys = ["context", "position"]
    if job.tokens is not None:
        members = pl.scan_parquet(job.tokens).filter(pl.col("token") == job.token).select(keys)
        long = long.join(members, on=keys, how="semi")
    if job.lazy:
        wide = long.pivot("step", on_columns=job.steps, index=keys, values="loss").sort(keys).collect()
    else:
        wide = long.collect().pivot("step", index=keys, values="loss").sort(keys)
    values: np.ndarray = wide.drop(keys).to_numpy().T
    return values


def matrix_pull(store: Path, threads: int) -> Cost:
    """Time and memory of a pull of the whole matrix, its labels included; the libraries are in memory before."""
    small = store / "tokens" / f"dataset={DATASET}" / "contexts.parquet"
    pq.read_table(small, partitioning=None)
    pl.read_parquet(small, hive_partitioning=False)
    with Store(store) as opened:
        before = start_peak()
        start = time.perf_counter()
        matrix = opened.matrix(DATASET, MODEL, threads=threads)
        cost = Cost(time.perf_counter() - start, peak() - before)
    if not np.array_equal(matrix.values, np.load(store.with_name("matrix.npy"), mmap_mode="r")):
        raise WrongAnswer("the pull is not the matrix")
    return cost


def save_zarr(npy: Path, array: Path) -> None:
    """Write a .npy file's matrix as a zarr array, a chunk a row, its codec the default one."""
    import zarr

    values = np.load(npy)
    zarr.create_array(array, data=values, chunks=(1, values.shape[1]))


def zarr_read(array: Path, threads: int, expected: Path) -> Cost:
    """Time and memory of a zarr array's read, the second one in its process; raises `WrongAnswer`."""
    import zarr

    with zarr.config.set({"threading.max_workers": threads}):
        zarr.open_array(array, mode="r")[:]
        before = start_peak()
        start = time.perf_counter()
        values = zarr.open_array(array, mode="r")[:]
        cost = Cost(time.perf_counter() - start, peak() - before)
    if not np.array_equal(values, np.load(expected)):
        raise WrongAnswer("the zarr array is not the matrix")
    return cost


def start_peak() -> int:
    """Start the peak anew from what is resident now; returns that, in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak()


def peak() -> int:
    """Highest resident memory of this process, in bytes.

    Linux's own counter where there is one: `ru_maxrss` of a process may begin at the size of the one that started it.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
