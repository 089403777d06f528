"""From the nearest point of a grid to the least squares: each token's curve on its own, all tokens at once.

Variable projection: at each point the linear parameters are solved for, and the others take a step of Levenberg and
Marquardt's on what is left, with the part of their derivatives that the linear columns have taken out (Kaufman's form).
Steps end at the limits of `forms`, and one that makes things worse is taken again, shorter. It stops where a step saves
less than a hundred-thousandth of the squares, which moves a parameter by some hundredths of its standard error. The way
there is gone in float32. Values are whitened (`ar1`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from trajstore.analysis.arrays import Floats
from trajstore.analysis.shapes.forms import EXPONENTS, LAW_EXPONENTS, Bases, falling, powered
from trajstore.analysis.statistics.ar1 import whiten

Kind = Literal[
    "constant",
    "line",
    "step",
    "power",
    "law",
    "sigmoid",
    "turn",
    "law_sigmoid",
    "sigmoids",
    "law_hump",
    "sigmoid_hump",
]
FormPart = Literal["line", "step", "power", "law", "sigmoid", "hump"]

_PARTS: Mapping[Kind, tuple[FormPart, ...]] = {
    "constant": (),
    "line": ("line",),
    "step": ("step",),
    "power": ("power",),
    "law": ("law",),
    "sigmoid": ("sigmoid",),
    "law_sigmoid": ("law", "sigmoid"),
    "sigmoids": ("sigmoid", "sigmoid"),
    "law_hump": ("law", "hump"),
    "sigmoid_hump": ("sigmoid", "hump"),
}
"""Parts whose sums are the forms, beside a; a turn's two parts share m and w, and stand apart."""
_PARAMETERS: Mapping[FormPart, int] = {"line": 0, "step": 1, "power": 1, "law": 2, "sigmoid": 2, "hump": 2}

_STEPS = 25
_ENOUGH = 1e-5
"""Share of the squares that a step has to save for another to be taken."""
_MOST_DAMPED = 1e4
_RIDGE, _ROUGH_RIDGE = 1e-12, 1e-6
_LN2 = float(np.log(2))


@dataclass(frozen=True)
class FormFit:
    """One form, fitted to tokens."""

    kind: Kind
    squares: Floats
    """Sum of the squared residuals of the whitened values, float64 (tokens,)."""
    linear: Floats
    """a, d and h, or those of a compound's parts, float64 (tokens, 1 to 3)."""
    shape: Floats
    """The others: c; log₂ s₀ and c; m and w; a step's m; of a compound both parts'; float64 (tokens, 0 to 4)."""

    def curve(self, bases: Bases, places: Floats) -> Floats:
        """The fitted curves at these places, float64 (tokens, places)."""
        return (self.linear[:, None, :] @ _columns(self.kind, bases, self.shape, places))[:, 0]

    def left(self, bases: Bases, white: Floats) -> Floats:
        """The residuals of whitened tokens, float64 (tokens, steps)."""
        fitted = whiten(self.curve(bases, bases.schedule.places), bases.rho, bases.weights)
        return white - fitted

    def take(self, tokens: np.ndarray) -> FormFit:
        """Of some of the tokens."""
        return FormFit(self.kind, self.squares[tokens], self.linear[tokens], self.shape[tokens])

    def put(self, tokens: np.ndarray, other: FormFit) -> None:
        """Take another fit's in the place of some tokens'."""
        self.squares[tokens], self.linear[tokens], self.shape[tokens] = (
            other.squares,
            other.linear,
            other.shape,
        )


def _parts(kind: Kind, shape: Floats) -> Iterator[tuple[FormPart, Floats]]:
    """Each part of a form that is no turn, with its own parameters (tokens, 0 to 2)."""
    first = 0
    for part in _PARTS[kind]:
        yield part, shape[:, first : first + _PARAMETERS[part]]
        first += _PARAMETERS[part]


def _columns(kind: Kind, bases: Bases, shape: Floats, places: Floats) -> Floats:
    """Return the columns of the linear parameters, float64 (tokens, linear parameters, places)."""
    flat = np.ones((len(shape), len(places)), shape.dtype)
    if kind == "turn":
        s = falling(places.astype(shape.dtype), shape[:, 0], shape[:, 1])
        return np.stack([flat, s, 4 * s * (1 - s)], axis=1)
    return np.stack([flat, *(_column(part, bases, own, places) for part, own in _parts(kind, shape))], axis=1)


