"""Smooth monotone courses over training: the curves that a change of course is told from.

A course is a constant plus one of three forms, rising or falling:

    steps    (1 + s/s₀)^(−c) at step s, the offset power law of real runs, which is flat before s₀
    places   the same at 2^place, so that step 0 lies half as far as step 1 where steps double (`log_steps`)
    sigmoid  1/(1 + exp((place − m)/w)), no narrower than w = 1 doubling (10 to 90 % of its way in 4.4)

c is 0, a straight line over log step, to 1: beyond, the law falls like an exponential. The two numbers of a form are
looked for on a grid and refined; a course with all that neighbouring numbers make of it, to first order, is a linear
space, its `tangents`. What is least is the sum of squares of values whitened for AR(1) noise. Arrays in, arrays out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trajstore.analysis.arrays import Floats
from trajstore.analysis.statistics.ar1 import whiten
from trajstore.analysis.statistics.log_steps import Schedule

NARROWEST = 1.0
"""Least w of a sigmoid, doublings."""
STEEPEST = 1.0
"""Largest c."""

_WIDEST = 9.0
_BEYOND = 6.0
"""Doublings beyond the first and the last place where a sigmoid may have its middle."""
_FAR = 20.0
"""The same before the first for a power law, which does not bend at all then."""
_EXPONENTS = (0.0, 0.1, 0.2, 0.35, 0.6, 1.0)
_WIDTHS = (1.0, 1.6, 2.6, 4.0, 7.0)
_AT_A_LIMIT = 0.01
"""Numbers that lie as near to their limits, in shares of the range, are not free."""


@dataclass(frozen=True)
class Form:
    """One kind of course on a schedule, with two numbers."""

    name: str
    """steps, places or sigmoid."""
    places: np.ndarray
    at: np.ndarray
    """Steps of a power law, float64 (checkpoints,)."""
    low: np.ndarray
    """Least of the two numbers: where it bends (log₂ s₀ or m), and c or log w."""
    high: np.ndarray
    grid: np.ndarray
    """Pairs of numbers, float64 (pairs, 2)."""

    @cached_property
    def on_grid(self) -> Floats:
        """The form for each pair of the grid, float64 (pairs, checkpoints)."""
        return np.array([self.curve(pair) for pair in self.grid])

    def curve(self, numbers: Floats) -> Floats:
        """The form with these numbers; a power law less 1 and divided by c, which c = 0 makes a logarithm."""
        bend, second = numbers
        if self.name == "sigmoid":
            falling: Floats = 1 / (1 + np.exp((self.places - bend) / np.exp(second)))
            return falling
        grown = np.log1p(self.at / 2.0**bend)
        law: Floats = -grown if second < 1e-6 else np.expm1(-second * grown) / second
        return law

    def tangents(self, numbers: Floats) -> Floats:
        """The form and what it changes by with each number that is not at a limit, float64 (1 to 3, checkpoints)."""
        near = _AT_A_LIMIT * (self.high - self.low)
        rows = [self.curve(numbers)]
        for number in range(2):
            if self.low[number] + near[number] < numbers[number] < self.high[number] - near[number]:
                shift = np.eye(2)[number] * 1e-3
                rows.append((self.curve(numbers + shift) - self.curve(numbers - shift)) / 2e-3)
        return np.array(rows)


def forms(schedule: Schedule) -> tuple[Form, ...]:
    """The three forms on a schedule."""
    places = schedule.places
    first, last = float(places[0]), float(places[-1])
    bends = np.append(first - _FAR, np.arange(first - 3, last, 1.0))
    laws = np.array([(bend, c) for bend in bends for c in _EXPONENTS])
    middles = np.arange(first - 2, last + 2.1, 1.0)
    falls = np.array([(middle, np.log(width)) for middle in middles for width in _WIDTHS])
    of_laws = np.array([first - _FAR, 0.0]), np.array([last + 2.0, STEEPEST])
    of_falls = np.array([first - _BEYOND, np.log(NARROWEST)]), np.array([last + _BEYOND, np.log(_WIDEST)])
    return (
        Form("steps", places, schedule.steps.astype(np.float64), *of_laws, laws),
        Form("places", places, np.exp2(places), *of_laws, laws),
        Form("sigmoid", places, places, *of_falls, falls),
    )


def independent(rows: Floats) -> Floats:
    """An orthonormal basis of what these rows span, float64 (dimensions, checkpoints)."""
    scaled = rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-300)[:, None]
    _, sizes, basis = np.linalg.svd(scaled, full_matrices=False)
    spanning: Floats = basis[sizes > 1e-7 * sizes[0]]
    return spanning


def without(rows: Floats, basis: Floats) -> Floats:
    """Return the residuals of rows (rows, checkpoints) outside an orthonormal basis."""
    return rows - (rows @ basis.T) @ basis


def best_tangents(kinds: tuple[Form, ...], values: np.ndarray, beside: np.ndarray, rho: float) -> np.ndarray:
    """The tangents of the course that fits a curve best together with the rows `beside`, a constant among them."""
    from scipy.optimize import minimize

    flat = np.ones(len(values))
    basis = independent(whiten(beside, rho, flat))
    wanted = without(whiten(values[None], rho, flat), basis)[0]

    def squares(curves: Floats) -> Floats:
        own = without(whiten(curves, rho, flat), basis)
        size = (own**2).sum(axis=1)
        visible = size > 1e-14 * (curves**2).sum(axis=1)
        left: Floats = wanted @ wanted - (own @ wanted) ** 2 / np.where(visible, size, np.inf)
        return left

    least, chosen = np.inf, (kinds[0], kinds[0].grid[0])
    for form in kinds:
        coarse = squares(form.on_grid)
        start = int(coarse.argmin())
        done = minimize(
            lambda numbers, of=form: float(squares(of.curve(np.clip(numbers, of.low, of.high))[None])[0]),
            form.grid[start],
            method="Nelder-Mead",
            options={"xatol": 1e-4, "fatol": 1e-9 * max(float(coarse[start]), 1e-300), "maxfev": 120},
        )
        if done.fun < least:
            least, chosen = float(done.fun), (form, np.clip(done.x, form.low, form.high))
    return chosen[0].tangents(chosen[1])
