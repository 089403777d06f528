"""The cube: losses counted and summed by checkpoint, group and bin of loss, made once for many questions.

Each slice is read once, for all groups. What is asked of the cube afterwards, as the losses from 2 to 5 nats by step,
or how those of steps 100 to 1000 are distributed, takes milliseconds, whatever the number of losses. Counts are exact,
and so are means over whole bins; a median is the middle of its bin, at most half a bin from the true one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.errors import TrajstoreError, listed
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.matrix.matrix import Sites, SliceRead, each_slice, take_losses, union_of
from trajstore.store.matrix.selection import Selection, sites_by_dataset

if TYPE_CHECKING:
    from trajstore.store.store import Store

BINS = 320
_PER_ROOT = 64
EDGES = np.append((np.arange(BINS) / _PER_ROOT) ** 2, np.inf)
"""Edges of the bins, nats (BINS + 1,): narrow for low losses, 0.03 wide at 1 nat and 0.12 at 16; the last is open."""
MOST_GROUPS = 32

Checkpoints = Mapping[str, Sequence[tuple[str, int]]]
"""(model, step) by dataset."""


@dataclass(frozen=True)
class LossCube:
    """Counts and sums of losses by checkpoint, group and bin."""

    checkpoints: pl.DataFrame
    """dataset (String), model (String), step (Int64) of the rows."""
    groups: Sequence[str]
    cells: np.ndarray
    """float64 (2, checkpoints, groups, BINS): the number of losses, and their sum in nats."""

    @classmethod
    def of(cls, checkpoints: Checkpoints, groups: Sequence[str], cells: np.ndarray) -> LossCube:
        """The cube of these `loss_cells`."""
        rows = [(dataset, *row) for dataset, of_dataset in checkpoints.items() for row in of_dataset]
        schema = {"dataset": pl.String, "model": pl.String, "step": pl.Int64}
        return cls(pl.DataFrame(rows, schema=schema, orient="row"), groups, cells)

    def curves(self, low: float = 0.0, high: float = np.inf) -> pl.DataFrame:
        """Losses by step of those in the bins from `low` to `high` nats: n, mean, median and how far it may be off.

        Columns group, dataset, model, step, n (Int64), mean, median, median_error (nats). A checkpoint without such
        losses of a group has no row; a median in the last, open bin is null.
        """
        first, end = bins_between(low, high)
        counts, sums = self.cells[..., first:end]
        n = counts.sum(axis=2)
        median, error = _medians(counts, EDGES[first : end + 1])
        with np.errstate(invalid="ignore"):
            means = sums.sum(axis=2) / n
        parts = [
            self.checkpoints.select(
                pl.lit(group).alias("group"),
                pl.all(),
                pl.Series("n", n[:, number].astype(np.int64)),
                pl.Series("mean", means[:, number]),
                pl.Series("median", median[:, number], nan_to_null=True),
                pl.Series("median_error", error[:, number], nan_to_null=True),
            )
            for number, group in enumerate(self.groups)
        ]
        return pl.concat(parts).filter(pl.col("n") > 0)

    def density(self, first: int = 0, last: int | None = None) -> pl.DataFrame:
        """Losses by bin of the steps from `first` to `last`: how many, and which share of the group's they are.

        Columns group, dataset, model, low, high (nats; null for the last bin's end), n (Int64), share. Empty bins have
        no row.
        """
        within = pl.col("step").is_between(first, 2**63 - 1 if last is None else last)
        chosen = self.checkpoints.with_row_index("row").filter(within)
        parts = []
        for (dataset, model), rows in chosen.group_by("dataset", "model", maintain_order=True):
            counts = self.cells[0, rows["row"].to_numpy()].sum(axis=0)
            for number, group in enumerate(self.groups):
                bins = np.flatnonzero(counts[number])
                n = counts[number, bins]
                labels = [
                    pl.lit(name).alias(of) for of, name in zip(_LABELS, (group, dataset, model), strict=True)
                ]
                columns = {"low": EDGES[bins], "high": EDGES[bins + 1], "n": n.astype(np.int64)}
                parts.append(
                    pl.DataFrame({**columns, "share": n / max(1, n.sum())}).select(*labels, pl.all())
                )
        if not parts:
            raise TrajstoreError("No checkpoint lies within these steps. See what is there: trajstore status")
        return pl.concat(parts).with_columns(pl.col("high").replace(np.inf, None))


_LABELS = ("group", "dataset", "model")


def loss_cells(
    store: Store,
    checkpoints: Checkpoints,
    groups: Sequence[str],
    selection: Selection | None = None,
    progress: Progress = SILENT,
) -> np.ndarray:
    """The cells of the cube of these checkpoints and groups, see `LossCube`.

    A partial slice counts with the losses that it has, and is said. Raises `NothingChosen` where no dataset has a token
    of the groups, otherwise as `trajectories`.
    """
    if len(groups) > MOST_GROUPS:
        raise TrajstoreError(f"{len(groups)} groups; a cube has at most {MOST_GROUPS}. Choose fewer.")
    store.groups.check(*groups)
    cells = np.zeros((2, sum(map(len, checkpoints.values())), len(groups), BINS))
    ends = dict(zip(checkpoints, np.cumsum(list(map(len, checkpoints.values()))), strict=True))

    def skipped(dataset: str) -> None:
        progress.advance(len(checkpoints[dataset]), dataset)

    chosen = selection or Selection()
    with bar(progress, "cube", cells.shape[1], "slices"):
        for dataset, sites in sites_by_dataset(store, chosen, checkpoints, groups, skipped):
            rows = checkpoints[dataset]
            part = cells[:, ends[dataset] - len(rows) : ends[dataset]]
            _count(store, rows, [sites.get(group) for group in groups], part, progress)
    return cells


def bins_between(low: float, high: float) -> tuple[int, int]:
    """(first, end) of the bins that a range of losses in nats touches."""
    first = int(np.clip(np.searchsorted(EDGES, low, "right") - 1, 0, BINS - 1))
    return first, max(first + 1, min(BINS, int(np.searchsorted(EDGES, high, "left"))))


def _count(
    store: Store,
    rows: Sequence[tuple[str, int]],
    groups: Sequence[Sites | None],
    cells: np.ndarray,
    progress: Progress,
) -> None:
    """Count the losses of one dataset's checkpoints into their cells."""
    there = [sites for sites in groups if sites is not None]
    union = there[0] if len(there) == 1 else union_of(there)
    # A loss is counted once, under the set of groups that it is in; groups then add up their sets.
    of_site = np.zeros(len(union.tokens), dtype=np.int64)
    for number, sites in enumerate(groups):
        if sites is not None:
            of_site[np.searchsorted(union.tokens, sites.tokens)] |= 1 << number
    sets, place = np.unique(of_site, return_inverse=True)
    place *= BINS
    inside = (sets[:, None] >> np.arange(len(groups)) & 1).astype(np.float64)

    partial: list[str] = []

    def add(job: SliceRead) -> bool:
        losses = np.empty(len(union.tokens), dtype=np.float32)
        at = place
        if take_losses(job, losses).partial:
            partial.append(f"{job.model} at step {job.step}")
            known = ~np.isnan(losses)
            losses, at = losses[known], place[known]
        bins = np.sqrt(np.maximum(losses, 0))
        bins *= _PER_ROOT
        cell = np.minimum(bins, BINS - 1).astype(np.int64)
        cell += at
        size = len(sets) * BINS
        for values, into in zip((None, losses), cells, strict=True):
            by_set = np.bincount(cell, values, size).reshape(len(sets), BINS)
            into[job.row] = inside.T @ by_set
        return False

    each_slice(store.path, rows, [union], add, "nan", progress=progress)
    if partial:
        progress.say(f"Partial slices count with the contexts they have: {listed(sorted(partial), 5)}.")


def _medians(counts: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middle of the bins that hold the middle losses, half their width), NaN where they are open or there are none."""
    total = counts.cumsum(axis=-1)
    n = total[..., -1:]
    lower = (total < np.floor((n + 1) / 2)).sum(axis=-1)
    upper = (total < np.floor(n / 2) + 1).sum(axis=-1)
    last = counts.shape[-1] - 1
    low, high = edges[np.minimum(lower, last)], edges[np.minimum(upper, last) + 1]
    high = np.where((n[..., 0] > 0) & np.isfinite(high), high, np.nan)
    return (low + high) / 2, (high - low) / 2
