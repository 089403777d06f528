"""All forms fitted to tokens, and which of them is taken, by the Bayesian information criterion.

    BIC = n·ln(squares/n) + k·ln n

n is the checkpoints' effective number (`log_steps`), squares what a form leaves of the whitened losses (`ar1`), and k
its parameters: 1 constant, 2 line, 3 power and step, 4 law and sigmoid, 5 turn, 7 a compound. The form of lowest BIC is
the nearest; a compound (`two_changes`) only where it is `COMPOUND` below all others, since it is chosen from many.

The nearest is decided where all its rivals, those of which it is no special case, are above it by `DECIDED` at least: a
constant is a special case of all, a line of a power and a law, a power of a law, and a sigmoid and a step (a sigmoid
too narrow to be seen) of each other and of a turn. A turn between two checkpoints, which they show less than half of,
is undecided, and so is one that goes below 0, as no loss does, by a tenth of it.

A sigmoid or step that leaves a bump after its midpoint, up or down, larger than noise shows by chance is undecided:
there BIC, which sees two changes only where a second pays for three more parameters, lets pass a fall with a later
hump that is no larger than some four times the noise.

No form need fit. One that is `DECIDED` above a free curve (`forms`) or a compound leaves what the token's short-range
noise does not explain, and is undecided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from trajstore.analysis.shapes.forms import FEW, ROUNDING, Bases
from trajstore.analysis.shapes.least_squares import FormFit, Kind, evaluate, refine
from trajstore.analysis.shapes.two_changes import COMPOUNDS, PARAMETERS, fit_compounds, saved

SINGLES: Mapping[Kind, int] = {
    "constant": 1,
    "line": 2,
    "power": 3,
    "law": 4,
    "step": 3,
    "sigmoid": 4,
    "turn": 5,
}
"""The forms of one change, with how many parameters each has."""
KINDS: Mapping[Kind, int] = {**SINGLES, **dict.fromkeys(COMPOUNDS, PARAMETERS)}
"""All forms."""
DECIDED = 6.0
"""By how much a form's BIC has to be below its rivals'."""
COMPOUND = 3.0
"""By how much a compound's has to be above that of a form of one change, for that to be decided."""

_RIVALS: Mapping[Kind, tuple[Kind, ...]] = {
    "constant": ("line", "power", "law", "step", "sigmoid", "turn"),
    "line": ("constant", "step", "sigmoid", "turn"),
    "power": ("constant", "line", "step", "sigmoid", "turn"),
    "law": ("constant", "line", "step", "sigmoid", "turn"),
    "step": ("constant", "line", "power", "law"),
    "sigmoid": ("constant", "line", "power", "law"),
    "turn": ("constant", "line", "power", "law", "step", "sigmoid"),
}
_AT_LIMIT = 1e-3
"""Doublings within which a midpoint is at its limit."""
_SEEN = 0.5
"""Share of a turn that has to be seen."""
_BELOW = 0.1
"""Share of a turn that may lie below 0 nats, for noise."""
_HOPELESS = 20.0
"""A form whose BIC before refinement is this much above the lowest is not refined, unless the grid may be why."""
_OFF_GRID: Mapping[Kind, float] = {"power": 0.01, "law": 0.06, "sigmoid": 0.07, "turn": 0.4}
"""Twice the largest share of a curve's own squares that the nearest point of the grid leaves."""
FITS = 0.999
"""Quantile of the F distribution above which what a form leaves is no short-range noise (`forms`)."""
_PROMISING, _MISFIT = 12.0, 0.95
"""Compounds are fitted where one more part, beside a form that stays as it is, saves this much of n·ln(squares) and
all but `DECIDED` of what it costs, or where what that form leaves is above this quantile; of few checkpoints always."""
_MOST = 4.0
"""Most that the correction for few checkpoints multiplies a penalty by."""


