"""Changes of course and turns of a curve over training, told from a smooth monotone course with noise.

A change is a kink or a jump at a checkpoint. The null is a smooth course (`smooth`) plus AR(1) noise along
checkpoints. Changes are taken one by one, the best first; each must make the fit better by more than such changes do in
all but `chance_allowed` of curves simulated from the course without it. The fit is of restricted likelihood, the best
over the correlation ρ of neighbouring noise; a change may go with another smooth course than the best without it.

Turns are told by their prominence over the noise, against the most prominent of simulated flat noise: a trend hides
turns and makes none. That noise is what the course leaves, or what slow waves along the checkpoints leave, which fit a
curve that turns better; half of the chance goes to each. Few checkpoints tell ρ badly: the chance is the highest over
all ρ of `RHOS` with which noise as short-lived as seen is not rare.

So a smooth monotone curve has a change or a turn in at most `FALSE_ALARMS` of cases, up to ρ = 0.8: what tests
simulate. Arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from trajstore.analysis.arrays import Floats, Whole
from trajstore.analysis.statistics.ar1 import simulate, whiten
from trajstore.analysis.statistics.log_steps import Schedule
from trajstore.analysis.statistics.monotone_curves import Form, best_tangents, forms, independent, without

LEAST = 3
"""Checkpoints on either side of a change, and between two."""
_FEW = 24
"""So few checkpoints tell ρ so badly that the worst of those that are plausible gives far too high a chance."""
TURN_CHANCE = 0.02
"""Share of smooth monotone curves that may have a turn: turns of any size worth a word are far beyond noise."""
FALSE_ALARMS = 0.1
"""Share of smooth monotone curves that may have a change or a turn."""
PROMISE = (
    f"Changes and turns: by noise alone at most {100 * FALSE_ALARMS:.0f} % of curves have any, if their course is "
    "flat, a power law, an offset power law or a wide sigmoid, and the correlation of noise from checkpoint to "
    "checkpoint at most 0.8."
)
"""Statement that is printed beside changes and turns."""
RHOS = (0.0, 0.3, 0.6, 0.8)
"""Of simulated noise."""

_FITTED_RHOS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95)
_SIMULATED = 200
"""Curves for each of `RHOS`."""
_APART = 0.2
"""Doublings between kinks that are tried; the best is looked for again at all checkpoints."""
_COURSES = ((2.0, 0.2), (2.0, 0.6), (6.0, 0.2), (6.0, 0.6))
"""log₂ s₀ and c of power laws that a change may go with, besides the line and the best course without it."""
_QUICKEST = 4
"""Checkpoints in half a wave."""
_SELDOM_LESS = 4.0
"""A smaller gain in −2 log likelihood is one that noise often makes: about 8 is the least that is rare."""
_RARE = 0.025
_NOTHING = 1e-6
"""Of a curve's range: less noise than this is none."""


@dataclass(frozen=True)
class TurnNoise:
    """The noise that a fit leaves of a curve, and turns of simulated noise after the same fit."""

    noise: float
    """Standard deviation, in the curve's units."""
    turns: np.ndarray
    """The most prominent of each simulated curve over its noise, float64 (rhos, curves), for the plausible rhos."""

    @classmethod
    def of(cls, values: np.ndarray, basis: np.ndarray, noise: _Noise) -> TurnNoise:
        """Return the residual of a curve (checkpoints,) outside an orthonormal basis."""
        own, simulated = _fits(values[None], basis), _fits(noise.curves, basis)
        turns = (noise.prominences / simulated.noise).reshape(len(RHOS), -1)
        return cls(float(own.noise[0]), turns[_plausible(own.rho[0], simulated.rho)])

    def chance(self, prominence: float) -> float:
        """Return the chance that flat noise alone turns as far, somewhere in such a curve."""
        reached = (self.turns * self.noise >= prominence).sum(axis=1)
        return float((1 + reached.max()) / (1 + self.turns.shape[1]))


@dataclass(frozen=True)
class Course:
    """A curve as a smooth course with changes, and its noise."""

    starts: np.ndarray
    """The first checkpoint after each change, int64 (changes,), ascending."""
    fitted: np.ndarray
    """float64 (checkpoints,)."""
    rho: float
    """Of the noise."""
    noise: float
    """Its standard deviation, in the curve's units."""
    basis: np.ndarray
    """Orthonormal, of the smooth course and its tangents, float64 (dimensions, checkpoints)."""
    turns: tuple[TurnNoise, ...]
    """Noise by which turns are told; none where there is no noise."""
    nothing: float
    """As small a difference is none."""

    def chance_of_turn(self, prominence: float) -> float:
        """Return the chance that flat noise alone turns as far, somewhere in such a curve."""
        if prominence <= self.nothing:
            return 1.0
        return min((len(self.turns) * beside.chance(prominence) for beside in self.turns), default=0.0)


