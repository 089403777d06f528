"""Change points: a curve over log step cut into stretches, each of them a straight line.

The cuts are those with the least squares among all ways to cut into so many stretches of `LEAST` checkpoints or more,
found by dynamic programming. Stretches need not meet: a kink and a jump are both a cut. A place is that of
`schedule.Schedule`, in doublings of the step, and each checkpoint counts once.

How many changes there are is told against noise: k are enough where noise alone makes the most cuts better than k by as
much in more than `CHANCE` of simulated curves. Noise is AR(1) along checkpoints, which makes flat curves look cut; how
strongly is read from what the most cuts leave, against what they leave of simulated noise, and the next stronger of
`RHOS` is taken. Simulated on Pythia's steps, flat curves were cut in at most 5 of 100 cases up to ρ = 0.8; where noise
lasts longer than a stretch, and with few checkpoints (21: up to a fifth, from ρ = 0.8 on), it is not told from changes.

Arrays in, arrays out. Own code rather than ruptures: that takes evenly spaced places for lines, cuts one curve at a
time, and leaves the number of changes to a penalty, where here a thousand curves are cut at once, over log step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from trajstore.analysis.ar1 import neighbours, simulate

LEAST = 3
"""Checkpoints of a stretch; two are always a line."""
CHANCE = 0.05
RHOS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98)

_SIMULATED = 200
_TOGETHER = 1 << 22
"""Costs of stretches held at once."""


@dataclass(frozen=True)
class Cut:
    """A curve, cut."""

    starts: np.ndarray
    """The first checkpoint of each stretch but the first, int64 (changes,)."""
    fitted: np.ndarray
    """The lines, float64 (checkpoints,)."""
    rho: float
    """Of the noise."""
    noise: float
    """Its standard deviation, in the curve's units."""


