"""A group's mean by step as notebooks compute it: the long format in pandas, or a Polars plan, and no store.

Each runs in a process of its own, whose start and imports are not on the clock; files are in the system's cache. The
group is a table of (context, position).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.harness.subprocesses import Cost, peak, start_peak
from benchmarks.harness.synthetic import Family, TokenGroup
from benchmarks.harness.timing import WrongAnswer

_KEYS = ["context", "position"]
_HIVE = {"model": pl.String, "dataset": pl.String, "step": pl.Int64}


@dataclass(frozen=True)
class MeanJob:
    """The mean of a group's losses by step, to be computed in a process of its own."""

    slices: list[Path]
    steps: list[int]
    members: Path
    """Parquet: context, position of the group's losses."""
    means: Path
    """The .npy file of what must come out, float64 (steps,), in order of step."""


def mean_job(family: Family, group: TokenGroup) -> MeanJob:
    """The job of one group; writes its two files into the family's folder."""
    context, position = np.divmod(group.members, family.size.tokens - 1)
    members, means = family.folder / f"{group.name}.parquet", family.folder / f"{group.name}.means.npy"
    pl.DataFrame(
        {"context": context.astype(np.int32), "position": (position + 1).astype(np.int32)}
    ).write_parquet(members)
    np.save(means, family.losses[:, group.members].mean(axis=1, dtype=np.float64))
    return MeanJob(family.slices, family.size.labels, members, means)


def pandas_means(job: MeanJob) -> Cost:
    """Every slice by read_parquet, one frame of all, merged with the group, grouped by step."""
    import pandas as pd

    def means() -> np.ndarray:
        slices = [
            pd.read_parquet(path, columns=[*_KEYS, "loss"], partitioning=None).assign(step=step)
            for path, step in zip(job.slices, job.steps, strict=True)
        ]
        long = pd.concat(slices, ignore_index=True)
        chosen = long.merge(pd.read_parquet(job.members), on=_KEYS)
        by_step: np.ndarray = chosen.groupby("step")["loss"].mean().to_numpy()
        return by_step

    return _cost(job, means)


def polars_means(job: MeanJob) -> Cost:
    """One lazy plan over all slices: a semi join with the group, grouped by step."""

    def means() -> np.ndarray:
        long = pl.scan_parquet(job.slices, hive_partitioning=True, hive_schema=_HIVE)
        chosen = long.join(pl.scan_parquet(job.members, hive_partitioning=False), on=_KEYS, how="semi")
        mean = chosen.group_by("step").agg(pl.col("loss").cast(pl.Float64).mean()).sort("step").collect()
        return mean["loss"].to_numpy()

    return _cost(job, means)


def _cost(job: MeanJob, work: Callable[[], np.ndarray]) -> Cost:
    before = start_peak()
    start = time.perf_counter()
    losses = work()
    cost = Cost(time.perf_counter() - start, peak() - before)
    # pandas adds up in float32 where the losses are.
    if not np.allclose(losses, np.load(job.means), rtol=1e-4):
        raise WrongAnswer(f"{work.__qualname__}: the means are not the expected ones")
    return cost
