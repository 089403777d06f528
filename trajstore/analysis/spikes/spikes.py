"""Spikes: stretches of training in which the mean loss rises and falls back, told from noise between checkpoints.

A spike is a peak of the curve of means by its prominence: how far the curve falls on either side of it before it is as
high again, the smaller of the two. Its window is three checkpoints: the peak, and the last before and the first after
it at which nine tenths of the prominence are gone. The noise is how far a checkpoint lies from the cubic through those
k and 2k before and after it, outside of windows: the median of that, as a normal distribution's standard deviation, and
the largest over several k, since noise may last for some checkpoints. Sharp bends make it larger, never smaller.

A peak counts as a spike where pure noise on as many checkpoints, without a trend, has a peak as many times its noise in
at most `CHANCE` of simulated curves. The noise of one checkpoint is joined to that of the next by any of `RHOS`, up to
the second after that whose noise lasts most nearly as long. Noise near the peak that is larger than along the whole
curve counts instead of it, so that noise that shrinks as training goes on makes no spikes of its beginning. And noise
need not be normal: the least prominent of the spikes must be `STANDS_OUT` times the largest departure of the rest of
the curve, in either direction, from its running median, which any rise or fall leaves as it is. What is so long that
fewer than `FEWEST_PLACEBOS` windows of its length lie elsewhere is no spike (`phases` has it as a maximum).

Simulated on 16 to 609 checkpoints, noise alone gave a spike in none of 100 curves where it is normal, in at most 5
where it is ten times as large at the start as at the end and in at most 7 where it is of Student's t with three degrees
of freedom, up to 12 where it lasts as well. A peak of ten times normal noise was found in 90 of 100 flat curves of 154
checkpoints, 58 of 51 and 40 of 21. A trend hides peaks and makes none, so that none found is not always none there:
`power` plants spikes into the curve itself and counts how many are found.

Means by checkpoint in, windows out; losses are nats. Which tokens follow a spike is told by `tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from trajstore.analysis.statistics.ar1 import simulate
from trajstore.analysis.statistics.bootstrap import Draws, Ratio, Stratum, estimate
from trajstore.arguments import defaults
from trajstore.arguments.spelling import option
from trajstore.errors import TrajstoreError

CHANCE = defaults.CHANCE
"""Highest chance that noise alone makes such a spike in a curve."""
FEWEST_CHECKPOINTS = 16
"""Fewer tell no noise."""
STANDS_OUT = 3.0
"""Times the largest departure elsewhere from the running median that a spike must be."""
FEWEST_PLACEBOS = 8
"""Fewer windows elsewhere do not tell how much a token varies."""

TIMES = 10
"""Times its noise that a spike must be found at, for a curve to be said to have none."""
ENOUGH = 0.8
"""Share of the checkpoints at which it must be."""

NORMAL = 1.4826022185056018
"""A normal distribution's standard deviation over its median absolute deviation."""
RHOS = (0.0, 0.5, 0.8, 0.9)
"""Correlations of the noise of neighbouring checkpoints under which a spike must be unlikely."""

_LAGS = (1, 2, 4, 8, 16)
_OF_FIVE = math.sqrt(1 + (2 * 4**2 + 2) / 6**2)
"""Standard deviation of the distance from a cubic through four neighbours, for independent noise of size 1."""
_GONE = 0.9
_RUNNING = 11
"""Checkpoints of a running median."""
_NEAR = (8, 5)
"""Checkpoints on either side that noise near a peak is of: so many, or this part of all if that is more."""
_SIMULATED = 500
_PLANTED, _PLANTED_SHAPE = 60, (0.4, 1.0, 0.4)
_HEIGHTS = 16
"""Heights that are planted at most, each √2 times the one before."""


@dataclass(frozen=True)
class Window:
    """A spike, or a stretch of training as long, by the numbers of three checkpoints."""

    before: int
    at: int
    after: int

    def is_apart(self, other: Window) -> bool:
        """Return whether the two have no checkpoint in common."""
        return self.after < other.before or other.after < self.before


@dataclass(frozen=True)
class CurveNoise:
    """Of a curve of means along checkpoints."""

    size: float
    """Standard deviation, nats; infinite where no five checkpoints tell it."""
    near: float
    """Share of it that neighbouring checkpoints show, 1 if their noise is independent, less if it lasts."""


@dataclass(frozen=True)
class Spike:
    """A window in which the mean loss rises and falls back."""

    window: Window
    chance: float | None
    """Chance that noise alone makes one as prominent anywhere in such a curve; None where the window was given."""


