"""Curves over log step, fitted to all tokens at once: grids that all tokens share, and refinement of each token.

x is a step's place in doublings (`log_steps`), x₀ the first. The forms are

    constant    a
    line        a + d·(x − x₀)
    power       a + d·2^(−c·(x − x₀)), steepest at the first step
    law         a + d·(1 + s/s₀)^(−c) at step s, flat up to about s₀ as runs are
    sigmoid     a + d·S, S = 1/(1 + exp((x − m)/w))
    step        a + d·[x < m], m half-way between two checkpoints
    turn        a + d·S + 4h·S·(1 − S), which rises and falls (h > 0) or falls and rises (h < 0)

with m between the second checkpoint and the last but one, and w so that 10 to 90 % of a sigmoid's way take between a
quarter of a doubling (less where steps span less than four) and more than half of the range. A turn goes back by a
ninth of its way at least (|d| ≤ 2·|h|), and 10 to 90 % of it lie in the range. c is 0.01 to 3 in a power, since below a
power law is a line, and 0.02 to 1 in a law: with c = 1 a law is a sigmoid of w = 1/ln 2, and the larger c, the more it
is an exponential of s, as steep in log step as many a sigmoid. s₀ lies between half of the first positive step and the
last checkpoint but one.

A free curve, a sum of cosines over log step, follows whatever is smooth; what it leaves is a token's short-range noise.
A bump, 4S(1 − S) up or down, is looked for in what a sigmoid or step leaves after its midpoint.

What is least is the weighted sum of squares of the whitened residuals (`ar1`). Linear parameters are solved for; the
others are looked for on a grid, whose bases are the same for all tokens of one ρ, so that a grid is one matrix product,
and then by `least_squares`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trajstore.analysis.arrays import Floats, Whole
from trajstore.analysis.statistics.ar1 import simulate, whiten
from trajstore.analysis.statistics.log_steps import Schedule

WIDTH = 2 * float(np.log(9))
"""10 to 90 % of a sigmoid's way, in units of w."""

_NARROWEST = 0.25 / WIDTH
_NARROWEST_SHARE = 1 / 8
"""Of the widest, where steps span less than four doublings."""
_STEEPEST_LAW = 1.2
"""Largest w of a sigmoid, below 1/ln 2, that of the law with c = 1."""
_WIDEST = 1 / 8
"""Of the range."""
EXPONENTS = (0.01, 3.0)
"""Least and largest c of a power."""
LAW_EXPONENTS = (0.02, 1.0)
"""Least and largest c of a law."""
_RATIO, _SPACING = 1.4, 0.8
"""Of neighbouring widths in the grid, and of the distance of midpoints to w."""
_TURNING = (1.5, 1.5)
"""The same, for turns."""
_COARSE = 2.0
"""Both, for the flexible curves that noise is told from, and for compounds."""
_CHECKPOINTS_A_CURVE = 20
"""Checkpoints for each of the flexible curves."""
_ALIKE = 1e-3
"""Length of what is left of a curve of length 1 below which it is a sum of others."""
ROUNDING = 1e-10
"""Variance of what float32 losses are off by, nats²; keeps ratios finite where a fit is perfect."""
_FREE, _CHECKPOINTS_A_COSINE = 16, 3
"""Most cosines of a free curve, and checkpoints for each."""
_BUMP_RATIO, _BUMP_SPACING = 1.6, 1.2
"""Of neighbouring widths of bumps, and of the distance of their midpoints to w."""
_NARROWEST_BUMP, _CHECKPOINTS_A_BUMP = 0.2, 3
"""Least w of a bump, and checkpoints that its upper half has at least."""
_HALF = float(np.log(3 + 2 * np.sqrt(2)))
"""Where 4S(1 − S) is a half, in units of w from its midpoint."""
_OWN = 0.25
"""Share of a bump's squares that a change of the sigmoid's parameters may not explain."""
FEW = 60
"""Fewer checkpoints tell ρ badly, and show no more than large bumps."""
_CHANCE, _CHANCE_OF_FEW = 0.03, 0.05
"""Highest chance that noise alone shows a bump: the fewer the checkpoints, the more bumps it would hide."""
_BY_CHANCE = 4000
"""Trajectories of noise from which it is told what noise shows."""


