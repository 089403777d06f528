"""Enrichment: which groups have more, or fewer, of some marked tokens than their size lets expect.

Marked are the tokens that an analysis picked out (outliers between two models, tokens that go against a spike). Tokens
of one context are not independent, so whole units of text are what is resampled, and tests count units' worth of
evidence. Arrays in, a frame out; positions, contexts and losses are not known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import FEWEST, Draws, Interval, expanded_tail, student

SCHEMA = {
    "group": pl.String,
    "tokens": pl.Int64,
    "marked": pl.Int64,
    "share": pl.Float64,
    "rest": pl.Float64,
    "ratio": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "design_effect": pl.Float64,
    "p": pl.Float64,
    "p_adjusted": pl.Float64,
}
"""Columns: the group's tokens, how many of them are marked and which share that is, the share among all other tokens,
share / rest with its interval, and the test that the two shares are the same (see `enrichment`)."""


def enrichment(
    groups: Iterable[tuple[str, np.ndarray]],
    marked: np.ndarray,
    units: np.ndarray,
    interval: Interval | None = None,
) -> pl.DataFrame:
    """Return how much more often each group's tokens are marked than the others, with the columns of `SCHEMA`, by p,
    then name.

    `groups` are (name, bool (tokens,)), taken one at a time; one that has none or all of the tokens is left out.
    `marked` is bool (tokens,), `units` the number of each token's unit (context), int64 (tokens,), any numbers.

    The interval of the ratio of shares resamples units, all sums of a unit together; with fewer than
    `bootstrap.FEWEST` units it is exp(log ratio ± t · √variance), linearised over units. It is null where no token of
    the group, or no other token, is marked. p is two-sided: twice the smaller tail of the hypergeometric distribution
    for the table of tokens (in the group or not, marked or not) after all its counts are divided by the design effect
    (Rao and Scott 1992, A Simple Method for the Analysis of Clustered Binary Data, Biometrics 48:577–585). That is the
    variance of the difference of shares over units, divided by what it were if tokens were independent, 1 at least.
    `p_adjusted` is p after Holm (1979): the chance that any group at all is below 0.05 there by luck is 5 % at most.
    p is null where there is but one unit.
    """
    draws = Draws(interval or Interval())
    _, place = np.unique(units, return_inverse=True)
    every = _Sums.of(np.ones(len(marked), dtype=bool), marked, place)
    rows = []
    for name, mask in groups:
        inside = _Sums.of(mask, marked, place)
        if 0 < inside.total_tokens < every.total_tokens:
            rows.append((name, *_row(inside, every, draws)))
    frame = pl.DataFrame(rows, schema=dict(list(SCHEMA.items())[:-1]), orient="row")
    return frame.with_columns(p_adjusted=pl.Series(holm(frame["p"]), dtype=pl.Float64).fill_nan(None)).sort(
        "p", "group", nulls_last=True
    )


def holm(p: pl.Series) -> np.ndarray:
    """p-values adjusted for as many tests as there are, by Holm's step-down method; NaN stays for null.

    S. Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6:65–70:
    the k-th smallest of n is multiplied by n − k + 1, and is no smaller than those before it.
    """
    values = p.cast(pl.Float64).fill_null(np.nan).to_numpy()
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    raised = np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.minimum(raised, 1)
    return adjusted


@dataclass(frozen=True)
class _Sums:
    """Tokens of a set, and how many of them are marked, by unit, float64 (units,)."""

    tokens: np.ndarray
    marked: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, marked: np.ndarray, place: np.ndarray) -> _Sums:
        """Of the tokens in `mask`; `place` are their units, from 0."""
        n = int(place.max(initial=-1)) + 1
        counts = [np.bincount(place[chosen], minlength=n) for chosen in (mask, mask & marked)]
        return cls(counts[0].astype(np.float64), counts[1].astype(np.float64))

    def without(self, other: _Sums) -> _Sums:
        """Of the tokens that are not in `other`, a part of these."""
        return _Sums(self.tokens - other.tokens, self.marked - other.marked)

    @property
    def total_tokens(self) -> float:
        """Tokens of all units."""
        return float(self.tokens.sum())

    @property
    def total_marked(self) -> float:
        """Marked tokens of all units."""
        return float(self.marked.sum())

    @property
    def share(self) -> float:
        """Marked among the tokens."""
        return self.total_marked / self.total_tokens


def _row(inside: _Sums, every: _Sums, draws: Draws) -> tuple[object, ...]:
    """The columns of one group but for its name."""
    rest = every.without(inside)
    ratio = inside.share / rest.share if rest.total_marked else None
    effect = design_effect(inside.tokens, inside.marked, rest.tokens, rest.marked)
    p = None if effect is None else _tails(inside, every, effect)
    low, high = _interval(inside, rest, draws) if inside.total_marked and ratio else (None, None)
    counts = int(inside.total_tokens), int(inside.total_marked)
    return (*counts, inside.share, rest.share, ratio, low, high, effect, p)


def design_effect(
    tokens: np.ndarray, marked: np.ndarray, other_tokens: np.ndarray, other_marked: np.ndarray
) -> float | None:
    """By how much clustering in units raises the variance of a difference of two shares; 1 at least.

    Counts by unit, float64 (units,). The variance over units is Σ z_u², z_u = (x_u − share · n_u) / N of the one, less
    that of the other, times C / (C − 1) for C units. Of independent tokens it is the sum of share · (1 − share) / N,
    times T / (T − 1) for T tokens in all. None for a single unit.
    """
    if len(tokens) < 2:
        return None
    change = np.zeros(len(tokens))
    independent = 0.0
    for sign, n, x in ((1, tokens, marked), (-1, other_tokens, other_marked)):
        total = n.sum()
        share = x.sum() / total
        change += sign * (x - share * n) / total
        independent += share * (1 - share) / total
    if independent == 0:
        return 1.0
    units, every = len(tokens), float(tokens.sum() + other_tokens.sum())
    clustered = float((change**2).sum()) * units / (units - 1)
    return max(1.0, clustered / (independent * every / (every - 1)))


def _tails(inside: _Sums, every: _Sums, effect: float) -> float:
    """Twice the smaller tail of the hypergeometric distribution, of counts divided by the design effect."""
    from scipy.stats import hypergeom

    parts = (every.total_tokens, every.total_marked, inside.total_tokens, inside.total_marked)
    everything, of_kind, drawn, of_both = (round(part / effect) for part in parts)
    of_both = max(of_both, drawn + of_kind - everything)  # where rounding leaves too few
    table = hypergeom(everything, of_kind, drawn)
    return float(min(1.0, 2 * min(table.cdf(of_both), table.sf(of_both - 1))))


def _interval(inside: _Sums, rest: _Sums, draws: Draws) -> tuple[float | None, float | None]:
    """Ends of the interval of the ratio of shares."""
    n = len(inside.tokens)
    kind, level = draws.interval.kind, draws.interval.level
    if kind == "none" or n < 2:
        return None, None
    if n < FEWEST:
        change = inside.marked / inside.total_marked - inside.tokens / inside.total_tokens
        change -= rest.marked / rest.total_marked - rest.tokens / rest.total_tokens
        half = student(n - 1, (1 + level) / 2) * np.sqrt((change**2).sum() * n / (n - 1))
        ratio = inside.share / rest.share
        return float(ratio * np.exp(-half)), float(ratio * np.exp(half))
    sums = np.stack([inside.marked, inside.tokens, rest.marked, rest.tokens], axis=1)
    resampled = draws.weights("", n) @ sums
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = resampled[:, 0] / resampled[:, 1] / (resampled[:, 2] / resampled[:, 3])
    # A resample without the group's tokens says nothing; one without marked others has an infinite ratio.
    ratios = ratios[~np.isnan(ratios)]
    tail = expanded_tail(level, n - 1, n)
    low, high = np.quantile(ratios, [tail, 1 - tail], method="nearest")
    return float(low), None if np.isinf(high) else float(high)
