"""Trajectories: a group's mean loss by step, with an interval that respects contexts.

Tokens of one context are not independent, contexts are; so the interval is that of a ratio estimated from whole
contexts. Losses are nats a token. A step without a slice has no row: missing is absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.store.sums import ContextSums

if TYPE_CHECKING:
    from trajstore.store.matrix import LossMatrix

SCHEMA = {
    "model": pl.String,
    "dataset": pl.String,
    "step": pl.Int64,
    "tokens": pl.Int64,
    "contexts": pl.Int64,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
"""Columns of a trajectory; mean, low and high are nats a token."""


def group_trajectory(matrix: LossMatrix, confidence: float = 0.95) -> pl.DataFrame:
    """Mean loss of the matrix's columns by model, dataset and step, with the columns of `SCHEMA`; see `trajectory`."""
    datasets = matrix.columns["dataset"].unique(maintain_order=True)
    return pl.concat([trajectory(_by_context(matrix, dataset), confidence) for dataset in datasets])


def trajectory(losses: ContextSums, confidence: float = 0.95) -> pl.DataFrame:
    """Mean loss of a group by model, dataset and step, with the columns of `SCHEMA`.

    The mean over tokens is a ratio of two sums over contexts, R = Σ S_c / Σ n_c; its variance by linearisation is
    C/(C−1) · Σ (S_c − R n_c)² / (Σ n_c)² (Cochran, Sampling Techniques, 3rd ed., ratio estimates, chapter 6), and the
    interval R ± t · √variance with C−1 degrees of freedom. With one context there is no interval (null).
    """
    mean, half = ratio_interval(losses.sums, losses.tokens, confidence)
    there = np.isfinite(mean)
    return (
        losses.rows.select("model", "step")
        .with_columns(
            dataset=pl.lit(losses.dataset),
            tokens=pl.lit(int(losses.tokens.sum())),
            contexts=pl.lit(len(losses.tokens)),
            mean=mean,
            low=mean - half,
            high=mean + half,
        )
        .filter(pl.Series(there))
        .select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        .with_columns(pl.col("low", "high").fill_nan(None))
    )


def _by_context(matrix: LossMatrix, dataset: str) -> ContextSums:
    """Sums over one dataset's columns, which lie side by side in order of context."""
    inside = np.flatnonzero((matrix.columns["dataset"] == dataset).to_numpy())
    first, end = int(inside[0]), int(inside[-1]) + 1
    context = matrix.columns["context"].to_numpy()[first:end]
    starts = np.flatnonzero(np.diff(context, prepend=context[0] - 1))
    sums = np.empty((len(matrix.values), len(starts)))
    for row, losses in enumerate(matrix.values):
        np.add.reduceat(losses[first:end], starts, dtype=np.float64, out=sums[row])
    return ContextSums(dataset, matrix.rows, np.diff(np.append(starts, end - first)), sums)


def ratio_interval(sums: np.ndarray, n: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean, half width of its interval), each (rows,), from sums (rows, contexts) and tokens a context (contexts,)."""
    from scipy.special import stdtrit  # the quantile of t; scipy.stats takes half a second to load

    total = float(n.sum())
    mean = sums.sum(axis=1) / total
    clusters = len(n)
    if clusters < 2:
        return mean, np.full(len(mean), np.nan)
    residuals = sums - mean[:, None] * n
    variance = clusters / (clusters - 1) * (residuals**2).sum(axis=1) / total**2
    return mean, stdtrit(clusters - 1, (1 + confidence) / 2) * np.sqrt(variance)
