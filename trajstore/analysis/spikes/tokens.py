"""Classes of tokens in a spike: those that follow it, go against it, or stay flat; and the same in placebo windows.

In a window [before, at, after] a token's change is how far its loss at the spike lies outside of its losses before and
after: loss(at) − max(before, after) where that is above 0, loss(at) − min(before, after) where that is below 0, else
0. It follows the spike where its change is above τ, is inverse where it is below −τ, else flat.

τ is given, or each token's own: from how far its loss lies from the line between losses as many checkpoints apart,
loss(at) − (1 − w) · loss(before) − w · loss(after) with w = (at − before) / (after − before), in all windows of the
same length elsewhere. The median absolute deviation of that from its median gives the token's noise, which no trend and
no spike elsewhere enters; τ is as many times it as independent normal noise exceeds with a share of `RATE` on either
side, and `LEAST_TAU` at least, so that numeric noise is never meant. Noise with longer tails gives a higher share,
which the placebo windows show: the same τ in all windows of the same length elsewhere. Tokens that move little beside
their noise are mostly taken for flat, so that shares are lower bounds; how much is missed, `recall` estimates.

Arrays in, arrays and a frame out; losses are nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from trajstore.analysis.components.gram import Blocks
from trajstore.analysis.spikes.recall import MoveHistogram, TokenNoise, recalls
from trajstore.analysis.spikes.spikes import FEWEST_PLACEBOS, Window, placebos
from trajstore.analysis.statistics.bootstrap import Draws, Ratio, Stratum, estimate
from trajstore.arguments import defaults
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError

RATE = defaults.RATE
"""Share of the tokens that noise alone may put into either class."""
LEAST_TAU = 1e-3
"""Nats."""
CLASSES = ("follow", "inverse", "flat")


SHARES = {
    "kind": pl.String,
    "class": pl.String,
    "before": pl.Int64,
    "at": pl.Int64,
    "after": pl.Int64,
    "share": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}
"""Columns of `shares`: kind is spike, placebo, difference (the spike's share less the mean of the placebos'), recall or
corrected (see `recall`)."""


@dataclass(frozen=True)
class Tolerance:
    """The tolerance τ: a token's own, or one for all."""

    tau: float | None = None
    """Nats, the same for all tokens; None for each token's own."""
    rate: float = RATE
    """Share of tokens that independent normal noise puts into either class."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.tau is not None and not self.tau > 0:
            raise BadOption("tau", self.tau, "a number of nats above 0")
        if not 0 < self.rate < 0.5:
            raise BadOption("rate", self.rate, "a share below one half, as 0.001")


@dataclass(frozen=True)
class Classes:
    """The tokens of a spike."""

    window: Window
    placebos: tuple[Window, ...]
    change: np.ndarray
    """float32 (tokens,), nats, see the module."""
    tau: np.ndarray
    """float32 (tokens,), nats."""
    counts: np.ndarray
    """Tokens that follow and that are inverse in the window and each placebo, int64 (1 + placebos, 2, units)."""
    moves: MoveHistogram | None
    """Moves of tokens in units of their noise; None where too few placebo windows tell it."""
    sums: np.ndarray
    """Losses of the tokens of each of `CLASSES`, by checkpoint, float64 (checkpoints, 3), nats."""

    def mask(self, name: str) -> np.ndarray:
        """The tokens of a class, bool (tokens,)."""
        masks = {"follow": self.change > self.tau, "inverse": self.change < -self.tau}
        return masks[name] if name in masks else ~(masks["follow"] | masks["inverse"])

    @property
    def means(self) -> np.ndarray:
        """Mean loss of each of `CLASSES` by checkpoint, float64 (checkpoints, 3); NaN for one without tokens."""
        tokens = np.array([np.count_nonzero(self.mask(name)) for name in CLASSES])
        with np.errstate(invalid="ignore"):
            means: np.ndarray = self.sums / tokens
        return means


@cache
def noises_exceeded(rate: float) -> float:
    """By how many times its noise independent normal noise in three checkpoints is a change, with this share.

    x with P(e₀ − max(e₁, e₂) > x) = ∫ φ(e) Φ(e − x)² de = rate.
    """
    from scipy.integrate import quad
    from scipy.optimize import brentq
    from scipy.special import ndtr

    def share(x: float) -> float:
        value, _ = quad(lambda e: np.exp(-(e**2) / 2) / np.sqrt(2 * np.pi) * ndtr(e - x) ** 2, -10, 20)
        return float(value)

    return float(brentq(lambda x: share(x) - rate, -5, 15))


def _taus(noise: TokenNoise, rate: float) -> np.ndarray:
    """Each token's own τ, float32 (tokens,)."""
    taus: np.ndarray = np.maximum(noise.size * noises_exceeded(rate), LEAST_TAU)
    return taus.astype(np.float32)


def change(block: np.ndarray, window: Window) -> np.ndarray:
    """Return how far each token's loss at the spike lies outside of those before and after, float32 (tokens,), nats."""
    sides = block[window.before], block[window.after]
    above = block[window.at] - np.maximum(*sides)
    below = block[window.at] - np.minimum(*sides)
    return np.where(above > 0, above, np.where(below < 0, below, np.float32(0)))


