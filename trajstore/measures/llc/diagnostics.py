"""Diagnostics of Markov chains: R̂, and the number of independent draws that theirs are worth. NumPy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Chains = npt.NDArray[np.float64]
"""(chains, draws)."""


def r_hat(chains: Chains) -> float:
    """√(pooled variance / variance within) over the halves of the chains: 1 where they agree; NaN for under 4 draws."""
    half = chains.shape[1] // 2
    if half < 2:
        return float("nan")
    parts = np.concatenate([chains[:, :half], chains[:, -half:]])
    within = parts.var(axis=1, ddof=1).mean()
    between = half * parts.mean(axis=1).var(ddof=1)
    if not within > 0:
        return float("nan")
    return float(np.sqrt(((half - 1) / half * within + between / half) / within))


def effective_sample_size(chains: Chains) -> float:
    """Independent draws that have the same standard error of the mean; NaN for under 4 draws or none that differ.

    The autocorrelation is that of all chains together, summed up over pairs of lags while these are above 0 and fall
    (Geyer's initial monotone sequence).
    """
    number, draws = chains.shape
    if draws < 4:
        return float("nan")
    centred = chains - chains.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * draws)
    covariance = np.fft.irfft(spectrum * spectrum.conj())[:, :draws].mean(axis=0) / draws
    within = covariance[0] * draws / (draws - 1)
    pooled = within * (draws - 1) / draws
    if number > 1:
        pooled += chains.mean(axis=1).var(ddof=1)
    if not within > 0:
        return float("nan")
    correlation = 1 - (within - covariance * draws / (draws - 1)) / pooled
    correlation[0] = 1
    pairs = correlation[: draws // 2 * 2].reshape(-1, 2).sum(axis=1)
    end = np.argmax(pairs <= 0) if (pairs <= 0).any() else len(pairs)
    time = 2 * np.minimum.accumulate(pairs[:end]).sum() - 1
    return float(number * draws / max(time, 1 / np.log10(number * draws)))
