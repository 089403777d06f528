"""Similarity of two sets of losses of the same tokens: correlations, distances, and their intervals over texts.

All but the rank correlation follows from sums over units of text (contexts), so that an interval resamples units and
costs no second look at the tokens. Losses are nats. Arrays in, numbers out; which losses they are is known elsewhere.

Two models' losses correlate by almost 1 as soon as both have learned how frequent tokens are. The partial correlation
takes that out: r_xy·z = (r_xy − r_xz r_yz) / √((1 − r_xz²)(1 − r_yz²)), the correlation of the residuals of linear
regressions on z (Yule 1907, On the Theory of Correlation for any Number of Variables, Proceedings of the Royal Society
A 79:182–193); z is the log of a token's frequency in its dataset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trajstore.analysis.arrays import Floats, Whole
from trajstore.analysis.statistics.bootstrap import FEWEST, Draws, expanded_tail, student
from trajstore.errors import BadOption

STATISTICS = ("pearson", "partial", "rms", "difference")
"""Of x and y: correlation, the same given z, √mean (x − y)² and mean x − y in nats."""

_CORRELATIONS = 2
"""Number of `STATISTICS`, the first ones, that lie between −1 and 1; the next is above 0."""


@dataclass(frozen=True)
class Similarity:
    """Similarity of two sets of losses, in the order of `STATISTICS`."""

    values: np.ndarray
    """float64 (4,); NaN where a variance is 0."""
    low: np.ndarray
    """Ends of the intervals, float64 (4,); NaN where there are none."""
    high: np.ndarray
    spearman: float
    """Correlation of the ranks, ties at their mean rank; without an interval, since it is no function of sums."""
    tokens: int
    units: int
    """Units that have tokens."""
    interval: str
    """bootstrap, jackknife or none."""


def compare_losses(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    unit: np.ndarray,
    dataset: str,
    n_units: int,
    draws: Draws,
    ranks: tuple[np.ndarray, np.ndarray] | None = None,
) -> Similarity:
    """x and y given z, float (tokens,); `unit` is the number of each token's unit among `n_units` of a dataset.

    Tokens that either lacks (NaN) are left out. `ranks` are those of x and y, if known, as `ranked` gives them.
    With `bootstrap.FEWEST` units or more that have tokens, intervals are percentiles over resampled units, as for mean
    losses; with fewer, by leaving out each unit in turn (the jackknife) and Student's t, on Fisher's scale atanh r for
    correlations and on a log scale for the root mean square. With fewer than three there is none.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.all():
        x, y, z, unit, ranks = x[finite], y[finite], z[finite], unit[finite], None
    sums = sums_by_unit(x, y, z, unit, n_units)
    values = statistics(sums.sum(axis=0))
    nothing = np.full(len(STATISTICS), np.nan)
    used = sums[sums[:, 0] > 0]
    interval = draws.interval
    spearman = rank_correlation(*(ranks or (ranked(x), ranked(y))))
    if interval.kind == "none" or len(used) < 3:
        return Similarity(values, nothing, nothing, spearman, len(x), len(used), "none")
    if len(used) < FEWEST:
        low, high = _jackknife(used, interval.level)
        return Similarity(values, low, high, spearman, len(x), len(used), "jackknife")
    resampled = statistics(draws.weights(dataset, n_units).astype(np.float64) @ sums)
    tail = expanded_tail(interval.level, len(used) - 1, len(used))
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return Similarity(values, low, high, spearman, len(x), len(used), "bootstrap")


def sums_by_unit(x: np.ndarray, y: np.ndarray, z: np.ndarray, unit: np.ndarray, n_units: int) -> np.ndarray:
    """Sums over each unit's tokens, float64 (n_units, 12): tokens, x, y, z, x², y², z², xy, xz, yz, x − y, (x − y)².

    x, y and z are taken less their means, which changes no statistic and keeps the sums exact.
    """
    x, y, z = (values.astype(np.float64) for values in (x, y, z))
    apart = x - y
    if len(x):
        x, y, z = (values - values.mean() for values in (x, y, z))
    products = (x, y, z, x * x, y * y, z * z, x * y, x * z, y * z, apart, apart * apart)
    sums = [np.bincount(unit, weights=values, minlength=n_units) for values in (np.ones(len(x)), *products)]
    return np.stack(sums, axis=1)