@dataclass(frozen=True)
class _Fits:
    """The misfit of curves (curves, checkpoints), the best over ρ; less is better."""

    least: np.ndarray
    rho: np.ndarray
    """Number in `_FITTED_RHOS`."""
    noise: np.ndarray
    """Standard deviation, the mean of its square over ρ as likely as they are."""


def chance_allowed(checkpoints: int) -> float:
    """The chance up to which a change is taken, so that `FALSE_ALARMS` holds: calibrated by simulation.

    With 0.13, 6 % of smooth curves of 12 checkpoints and 3 to 10 % of those of 21 have a change or a turn; with 0.08,
    3 to 7 % of those of 154.
    """
    return 0.13 if checkpoints <= _FEW else 0.08


def find_changes(schedule: Schedule, values: np.ndarray, most: int = 5, seed: int = 0) -> Course:
    """The course of one curve (checkpoints,), with `most` changes at most."""
    kinds, noise = forms(schedule), _noise(len(values), seed)
    nothing = _NOTHING * float(np.ptp(values)) + 1e-12 * float(np.abs(values).max())
    starts: list[int] = []
    while True:
        smooth, fit = _fit(kinds, values, _beside(schedule, starts))
        basis = independent(np.vstack([smooth, *_columns(schedule, starts)]))
        left = without(values[None], basis)[0]
        known = left @ left <= len(values) * nothing**2
        if known or len(starts) >= most:
            break
        start_of_next, chance = _next(schedule, values, smooth, starts, fit, noise.curves)
        if chance > chance_allowed(len(values)):
            break
        starts = _placed(schedule, values, smooth, [*starts, start_of_next], fit)
    found_starts = np.array(starts, dtype=np.int64)
    if known:
        fitted = _projected(values, basis, 0.0)
        return Course(found_starts, fitted, 0.0, 0.0, independent(smooth), (), nothing)
    rho = _FITTED_RHOS[int(fit.rho[0])]
    fitted = _projected(values, basis, rho)
    turns = tuple(TurnNoise.of(values, of_basis, noise) for of_basis in (basis, _waves(len(values))))
    return Course(found_starts, fitted, rho, float(fit.noise[0]), independent(smooth), turns, nothing)


