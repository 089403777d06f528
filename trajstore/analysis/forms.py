"""Curves over log step, fitted to all tokens at once: grids that all tokens share, and refinement of each token.

x is a step's place in doublings (`schedule`), x₀ the first. The forms are

    constant    a
    line        a + d·(x − x₀)
    power       a + d·2^(−c·(x − x₀)), so a + d·(s/s₀)^(−c) at step s
    sigmoid     a + d·S, S = 1/(1 + exp((x − m)/w))
    step        a + d·[x < m], m half-way between two checkpoints
    turn        a + d·S + 4h·S·(1 − S), which rises and falls (h > 0) or falls and rises (h < 0)

with m between the second checkpoint and the last but one, and w so that 10 to 90 % of a sigmoid's way take between a
quarter of a doubling (less where steps span less than four) and more than half of the range. A turn goes back by a
ninth of its way at least (|d| ≤ 2·|h|), and 10 to 90 % of it lie in the range. c is 0.01 to 3, since below a power law
is a line.

What is least is the weighted sum of squares of the whitened residuals (`ar1`). Linear parameters are solved for; the
others are looked for on a grid, whose bases are the same for all tokens of one ρ, so that a grid is one matrix product,
and then by `refinement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trajstore.analysis.ar1 import whiten
from trajstore.analysis.schedule import Schedule

WIDTH = 2 * float(np.log(9))
"""10 to 90 % of a sigmoid's way, in units of w."""

_NARROWEST = 0.25 / WIDTH
_NARROWEST_SHARE = 1 / 8
"""Of the widest, where steps span less than four doublings."""
_WIDEST = 1 / 8
"""Of the range."""
EXPONENTS = (0.01, 3.0)
"""Least and largest c."""
_RATIO, _SPACING = 1.4, 0.8
"""Of neighbouring widths in the grid, and of the distance of midpoints to w."""
_TURNING = (1.5, 1.5)
"""The same, for turns."""
_COARSE = 2.0
"""Both, for the flexible curves that noise is told from."""


