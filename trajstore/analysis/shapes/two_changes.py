"""Compounds: sums of two changes, for tokens that one form leaves too much of.

    law_sigmoid     a scaling law and a sigmoid
    sigmoids        two sigmoids
    law_hump        a scaling law and a hump 4S(1 − S)
    sigmoid_hump    a sigmoid and a hump

Looked for are only tokens whose best single form leaves what a further part would explain. The best pair of parts on
coarse grids, which all tokens of one ρ share, is taken from their products, and then refined.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trajstore.analysis.arrays import Floats
from trajstore.analysis.shapes.forms import Bases
from trajstore.analysis.shapes.least_squares import FormFit, Kind, evaluate, refine

COMPOUNDS: Mapping[Kind, tuple[str, str]] = {
    "law_sigmoid": ("law", "sigmoid"),
    "sigmoids": ("sigmoid", "sigmoid"),
    "law_hump": ("law", "hump"),
    "sigmoid_hump": ("sigmoid", "hump"),
}
"""Each with what it is the sum of."""
PARAMETERS = 7

_NEARLY_ALIKE = 0.05
"""1 − r² below which two parts are no pair."""
_FAR = 1.5
"""Times the least squares of any pair of the grids, above which a compound is not refined."""
_NUMBERS = 1 << 18
"""Pairs, each of one token, that are compared at a time: a processor's cache holds them."""


def saved(bases: Bases, left: Floats) -> Floats:
    """Return how much one more part lowers n·ln(squares) of whitened residuals (tokens, steps), float64 (tokens,)."""
    rough = left.astype(np.float32)
    gains = ((rough @ bases.parts.basis.T) ** 2).max(axis=1)
    rest = np.maximum(1 - gains / np.maximum((rough**2).sum(axis=1), 1e-30), 1e-12)
    lowered: Floats = -bases.schedule.effective * np.log(rest)
    return lowered


def fit_compounds(bases: Bases, white: np.ndarray, rough: np.ndarray) -> dict[Kind, FormFit]:
    """All compounds fitted to whitened tokens (tokens, steps); those far from the best one are not refined."""
    starts = _starts(bases, rough)
    fits = {kind: evaluate(kind, bases, white, start) for kind, start in starts.items()}
    least = np.min([fit.squares for fit in fits.values()], axis=0)
    for kind, fit in fits.items():
        near = fit.squares < _FAR * least
        refined = refine(kind, bases, rough[near], starts[kind][near])
        fit.put(near, evaluate(kind, bases, white[near], refined))
    return fits


def _starts(bases: Bases, rough: np.ndarray) -> dict[Kind, np.ndarray]:
    """The parameters of the best pair on the grids, by compound, float64 (tokens, 4)."""
    parts = bases.parts
    along = rough @ parts.basis.T
    starts: dict[Kind, np.ndarray] = {}
    for kind, (one, other) in COMPOUNDS.items():
        (points, here), (others, beside) = parts.of(one), parts.of(other)
        products = parts.products[here, beside]
        apart = 1 - products**2
        lengths = np.where(apart > _NEARLY_ALIKE, 1 / np.sqrt(np.maximum(apart, _NEARLY_ALIKE)), 0)
        best = np.empty(len(rough), np.int64)
        together = max(1, _NUMBERS // products.size)
        for first in range(0, len(rough), together):
            tokens = slice(first, first + together)
            a, b = along[tokens, here, None], along[tokens, None, beside]
            # What the second explains of what the first leaves, beside what the first does.
            gains = products * a
            np.subtract(b, gains, out=gains)
            gains *= lengths
            np.square(gains, out=gains)
            gains += a**2
            best[tokens] = gains.reshape(len(gains), -1).argmax(axis=1)
        i, j = np.unravel_index(best, products.shape)
        starts[kind] = np.concatenate([points[i], others[j]], axis=1)
    return starts
