"""Spikes: stretches of training in which the mean loss rises and falls back, told from noise between checkpoints.

A spike is a peak of the curve of means by its prominence: how far the curve falls on either side of it before it is as
high again, the smaller of the two. Its window is three checkpoints: the peak, and the last before and the first after
it at which nine tenths of the prominence are gone. The noise is how far a checkpoint lies from the cubic through those
k and 2k before and after it, outside of windows: the median of that, as a normal distribution's standard deviation, and
the largest over several k, since noise may last for some checkpoints. Sharp bends make it larger, never smaller.

A peak counts as a spike where pure noise on as many checkpoints, without a trend, has a peak as many times its noise in
at most `CHANCE` of simulated curves. The noise of one checkpoint is joined to that of the next by any of `RHOS`, up to
the second after that whose noise lasts most nearly as long. A trend hides peaks and makes none, so this errs towards no
spike: simulated on 16 to 609 checkpoints, noise alone gave one in at most 7 of 100 curves, and a peak of ten times the
noise was found in at least 95 of 100 on 154 checkpoints (67 on 51, 25 on 21). What is so long that fewer than
`FEWEST_PLACEBOS` windows of its length lie elsewhere is no spike (`phases` has it as a maximum).

Means by checkpoint in, windows out; losses are nats. Which tokens follow a spike is told by `spike_tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from trajstore.analysis.ar1 import simulate
from trajstore.analysis.bootstrap import Draws, Ratio, Stratum, estimate
from trajstore.errors import TrajstoreError

CHANCE = 0.05
"""How often noise alone may make such a spike in a curve."""
FEWEST_CHECKPOINTS = 16
"""Fewer tell no noise."""
FEWEST_PLACEBOS = 8
"""Fewer windows elsewhere do not tell how much a token varies."""

NORMAL = 1.4826022185056018
"""A normal distribution's standard deviation over its median absolute deviation."""
RHOS = (0.0, 0.5, 0.8, 0.9)
"""Correlations of the noise of neighbouring checkpoints under which a spike must be unlikely."""

_LAGS = (1, 2, 4, 8, 16)
_OF_FIVE = math.sqrt(1 + (2 * 4**2 + 2) / 6**2)
"""What the distance from a cubic through four neighbours is for independent noise of size 1."""
_GONE = 0.9
_SIMULATED = 500


@dataclass(frozen=True)
class Window:
    """A spike, or a stretch of training as long, by the numbers of three checkpoints."""

    before: int
    at: int
    after: int

    def is_apart(self, other: Window) -> bool:
        """Whether the two have no checkpoint in common."""
        return self.after < other.before or other.after < self.before


@dataclass(frozen=True)
class Noise:
    """Of a curve of means along checkpoints."""

    size: float
    """Standard deviation, nats; infinite where no five checkpoints tell it."""
    near: float
    """What of it neighbouring checkpoints show, 1 if their noise is independent, less if it lasts."""


@dataclass(frozen=True)
class Spike:
    """A window in which the mean loss rises and falls back."""

    window: Window
    chance: float | None
    """How often noise alone makes one as prominent anywhere in such a curve; None where the window was given."""


def find_spikes(means: np.ndarray, chance: float = CHANCE, seed: int = 0) -> tuple[list[Spike], Noise]:
    """The spikes of a curve, in order of training, and its noise without them.

    `means` is float64 (checkpoints,). Peaks are tried from the most prominent on, each against the noise outside of its
    window and of those found before, until one is not told from noise. Windows do not overlap. Raises `TrajstoreError`
    for fewer than `FEWEST_CHECKPOINTS`.
    """
    if len(means) < FEWEST_CHECKPOINTS:
        raise TrajstoreError(
            f"{len(means)} checkpoints are too few to tell a spike from noise: it takes {FEWEST_CHECKPOINTS}. Choose "
            "more with --steps, or say where the spike is: --window BEFORE:AT:AFTER"
        )
    kept: list[Spike] = []
    for peak, prominence in _peaks(means):
        window = _window(means, peak, prominence)
        others = [each.window for each in kept]
        if not (all(window.is_apart(each) for each in others) and _is_short(len(means), window, others)):
            continue
        found = chance_of(len(means), prominence, noise(means, [window, *others]), seed)
        if found > chance:
            break
        kept.append(Spike(window, found))
    return sorted(kept, key=lambda each: each.window.at), noise(means, [each.window for each in kept])


