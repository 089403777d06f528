"""Intervals for mean losses and their differences: whole units of text are resampled, never single tokens.

Tokens of one context are not independent, nor are contexts of one document, so a unit (a context, a document or a
category of problems) is drawn whole. A mean over tokens is a ratio of two sums over units, R = Σ S_u / Σ n_u; every
resample draws as many units as the dataset has, with replacement, and takes both sums anew. One draw serves all
checkpoints, groups and models of a dataset, so that a difference is that of the same texts. Means over several
datasets resample each of them by itself.

Where a few contexts cost far more than the others, or long ones do, means are skewed and percentiles cover too seldom.
`studentised` resamples (R* − R)/se* instead, with se* by linearisation in each resample, and of a single mean on the
log scale. How skewed a mean is, is measured (`Estimate.skewness`).

What an interval covers is the choice of text: not that of the training run's seed. Losses are nats a token.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from trajstore.analysis.arrays import Floats
from trajstore.arguments import defaults
from trajstore.arguments.choices import IntervalKind
from trajstore.errors import BadOption

FEWEST = 50
"""Fewer units than this in a dataset are not resampled: Student's t takes the place of the bootstrap."""
FEWEST_STUDENTISED = 8
"""The same for studentised intervals."""
SKEWED = 0.2
"""A mean more skewed than this is covered too seldom: by the Edgeworth expansion of Student's t, 95 % lose 0.25 ·
skewness², and the skewness of a sample is often less than that of what it is drawn from."""

_BLOCK = 1 << 22
"""Weights that are turned into floats at once."""


@dataclass(frozen=True)
class Interval:
    """Method, level and resamples of an interval."""

    kind: IntervalKind = "bootstrap"
    """bootstrap: percentiles, or Student's t for few units; studentised; none leaves them out."""
    level: float = defaults.LEVEL
    """Share of such intervals that should cover the mean over all texts of the kind."""
    resamples: int = defaults.RESAMPLES
    seed: int = 0
    """Of the resampling; the same seed gives the same interval."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.kind not in get_args(IntervalKind):
            raise BadOption("ci", self.kind, "bootstrap, studentised or none")
        if not 0 < self.level < 1:
            raise BadOption("level", self.level, "a share between 0 and 1, as 0.95")
        if self.resamples < 100:
            raise BadOption("resamples", self.resamples, "100 or more")
        if self.seed < 0:
            raise BadOption("seed", self.seed, "0 or more")


@dataclass(frozen=True)
class Ratio:
    """The two sums, by unit, that a mean on one dataset is made of."""

    tokens: np.ndarray
    """Losses in each sum, float64 (units,), 1 at least."""
    sums: np.ndarray
    """float64 (rows, units), nats, all finite."""


@dataclass(frozen=True)
class Stratum:
    """One dataset's part in means that are added and subtracted."""

    dataset: str
    n_units: int
    """Units of the whole dataset, which are resampled together."""
    units: np.ndarray
    """Numbers of those that have tokens here, int64 (units,), ascending."""
    ratios: tuple[Ratio, ...]
    """One for each mean, with the same rows."""


@dataclass(frozen=True)
class Estimate:
    """Means, or a difference of means, of several checkpoints."""

    mean: np.ndarray
    """float64 (rows,), nats a token."""
    low: np.ndarray
    """Lower ends of the intervals, float64 (rows,); NaN where there are none."""
    high: np.ndarray
    kind: str
    """bootstrap, t, studentised or none."""
    skewness: np.ndarray
    """Of the means over choices of text, float64 (rows,): that of units divided by the root of their number."""