@dataclass(frozen=True)
class Bounds:
    """Bounds of the parameters of a schedule's forms."""

    places: np.ndarray
    low: float
    """Lowest midpoint."""
    high: float
    """Highest midpoint."""
    narrowest: float
    """Least w."""
    widest: float
    """Largest w of a turn."""
    widest_sigmoid: float
    """Largest w of a sigmoid."""
    earliest: float
    """Least log₂ s₀ of a law."""

    @classmethod
    def of(cls, schedule: Schedule) -> Bounds:
        """Return the bounds for a schedule."""
        places = schedule.places
        widest = _WIDEST * schedule.span
        narrowest = min(_NARROWEST, _NARROWEST_SHARE * widest)
        first = float(places[schedule.steps > 0][0])
        return cls(
            places,
            float(places[1]),
            float(places[-2]),
            narrowest,
            widest,
            min(widest, _STEEPEST_LAW),
            first - 1,
        )

    def clip(
        self, midpoints: np.ndarray, widths: np.ndarray, *, turning: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest midpoints and widths that are allowed."""
        inside = np.clip(midpoints, self.low, self.high)
        widest = np.minimum(self.widest, self.reach(inside)) if turning else self.widest_sigmoid
        return inside, np.clip(widths, self.narrowest, np.maximum(widest, self.narrowest))

    def reach(self, midpoints: np.ndarray) -> np.ndarray:
        """The largest w of which 10 to 90 % lie in the range."""
        nearer: np.ndarray = np.minimum(midpoints - self.places[0], self.places[-1] - midpoints)
        return nearer * (2 / WIDTH)

    def grid(
        self, ratio: float = _RATIO, spacing: float = _SPACING, narrowest: float | None = None
    ) -> np.ndarray:
        """Midpoints and widths, float64 (points, 2); those that no checkpoint lies within are a step's."""
        least = min(narrowest or self.narrowest, self.widest)
        count = 1 + int(np.ceil(np.log(self.widest / least) / np.log(ratio)))
        points = []
        for width in np.geomspace(least, self.widest, count):
            n = 2 + int((self.high - self.low) / (spacing * width))
            midpoints = np.linspace(self.low, self.high, n)
            near = np.abs(midpoints[:, None] - self.places).min(axis=1) <= WIDTH / 2 * width
            points.append(np.stack([midpoints[near], np.full(int(near.sum()), width)], axis=1))
        return np.concatenate(points)


def powered(steps: Floats | Whole, onsets: Floats, exponents: Floats) -> Floats:
    """(1 + s/s₀)^(−c) at each step, by log₂ s₀ and c, (curves, steps)."""
    return np.exp(-exponents[:, None] * np.log1p(steps * np.exp2(-onsets)[:, None]))


def falling(places: Floats, midpoints: Floats, widths: Floats) -> Floats:
    """S at each place, (curves, places)."""
    u = (places - midpoints[:, None]) / widths[:, None]
    # exp overflows at 710, and 1/(1 + e⁵⁰) is no more than rounding beside 1.
    return 1 / (1 + np.exp(np.clip(u, -50, 50)))


def _orthonormal(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Q, R) of sets of columns, each (sets, steps): Q (sets, steps, columns), R (sets, columns, columns)."""
    factors = np.linalg.qr(np.stack(np.broadcast_arrays(*columns), axis=-1))
    return factors.Q, factors.R


def _beside(curves: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """The part of each curve (curves, steps) that is orthogonal to orthonormal others, of length 1; 0 if it is none."""
    for other in others:
        curves = curves - _dot(curves, other) * other
    length = np.sqrt(_dot(curves, curves))
    return np.where(length > _ALIKE, curves / np.maximum(length, _ALIKE), 0)


def _dot(curves: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Dot products of each curve with its other, (curves, 1)."""
    products: np.ndarray = np.einsum("ij,ij->i", curves, others)
    return products[:, None]


@dataclass(frozen=True)
class CompoundParts:
    """Laws, sigmoids and humps that a compound may be made of, in this order."""

    laws: np.ndarray
    """log₂ s₀ and c, float64 (laws, 2)."""
    sigmoids: np.ndarray
    """m and w, float64 (sigmoids, 2)."""
    humps: np.ndarray
    """m and w, float64 (humps, 2)."""
    basis: np.ndarray
    """Whitened and without what a constant explains, of length 1, float32 (parts, steps)."""
    products: np.ndarray
    """Of the basis with itself, float32 (parts, parts)."""

    def of(self, part: str) -> tuple[np.ndarray, slice]:
        """(points, where they stand in the basis) of one kind."""
        points: Mapping[str, np.ndarray] = {"law": self.laws, "sigmoid": self.sigmoids, "hump": self.humps}
        first = 0
        for name, of_kind in points.items():
            if name == part:
                return of_kind, slice(first, first + len(of_kind))
            first += len(of_kind)
        raise KeyError(part)


class Bases:
    """The forms' bases on a grid, whitened for one ρ and orthonormal, so that a fit is a product and a square."""

    def __init__(self, schedule: Schedule, rho: float, weights: np.ndarray | None = None) -> None:
        self.schedule, self.limits, self.rho = schedule, Bounds.of(schedule), rho
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

    def laws(self, spacing: float, count: int) -> np.ndarray:
        """log₂ s₀ and c on a grid, float64 (points, 2)."""
        low, high = self.limits.earliest, self.limits.high
        onsets = np.linspace(low, high, 2 + int((high - low) / spacing))
        grid = np.meshgrid(onsets, np.geomspace(*LAW_EXPONENTS, count), indexing="ij")
        return np.stack(grid, axis=-1).reshape(-1, 2)

    @cached_property
    def _laws(self) -> tuple[np.ndarray, np.ndarray]:
        points = self.laws(1.0, 8)
        return points, self._beside_flat(powered(self.schedule.steps, *points.T))

    @cached_property
    def _free_curve(self) -> np.ndarray:
        """Whitened, but not weighed, and orthonormal, (cosines, steps)."""
        places = self.schedule.places
        count = min(_FREE, len(places) // _CHECKPOINTS_A_COSINE)
        cosines = np.cos(np.pi * np.arange(count)[:, None] * (places - places[0]) / self.schedule.span)
        return np.linalg.qr(whiten(cosines, self.rho, np.ones(len(places))).T).Q.T

    def misfit(self, left: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """(how much larger what whitened residuals (tokens, steps) have of a free curve is than the rest, degrees).

        Both are mean squares by degree of freedom, and each checkpoint counts as much as any, so that the rest is short
        noise of the token's own. Under noise alone the ratio has the F distribution of these degrees of freedom.
        """
        plain = left / np.sqrt(self.weights)
        smooth = ((plain @ self._free_curve.T) ** 2).sum(axis=1)
        rest = np.maximum((plain**2).sum(axis=1) - smooth, 0)
        k, n = self._free_curve.shape
        ratio: np.ndarray = (smooth / k + ROUNDING) / (rest / (n - k) + ROUNDING)
        return ratio, (k, n - k)

    @cached_property
    def _bumps(self) -> tuple[np.ndarray, np.ndarray]:
        """Midpoints, and curves whitened but not weighed, of length 1, float32 (bumps, steps)."""
        places, limits = self.schedule.places, self.limits
        points = limits.grid(_BUMP_RATIO, _BUMP_SPACING, _NARROWEST_BUMP)
        seen = (np.abs(points[:, :1] - places) <= _HALF * points[:, 1:]).sum(axis=1) >= _CHECKPOINTS_A_BUMP
        points = points[seen & (points[:, 1] <= limits.reach(points[:, 0]))]
        s = falling(places, *points.T)
        return points[:, 0], self._plain(4 * s * (1 - s))

    def _plain(self, curves: Floats) -> Floats:
        """Curves (curves, steps) whitened, but not weighed, of length 1, float32; 0 where they are."""
        white = whiten(curves, self.rho, np.ones(curves.shape[1]))
        length = np.linalg.norm(white, axis=1, keepdims=True)
        unit: Floats = (white / np.maximum(length, ROUNDING)).astype(np.float32)
        return unit

    def bump(self, shape: Floats, left: Floats) -> Floats:
        """The largest t of a bump after the midpoint in what sigmoids leave, m and w (tokens, 2), float64 (tokens,).

        `left` are whitened residuals (tokens, steps). What a change of a, d, m and w explains is no bump, and each
        checkpoint counts as much as any. 0 where no bump has its place.
        """
        midpoints, bumps = self._bumps
        if not len(bumps):
            return np.zeros(len(left))
        rest = (left / np.sqrt(self.weights)).astype(np.float32)
        s = falling(self.schedule.places, *shape.T)
        slope = s * (1 - s)
        by_width = slope * (self.schedule.places - shape[:, :1])
        taken: list[np.ndarray] = []
        own = np.ones((len(left), len(bumps)), np.float32)
        for curves in (np.ones_like(s), s, slope, by_width):
            taken.append(_beside(self._plain(curves), taken))
            rest = rest - _dot(rest, taken[-1]) * taken[-1]
            own -= (taken[-1] @ bumps.T) ** 2
        along = np.where((own > _OWN) & (midpoints > shape[:, :1]), rest @ bumps.T, 0)
        explained = (along**2 / np.maximum(own, _OWN)).max(axis=1).astype(np.float64)
        unexplained = np.maximum((rest**2).sum(axis=1) - explained, 0)
        degrees = max(left.shape[1] - len(taken) - 1, 1)
        t: Floats = np.sqrt(explained / (unexplained / degrees + ROUNDING))
        return t

    @cached_property
    def largest_bump(self) -> float:
        """The t of a bump that noise alone exceeds in `_CHANCE` of the tokens; simulated, the same each time."""
        rng, limits = np.random.default_rng(0), self.limits
        noise = simulate(len(self.schedule.places), _BY_CHANCE, self.rho, rng)
        midpoints = rng.uniform(limits.low, limits.high, _BY_CHANCE)
        narrowest, widest = np.log([limits.narrowest, limits.widest_sigmoid]).tolist()
        widths = np.exp(rng.uniform(narrowest, widest, _BY_CHANCE))
        bumps = self.bump(np.stack([midpoints, widths], axis=1), self._white(noise))
        chance = _CHANCE if len(self.schedule.places) >= FEW else _CHANCE_OF_FEW
        return float(np.quantile(bumps, 1 - chance))

    @cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        places = self.schedule.places
        jumps = (places[1:-2] + places[2:-1]) / 2
        return jumps, self._beside_flat((places < jumps[:, None]).astype(np.float64))

    @cached_property
    def _sigmoids(self) -> tuple[np.ndarray, np.ndarray]:
        points = self.limits.grid()
        points = points[points[:, 1] <= self.limits.widest_sigmoid]
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
    def parts(self) -> CompoundParts:
        """The parts of compounds, on coarse grids."""
        places, near = self.schedule.places, self.limits.grid(_COARSE, _COARSE)
        humps = near[near[:, 1] <= self.limits.reach(near[:, 0])]
        near = near[near[:, 1] <= self.limits.widest_sigmoid]
        s = falling(places, *humps.T)
        laws = self.laws(2.0, 4)
        curves = [powered(self.schedule.steps, *laws.T), falling(places, *near.T), 4 * s * (1 - s)]
        basis = self._beside_flat(np.concatenate(curves)).astype(np.float32)
        return CompoundParts(laws, near, humps, basis, basis @ basis.T)

    @cached_property
    def _flexible(self) -> np.ndarray:
        """Turns on a coarser grid, wherever they lie, and laws and steps beside a line.

        float32 (2, points, steps): two columns of each, orthonormal.
        """
        places = self.schedule.places
        laws = powered(self.schedule.steps, *self.laws(2.0, 4).T)
        beside_lines = self._white(np.concatenate([laws, places < self._steps[0][:, None]]))
        orthonormal = [
            self._free(self.limits.grid(_COARSE, _COARSE))[0],
            _orthonormal(self._flat, beside_lines, self._white(places))[0],
        ]
        return np.ascontiguousarray(np.moveaxis(np.concatenate(orthonormal)[:, :, 1:], 2, 0), np.float32)

    def leftover(self, curves: np.ndarray) -> np.ndarray:
        """Return the residuals of tokens (tokens, steps) from the nearest of many flexible curves, for ρ 0 and equal
        weights.

        Of many checkpoints it is the nearest sum of up to three, so that several changes do not pass for slow noise.
        """
        left: np.ndarray = (curves - curves.mean(axis=1, keepdims=True)).astype(np.float32)
        bases = self._flexible
        taken: list[np.ndarray] = []
        for _ in range(min(3, max(1, curves.shape[1] // _CHECKPOINTS_A_CURVE))):
            chosen = np.argmax((left @ bases[0].T) ** 2 + (left @ bases[1].T) ** 2, axis=1)
            for basis in bases:
                taken.append(_beside(basis[chosen], taken))
                left = left - _dot(left, taken[-1]) * taken[-1]
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

    def law(self, rough: Floats) -> Floats:
        """The nearest log₂ s₀ and c of the grid, float64 (tokens, 2)."""
        return _nearest(rough, *self._laws)

    def sigmoid(self, rough: Floats) -> Floats:
        """The nearest m and w of the grid, float64 (tokens, 2)."""
        return _nearest(rough, *self._sigmoids)

    def turn(self, rough: Floats) -> Floats:
        """The nearest m and w of the grid, float64 (tokens, 2)."""
        points, q, r, ends = self._turns
        along_s, along_h = (rough @ q[:, :, n].T.astype(np.float32) for n in (1, 2))
        # |d| ≤ 2|h| in terms of the coefficients, without dividing for each token.
        d = np.abs(along_s - (r[:, 1, 2] / r[:, 2, 2]).astype(np.float32) * along_h)
        d *= np.abs(r[:, 2, 2] / (2 * r[:, 1, 1])).astype(np.float32)
        gains = np.where(d <= np.abs(along_h), along_s**2 + along_h**2, 0)
        for bases in ends:
            np.maximum(gains, (rough @ bases.T.astype(np.float32)) ** 2, out=gains)
        best: Floats = points[gains.argmax(axis=1)]
        return best


def _nearest(rough: Floats, points: Floats, bases: Floats) -> Floats:
    """The point whose basis explains most of each token, float64 (tokens, parameters)."""
    best = np.abs(rough @ bases.T.astype(np.float32)).argmax(axis=1)
    nearest: Floats = points[best].reshape(len(rough), -1)
    return nearest