@dataclass(frozen=True)
class Power:
    """The power to find spikes in a curve: the share of planted ones that is found."""

    height: float
    """Nats: `TIMES` the noise."""
    share: float
    """Of the checkpoints, at how many a spike of that height would have been found."""
    least: float | None
    """Nats from which on it is `ENOUGH` of the checkpoints; None where not even the highest tried is."""

    @property
    def enough(self) -> bool:
        """Return whether that no spike was found says that there is none."""
        return self.share >= ENOUGH


def find_spikes(means: np.ndarray, chance: float = CHANCE, seed: int = 0) -> tuple[list[Spike], CurveNoise]:
    """The spikes of a curve, in order of training, and its noise without them.

    `means` is float64 (checkpoints,). Peaks are tried from the most prominent on, each against the noise outside of its
    window and of those found before, until one is not told from noise; those are spikes whose last stands out from the
    rest of the curve. Windows do not overlap. Raises `TrajstoreError` for fewer than `FEWEST_CHECKPOINTS`.
    """
    if len(means) < FEWEST_CHECKPOINTS:
        raise TrajstoreError(
            f"{len(means)} checkpoints are too few to tell a spike from noise: it takes {FEWEST_CHECKPOINTS}. Choose "
            f"more with {option('steps')}, or say where the spike is: {option('window', 'BEFORE:AT:AFTER')}"
        )
    kept: list[Spike] = []
    standing_out = 0
    for peak, prominence in _peaks(means):
        window = _window(means, peak, prominence)
        others = [spike.window for spike in kept]
        if not (all(window.is_apart(other) for other in others) and _is_short(len(means), window, others)):
            continue
        by_chance = chance_of(len(means), prominence, _noise_beside(means, window, others), seed)
        if by_chance > chance:
            break
        kept.append(Spike(window, by_chance))
        if prominence >= STANDS_OUT * _departure(means, [window, *others]):
            standing_out = len(kept)
    del kept[standing_out:]
    return sorted(kept, key=lambda spike: spike.window.at), noise(means, [spike.window for spike in kept])


def power(means: np.ndarray, beside: CurveNoise, chance: float = CHANCE, seed: int = 0) -> Power | None:
    """Return the power to find spikes in a curve without any; None where it has no noise to go by.

    A spike is planted at one of at most `_PLANTED` checkpoints, spread evenly, with two fifths of its height at those
    beside it, and is found where one has its highest checkpoint there.
    """
    if not 0 < beside.size < math.inf:
        return None
    places = np.unique(np.linspace(1, len(means) - 2, _PLANTED).round().astype(int))

    def share(height: float) -> float:
        hits = 0
        for at in places.tolist():
            planted = means.copy()
            planted[at - 1 : at + 2] += height * np.array(_PLANTED_SHAPE)
            hits += any(spike.window.at == at for spike in find_spikes(planted, chance, seed)[0])
        return hits / len(places)

    height = TIMES * beside.size
    first = share(height)
    if first >= ENOUGH:
        return Power(height, first, height)
    higher = (height * 2 ** (half / 2) for half in range(1, _HEIGHTS))
    return Power(height, first, next((tried for tried in higher if share(tried) >= ENOUGH), None))


