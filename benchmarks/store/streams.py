"""Rows on whole tables written to files: `SELECT * FROM losses` by `trajstore sql -o`, beside DuckDB's own COPY."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from benchmarks.harness.peers import THREADS, plain_duckdb, read_slices
from benchmarks.harness.subprocesses import Cost, apart, peak, start_peak
from benchmarks.harness.synthetic import Family
from benchmarks.harness.timing import Row, Say, WrongAnswer
from trajstore.store.queries import query
from trajstore.store.quoting import quoted
from trajstore.store.store import Store

_KINDS = ("parquet", "csv")
_QUERY = "SELECT * FROM losses"


def stream_rows(family: Family, runs: int, say: Say) -> list[Row]:
    """Time and memory of every loss with its token, to Parquet and to CSV."""
    rows = []
    for kind in _KINDS:
        what = (
            f"{_QUERY} to {kind.upper() if kind == 'csv' else 'Parquet'}, {family.size.rows / 1e6:.1f} M rows"
        )
        ours, theirs = [], []
        for number in range(runs):
            say(f"{what}: round {number + 1} of {runs}")
            ours.append(apart(_written_by_store, family.store.path, kind, family.size.rows))
            theirs.append(apart(_written_by_copy, family.store.path, kind, family.size.rows))
        peer, threads = "DuckDB, COPY of the same join, no store", f"{THREADS[-1]} / {THREADS[-1]}"
        rows += [
            Row(what, [c.seconds for c in ours], peer, [c.seconds for c in theirs], threads=threads),
            Row(
                f"Peak memory of {what}",
                [float(c.peak) for c in ours],
                peer,
                [float(c.peak) for c in theirs],
                "bytes",
                threads,
            ),
        ]
    return rows


def _written_by_store(store: Path, kind: str, rows: int) -> Cost:
    """Write as `trajstore sql -o` does."""

    def write(out: Path) -> None:
        with Store(store) as opened, out.open("wb") as file:
            query.write(opened, _QUERY, file, kind)

    return _cost(write, store.with_name(f"ours.{kind}"), rows)


def _written_by_copy(store: Path, kind: str, rows: int) -> Cost:
    """DuckDB on the same files, the token joined to each loss as the view does."""
    tokens = quoted(str(store / "tokens" / "*" / "tokens.parquet"))
    joined = (
        f"SELECT l.*, t.token FROM {read_slices(store)} AS l "
        f"JOIN read_parquet({tokens}, hive_partitioning = true) AS t USING (dataset, context, position)"
    )

    def write(out: Path) -> None:
        plain_duckdb(store.parent, THREADS[-1]).execute(
            f"COPY ({joined}) TO {quoted(str(out))} (FORMAT {kind})"
        )

    return _cost(write, store.with_name(f"theirs.{kind}"), rows)


def _cost(write: Callable[[Path], None], out: Path, rows: int) -> Cost:
    before = start_peak()
    start = time.perf_counter()
    write(out)
    cost = Cost(time.perf_counter() - start, peak() - before)
    written = duckdb.connect().execute(f"SELECT count(*) FROM {quoted(str(out))}").fetchall()[0][0]
    out.unlink()
    if written != rows:
        raise WrongAnswer(f"{out.name} has {written:,} rows, not {rows:,}")
    return cost
