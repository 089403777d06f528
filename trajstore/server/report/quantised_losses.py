"""Quantised losses: those of tokens that a report of one file holds, 16 bits each.

A context's losses lie on a line: code 0 is its least loss, code 65534 its greatest, and 65535 stands for no loss. So
the error is at most a 131,068th of the distance of the two, which is also what is measured and told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trajstore.store.matrix.matrix import LossMatrix

MISSING = 65535
"""Code of a loss that is not there."""


@dataclass(frozen=True)
class QuantisedLosses:
    """The losses of one context."""

    codes: bytes
    """Little-endian uint16 (rows × tokens but the first)."""
    low: float
    """Loss (nats) of code 0."""
    unit: float
    """Nats from one code to the next."""
    error: float
    """Largest distance of a loss from what its code stands for, in nats."""

    @property
    def shown_error(self) -> float:
        """The same of what a page shows, which keeps losses in 32 bits."""
        high = np.float32(max(abs(self.low), abs(self.low + (MISSING - 1) * self.unit)))
        return self.error + float(np.spacing(high)) / 2


def losses_of(matrix: LossMatrix, context: int) -> np.ndarray:
    """The losses of one context of a matrix, float32 (rows, tokens but the first)."""
    values: np.ndarray = matrix.values[:, np.flatnonzero((matrix.columns["context"] == context).to_numpy())]
    return values


def quantise(losses: np.ndarray) -> QuantisedLosses:
    """The losses of one context, float32 (rows, tokens), nats, NaN where there is none, as codes; see the module."""
    values = losses.astype(np.float64)
    known = np.isfinite(values)
    if not known.any():
        return QuantisedLosses(np.full(values.shape, MISSING, "<u2").tobytes(), 0.0, 0.0, 0.0)
    low, high = float(values[known].min()), float(values[known].max())
    unit = (high - low) / (MISSING - 1)
    codes = np.zeros(values.shape) if unit == 0 else np.rint((values - low) / unit)
    error = np.abs(low + codes * unit - values)[known].max()
    return QuantisedLosses(np.where(known, codes, MISSING).astype("<u2").tobytes(), low, unit, float(error))
