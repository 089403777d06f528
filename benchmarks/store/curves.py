"""Rows on means by step: of groups, by `trajectory` and in SQL, and of one token.

The peers are the bare mean of all losses, DuckDB's over the same files, with no group, no store and no interval, which
is less work than any of these; and what a notebook does for a group, in pandas and in Polars.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.harness.peers import THREADS, bare_means, close_to, means
from benchmarks.harness.subprocesses import apart
from benchmarks.harness.synthetic import DATASET, MODEL, Family, TokenGroup
from benchmarks.harness.timing import Contender, Rounds, Row, Say, clocked, compare
from benchmarks.store.longform import mean_job, pandas_means, polars_means
from trajstore.pipelines.trajectories import trajectories
from trajstore.store.matrix.selection import Selection
from trajstore.store.quoting import quoted

_BARE = "DuckDB, mean by step of all tokens, no group"


def trajectory_rows(family: Family, rounds: Rounds, say: Say) -> list[Row]:
    """Time of means by step; ours of groups come with their intervals."""
    threads = THREADS[-1]
    bare = Contender(_BARE, bare_means(family, threads), threads)
    works = {
        **{
            f"Trajectory of a group of {group.share:.0%}": _trajectory(family, group)
            for group in (family.small, family.large, family.whole)
        },
        **{
            f"Trajectory of a group of {group.share:.0%}, in SQL (trajectory macro)": _macro(family, group)
            for group in (family.small, family.large)
        },
        f"Mean by step of one token, {family.small.share:.1%}, in SQL (losses)": _one_token(family),
    }
    ours = {what: Contender(what, once, threads) for what, once in works.items()}
    pairs = [(contender, bare) for contender in ours.values()]
    for group in (family.small, family.large):
        named = ours[f"Trajectory of a group of {group.share:.0%}"]
        pairs += [(named, peer) for peer in _notebook(family, group, threads, rounds)]
    rows = compare("Trajectories", pairs, rounds.usual, say)
    return [row.called(one.name) for (one, _), row in zip(pairs, rows, strict=True)]


def _notebook(family: Family, group: TokenGroup, threads: int, rounds: Rounds) -> list[Contender]:
    """A group's mean by step without a store; each in a process of its own."""
    job = mean_job(family, group)
    return [
        Contender(
            "pandas, read_parquet, merge, groupby",
            lambda: apart(pandas_means, job).seconds,
            threads,
            rounds.slowest,
        ),
        Contender(
            "Polars lazy, semi join, group_by",
            lambda: apart(polars_means, job).seconds,
            threads,
            rounds.slow,
        ),
    ]


def _trajectory(family: Family, group: TokenGroup) -> Callable[[], float]:
    """Run what `trajstore trajectory` computes."""

    def trajectory() -> np.ndarray:
        return trajectories(family.store, [group.name], Selection([DATASET], [MODEL]))["mean"].to_numpy()

    return clocked(trajectory, close_to(means(family, group.members)))


def _macro(family: Family, group: TokenGroup) -> Callable[[], float]:
    query = f"SELECT mean FROM trajectory({quoted(group.name)}) WHERE model = {quoted(MODEL)} ORDER BY step"
    return _sql(family, query, group)


def _one_token(family: Family) -> Callable[[], float]:
    query = f"SELECT avg(loss::DOUBLE) AS mean FROM losses WHERE token = {family.token} GROUP BY step ORDER BY step"
    return _sql(family, query, family.small)


def _sql(family: Family, query: str, group: TokenGroup) -> Callable[[], float]:
    """A query that gives the group's means in order of step."""
    right = close_to(means(family, group.members))
    return clocked(lambda: np.asarray(family.store.sql(query).fetchnumpy()["mean"]), right)
