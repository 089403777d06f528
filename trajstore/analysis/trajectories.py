"""Trajectories: a group's mean loss by step, with an interval that respects contexts.

Tokens of one context are not independent, contexts are; so the interval is that of a ratio estimated from whole
contexts. Losses are nats a token. A step without a slice has no row: missing is absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

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
    """Mean loss of the matrix's columns by model, dataset and step, with the columns of `SCHEMA`.

    The mean over tokens is a ratio of two sums over contexts, R = Σ S_c / Σ n_c; its variance by linearisation is
    C/(C−1) · Σ (S_c − R n_c)² / (Σ n_c)² (Cochran, Sampling Techniques, 3rd ed., ratio estimates, chapter 6), and the
    interval R ± t · √variance with C−1 degrees of freedom. With one context there is no interval (null).
    """
    parts = [
        _one_dataset(matrix, dataset, confidence)
        for dataset in matrix.columns["dataset"].unique(maintain_order=True)
    ]
    return pl.concat(parts)


def _one_dataset(matrix: LossMatrix, dataset: str, confidence: float) -> pl.DataFrame:
    """The trajectory over one dataset's columns, which lie side by side."""
    inside = np.flatnonzero((matrix.columns["dataset"] == dataset).to_numpy())
    first, end = int(inside[0]), int(inside[-1]) + 1
    context = matrix.columns["context"].to_numpy()[first:end]
    starts = np.flatnonzero(np.diff(context, prepend=context[0] - 1))
    n = np.diff(np.append(starts, end - first)).astype(float)
    mean, half = ratio_interval(_context_sums(matrix.values[:, first:end], starts), n, confidence)
    there = np.isfinite(mean)
    return pl.DataFrame(
        {
            "model": matrix.rows["model"].filter(pl.Series(there)),
            "dataset": [dataset] * int(there.sum()),
            "step": matrix.rows["step"].filter(pl.Series(there)),
            "tokens": [end - first] * int(there.sum()),
            "contexts": [len(n)] * int(there.sum()),
            "mean": mean[there],
            "low": (mean - half)[there],
            "high": (mean + half)[there],
        },
        schema=SCHEMA,
        nan_to_null=True,
    )


def _context_sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sum of the losses of each context, float64 (rows, contexts)."""
    sums = np.empty((len(values), len(starts)))
    for row, losses in enumerate(values):
        np.add.reduceat(losses, starts, dtype=np.float64, out=sums[row])
    return sums


def ratio_interval(sums: np.ndarray, n: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """(mean, half width of its interval), each (rows,), from sums (rows, contexts) and tokens a context (contexts,)."""
    from scipy.special import stdtrit  # the quantile of t; scipy.stats takes half a second to load

    total = n.sum()
    mean = sums.sum(axis=1) / total
    clusters = len(n)
    if clusters < 2:
        return mean, np.full(len(mean), np.nan)
    residuals = sums - mean[:, None] * n
    variance = clusters / (clusters - 1) * (residuals**2).sum(axis=1) / total**2
    return mean, stdtrit(clusters - 1, (1 + confidence) / 2) * np.sqrt(variance)