def _waves(checkpoints: int) -> np.ndarray:
    """Slow cosines along checkpoints, orthonormal, float64 (a quarter of the checkpoints, checkpoints)."""
    number = np.arange(checkpoints // _QUICKEST)[:, None]
    return independent(np.cos(np.pi * number * (np.arange(checkpoints) + 0.5) / checkpoints))


def redrawn(schedule: Schedule, course: Course, off: np.ndarray, seed: int = 0) -> np.ndarray:
    """The changes in each of many curves like this one, int64 (curves, changes).

    A curve is the fitted course, with noise drawn anew and `off` (curves, checkpoints), how far the means of resampled
    texts lie from those of all.
    """
    rng = np.random.default_rng(seed)
    curves = course.fitted + off + course.noise * simulate(len(course.fitted), len(off), course.rho, rng)
    starts = course.starts.tolist()
    return np.stack(
        [_best_start(schedule, curves, course.basis, starts, k, course.rho) for k in range(len(starts))],
        axis=1,
    )


@dataclass(frozen=True)
class _Noise:
    curves: np.ndarray
    """Of variance 1, for each of `RHOS` in turn, float64 (curves, checkpoints)."""
    prominences: np.ndarray
    """Of the most prominent turn of each, float64 (curves,)."""


@cache
def _noise(checkpoints: int, seed: int) -> _Noise:
    """Simulated noise."""
    rng = np.random.default_rng(seed)
    curves = np.concatenate([simulate(checkpoints, _SIMULATED, rho, rng) for rho in RHOS])
    return _Noise(curves, np.array([_most_prominent(curve) for curve in curves]))


def _most_prominent(curve: np.ndarray) -> float:
    from scipy.signal import find_peaks

    both = [find_peaks(sign * curve, prominence=0)[1]["prominences"].max(initial=0) for sign in (1, -1)]
    return float(max(both))


def _columns(schedule: Schedule, starts: list[int]) -> list[np.ndarray]:
    """A jump and a kink at each start, each float64 (2, checkpoints)."""
    places = schedule.places
    after = np.arange(len(places))
    return [np.array([after >= at, np.maximum(places - places[at], 0)], dtype=float) for at in starts]


def _beside(schedule: Schedule, starts: list[int]) -> np.ndarray:
    """The constant and the changes."""
    return np.vstack([np.ones(len(schedule.places)), *_columns(schedule, starts)])


def _fit(kinds: tuple[Form, ...], values: np.ndarray, beside: np.ndarray) -> tuple[np.ndarray, _Fits]:
    """The constant and tangents of the best smooth course beside changes, and how well all of it fits."""
    rho = 0.0
    for _ in range(2):
        tangents = best_tangents(kinds, values, beside, rho)
        fit = _fits(values[None], independent(np.vstack([beside, tangents])))
        before, rho = rho, _FITTED_RHOS[int(fit.rho[0])]
        if rho == before:
            break
    return np.vstack([np.ones(len(values)), tangents]), fit


def _fits(curves: np.ndarray, basis: np.ndarray) -> _Fits:
    """Return the misfit of curves (curves, checkpoints) by an orthonormal basis: −2 log restricted likelihood."""
    free = curves.shape[1] - len(basis)
    by_rho, variances = [], []
    for rho in _FITTED_RHOS:
        squares, fixed, _, _ = _whitened(curves, basis, rho)
        by_rho.append(fixed + free * np.log(np.maximum((squares**2).sum(axis=1) / free, 1e-300)))
        variances.append((squares**2).sum(axis=1) / free / (1 - rho**2))
    likelihoods = np.array(by_rho)
    likely = np.exp(-(likelihoods - likelihoods.min(axis=0)) / 2)
    noise = np.sqrt((likely * np.array(variances)).sum(axis=0) / likely.sum(axis=0))
    return _Fits(likelihoods.min(axis=0), likelihoods.argmin(axis=0), noise)


def _whitened(
    curves: np.ndarray, basis: np.ndarray, rho: float
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Whitened curves without the basis, what ρ adds to −2 log likelihood, the whitened basis, and the weights."""
    flat = np.ones(curves.shape[1])
    _, sizes, own = np.linalg.svd(whiten(basis, rho, flat), full_matrices=False)
    fixed = float(2 * np.log(sizes).sum() - np.log(1 - rho**2))
    return without(whiten(curves, rho, flat), own), fixed, own, flat


def _next(
    schedule: Schedule,
    values: np.ndarray,
    smooth: np.ndarray,
    starts: list[int],
    fit: _Fits,
    noise: np.ndarray,
) -> tuple[int, float]:
    """The checkpoint after the best further change, and how often noise alone makes one as good."""
    changes = _columns(schedule, starts)
    basis = independent(np.vstack([smooth, *changes]))
    fitted = _projected(values, basis, _FITTED_RHOS[int(fit.rho[0])])
    tried = _tried(schedule, starts)
    courses = [independent(np.vstack([course, *changes])) for course in _courses(schedule, smooth)]
    if not tried:
        return 0, 1.0
    seen, rho, best = _gains(schedule, values[None], basis, courses, tried)
    if seen[0] < _SELDOM_LESS:
        return best, 1.0
    gains, rhos, _ = _gains(schedule, fitted + fit.noise[0] * noise, basis, courses, tried)
    reached = (gains.reshape(len(RHOS), -1) >= seen[0]).sum(axis=1)[_plausible(rho[0], rhos)]
    return best, float((1 + reached.max()) / (1 + _SIMULATED))


def _gains(
    schedule: Schedule, curves: np.ndarray, basis: np.ndarray, courses: list[np.ndarray], tried: list[int]
) -> tuple[np.ndarray, np.ndarray, int]:
    """By how much −2 log likelihood falls with the best further change of each curve, its ρ, and where, the first."""
    null = _fits(curves, basis)
    least = np.full(len(curves), np.inf)
    rhos, best = np.zeros(len(curves), dtype=int), 0
    for course in courses:
        fits, at = _with_a_change(curves, course, schedule, tried, null.noise)
        better = fits.least < least
        best = at if better[0] else best
        rhos = np.where(better, fits.rho, rhos)
        least = np.minimum(least, fits.least)
    # `least` is in units of the null's noise, as bases of several dimensions are compared.
    return null.least - (curves.shape[1] - len(basis)) * 2 * np.log(null.noise) - least, rhos, best


def _courses(schedule: Schedule, smooth: np.ndarray) -> list[np.ndarray]:
    """The smooth courses that a change may go with, each float64 (dimensions, checkpoints)."""
    flat = np.ones(len(schedule.places))
    law = forms(schedule)[1]
    return [
        smooth,
        np.array([flat, schedule.places]),
        *(np.array([flat, law.curve(np.array(pair))]) for pair in _COURSES),
    ]


def _tried(schedule: Schedule, starts: list[int]) -> list[int]:
    """Checkpoints at which a further change is looked for."""
    every = range(LEAST, len(schedule.places) - LEAST + 1)
    return [at for at in every if all(abs(at - other) >= LEAST for other in starts)]


def _candidates(schedule: Schedule, tried: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Jumps at these checkpoints and kinks at some of them, float64 (candidates, checkpoints), and where they are."""
    kinks = list[int]()
    for at in tried:
        if not kinks or schedule.places[at] - schedule.places[kinks[-1]] >= _APART:
            kinks.append(at)
    jumps, bends = np.array(_columns(schedule, tried))[:, 0], np.array(_columns(schedule, kinks))[:, 1]
    return np.concatenate([jumps, bends]), np.array([*tried, *kinks])


def _with_a_change(
    curves: np.ndarray, basis: np.ndarray, schedule: Schedule, tried: list[int], unit: np.ndarray
) -> tuple[_Fits, int]:
    """Return the misfit of curves, in units of noise, by the basis with a kink or a jump at one of `tried`, and the
    first best place.
    """
    raw, places = _candidates(schedule, tried)
    added = without(raw, basis)
    size = np.linalg.norm(added, axis=1)
    visible = size > 1e-5 * np.linalg.norm(raw, axis=1)
    added, of = added[visible] / size[visible, None], places[visible]
    free = curves.shape[1] - len(basis) - 1
    least = np.full(len(curves), np.inf)
    rhos, where = np.zeros(len(curves), dtype=int), 0
    for number, rho in enumerate(_FITTED_RHOS):
        left, fixed, own, flat = _whitened(curves, basis, rho)
        columns = without(whiten(added, rho, flat), own)
        norms = np.maximum((columns**2).sum(axis=1), 1e-12)
        squares = (left**2).sum(axis=1, keepdims=True)
        rest = np.maximum(squares - (left @ columns.T) ** 2 / norms, 1e-12 * squares)
        misfit = free * np.log(rest / (free * unit[:, None] ** 2)) + np.log(norms) + fixed
        at, lowest = misfit.argmin(axis=1), misfit.min(axis=1)
        where = int(of[at[0]]) if lowest[0] < least[0] else where
        rhos = np.where(lowest < least, number, rhos)
        least = np.minimum(least, lowest)
    return _Fits(least, rhos, unit), where


def _plausible(seen: int, simulated: np.ndarray) -> np.ndarray:
    """Of `RHOS`, those whose noise is not rarely as short-lived as seen, bool (rhos,); the least always."""
    shares = (simulated.reshape(len(RHOS), -1) <= seen).mean(axis=1)
    plausible: np.ndarray = shares > _RARE
    plausible[0] = True
    return plausible


def _projected(values: Floats, basis: Floats, rho: float) -> Floats:
    """Project values (checkpoints,) on a basis by generalised least squares."""
    flat = np.ones(len(values))
    weights, *_ = np.linalg.lstsq(whiten(basis, rho, flat).T, whiten(values, rho, flat), rcond=None)
    return weights @ basis


def _placed(
    schedule: Schedule, values: np.ndarray, smooth: np.ndarray, starts: list[int], fit: _Fits
) -> list[int]:
    """The starts, ascending, the last found moved to the best of all checkpoints near it."""
    ordered = sorted(starts)
    k = ordered.index(starts[-1])
    rho = _FITTED_RHOS[int(fit.rho[0])]
    courses = _courses(schedule, smooth)
    best = [_best_start(schedule, values[None], independent(course), ordered, k, rho) for course in courses]
    options = [[*ordered[:k], int(at[0]), *ordered[k + 1 :]] for at in best]
    fits = [
        _fits(values[None], independent(np.vstack([course, *_columns(schedule, option)]))).least[0]
        for course, option in zip(courses, options, strict=True)
    ]
    return options[int(np.argmin(fits))]


def _best_start(
    schedule: Schedule, curves: np.ndarray, smooth: np.ndarray, starts: list[int], k: int, rho: float
) -> np.ndarray:
    """Return the best place of the k-th change for each curve, the others held, int64 (curves,)."""
    ends = [0, *starts, len(schedule.places)]
    tried = list(range(ends[k] + LEAST, ends[k + 2] - LEAST + 1)) or [starts[k]]
    others = _columns(schedule, [*starts[:k], *starts[k + 1 :]])
    left, _, own, flat = _whitened(curves, independent(np.vstack([smooth, *others])), rho)
    pairs = np.stack([without(whiten(pair, rho, flat), own) for pair in _columns(schedule, tried)])
    gains = np.zeros((len(curves), len(tried)))
    for number, pair in enumerate(pairs):
        gains[:, number] = ((left @ independent(pair).T) ** 2).sum(axis=1)
    best: Whole = np.array(tried)[gains.argmax(axis=1)]
    return best