@dataclass
class Draws:
    """The resamples of each dataset, drawn once."""

    interval: Interval = field(default_factory=Interval)
    _drawn: dict[str, np.ndarray] = field(default_factory=dict)

    def weights(self, dataset: str, n_units: int) -> np.ndarray:
        """Return the count of each unit of a dataset in each resample, uint16 (resamples, n_units).

        Depends on the seed, the dataset's name and its number of units alone, not on what else is asked.
        """
        if dataset not in self._drawn:
            rng = np.random.default_rng([self.interval.seed, zlib.crc32(dataset.encode())])
            drawn = np.empty((self.interval.resamples, n_units), dtype=np.uint16)
            several = max(1, _BLOCK // n_units)
            for first in range(0, len(drawn), several):
                block = drawn[first : first + several]
                places = rng.integers(0, n_units, block.shape)
                places += np.arange(len(block))[:, None] * n_units
                block[:] = np.bincount(places.ravel(), minlength=block.size).reshape(block.shape)
            self._drawn[dataset] = drawn
        return self._drawn[dataset]

    def blocks(self, stratum: Stratum) -> Iterator[tuple[slice, Floats]]:
        """(some resamples, how often each draws the stratum's units, float64 (resamples, units)), until all are had."""
        drawn = self.weights(stratum.dataset, stratum.n_units)
        several = max(1, _BLOCK // stratum.n_units)
        for first in range(0, len(drawn), several):
            block = slice(first, first + several)
            yield block, drawn[block, stratum.units].astype(np.float64)


def estimate(strata: Sequence[Stratum], signs: Sequence[int], draws: Draws) -> Estimate:
    """Σ_k sign_k R_k with its interval, where R_k = Σ S_ku / Σ n_ku over the units of all strata.

    With `FEWEST` units or more in each stratum, the interval is the bootstrap's; with fewer it is R ± t · √variance,
    with the variance of `_variance`; with a stratum of one unit there is none. Studentised intervals take
    `FEWEST_STUDENTISED`.
    """
    interval = draws.interval
    mean = np.zeros(len(strata[0].ratios[0].sums))
    for k, sign in enumerate(signs):
        mean += sign * _total(strata, k) / _tokens(strata, k)
    counts = [len(stratum.units) for stratum in strata]
    nothing = np.full(len(mean), np.nan)
    if interval.kind == "none" or min(counts) < 2:
        return Estimate(mean, nothing, nothing, "none", nothing)
    skewness = _skewness(strata, signs)
    freedom = min(_freedom(strata, k) for k in range(len(signs)))
    if interval.kind == "studentised" and min(counts) >= FEWEST_STUDENTISED:
        return Estimate(mean, *studentised(strata, signs, draws), "studentised", skewness)
    if min(counts) < FEWEST:
        half = student(freedom, (1 + interval.level) / 2) * np.sqrt(_variance(strata, signs))
        return Estimate(mean, mean - half, mean + half, "t", skewness)
    tail = expanded_tail(interval.level, freedom, min(counts))
    means = resampled(strata, signs, draws)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0, overwrite_input=True)
    return Estimate(mean, low, high, "bootstrap", skewness)


def resampled(strata: Sequence[Stratum], signs: Sequence[int], draws: Draws) -> np.ndarray:
    """Σ_k sign_k R_k in each resample, float64 (resamples, rows).

    A resample in which one of the means has no token is drawn again: another one takes its place.
    """
    parts = [_resampled(strata, k, draws) for k in range(len(signs))]
    drawn = _drawn_again([tokens for _, tokens in parts])
    means = np.zeros((draws.interval.resamples, len(strata[0].ratios[0].sums)))
    for sign, (sums, tokens) in zip(signs, parts, strict=True):
        means += sign * sums[drawn] / tokens[drawn, None]
    return means


def _drawn_again(tokens: Sequence[np.ndarray]) -> np.ndarray | slice:
    """Numbers of resamples (resamples,): each its own, but others in place of those in which a mean has no token.

    `tokens` are those of each mean in each resample. Where few of many units have tokens, a resample may have none.
    """
    sound = np.logical_and.reduce([of_mean > 0 for of_mean in tokens])
    if sound.all() or not sound.any():
        return slice(None)
    numbers = np.arange(len(sound))
    numbers[~sound] = np.resize(numbers[sound], int((~sound).sum()))
    return numbers


def studentised(
    strata: Sequence[Stratum], signs: Sequence[int], draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of Σ_k sign_k R_k by the quantiles of (R* − R)/se* over resamples, each float64 (rows,).

    A single mean that is positive in all resamples is taken on the log scale, on which such means are less skewed.
    """
    whole = [_Moments.of(stratum, None) for stratum in strata]
    seen, error = _with_error(whole, signs)
    resamples = [_Moments.of(stratum, draws) for stratum in strata]
    many = len(signs)
    tokens = [np.add.reduce([moments.first[many + k] for moments in resamples])[:, 0] for k in range(many)]
    drawn = _drawn_again(tokens)
    means, errors = _with_error([moments.at(drawn) for moments in resamples], signs)
    logs = (seen[0] > 0) & (means > 0).all(axis=0) if len(signs) == 1 else np.zeros(seen.shape[1], dtype=bool)

    def scaled(values: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        safe = np.where(logs, values, 1.0)
        return np.where(logs, np.log(safe), values), np.where(logs, spread / safe, spread)

    (centre, spread), (resampled_means, spreads) = scaled(seen, error), scaled(means, errors)
    off = resampled_means - centre
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(off == 0, 0.0, off / spreads)
    tail = (1 - draws.interval.level) / 2
    upper, lower = np.quantile(times, [1 - tail, tail], axis=0, method="inverted_cdf")
    low, high = (np.where(spread[0] > 0, centre[0] - q * spread[0], centre[0]) for q in (upper, lower))
    return np.where(logs, np.exp(low), low), np.where(logs, np.exp(high), high)


@dataclass(frozen=True)
class _Moments:
    """Weighted sums over a stratum's units in each resample, of what variances of its means are made of."""

    count: np.ndarray
    """Units drawn that have tokens, float64 (resamples,)."""
    first: tuple[np.ndarray, ...]
    """By mean k, of the sums S_k (resamples, rows), then of the tokens n_k (resamples, 1)."""
    second: Mapping[tuple[int, int], np.ndarray]
    """Of products of any two of these, float64 (resamples, rows or 1)."""

    @classmethod
    def of(cls, stratum: Stratum, draws: Draws | None) -> _Moments:
        """Return the moments of the resamples, or of the units as they are where there are none, as one resample."""
        terms = [ratio.sums for ratio in stratum.ratios] + [ratio.tokens[None] for ratio in stratum.ratios]
        pairs = list(itertools.combinations_with_replacement(range(len(terms)), 2))

        def summed(values: Floats) -> Floats:
            if draws is None:
                total: Floats = values.sum(axis=1)[None]
                return total
            weighted = np.empty((draws.interval.resamples, len(values)))
            for block, weights in draws.blocks(stratum):
                weighted[block] = weights @ values.T
            return weighted

        second = {(a, b): summed(terms[a] * terms[b]) for a, b in pairs}
        return cls(summed(np.ones((1, len(stratum.units))))[:, 0], tuple(map(summed, terms)), second)

    def at(self, numbers: np.ndarray | slice) -> _Moments:
        """The moments of these resamples."""
        second = {pair: moment[numbers] for pair, moment in self.second.items()}
        return _Moments(self.count[numbers], tuple(moment[numbers] for moment in self.first), second)


def _with_error(moments: Sequence[_Moments], signs: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Σ_k sign_k R_k and its linearised standard error in each resample, both float64 (resamples, rows)."""
    many = len(signs)
    tokens = [np.add.reduce([stratum.first[many + k] for stratum in moments]) for k in range(many)]
    means = [np.add.reduce([stratum.first[k] for stratum in moments]) / tokens[k] for k in range(many)]
    weights = [sign / tokens[k] for k, sign in enumerate(signs)]
    weights += [-sign * means[k] / tokens[k] for k, sign in enumerate(signs)]
    variance = np.zeros_like(means[0])
    for stratum in moments:
        for (a, b), product in stratum.second.items():
            variance += (1 if a == b else 2) * weights[a] * weights[b] * product
        total = np.add.reduce([weight * first for weight, first in zip(weights, stratum.first, strict=True)])
        variance -= total**2 / np.maximum(stratum.count, 1)[:, None]
    total_mean: np.ndarray = np.add.reduce([sign * mean for sign, mean in zip(signs, means, strict=True)])
    return total_mean, np.sqrt(np.maximum(variance, 0))


def _total(strata: Sequence[Stratum], k: int) -> Floats:
    """The k-th mean's sums of losses, float64 (rows,)."""
    total: Floats = np.add.reduce([stratum.ratios[k].sums.sum(axis=1) for stratum in strata])
    return total


def _tokens(strata: Sequence[Stratum], k: int) -> float:
    return float(sum(stratum.ratios[k].tokens.sum() for stratum in strata))


def _resampled(strata: Sequence[Stratum], k: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """The k-th mean's sums (resamples, rows) and tokens (resamples,) in each resample."""
    resamples = draws.interval.resamples
    sums = np.zeros((resamples, len(strata[0].ratios[k].sums)))
    tokens = np.zeros(resamples)
    for stratum in strata:
        ratio = stratum.ratios[k]
        for block, weights in draws.blocks(stratum):
            sums[block] += weights @ ratio.sums.T
            tokens[block] += weights @ ratio.tokens
    return sums, tokens


def _variance(strata: Sequence[Stratum], signs: Sequence[int]) -> np.ndarray:
    """Variance of Σ_k sign_k R_k, float64 (rows,), by linearisation: the sum over units of Σ_k sign_k z_ku, squared."""
    variance = np.zeros(len(strata[0].ratios[0].sums))
    for parts in _linearised(strata, signs):
        variance += (parts**2).sum(axis=1)
    return variance


def _skewness(strata: Sequence[Stratum], signs: Sequence[int]) -> np.ndarray:
    """Third moment over the variance to the power 3/2 of Σ_k sign_k R_k, float64 (rows,); 0 where nothing varies."""
    squares = np.zeros(len(strata[0].ratios[0].sums))
    cubes = np.zeros_like(squares)
    for parts in _linearised(strata, signs):
        square = parts * parts
        squares += square.sum(axis=1)
        cubes += (square * parts).sum(axis=1)  # parts**3 takes thirty times as long
    return np.divide(cubes, squares**1.5, out=np.zeros_like(cubes), where=squares > 0)


def _linearised(strata: Sequence[Stratum], signs: Sequence[int]) -> Iterator[np.ndarray]:
    """Return each unit's part in Σ_k sign_k R_k, Σ_k sign_k z_ku, float64 (rows, units).

    z_ku = (S_ku − R_k n_ku) / N_k, less its mean in the stratum, is divided by √(1 − h_ku), where h_ku is the unit's
    share of its stratum's tokens: a long unit draws the mean to itself, so that its residual is too small (the
    bias-reduced linearisation of Bell and McCaffrey 2002, Survey Methodology 28:169–181, for a mean over clusters).
    Units of the same size give the usual C/(C − 1).
    """
    for stratum in strata:
        parts = np.zeros_like(stratum.ratios[0].sums)
        for k, sign in enumerate(signs):
            total, tokens = _tokens(strata, k), stratum.ratios[k].tokens
            mean = _total(strata, k) / total
            changes = (stratum.ratios[k].sums - mean[:, None] * tokens) / total
            changes -= changes.mean(axis=1, keepdims=True)
            parts += sign * changes / np.sqrt(1 - tokens / tokens.sum())
        yield parts


def _freedom(strata: Sequence[Stratum], k: int) -> float:
    """Degrees of freedom: Kish's effective number of units, (Σ n)² / Σ n², less one for each stratum.

    Units of the same size give their number less one, Student's. Long contexts among short ones weigh more.
    """
    squares = sum(float((stratum.ratios[k].tokens ** 2).sum()) for stratum in strata)
    return max(1.0, _tokens(strata, k) ** 2 / squares - len(strata))


def student(freedom: float, share: float) -> float:
    """A quantile of Student's distribution."""
    from scipy.special import stdtrit  # scipy.stats takes half a second to load

    return float(stdtrit(freedom, share))


def expanded_tail(level: float, freedom: float, units: int) -> float:
    """The share of resampled means to leave out at each end: a little less than (1 − level)/2.

    Plain percentiles are too narrow by √((C − 1)/C), and as if the variance were known. Φ(√(C/(C − 1)) · t) of the
    quantile t of Student's distribution mends both (Hesterberg 2015, What Teachers Should Know About the Bootstrap,
    The American Statistician 69:371–386, the expanded percentile interval).
    """
    from scipy.special import ndtr

    return float(ndtr(np.sqrt(units / (units - 1)) * student(freedom, (1 - level) / 2)))