def most_changes(checkpoints: int, asked: int) -> int:
    """How many changes can be looked for: stretches of twice the least length, on average, or longer."""
    return max(0, min(asked, checkpoints // (2 * LEAST) - 1))


def cut(places: np.ndarray, values: np.ndarray, most: int = 5, seed: int = 0) -> Cut:
    """The changes of one curve, `most` at most; `places` ascend, and both are float64 (checkpoints,)."""
    most = most_changes(len(values), most)
    squares, starts = least_squares(places, values[None], most)
    squares = squares[0]
    left = values - lines(places, values, starts[most][0])
    rho_at, noise_at = _noise_of(left, tuple(places.tolist()), most, seed)
    scale = float((values - values.mean()) @ (values - values.mean()))
    changes = most
    for k in range(most):
        if squares[k] <= 1e-20 * scale or _is_enough(squares, k, rho_at, tuple(places.tolist()), most, seed):
            changes = k
            break
    found = starts[changes][0]
    return Cut(found, lines(places, values, found), RHOS[rho_at], noise_at)


def least_squares(places: np.ndarray, curves: np.ndarray, most: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The best cuts of curves (curves, checkpoints) with 0 to `most` changes.

    Returns the sums of squares that they leave, float64 (curves, most + 1), and for each number of changes the first
    checkpoints of the stretches after the first, int64 (curves, changes).
    """
    n = curves.shape[1]
    several = max(1, _TOGETHER // n**2)
    squares = np.empty((len(curves), most + 1))
    starts = [np.empty((len(curves), k), dtype=np.int64) for k in range(most + 1)]
    for first in range(0, len(curves), several):
        part = slice(first, first + several)
        for k, (left, begins) in enumerate(_best(_costs(places, curves[part]), most)):
            squares[part, k] = left
            starts[k][part] = begins
    return squares, starts


def lines(places: np.ndarray, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The straight lines of least squares through the stretches that begin at 0 and at `starts`."""
    fitted = np.empty(len(values))
    ends = [0, *starts.tolist(), len(values)]
    for first, end in itertools.pairwise(ends):
        x, y = places[first:end], values[first:end]
        off = x - x.mean()
        fitted[first:end] = y.mean() + off * (off @ y) / (off @ off)
    return fitted


def redrawn(places: np.ndarray, found: Cut, off: np.ndarray, seed: int = 0) -> np.ndarray:
    """The changes in each of many curves like this one, int64 (curves, changes).

    A curve is the lines, with noise drawn anew and `off` (curves, checkpoints), how far the means of resampled texts
    lie from those of all.
    """
    rng = np.random.default_rng(seed)
    curves = found.fitted + off + found.noise * simulate(len(places), len(off), found.rho, rng)
    _, starts = least_squares(places, curves, len(found.starts))
    return starts[-1]


def _costs(places: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Squares that a line leaves of the checkpoints first to last, float64 (curves, first, last); inf where too few."""
    n = len(places)
    x = places - places.mean()
    y = curves - curves.mean(axis=1, keepdims=True)

    def between(values: np.ndarray) -> np.ndarray:
        summed = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
        sums: np.ndarray = summed[..., None, 1:] - summed[..., :-1, None]
        return sums

    first, last = np.indices((n, n))
    count = np.maximum(last - first + 1, 1)
    sx, sxx = between(x), between(x * x)
    spread = np.where(last - first >= 1, sxx - sx**2 / count, 1)
    sy = between(y)
    squares = between(y * y)
    squares -= sy**2 / count
    squares -= (between(x * y) - sx * sy / count) ** 2 / spread
    np.maximum(squares, 0, out=squares)
    squares[:, last - first + 1 < LEAST] = np.inf
    return squares


def _best(costs: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For 0 to `most` changes: the least squares (curves,) and where its stretches begin (curves, changes)."""
    n = costs.shape[1]
    total = costs[:, 0, :]
    yield total[:, -1], np.empty((len(costs), 0), dtype=np.int64)
    came = []
    for k in range(1, most + 1):
        reached = np.full_like(total, np.inf)
        begins = np.zeros(total.shape, dtype=np.int64)
        for last in range((k + 1) * LEAST - 1, n):
            ways = total[:, :last] + costs[:, 1 : last + 1, last]
            begins[:, last] = ways.argmin(axis=1) + 1
            reached[:, last] = ways.min(axis=1)
        came.append(begins)
        total = reached
        yield total[:, -1], _back(came, n)


def _back(came: list[np.ndarray], n: int) -> np.ndarray:
    """Where the stretches begin, from the last to the first."""
    rows = np.arange(len(came[0]))
    ends = np.full(len(rows), n - 1)
    found = []
    for begins in reversed(came):
        found.append(begins[rows, ends])
        ends = found[-1] - 1
    return np.stack(found[::-1], axis=1)


def _noise_of(left: np.ndarray, places: tuple[float, ...], most: int, seed: int) -> tuple[int, float]:
    """Number in `RHOS` of the noise, taken one stronger, and its size, from what the most cuts leave."""
    _, correlations, kept = _simulated(places, most, seed)
    at = int(np.abs(correlations - neighbours(left[None])[0]).argmin())
    at = min(at + 1, len(RHOS) - 1)
    return at, float(np.sqrt((left**2).mean()) / kept[at])


def _is_enough(
    squares: np.ndarray, k: int, rho_at: int, places: tuple[float, ...], most: int, seed: int
) -> bool:
    """Whether noise alone makes the most cuts as much better than k."""
    simulated, _, _ = _simulated(places, most, seed)
    by_noise = simulated[rho_at, :, 0] / simulated[rho_at, :, most - k]
    seen = squares[k] / squares[most] if squares[most] > 0 else np.inf
    return float((1 + np.count_nonzero(by_noise >= seen)) / (1 + len(by_noise))) > CHANCE


@cache
def _simulated(places: tuple[float, ...], most: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What cuts leave of pure noise of each of `RHOS`.

    Squares (rhos, curves, changes); the median correlation of neighbours of what the most cuts leave (rhos,), and its
    root mean square (rhos,).
    """
    rng = np.random.default_rng(seed)
    at = np.array(places)
    squares, correlations, kept = [], [], []
    for rho in RHOS:
        curves = simulate(len(at), _SIMULATED, rho, rng)
        of_rho, starts = least_squares(at, curves, most)
        left = np.array(
            [curve - lines(at, curve, cuts) for curve, cuts in zip(curves, starts[most], strict=True)]
        )
        squares.append(of_rho)
        correlations.append(float(np.median(neighbours(left))))
        kept.append(float(np.sqrt((left**2).mean())))
    return np.array(squares), np.maximum.accumulate(correlations), np.array(kept)