def _noise_beside(means: np.ndarray, window: Window, others: Sequence[Window]) -> CurveNoise:
    """The noise of a curve outside of windows, as much larger as it is near the first of them."""
    whole = noise(means, [window, *others])
    half = max(_NEAR[0], len(means) // _NEAR[1])
    first = max(0, min(window.at - half, len(means) - 2 * half - 1))
    near = noise(
        means[first : first + 2 * half + 1],
        [
            Window(max(other.before - first, -1), other.at - first, other.after - first)
            for other in (window, *others)
            if other.after > first
        ],
    )
    # Of neighbouring checkpoints in either case: few tell no noise that lasts.
    times = near.size * near.near / (whole.size * whole.near) if whole.size else 1.0
    return CurveNoise(whole.size * max(1.0, times if math.isfinite(times) else 1.0), whole.near)


def _departure(means: np.ndarray, windows: Sequence[Window]) -> float:
    """The largest distance of a curve (checkpoints,) from its running median, outside of windows, nats."""
    from scipy.ndimage import median_filter

    outside = means[_outside(len(means), windows)]
    return float(np.abs(outside - median_filter(outside, _RUNNING, mode="nearest")).max(initial=0.0))


def _outside(checkpoints: int, windows: Sequence[Window]) -> np.ndarray:
    """The checkpoints that are inside of no window, bool (checkpoints,)."""
    outside = np.ones(checkpoints, dtype=bool)
    for window in windows:
        outside[window.before + 1 : window.after] = False
    return outside


def noise(means: np.ndarray, windows: Sequence[Window] = ()) -> CurveNoise:
    """The noise of a curve (checkpoints,) from checkpoint to checkpoint outside of windows; see the module."""
    outside = _outside(len(means), windows)
    sizes = []
    for k in (k for k in _LAGS if k == 1 or 16 * k <= len(means)):
        ends = (2 * k, len(means) - 2 * k)
        five = [slice(ends[0] + shift, ends[1] + shift) for shift in (-2 * k, -k, 0, k, 2 * k)]
        inside = np.logical_and.reduce([outside[part] for part in five])
        far, near, own, near_after, far_after = (means[part][inside] for part in five)
        off = np.abs(own - (4 * (near + near_after) - (far + far_after)) / 6)
        if len(off):
            sizes.append(NORMAL * float(np.median(off)) / _OF_FIVE)
    size = max(sizes, default=math.inf)
    return CurveNoise(size, sizes[0] / size if sizes and size else 1.0)


def placebos(checkpoints: int, window: Window, others: Sequence[Window] = ()) -> tuple[Window, ...]:
    """All windows with as many checkpoints on either side that have none in common with the spike or other spikes."""
    left, right = window.at - window.before, window.after - window.at
    return tuple(Window(at - left, at, at + right) for at in _placebo_peaks(checkpoints, window, others))


def _placebo_peaks(checkpoints: int, window: Window, others: Sequence[Window]) -> list[int]:
    """Return `Window.at` of the placebos of a spike."""
    left, right = window.at - window.before, window.after - window.at
    peaks = list(range(left, checkpoints - right))
    for spike in (window, *others):
        first, last = spike.before - right, spike.after + left
        peaks = [at for at in peaks if at < first or at > last]
    return peaks


def heights(
    strata: Sequence[Stratum], windows: Sequence[Window], draws: Draws
) -> list[tuple[float, float, float]]:
    """Height of each spike, with the interval over the choice of text: (height, low, high), nats.

    The height is the mean loss at the spike less the higher of those before and after it. `strata` have the sums of
    losses by checkpoint. The interval's ends are the lower of those of the two differences: where low is above 0, both
    are.
    """
    spike_heights = []
    for window in windows:
        sides = [window.before, window.after]
        changes = []
        for stratum in strata:
            (ratio,) = stratum.ratios
            risen = Ratio(ratio.tokens, ratio.sums[window.at] - ratio.sums[sides])
            changes.append(replace(stratum, ratios=(risen,)))
        both = estimate(changes, [1], draws)
        spike_heights.append((float(both.mean.min()), float(both.low.min()), float(both.high.min())))
    return spike_heights


def _peaks(means: np.ndarray) -> list[tuple[int, float]]:
    """(checkpoint, prominence) of the peaks, the most prominent first."""
    from scipy.signal import find_peaks

    at, facts = find_peaks(means, prominence=0)
    order = np.argsort(-facts["prominences"], kind="stable")
    return [(int(at[number]), float(facts["prominences"][number])) for number in order]


def _window(means: np.ndarray, peak: int, prominence: float) -> Window:
    gone = np.flatnonzero(means <= means[peak] - _GONE * prominence)
    return Window(int(gone[gone < peak][-1]), peak, int(gone[gone > peak][0]))


def _is_short(checkpoints: int, window: Window, others: Sequence[Window] = ()) -> bool:
    """Return whether there are enough windows of its length elsewhere, by which its tokens are judged."""
    return len(_placebo_peaks(checkpoints, window, others)) >= FEWEST_PLACEBOS


def chance_of(checkpoints: int, prominence: float, beside: CurveNoise, seed: int) -> float:
    """Return the chance that the most prominent peak of pure noise is at least as many times the noise.

    The highest such share over the `RHOS` up to the second after that whose noise lasts most nearly as long.
    """
    times, near = _simulated(checkpoints, seed)
    like = int(np.abs(np.median(near, axis=1) - beside.near).argmin())
    reached = times[: like + 3] * beside.size >= prominence
    return float((1 + reached.sum(axis=1).max()) / (1 + times.shape[1]))


@cache
def _simulated(checkpoints: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of many curves of noise: the most prominent peak in units of the noise, and `CurveNoise.near` (rhos, curves)."""
    rng = np.random.default_rng(seed)
    curves = [[_times(curve) for curve in simulate(checkpoints, _SIMULATED, rho, rng)] for rho in RHOS]
    times, near = np.moveaxis(np.array(curves), 2, 0)
    return times, near


def _times(curve: np.ndarray) -> tuple[float, float]:
    """The most prominent peak of a curve in units of the noise beside it, 0 without any; and `CurveNoise.near`."""
    for peak, prominence in _peaks(curve):
        window = _window(curve, peak, prominence)
        if _is_short(len(curve), window):
            beside = noise(curve, [window])
            return prominence / beside.size, beside.near
    return 0.0, 1.0