@dataclass(frozen=True)
class Choice:
    """The forms of tokens that have one ρ."""

    bases: Bases
    fits: Mapping[Kind, FormFit]
    """Of all tokens, by form; a compound that was not fitted leaves infinite squares."""
    bic: np.ndarray
    """float64 (tokens, forms), forms as in `KINDS`."""
    nearest: np.ndarray
    """Number of the form that is nearest, int64 (tokens,)."""
    ahead: np.ndarray
    """By how much the nearest is below its best rival, float64 (tokens,)."""
    unfit: np.ndarray
    """True where the nearest, a form of one change, leaves too much, bool (tokens,)."""

    def is_nearest(self, *kinds: Kind) -> np.ndarray:
        """Return whether the nearest is one of these, bool (tokens,)."""
        names = list(KINDS)
        return np.isin(self.nearest, [names.index(kind) for kind in kinds])

    @property
    def decided(self) -> np.ndarray:
        """Return whether the nearest is taken, bool (tokens,).

        A constant needs no more than to be the nearest; of a sigmoid whose midpoint is at its limit, half is not seen,
        and a turn may hide between two checkpoints.
        """
        limits = self.bases.limits
        midpoints = self.fits["sigmoid"].shape[:, 0]
        whole = (midpoints > limits.low + _AT_LIMIT) & (midpoints < limits.high - _AT_LIMIT)
        ahead = (self.ahead >= DECIDED) | self.is_nearest("constant")
        decided: np.ndarray = ahead & (whole | ~self.is_nearest("sigmoid")) & ~self.unfit
        turns = np.flatnonzero(decided & self.is_nearest("turn"))
        decided[turns] = self._credible(self.fits["turn"].take(turns))
        return decided

    @property
    def late_drop(self) -> np.ndarray:
        """Return whether the nearest is a scaling law with a smaller fall after it, and no other compound is near;
        (tokens,).

        The fall is `DECIDED` clear of the other compounds, has its midpoint after s₀, and is smaller than what the law
        falls by from the first checkpoint to the last.
        """
        kinds, fit = list(KINDS), self.fits["law_sigmoid"]
        others = [kinds.index(kind) for kind in COMPOUNDS if kind != "law_sigmoid"]
        clear = self.bic[:, others].min(axis=1) >= self.bic[:, kinds.index("law_sigmoid")] + DECIDED
        late: np.ndarray = self.is_nearest("law_sigmoid") & clear
        tokens = np.flatnonzero(late)
        onset, exponent, midpoint, _ = fit.shape[tokens].T
        _, fall, drop = fit.linear[tokens].T
        last = self.bases.schedule.steps[-1]
        falls = fall * (1 - (1 + last * np.exp2(-onset)) ** -exponent)
        late[tokens] = (drop > 0) & (falls > drop) & (midpoint > onset)
        return late

    def _credible(self, turns: FormFit) -> np.ndarray:
        """Return whether a checkpoint shows `_SEEN` of a turn beyond both plateaus, and it can be a loss."""
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
        curves = np.empty((len(self.nearest), len(places)))
        for number, kind in enumerate(KINDS):
            tokens = np.flatnonzero(self.nearest == number)
            curves[tokens] = self.fits[kind].take(tokens).curve(self.bases, places)
        return curves


def choose(bases: Bases, values: np.ndarray) -> Choice:
    """Fit all forms to losses (tokens, steps), nats."""
    white, rough = bases.whitened(values)
    fits = _singles(bases, white, rough)
    single = _bic(bases, fits)
    left = _left(bases, white, fits, single)
    misfit, degrees = bases.misfit(left)
    tokens = _worth_compounds(bases, left, misfit > fdtri(*degrees, _MISFIT), single)
    _add_compounds(bases, white, rough, fits, tokens)
    bics = _bic(bases, fits)
    pairs, lowest = bics[:, single.shape[1] :].min(axis=1), single.min(axis=1)
    compound, best = pairs < lowest, single.argmin(axis=1)
    kinds = list(SINGLES)
    rivals = np.array([[other in _RIVALS[kind] for other in kinds] for kind in kinds])
    clear = np.where(rivals[best], single, np.inf).min(axis=1) - lowest
    ahead = np.where(compound, lowest - pairs, clear)
    unfit = ~compound & ((misfit > fdtri(*degrees, FITS)) | (pairs - lowest < COMPOUND))
    unfit |= _bumpy(bases, left, fits, np.where(compound, -1, best))
    return Choice(bases, fits, bics, bics.argmin(axis=1), ahead, unfit)