def statistics(sums: np.ndarray) -> np.ndarray:
    """`STATISTICS` from sums (…, 12) as of `sums_by_unit`, float64 (…, 4).

    A correlation is NaN where a variance is 0, and so is the partial one where z leaves nothing of x or y.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        n, x, y, z, xx, yy, zz, xy, xz, yz, apart, squared = np.moveaxis(sums, -1, 0)
        xx, yy, zz = xx - x * x / n, yy - y * y / n, zz - z * z / n
        xy, xz, yz = xy - x * y / n, xz - x * z / n, yz - y * z / n
        # What is left of a variance by rounding alone is none.
        xx, yy, zz = (np.where(variance > 1e-12 * n, variance, np.nan) for variance in (xx, yy, zz))
        of_xy, of_xz, of_yz = xy / np.sqrt(xx * yy), xz / np.sqrt(xx * zz), yz / np.sqrt(yy * zz)
        # So is what z leaves of a variance, where it leaves that little of it.
        rest_x, rest_y = (np.where(rest > 1e-12, rest, np.nan) for rest in (1 - of_xz**2, 1 - of_yz**2))
        partial = (of_xy - of_xz * of_yz) / np.sqrt(rest_x * rest_y)
        table = np.stack([of_xy, partial, np.sqrt(squared / n), apart / n], axis=-1)
    table[..., :_CORRELATIONS] = np.clip(table[..., :_CORRELATIONS], -1, 1)
    return table


def ranked(x: Floats) -> Floats:
    """Ranks less their mean, float64 (tokens,); equal values have the mean of their ranks."""
    from scipy.stats import rankdata

    ranks: Floats = rankdata(x) - (len(x) + 1) / 2
    return ranks


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's correlation: Pearson's of ranks as of `ranked`; NaN where all are equal."""
    scale = np.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second / scale) if scale else float("nan")


def _jackknife(sums: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the intervals from sums of each unit left out in turn, float64 (4,)."""
    total = sums.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, without = _spread(statistics(total)), _spread(statistics(total - sums))
        n = len(sums)
        variance = (n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
        half = student(n - 1, (1 + level) / 2) * np.sqrt(variance)
        return _unspread(whole - half), _unspread(whole + half)


def _spread(values: np.ndarray) -> np.ndarray:
    """Statistics (…, 4) on scales without ends."""
    spread = values.copy()
    spread[..., :_CORRELATIONS] = np.arctanh(values[..., :_CORRELATIONS])
    spread[..., _CORRELATIONS] = np.log(values[..., _CORRELATIONS])
    return spread


def _unspread(values: np.ndarray) -> np.ndarray:
    unspread = values.copy()
    unspread[..., :_CORRELATIONS] = np.tanh(values[..., :_CORRELATIONS])
    unspread[..., _CORRELATIONS] = np.exp(values[..., _CORRELATIONS])
    return unspread


def log_frequency(tokens: np.ndarray) -> np.ndarray:
    """Log of each token's share among all tokens of its dataset, float64 (tokens,); `tokens` are vocabulary ids."""
    _, kind, occurrences = np.unique(tokens, return_inverse=True, return_counts=True)
    return np.log(occurrences / len(tokens))[kind]


def check_share(share: float) -> None:
    """Raise `BadOption` unless so large a share of the tokens can be outliers."""
    if not 0 < share < 0.5:
        raise BadOption("outliers", share, "a share of the tokens above 0 and below 0.5, as 0.01")


def outliers(difference: Floats, share: float) -> Whole:
    """Numbers of the tokens with the largest |difference|, int64, from the largest on; NaN and 0 never are.

    They are a `share` of the tokens that have a difference, one at least, and those that are equal to the last of them.
    """
    check_share(share)
    size = np.abs(difference)
    differing = np.flatnonzero(size > 0)
    if not len(differing):
        return differing
    count = max(1, round(share * int(np.isfinite(size).sum())))
    ordered = differing[np.argsort(-size[differing], kind="stable")]
    least = size[ordered[min(count, len(ordered)) - 1]]
    largest: Whole = ordered[size[ordered] >= least]
    return largest


@dataclass(frozen=True)
class Density:
    """Counts of points in each cell of a grid, for more points than can be told apart."""

    x: tuple[float, ...]
    """Edges of the columns, ascending."""
    y: tuple[float, ...]
    """Edges of the rows, ascending."""
    counts: tuple[tuple[int, ...], ...]
    """By row, then column; a cell of no point is left empty, the others are coloured by the logarithm."""
    unit: str
    """Unit of the counts, in words."""