def classify(
    blocks: Blocks,
    units: np.ndarray,
    windows: Sequence[Window],
    tolerance: Tolerance | None = None,
) -> list[Classes]:
    """The tokens of each of several spikes of one model, whose losses (checkpoints, tokens) come in blocks of columns.

    `units` is the number of each token's unit, from 0, int64 (tokens,). Unless τ is given, raises
    `TrajstoreError` for fewer than `FEWEST_PLACEBOS` windows of a spike's length.
    """
    how = tolerance or Tolerance()
    checkpoints = blocks.shape[0]
    elsewhere = [placebos(checkpoints, window, windows) for window in windows]
    n_units = int(units.max(initial=-1)) + 1
    counts = [np.zeros((1 + len(others), 2, n_units), dtype=np.int64) for others in elsewhere]
    sums = [np.zeros((checkpoints, len(CLASSES))) for _ in windows]
    moves = [MoveHistogram.none(n_units) if len(others) >= FEWEST_PLACEBOS else None for others in elsewhere]
    changes, taus = ([list[np.ndarray]() for _ in windows] for _ in range(2))
    if how.tau is None and (fewest := min(map(len, elsewhere), default=FEWEST_PLACEBOS)) < FEWEST_PLACEBOS:
        raise TrajstoreError(
            f"There are {fewest} windows of the spike's length elsewhere, too few to tell how much a token "
            f"varies: it takes {FEWEST_PLACEBOS}. Choose more checkpoints with {option('steps')}, or give "
            f"{option('tau')}"
        )
    for first, block in blocks:
        of_column = units[first : first + block.shape[1]]
        for number, (window, others) in enumerate(zip(windows, elsewhere, strict=True)):
            of_moves = moves[number]
            noise = None if of_moves is None else TokenNoise.of(block, others)
            tau = np.full(block.shape[1], how.tau or np.nan, dtype=np.float32)
            if noise is not None and of_moves is not None:
                tau = _taus(noise, how.rate) if how.tau is None else tau
                of_moves.add(block, window, others, noise, tau, of_column)
            for row, stretch in enumerate([window, *others]):
                moved = change(block, stretch)
                for side, mask in enumerate((moved > tau, moved < -tau)):
                    counts[number][row, side] += np.bincount(of_column[mask], minlength=n_units)
            moved = change(block, window)
            of_class = np.select([moved > tau, moved < -tau], [0, 1], 2)
            for side in range(len(CLASSES)):
                sums[number][:, side] += block[:, of_class == side].sum(axis=1, dtype=np.float64)
            changes[number].append(moved)
            taus[number].append(tau)
    of_blocks = (map(np.concatenate, arrays) for arrays in (changes, taus))
    return list(map(Classes, windows, elsewhere, *of_blocks, counts, moves, sums))


def shares(classes: Classes, tokens: Sequence[tuple[str, np.ndarray]], draws: Draws) -> pl.DataFrame:
    """Shares of tokens that follow and that are inverse, with intervals by units, with the columns of `SHARES`.

    `tokens` are (dataset, tokens of each of its units, int64 (units,)) in the order of the units' numbers. Placebo
    windows have the same τ. A difference's window is the spike's.
    """
    windows = [classes.window, *classes.placebos]
    places = [(window.before, window.at, window.after) for window in [*windows, windows[0]]]
    rows = []
    for side, name in enumerate(CLASSES[:2]):
        counts = classes.counts[:, side].astype(np.float64)
        kinds = ["spike", *["placebo"] * len(classes.placebos)]
        if classes.placebos:
            counts = np.vstack([counts, counts[0] - counts[1:].mean(axis=0)])
            kinds.append("difference")
        estimated = estimate(_strata(counts, tokens), [1], draws)
        for kind, place, *values in zip(
            kinds, places, estimated.mean, estimated.low, estimated.high, strict=False
        ):
            rows.append((kind, name, *place, *map(float, values)))
    if classes.moves is not None:
        differences = classes.counts[0] - classes.counts[1:].mean(axis=0)
        strata = _strata(classes.moves.spike.T, tokens), _strata(differences, tokens)
        for name, recall in zip(CLASSES[:2], recalls(classes.moves, *strata, draws), strict=True):
            rows.append(("recall", name, *places[0], recall.share, recall.low, recall.high))
            if recall.corrected is not None:
                rows.append(("corrected", name, *places[0], *recall.corrected))
    return pl.DataFrame(rows, schema=SHARES, orient="row").with_columns(pl.col("low", "high").fill_nan(None))


def _strata(counts: np.ndarray, tokens: Sequence[tuple[str, np.ndarray]]) -> list[Stratum]:
    """Counts (rows, units) over the units of each dataset that have tokens."""
    strata, first = [], 0
    for dataset, of_unit in tokens:
        used = np.flatnonzero(of_unit)
        ratio = Ratio(of_unit[used].astype(np.float64), counts[:, first + used].astype(np.float64))
        strata.append(Stratum(dataset, len(of_unit), used, (ratio,)))
        first += len(of_unit)
    return [stratum for stratum in strata if len(stratum.units)]