def _singles(bases: Bases, white: np.ndarray, rough: np.ndarray) -> dict[Kind, FormFit]:
    """The forms of one change, fitted to whitened tokens (tokens, steps)."""
    starts: Mapping[Kind, np.ndarray] = {
        "constant": np.empty((len(white), 0)),
        "line": np.empty((len(white), 0)),
        "power": bases.power(rough),
        "law": bases.law(rough),
        "step": bases.step(rough),
        "sigmoid": bases.sigmoid(rough),
        "turn": bases.turn(rough),
    }
    fits = {kind: evaluate(kind, bases, white, start) for kind, start in starts.items()}
    lowest, whole = _bic(bases, fits).min(axis=1), fits["constant"].squares
    for kind, share in _OFF_GRID.items():
        bic, squares = _bic(bases, {kind: fits[kind]})[:, 0], fits[kind].squares
        near = (bic < lowest + _HOPELESS) | (squares < share * whole)
        refined = refine(kind, bases, rough[near], starts[kind][near])
        fits[kind].put(near, evaluate(kind, bases, white[near], refined))
    return fits


def _worth_compounds(bases: Bases, left: np.ndarray, misfit: np.ndarray, bic: np.ndarray) -> np.ndarray:
    """Numbers of the tokens that compounds are fitted to, by what the best form leaves, and if it is much; int64."""
    if len(bases.schedule.steps) < FEW:
        return np.arange(len(left))
    own = np.array([_penalty(bases, parameters) for parameters in SINGLES.values()])[bic.argmin(axis=1)]
    cost = _penalty(bases, PARAMETERS) - own - DECIDED
    return np.flatnonzero((saved(bases, left) > np.maximum(cost, _PROMISING)) | misfit)


def _left(bases: Bases, white: np.ndarray, fits: Mapping[Kind, FormFit], bic: np.ndarray) -> np.ndarray:
    """Return the residuals of whitened tokens from their form of lowest BIC, float64 (tokens, steps)."""
    left, best = np.empty_like(white), bic.argmin(axis=1)
    for number, fit in enumerate(fits.values()):
        tokens = np.flatnonzero(best == number)
        left[tokens] = fit.take(tokens).left(bases, white[tokens])
    return left


def _bumpy(bases: Bases, left: np.ndarray, fits: Mapping[Kind, FormFit], best: np.ndarray) -> np.ndarray:
    """Return whether what the best form, a sigmoid or a step, leaves of whitened tokens has a bump in it, bool
    (tokens,).
    """
    bumpy = np.zeros(len(left), bool)
    for number, kind in enumerate(fits):
        if kind in ("sigmoid", "step"):
            tokens = np.flatnonzero(best == number)
            shape = fits[kind].shape[tokens]
            if kind == "step":
                shape = np.append(shape, np.full_like(shape, bases.limits.narrowest), axis=1)
            bumpy[tokens] = bases.bump(shape, left[tokens]) > bases.largest_bump
    return bumpy


def _add_compounds(
    bases: Bases, white: np.ndarray, rough: np.ndarray, fits: dict[Kind, FormFit], tokens: np.ndarray
) -> None:
    """Put compounds among the fits, fitted to these tokens; those of all others leave infinite squares."""
    for kind, fit in fit_compounds(bases, white[tokens], rough[tokens]).items():
        n, places = len(white), (fit.linear.shape[1], fit.shape.shape[1])
        fits[kind] = FormFit(kind, np.full(n, np.inf), np.zeros((n, places[0])), np.ones((n, places[1])))
        fits[kind].put(tokens, fit)


def _bic(bases: Bases, fits: Mapping[Kind, FormFit]) -> np.ndarray:
    """float64 (tokens, forms)."""
    return np.stack([_criterion(bases, fit.squares, KINDS[kind]) for kind, fit in fits.items()], axis=1)


def _criterion(bases: Bases, squares: np.ndarray, parameters: int) -> np.ndarray:
    """The BIC of what leaves these squares, float64 (tokens,)."""
    n = bases.schedule.effective
    return n * np.log(squares / n + ROUNDING) + _penalty(bases, parameters)


def _penalty(bases: Bases, parameters: int) -> float:
    """Return the penalty of parameters in the BIC."""
    n = bases.schedule.effective
    correction = min(n / (n - parameters - 2), _MOST) if n > parameters + 2 else _MOST
    return parameters * float(np.log(n)) * correction
