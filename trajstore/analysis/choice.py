"""All forms fitted to tokens, and which of them is taken, by the Bayesian information criterion.

    BIC = n·ln(squares/n) + k·ln n

n is the checkpoints' effective number (`schedule`), squares what a form leaves of the whitened losses (`ar1`), and k
its parameters: 1 constant, 2 line, 3 power and step, 4 sigmoid, 5 turn. The form of lowest BIC is the nearest. It is
decided where all its rivals, those of which it is no special case, are above it by `DECIDED` at least: a constant is a
special case of all, a line of a power, and a sigmoid and a step (a sigmoid too narrow to be seen) of each other
and of a turn. A turn between two checkpoints, which they show less than half of, is undecided, and so is one that goes
below 0, as no loss does, by a tenth of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trajstore.analysis.forms import Bases
from trajstore.analysis.refinement import Fit, Kind, evaluate, refine

KINDS: Mapping[Kind, int] = {"constant": 1, "line": 2, "power": 3, "step": 3, "sigmoid": 4, "turn": 5}
"""The forms, with how many parameters each has."""
DECIDED = 6.0
"""By how much a form's BIC has to be below its rivals'."""

_RIVALS: Mapping[Kind, tuple[Kind, ...]] = {
    "constant": ("line", "power", "step", "sigmoid", "turn"),
    "line": ("constant", "step", "sigmoid", "turn"),
    "power": ("constant", "line", "step", "sigmoid", "turn"),
    "step": ("constant", "line", "power"),
    "sigmoid": ("constant", "line", "power"),
    "turn": ("constant", "line", "power", "step", "sigmoid"),
}
_ROUNDING = 1e-10
"""Variance of what float32 losses are off by, nats²; keeps the logarithm finite where a fit is perfect."""
_AT_LIMIT = 1e-3
"""Doublings within which a midpoint is at its limit."""
_SEEN = 0.5
"""Share of a turn that has to be seen."""
_BELOW = 0.1
"""Share of a turn that may lie below 0 nats, for noise."""
_HOPELESS = 20.0
"""A form whose BIC before refinement is this much above the lowest, and which leaves half of what a constant does, is
not refined."""


@dataclass(frozen=True)
class Choice:
    """The forms of tokens that have one ρ."""

    bases: Bases
    fits: Mapping[Kind, Fit]
    """Of all tokens, by form."""
    bic: np.ndarray
    """float64 (tokens, forms), forms as in `KINDS`."""
    nearest: np.ndarray
    """Number of the form of lowest BIC, int64 (tokens,)."""
    ahead: np.ndarray
    """By how much the nearest is below its best rival, float64 (tokens,)."""

    @property
    def decided(self) -> np.ndarray:
        """Whether the nearest is taken, bool (tokens,).

        A constant needs no more than to be the nearest; of a sigmoid whose midpoint is at its limit, half is not seen,
        and a turn may hide between two checkpoints.
        """
        kinds, limits = list(KINDS), self.bases.limits
        midpoints = self.fits["sigmoid"].shape[:, 0]
        whole = (midpoints > limits.low + _AT_LIMIT) & (midpoints < limits.high - _AT_LIMIT)
        ahead = (self.ahead >= DECIDED) | (self.nearest == kinds.index("constant"))
        decided: np.ndarray = ahead & (whole | (self.nearest != kinds.index("sigmoid")))
        turns = np.flatnonzero(decided & (self.nearest == kinds.index("turn")))
        decided[turns] = self._credible(self.fits["turn"].take(turns))
        return decided

    def _credible(self, turns: Fit) -> np.ndarray:
        """Whether a checkpoint shows `_SEEN` of how far a turn goes beyond both plateaus, and it can be a loss."""
        a, d, h = turns.linear.T
        beyond = np.where(h > 0, np.maximum(d, 0), np.minimum(d, 0))
        # The largest or least value of d·S + 4h·S·(1 − S), where S = ½ + d/8h.
        end = (d + 4 * h) ** 2 / (16 * h)
        height = np.abs(end - beyond)
        shown = turns.curve(self.bases, self.bases.schedule.places) - (a + beyond)[:, None]
        seen: np.ndarray = (np.sign(h)[:, None] * shown).max(axis=1) >= _SEEN * height
        seen &= a + end >= -_BELOW * height
        return seen

    def curves(self, places: np.ndarray) -> np.ndarray:
        """The nearest form of each token at these places (doublings), float64 (tokens, places)."""
        found = np.empty((len(self.nearest), len(places)))
        for number, kind in enumerate(KINDS):
            tokens = np.flatnonzero(self.nearest == number)
            found[tokens] = self.fits[kind].take(tokens).curve(self.bases, places)
        return found


def choose(bases: Bases, values: np.ndarray) -> Choice:
    """Fit all forms to losses (tokens, steps), nats."""
    white, rough = bases.whitened(values)
    starts: Mapping[Kind, np.ndarray] = {
        "constant": np.empty((len(values), 0)),
        "line": np.empty((len(values), 0)),
        "power": bases.power(rough),
        "step": bases.step(rough),
        "sigmoid": bases.sigmoid(rough),
        "turn": bases.turn(rough),
    }
    fits = {kind: evaluate(kind, bases, white, start) for kind, start in starts.items()}
    lowest, half = _bic(bases, fits).min(axis=1), fits["constant"].squares / 2
    for kind in ("power", "sigmoid", "turn"):
        bic, squares = _bic(bases, {kind: fits[kind]})[:, 0], fits[kind].squares
        near = (bic < lowest + _HOPELESS) | (squares < half)
        refined = refine(kind, bases, rough[near], starts[kind][near])
        fits[kind].put(near, evaluate(kind, bases, white[near], refined))
    bics = _bic(bases, fits)
    nearest = bics.argmin(axis=1)
    kinds = list(KINDS)
    rivals = np.array([[other in _RIVALS[kind] for other in kinds] for kind in kinds])
    ahead = np.where(rivals[nearest], bics, np.inf).min(axis=1) - bics.min(axis=1)
    return Choice(bases, fits, bics, nearest, ahead)


def _bic(bases: Bases, fits: Mapping[Kind, Fit]) -> np.ndarray:
    """float64 (tokens, forms)."""
    n = bases.schedule.effective
    columns = [
        n * np.log(fit.squares / n + _ROUNDING) + KINDS[kind] * np.log(n) for kind, fit in fits.items()
    ]
    return np.stack(columns, axis=1)