def noise(means: np.ndarray, windows: Sequence[Window] = ()) -> Noise:
    """The noise of a curve (checkpoints,) from checkpoint to checkpoint outside of windows; see the module."""
    outside = np.ones(len(means), dtype=bool)
    for window in windows:
        outside[window.before + 1 : window.after] = False
    sizes = []
    for k in (k for k in _LAGS if k == 1 or 16 * k <= len(means)):
        ends = (2 * k, len(means) - 2 * k)
        five = [slice(ends[0] + shift, ends[1] + shift) for shift in (-2 * k, -k, 0, k, 2 * k)]
        told = np.logical_and.reduce([outside[part] for part in five])
        far, near, own, near_after, far_after = (means[part][told] for part in five)
        off = np.abs(own - (4 * (near + near_after) - (far + far_after)) / 6)
        if len(off):
            sizes.append(NORMAL * float(np.median(off)) / _OF_FIVE)
    size = max(sizes, default=math.inf)
    return Noise(size, sizes[0] / size if sizes and size else 1.0)


def placebos(checkpoints: int, window: Window, others: Sequence[Window] = ()) -> tuple[Window, ...]:
    """All windows with as many checkpoints on either side that have none in common with the spike or other spikes."""
    left, right = window.at - window.before, window.after - window.at
    every = [Window(at - left, at, at + right) for at in range(left, checkpoints - right)]
    return tuple(each for each in every if all(each.is_apart(spike) for spike in (window, *others)))


def heights(
    strata: Sequence[Stratum], windows: Sequence[Window], draws: Draws
) -> list[tuple[float, float, float]]:
    """Height of each spike, with the interval over the choice of text: (height, low, high), nats.

    The height is the mean loss at the spike less the higher of those before and after it. `strata` have the sums of
    losses by checkpoint. The interval's ends are the lower of those of the two differences: where low is above 0, both
    are.
    """
    found = []
    for window in windows:
        sides = [window.before, window.after]
        changes = [
            Stratum(
                each.dataset,
                each.n_units,
                each.units,
                (Ratio(each.ratios[0].tokens, each.ratios[0].sums[window.at] - each.ratios[0].sums[sides]),),
            )
            for each in strata
        ]
        both = estimate(changes, [1], draws)
        found.append((float(both.mean.min()), float(both.low.min()), float(both.high.min())))
    return found


def _peaks(means: np.ndarray) -> list[tuple[int, float]]:
    """(checkpoint, prominence) of the peaks, the most prominent first."""
    from scipy.signal import find_peaks

    at, found = find_peaks(means, prominence=0)
    order = np.argsort(-found["prominences"], kind="stable")
    return [(int(at[number]), float(found["prominences"][number])) for number in order]


def _window(means: np.ndarray, peak: int, prominence: float) -> Window:
    gone = np.flatnonzero(means <= means[peak] - _GONE * prominence)
    return Window(int(gone[gone < peak][-1]), peak, int(gone[gone > peak][0]))


def _is_short(checkpoints: int, window: Window, others: Sequence[Window] = ()) -> bool:
    """Whether there are enough windows of its length elsewhere, by which its tokens are judged."""
    return len(placebos(checkpoints, window, others)) >= FEWEST_PLACEBOS


def chance_of(checkpoints: int, prominence: float, beside: Noise, seed: int) -> float:
    """How often the most prominent peak of pure noise is at least as many times the noise.

    The highest such share over the `RHOS` up to the second after that whose noise lasts most nearly as long.
    """
    times, near = _simulated(checkpoints, seed)
    like = int(np.abs(np.median(near, axis=1) - beside.near).argmin())
    reached = times[: like + 3] * beside.size >= prominence
    return float((1 + reached.sum(axis=1).max()) / (1 + times.shape[1]))


@cache
def _simulated(checkpoints: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of many curves of noise: the most prominent peak in units of the noise, and `Noise.near` (rhos, curves)."""
    rng = np.random.default_rng(seed)
    curves = [[_times(curve) for curve in simulate(checkpoints, _SIMULATED, rho, rng)] for rho in RHOS]
    times, near = np.moveaxis(np.array(curves), 2, 0)
    return times, near


def _times(curve: np.ndarray) -> tuple[float, float]:
    """The most prominent peak of a curve in units of the noise beside it, 0 where there is none; and `Noise.near`."""
    for peak, prominence in _peaks(curve):
        window = _window(curve, peak, prominence)
        if _is_short(len(curve), window):
            beside = noise(curve, [window])
            return prominence / beside.size, beside.near
    return 0.0, 1.0