def _column(part: FormPart, bases: Bases, shape: Floats, places: Floats) -> Floats:
    """A part of height 1, (tokens, places)."""
    x = (places - bases.schedule.places[0]).astype(shape.dtype)
    match part:
        case "line":
            return np.broadcast_to(x, (len(shape), len(x)))
        case "step":
            return (places < shape[:, :1]).astype(shape.dtype)
        case "power":
            power: Floats = np.exp2(-shape * x)
            return power
        case "law":
            return powered(bases.schedule.steps_at(places).astype(shape.dtype), shape[:, 0], shape[:, 1])
        case _:
            s = falling(places.astype(shape.dtype), shape[:, 0], shape[:, 1])
            return 4 * s * (1 - s) if part == "hump" else s


def _derivatives(kind: Kind, bases: Bases, fit: FormFit, columns: np.ndarray) -> np.ndarray:
    """Of the curve by ln c, by log₂ s₀ and ln c, or by m/w and ln w, float64 (tokens, 1 to 4, steps)."""
    places = bases.schedule.places.astype(columns.dtype)
    if kind == "turn":
        s = columns[:, 1]
        slope = (fit.linear[:, 1:2] + 4 * fit.linear[:, 2:] * (1 - 2 * s)) * s * (1 - s)
        return np.stack(_by_place(slope, fit.shape, places), axis=1)
    slopes: list[np.ndarray] = []
    for number, (part, own) in enumerate(_parts(kind, fit.shape), start=1):
        curve = fit.linear[:, number : number + 1] * columns[:, number]
        match part:
            case "power":
                slopes.append(-_LN2 * curve * own * (places - places[0]))
            case "law":
                ratio = bases.schedule.steps.astype(columns.dtype) * np.exp2(-own[:, :1])
                by_onset = _LN2 * curve * own[:, 1:] * ratio / (1 + ratio)
                slopes += [by_onset, -curve * own[:, 1:] * np.log1p(ratio)]
            case "sigmoid":
                slopes += _by_place(curve * (1 - columns[:, number]), own, places)
            case "hump":
                s = falling(places, own[:, 0], own[:, 1])
                slopes += _by_place(curve * (1 - 2 * s), own, places)
    return np.stack(slopes, axis=1)


