"""Simulated trajectories of known shape, in numpy alone: nothing here is shared with what tells shapes.

A trajectory is a curve over steps plus AR(1) noise of a given standard deviation from checkpoint to checkpoint. x is
log₂ of the step; step 0 has the value that a curve has before it moves. The width of a sigmoid is either its logistic
scale w, of 1/(1 + exp((x − m)/w)), or the doublings that 10 to 90 % of its way take, 4.39·w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

PYTHIA = np.array([0, *(2**n for n in range(10)), *range(1000, 143001, 1000)])
"""154 steps."""
LOG20 = np.unique(np.round(np.geomspace(1, 143_000, 20)).astype(np.int64))
"""20 steps, evenly on a log axis."""
LOG12 = np.unique(np.round(np.geomspace(1, 143_000, 12)).astype(np.int64))
"""12 of them."""

Draw = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""Curves (tokens, steps) of some steps, how many."""


def _uniform(rng: np.random.Generator, low: float, high: float, n: int) -> np.ndarray:
    return rng.uniform(low, high, (n, 1))


def _places(steps: np.ndarray) -> np.ndarray:
    return np.log2(np.maximum(steps, 0.5))


def _logistic(steps: np.ndarray, middle: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """From 1 to 0."""
    curve: np.ndarray = 0.5 * (1 - np.tanh((_places(steps) - middle) / scale / 2))
    return curve


def _hump(steps: np.ndarray, middle: np.ndarray, scale: np.ndarray) -> np.ndarray:
    curve: np.ndarray = np.exp(-(((_places(steps) - middle) / scale) ** 2) / 2)
    return curve


def scaling_laws(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """a + d(1 + s/s₀)^−c, c from 0.1 to 0.6, s₀ from 1 to 200, d from 3 to 9 nats."""
    c, onset = _uniform(rng, 0.1, 0.6, n), np.exp(_uniform(rng, 0, np.log(200), n))
    return _uniform(rng, 0.2, 3, n) + _uniform(rng, 3, 9, n) * (1 + steps / onset) ** -c


def sigmoids(narrowest: float, widest: float) -> Draw:
    """Drops of 2 to 7 nats, their middle at 2⁵ to 2¹⁴, of these logistic scales."""

    def draw(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        falls = _logistic(steps, _uniform(rng, 5, 14, n), _uniform(rng, narrowest, widest, n))
        return _uniform(rng, 0.2, 3, n) + _uniform(rng, 2, 7, n) * falls

    return draw


def flat(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Constants."""
    return _uniform(rng, 1, 8, n) + np.zeros(len(steps))


def pure_powers(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """a + d·s^−c, where step 0 stands as if it were ½."""
    c = _uniform(rng, 0.05, 0.6, n)
    return _uniform(rng, 0.2, 3, n) + _uniform(rng, 3, 7, n) * np.maximum(steps, 0.5) ** -c


def humps(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Flat but for a hump of 1 to 4 nats, up or down, whose standard deviation is 0.7 to 2 doublings."""
    height = _uniform(rng, 1, 4, n) * rng.choice([-1, 1], (n, 1))
    return _uniform(rng, 4.5, 8, n) + height * _hump(steps, _uniform(rng, 4, 14, n), _uniform(rng, 0.7, 2, n))


def two_sigmoids(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Two falls of 1.5 to 4 nats, 4 to 8 doublings apart."""
    first = _uniform(rng, 3, 7, n)
    early = _uniform(rng, 1.5, 4, n) * _logistic(steps, first, _uniform(rng, 0.2, 0.7, n))
    later = first + _uniform(rng, 4, 8, n)
    return 0.5 + early + _uniform(rng, 1.5, 4, n) * _logistic(steps, later, _uniform(rng, 0.2, 0.7, n))


def fall_and_later_hump(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """A fall of 3 to 6 nats about 2⁵ and a hump of 1 to 2.5 about 2¹²."""
    fall = _uniform(rng, 3, 6, n) * _logistic(steps, _uniform(rng, 4, 6, n), _uniform(rng, 0.3, 0.8, n))
    hump = _uniform(rng, 1, 2.5, n) * _hump(steps, _uniform(rng, 10.5, 13.5, n), _uniform(rng, 0.7, 1.3, n))
    return 0.5 + fall + hump


def law_and_late_drop(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """A scaling law of which a drop of 0.8 to 2 nats is taken at 2¹⁰ to 2¹⁵."""
    drop = _uniform(rng, 0.8, 2, n) * _logistic(steps, _uniform(rng, 10, 15, n), _uniform(rng, 0.1, 0.4, n))
    return scaling_laws(steps, n, rng) + drop


def mean_losses(steps: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Like the mean loss of a run: a first fall to the frequencies of tokens, then a slower one, then a slope."""
    first = _uniform(rng, 2.5, 3.5, n) * _logistic(steps, _uniform(rng, 4, 6, n), _uniform(rng, 0.5, 0.8, n))
    second = _uniform(rng, 2.5, 4, n) * _logistic(
        steps, _uniform(rng, 8.5, 10, n), _uniform(rng, 0.7, 1.1, n)
    )
    return 3 + first + second - _uniform(rng, 0.05, 0.1, n) * np.maximum(_places(steps) - 9, 0)


CURVES: Mapping[str, Draw] = {
    "scaling law": scaling_laws,
    "flat": flat,
    "power law": pure_powers,
    "hump": humps,
    "sigmoid, w": sigmoids(0.15, 0.8),
    "sigmoid, 10-90 %": sigmoids(0.15 / 4.394, 0.8 / 4.394),
    "two sigmoids": two_sigmoids,
    "fall, later hump": fall_and_later_hump,
    "law, late drop": law_and_late_drop,
    "mean loss": mean_losses,
}


def noise(steps: int, n: int, deviation: float, rho: float, rng: np.random.Generator) -> np.ndarray:
    """Stationary AR(1) noise, float64 (tokens, steps)."""
    found = np.empty((n, steps))
    found[:, 0] = rng.standard_normal(n)
    for step in range(1, steps):
        found[:, step] = rho * found[:, step - 1] + np.sqrt(1 - rho**2) * rng.standard_normal(n)
    return deviation * found


def losses(curve: str, steps: np.ndarray, n: int, deviation: float, rho: float, seed: int = 0) -> np.ndarray:
    """Simulated losses of tokens whose curves are of one kind, float32 (steps, tokens), nats."""
    rng = np.random.default_rng([seed, len(steps), *curve.encode()])
    curves = CURVES[curve](steps, n, rng)
    return (curves + noise(len(steps), n, deviation, rho, rng)).T.astype(np.float32)
