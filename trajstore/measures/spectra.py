"""Numbers of a spectrum: the non-negative singular values of a matrix, or eigenvalues of a covariance. NumPy only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Spectrum = npt.NDArray[np.float64]


def effective_rank(values: npt.ArrayLike) -> float:
    """exp(−Σ p ln p) with p the values' shares of their sum: n for n equal values; NaN where all are 0."""
    spectrum = np.asarray(values, np.float64)
    total = spectrum.sum()
    if not total > 0:
        return float("nan")
    shares = spectrum[spectrum > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def decay_exponent(values: npt.ArrayLike, first: int, last: int) -> float:
    """α of the fit λᵢ ∝ i^−α to the descending values first … last, counted from 1; NaN where fewer than 3 are above 0.

    Least squares of ln λ on ln i, each value weighted by 1/i, so that every range of ln i counts the same.
    """
    spectrum = np.asarray(values, np.float64)[first - 1 : last]
    spectrum = spectrum[spectrum > 0]
    if len(spectrum) < 3:
        return float("nan")
    rank = np.arange(first, first + len(spectrum), dtype=np.float64)
    slope, _ = np.polyfit(np.log(rank), np.log(spectrum), 1, w=rank**-0.5)
    return -float(slope)