def _by_place(slope: np.ndarray, shape: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
    """Derivatives by m/w, `slope`, and by ln w."""
    return [slope, slope * (places - shape[:, :1]) / shape[:, 1:]]


class _State(NamedTuple):
    """A form at some parameters."""

    fit: FormFit
    columns: np.ndarray
    """Columns that the linear parameters multiply (tokens, linear parameters, steps)."""
    seen: np.ndarray
    """The same, whitened."""
    left: np.ndarray
    """Residuals of the whitened values (tokens, steps)."""

    def take(self, tokens: np.ndarray) -> _State:
        """Of some of the tokens."""
        return _State(self.fit.take(tokens), self.columns[tokens], self.seen[tokens], self.left[tokens])


def evaluate(kind: Kind, bases: Bases, white: np.ndarray, shape: np.ndarray) -> FormFit:
    """The linear parameters of a form whose others are given; whitened tokens (tokens, steps) in."""
    return _evaluate(kind, bases, white, shape).fit


def _evaluate(kind: Kind, bases: Bases, white: np.ndarray, shape: np.ndarray) -> _State:
    columns = _columns(kind, bases, shape, bases.schedule.places)
    seen = whiten(columns, bases.rho, bases.weights)
    gram, right = seen @ seen.swapaxes(1, 2), (seen @ white[:, :, None])[:, :, 0]
    linear = _solve(gram, right)
    if kind == "turn":
        _keep_turning(linear, gram, right)
    left = white - (linear[:, None, :] @ seen)[:, 0]
    return _State(FormFit(kind, (left**2).sum(axis=1), linear, shape), columns, seen, left)


def _keep_turning(linear: np.ndarray, gram: np.ndarray, right: np.ndarray) -> None:
    """Put the best of the turns that go back just enough, d = ±2h, in the place of those that do not."""
    tokens = np.flatnonzero(np.abs(linear[:, 1]) > 2 * np.abs(linear[:, 2]))
    best = np.full(len(tokens), -np.inf)
    for ratio in (2, -2):
        mix = np.array([[1, 0, 0], [0, ratio, 1]], gram.dtype)
        mixed = right[tokens] @ mix.T
        solved = _solve(mix @ gram[tokens] @ mix.T, mixed)
        explained = (solved * mixed).sum(axis=1)
        better = explained > best
        linear[tokens[better]] = (solved @ mix)[better]
        best = np.maximum(best, explained)


def _solve(gram: Floats, right: Floats) -> Floats:
    """Solutions of systems (tokens, k, k), the least ones where a system is singular."""
    diagonal = np.arange(gram.shape[1])
    scale = np.sqrt(np.maximum(gram[:, diagonal, diagonal], 1e-30))
    scaled = gram / (scale[:, :, None] * scale[:, None, :])
    scaled[:, diagonal, diagonal] += _RIDGE if right.dtype == np.float64 else _ROUGH_RIDGE
    wide = scaled.astype(np.float64), (right / scale)[:, :, None].astype(np.float64)
    return np.linalg.solve(*wide)[:, :, 0].astype(right.dtype) / scale


def refine(kind: Kind, bases: Bases, rough: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The parameters of the least squares near `start`, float64 (tokens, 1 to 4), of a form that has any.

    `rough` are whitened tokens, float32 (tokens, steps).
    """
    best = start.astype(np.float32)
    state = _evaluate(kind, bases, rough, best)
    squares = state.fit.squares
    gram, right = _system(kind, bases, state)
    active, damping = np.arange(len(rough)), np.full(len(rough), 1e-3)
    for _ in range(_STEPS):
        if not len(active):
            break
        tried = _moved(kind, bases, best[active], (gram, right), damping)
        state = _evaluate(kind, bases, rough[active], tried)
        saved = squares[active] - state.fit.squares
        better = saved > 0
        going = np.where(better, saved > _ENOUGH * squares[active], damping < _MOST_DAMPED)
        squares[active[better]], best[active[better]] = state.fit.squares[better], tried[better]
        renewed = better & going
        gram[renewed], right[renewed] = _system(kind, bases, state.take(renewed))
        damping *= np.where(better, 0.2, 10)
        gram, right, active, damping = (part[going] for part in (gram, right, active, damping))
    wide = best.astype(np.float64)
    return _within(kind, bases, wide, np.zeros_like(wide))


def _system(kind: Kind, bases: Bases, state: _State) -> tuple[np.ndarray, np.ndarray]:
    """Dot products of the derivatives less what the linear columns explain of them, and of these with what is left."""
    slopes = whiten(_derivatives(kind, bases, state.fit, state.columns), bases.rho, bases.weights)
    linear = state.seen.shape[1]
    both = np.concatenate([state.seen, slopes], axis=1)
    gram = both @ both.swapaxes(1, 2)
    inner, across = gram[:, :linear, :linear], gram[:, :linear, linear:]
    explained = [_solve(inner, across[:, :, n]) for n in range(slopes.shape[1])]
    own = gram[:, linear:, linear:] - across.swapaxes(1, 2) @ np.stack(explained, axis=2)
    return own, (slopes @ state.left[:, :, None])[:, :, 0]


def _moved(
    kind: Kind, bases: Bases, shape: np.ndarray, system: tuple[np.ndarray, np.ndarray], damping: np.ndarray
) -> np.ndarray:
    """Parameters after a step; one that lies at its limit and would leave it stays, and the other goes alone."""
    gram, right = system
    diagonal = np.arange(gram.shape[1])
    damped = gram.copy()
    damped[:, diagonal, diagonal] *= 1 + damping[:, None]
    moved = _within(kind, bases, shape, _solve(damped, right))
    stuck = moved == shape
    if stuck.any():
        both = stuck[:, :, None] | stuck[:, None, :]
        damped[both & ~np.eye(len(diagonal), dtype=bool)] = 0
        moved = _within(kind, bases, shape, _solve(damped, np.where(stuck, 0, right)))
    return moved


def _within(kind: Kind, bases: Bases, shape: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Parameters after a step, within their limits."""
    step = np.clip(step, -1, 1)
    if kind == "turn":
        return _placed(bases, shape, step, turning=True)
    limited, first = [], 0
    for part, own in _parts(kind, shape):
        moved = step[:, first : first + own.shape[1]]
        first += own.shape[1]
        match part:
            case "power":
                limited.append(np.clip(own * np.exp(moved), *EXPONENTS))
            case "law":
                limits = bases.limits
                onsets = np.clip(own[:, 0] + moved[:, 0], limits.earliest, limits.high)
                exponents = np.clip(own[:, 1] * np.exp(moved[:, 1]), *LAW_EXPONENTS)
                limited.append(np.stack([onsets, exponents], axis=1))
            case _:
                limited.append(_placed(bases, own, moved, turning=part == "hump"))
    return np.concatenate(limited, axis=1).astype(shape.dtype)


def _placed(bases: Bases, shape: np.ndarray, step: np.ndarray, *, turning: bool) -> np.ndarray:
    """m and w after a step of m/w and ln w, within their limits."""
    midpoints, widths = shape[:, 0], shape[:, 1]
    moved = midpoints + step[:, 0] * widths, widths * np.exp(step[:, 1])
    return np.stack(bases.limits.clip(*moved, turning=turning), axis=1).astype(shape.dtype)
