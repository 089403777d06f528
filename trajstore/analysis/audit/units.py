"""Stretches of a run whose losses are in bits beside nats.

Bits are nats times 1.4427: the mean over tokens rises by that factor, and so does the slope of one step's losses
against another's, while the order of tokens stays. Training does not do both: a spike raises the mean and flattens the
slope, learning lowers the mean and steepens it. So both factors between two steps, less what is usual between the steps
around, are compared with 1.4427. The slope is taken by way of a third step's losses (an instrument), which makes it
independent of the noise of the first. Summaries in, rows out.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from trajstore.analysis.audit.step_summaries import RunSummary

_LN2 = math.log(2)
_BITS = -math.log(_LN2)
"""Logarithm of the factor from nats to bits."""
_EXACT = 0.12
"""Limit of the distance from it of the logarithms of both factors."""
_NEARER = 0.6
"""Limit of the ratio of distances, in nats and as it stands, of the first row after a guess, whose unit only later rows
tell."""
_AROUND = 2
_FLAT = 0.15
"""Part of the mean by which losses of a guess among the vocabulary spread at most."""


def in_bits(summary: RunSummary) -> list[int]:
    """Rows whose losses are those of their neighbours in bits: single ones, and stretches between two edges."""
    n, factors = len(summary.steps), _Factors(summary)
    rows = {t for t in range(1, n - 1) if factors.single(t)}
    beside = {t + k for t in rows for k in (-1, 0, 1)}
    edges = {sign: [t for t in factors.edges(sign) if t not in beside] for sign in (1, -1)}
    start = None
    for t in sorted({*edges[1], *edges[-1]}):
        if t in edges[1]:
            start = t if start is None else start
        elif start is not None:
            rows.update(range(start, t))
            start = None
        elif not rows.intersection(range(t)) and factors.far(t, -1, exact=True) > 2:
            rows.update(row for row in range(t) if not factors.is_guess(row))  # the run began in bits
    return sorted(rows if start is None else rows | set(range(start, n)))


class _Factors:
    """Logarithms of factors of the mean and of the slope between a run's rows."""

    def __init__(self, summary: RunSummary) -> None:
        self.n = len(summary.steps)
        self.means, self.apart = summary.means, summary.apart
        self.nats = summary.scaled(_LN2)
        self.together = summary.products - np.outer(summary.means, summary.means)
        self.paces = np.array([self.between(t, t + 1) for t in range(self.n - 1)]).reshape(-1, 2)

    def between(self, s: int, t: int) -> tuple[float, float]:
        """(of the mean, of the slope) from row s to row t; NaN where it cannot be told."""
        if min(self.means[s], self.means[t]) <= 0:
            return math.nan, math.nan
        slopes = [
            math.log(self.together[t, u] / self.together[s, u])
            for u in (s - 1, t + 1)
            if 0 <= u < self.n and min(self.together[t, u], self.together[s, u]) > 0
        ]
        return math.log(self.means[t] / self.means[s]), float(np.mean(slopes)) if slopes else math.nan

    def usual(self, s: int, t: int) -> np.ndarray:
        """Both factors from a row to the next, among those around rows s to t, (2,); NaN where too few are."""
        rows = [e for e in range(max(0, s - _AROUND), min(self.n - 1, t + _AROUND)) if not s <= e < t]
        paces = self.paces[rows]
        paces = paces[np.isfinite(paces).all(axis=1)]
        return np.median(paces, axis=0) if len(paces) > 1 else np.full(2, np.nan)

    def agree(self, s: int, t: int, usual: np.ndarray, sign: int, exact: bool = False) -> bool:
        """Return whether row t is row s in bits, or, with the sign -1, row s is row t in bits."""
        if self.is_guess(s) and self.is_guess(t):  # flat, they have no slope
            return abs(sign * self.between(s, t)[0] - _BITS) < _EXACT
        mean, slope = sign * (np.array(self.between(s, t)) - (t - s) * usual) - _BITS
        bits, nats = (t, s) if sign > 0 else (s, t)
        nearer = self.nats[bits, nats] < self.apart[bits, nats]
        # A spike in bits is higher still: its slope is hardly steeper than theirs.
        return bool(nearer and abs(slope) < _EXACT and -_EXACT < mean < (_EXACT if exact else math.inf))

    def single(self, t: int) -> bool:
        """Return whether row t alone is in bits: beside both of its neighbours, or three of four, as one may be a
        spike.
        """
        usual = self.usual(t - 1, t + 1)
        if t + 2 < self.n and self.is_guess(t - 1) and not self.is_guess(t):
            after = (t + 1, t + 2)
            nearer = all(self.nats[t, s] < _NEARER * self.apart[t, s] for s in after)
            return nearer and all(self.agree(t, s, usual, -1, exact=True) for s in after)
        rows = [s for s in (t - 2, t - 1, t + 1, t + 2) if 0 <= s < self.n]
        held = {s: self.agree(s, t, usual, 1) if s < t else self.agree(t, s, usual, -1) for s in rows}
        return (held[t - 1] and held[t + 1]) or sum(held.values()) > 2

    def edges(self, sign: int) -> list[int]:
        """Rows from which on losses are in bits, or with the sign -1 no longer are."""
        near = [t for t in range(1, self.n) if self.agree(t - 1, t, self.usual(t - 1, t), sign)]
        # Where a spike stands at the edge, the rows beyond it say so.
        beside = {t + k for t in near for k in (-1, 0, 1)}
        return sorted(
            {*near, *(t for t in range(2, self.n - 1) if t not in beside and self.far(t, sign) > 1)}
        )

    def far(self, t: int, sign: int, exact: bool = False) -> int:
        """Return the number of pairs, of two rows before and two from row t on, that show an edge."""
        usual = self.usual(t - 1, t)
        pairs = product((t - 2, t - 1), (t, t + 1))
        return sum(self.agree(s, u, usual, sign, exact) for s, u in pairs if s >= 0 and u < self.n)

    def is_guess(self, t: int) -> bool:
        """Return whether a row is like a guess among the vocabulary, whose unit its neighbours do not tell."""
        return bool(self.together[t, t] < (_FLAT * self.means[t]) ** 2)
