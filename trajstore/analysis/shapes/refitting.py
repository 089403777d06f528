"""ρ of a model's tokens from what the forms themselves leave, for the few checkpoints that no flexible curve fits.

Of few checkpoints a flexible curve leaves what looks like slow noise wherever a loss falls twice, or falls and has a
hump: simulated, two changes of 20 checkpoints under noise of ρ = 0 were taken for ρ = 0.95. So the best compound is
fitted to each token, which follows all that a form does, and more of the noise; what it leaves is compared with what
it leaves of each token's best form under new noise of each ρ.
"""

from __future__ import annotations

import numpy as np

from trajstore.analysis.shapes.forms import Bases
from trajstore.analysis.shapes.model_choice import Choice, choose
from trajstore.analysis.shapes.two_changes import COMPOUNDS
from trajstore.analysis.statistics.ar1 import neighbours, simulate

SAMPLE = 128
"""Tokens that are fitted."""

_RHOS = np.array([0, 0.2, 0.4, 0.6, 0.8, 0.95])
_PARAMETERS = 5
"""Of the best form, about."""


def refitted_rho(bases: Bases, sample: np.ndarray, seed: int = 0) -> float:
    """ρ of the noise of tokens (tokens, steps), of which `SAMPLE` are fitted; `bases` are those of ρ = 0.

    `seed` is that of the simulation.
    """
    chosen = np.linspace(0, len(sample) - 1, min(SAMPLE, len(sample))).astype(np.int64)
    values = sample[chosen]
    steps = values.shape[1]
    choice = choose(bases, values)
    curves = choice.curves(bases.schedule.places)
    squares = ((values - curves) ** 2).sum(axis=1, keepdims=True)
    deviations = np.sqrt(squares / (steps - _PARAMETERS))
    expected = []
    for rho in _RHOS.tolist():
        noise = simulate(steps, len(values), rho, np.random.default_rng(seed))
        again = curves + deviations * noise
        expected.append(_correlation(choose(bases, again), again))
    seen = _correlation(choice, values)
    return float(np.interp(seen, np.maximum.accumulate(expected), _RHOS))


def _correlation(choice: Choice, values: np.ndarray) -> float:
    """The median over tokens (tokens, steps) of the correlation of neighbours in what the best compound leaves."""
    bases, fits = choice.bases, [choice.fits[kind] for kind in COMPOUNDS]
    best = np.argmin([fit.squares for fit in fits], axis=0)
    left = values.copy()
    for number, fit in enumerate(fits):
        tokens = np.flatnonzero(best == number)
        left[tokens] -= fit.take(tokens).curve(bases, bases.schedule.places)
    return float(np.median(neighbours(left)))