@dataclass(frozen=True)
class Limits:
    """Where the parameters of a schedule's forms may lie."""

    places: np.ndarray
    low: float
    """Lowest midpoint."""
    high: float
    """Highest midpoint."""
    narrowest: float
    """Least w."""
    widest: float
    """Largest w."""

    @classmethod
    def of(cls, schedule: Schedule) -> Limits:
        """Those of a schedule."""
        places = schedule.places
        widest = _WIDEST * schedule.span
        narrowest = min(_NARROWEST, _NARROWEST_SHARE * widest)
        return cls(places, float(places[1]), float(places[-2]), narrowest, widest)

    def clip(
        self, midpoints: np.ndarray, widths: np.ndarray, *, turning: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest midpoints and widths that are allowed."""
        inside = np.clip(midpoints, self.low, self.high)
        widest = np.minimum(self.widest, self.reach(inside)) if turning else self.widest
        return inside, np.clip(widths, self.narrowest, np.maximum(widest, self.narrowest))

    def reach(self, midpoints: np.ndarray) -> np.ndarray:
        """The largest w of which 10 to 90 % lie in the range."""
        nearer: np.ndarray = np.minimum(midpoints - self.places[0], self.places[-1] - midpoints)
        return nearer * (2 / WIDTH)

    def grid(self, ratio: float = _RATIO, spacing: float = _SPACING) -> np.ndarray:
        """Midpoints and widths, float64 (points, 2); those that no checkpoint lies within are a step's."""
        count = 1 + int(np.ceil(np.log(self.widest / self.narrowest) / np.log(ratio)))
        points = []
        for width in np.geomspace(self.narrowest, self.widest, count):
            n = 2 + int((self.high - self.low) / (spacing * width))
            midpoints = np.linspace(self.low, self.high, n)
            near = np.abs(midpoints[:, None] - self.places).min(axis=1) <= WIDTH / 2 * width
            points.append(np.stack([midpoints[near], np.full(int(near.sum()), width)], axis=1))
        return np.concatenate(points)


def falling(places: np.ndarray, midpoints: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """S at each place, (curves, places)."""
    u = (places - midpoints[:, None]) / widths[:, None]
    # exp overflows at 710, and 1/(1 + e⁵⁰) is no more than rounding beside 1.
    curve: np.ndarray = 1 / (1 + np.exp(np.clip(u, -50, 50)))
    return curve


def _orthonormal(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Q, R) of sets of columns, each (sets, steps): Q (sets, steps, columns), R (sets, columns, columns)."""
    found = np.linalg.qr(np.stack(np.broadcast_arrays(*columns), axis=-1))
    return found.Q, found.R


class Bases:
    """The forms' bases on a grid, whitened for one ρ and orthonormal, so that a fit is a product and a square."""

    def __init__(self, schedule: Schedule, rho: float, weights: np.ndarray | None = None) -> None:
        self.schedule, self.limits, self.rho = schedule, Limits.of(schedule), rho
        self.weights = schedule.weights if weights is None else weights
        self._flat = self._white(np.ones((1, len(schedule.places))))

    def _white(self, curves: np.ndarray) -> np.ndarray:
        return whiten(curves, self.rho, self.weights)

    def _beside_flat(self, curves: np.ndarray) -> np.ndarray:
        """The part of each curve that a constant is not, of length 1, (curves, steps)."""
        return _orthonormal(self._flat, self._white(curves))[0][:, :, 1]

    @cached_property
    def _powers(self) -> tuple[np.ndarray, np.ndarray]:
        exponents = np.geomspace(*EXPONENTS, 24)
        places = self.schedule.places
        return exponents, self._beside_flat(np.exp2(-exponents[:, None] * (places - places[0])))

    @cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        places = self.schedule.places
        jumps = (places[1:-2] + places[2:-1]) / 2
        return jumps, self._beside_flat((places < jumps[:, None]).astype(np.float64))

    @cached_property
    def _sigmoids(self) -> tuple[np.ndarray, np.ndarray]:
        points = self.limits.grid()
        return points, self._beside_flat(falling(self.schedule.places, *points.T))

    @cached_property
    def _turns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Points, bases Q and R of free turns, and bases of those that go back just enough, one set of them a sign."""
        points = self.limits.grid(*_TURNING)
        points = points[points[:, 1] <= self.limits.reach(points[:, 0])]
        q, r = self._free(points)
        s = falling(self.schedule.places, *points.T)
        ends = np.stack([self._beside_flat(4 * s * (1 - s) + sign * 2 * s) for sign in (1, -1)])
        return points, q, r, ends

    def _free(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(Q, R) of the columns 1, S and 4S(1 − S) at these points."""
        s = falling(self.schedule.places, *points.T)
        return _orthonormal(self._flat, self._white(s), self._white(4 * s * (1 - s)))

    @cached_property
    def _flexible(self) -> np.ndarray:
        """Turns on a coarser grid, wherever they lie, Q (points, steps, 3)."""
        return self._free(self.limits.grid(_COARSE, _COARSE))[0]

    def leftover(self, curves: np.ndarray) -> np.ndarray:
        """What the nearest of many flexible curves leaves of tokens (tokens, steps), where ρ is 0 and weights are 1."""
        left: np.ndarray = curves - curves.mean(axis=1, keepdims=True)
        bases = self._flexible[:, :, 1:]
        rough = left.astype(np.float32)
        gains = sum((rough @ bases[:, :, n].T.astype(np.float32)) ** 2 for n in (0, 1))
        chosen = bases[np.argmax(gains, axis=1)]
        for n in (0, 1):
            basis = chosen[:, :, n]
            left = left - (left * basis).sum(axis=1, keepdims=True) * basis
        return left

    def whitened(self, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (tokens, steps) as fits take them, and as searches do: float32, without what a constant explains."""
        white = self._white(curves)
        constant = self._flat[0] / np.linalg.norm(self._flat)
        return white, (white - (white @ constant)[:, None] * constant).astype(np.float32)

    def power(self, rough: np.ndarray) -> np.ndarray:
        """The nearest exponent of the grid, float64 (tokens, 1)."""
        return _nearest(rough, *self._powers)

    def step(self, rough: np.ndarray) -> np.ndarray:
        """The best m, which lies half-way between two checkpoints, float64 (tokens, 1)."""
        return _nearest(rough, *self._steps)

    def sigmoid(self, rough: np.ndarray) -> np.ndarray:
        """The nearest m and w of the grid, float64 (tokens, 2)."""
        return _nearest(rough, *self._sigmoids)

    def turn(self, rough: np.ndarray) -> np.ndarray:
        """The nearest m and w of the grid, float64 (tokens, 2)."""
        points, q, r, ends = self._turns
        along_s, along_h = (rough @ q[:, :, n].T.astype(np.float32) for n in (1, 2))
        # |d| ≤ 2|h| in terms of the coefficients, without dividing for each token.
        d = np.abs(along_s - (r[:, 1, 2] / r[:, 2, 2]).astype(np.float32) * along_h)
        d *= np.abs(r[:, 2, 2] / (2 * r[:, 1, 1])).astype(np.float32)
        gains = np.where(d <= np.abs(along_h), along_s**2 + along_h**2, 0)
        for bases in ends:
            np.maximum(gains, (rough @ bases.T.astype(np.float32)) ** 2, out=gains)
        best: np.ndarray = points[gains.argmax(axis=1)]
        return best


def _nearest(rough: np.ndarray, points: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """The point whose basis explains most of each token, float64 (tokens, parameters)."""
    best = np.abs(rough @ bases.T.astype(np.float32)).argmax(axis=1)
    found: np.ndarray = points[best].reshape(len(rough), -1)
    return found
