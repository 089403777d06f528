"""Differences of losses: between a model's steps, between two models, between two prompts.

A difference is L₂ − L₁ in nats, later minus earlier or second minus first: below 0 the loss fell. A relative difference
is (L₂ − L₁) / max(L₁, `least`): a share of the loss before, and where that is small of `least`, since a token that goes
from 0.001 to 0.003 nats has not tripled anything. Arrays in, arrays out; which losses they are is known elsewhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trajstore.analysis.arrays import Floats, Whole
from trajstore.arguments import defaults
from trajstore.errors import BadOption

LEAST = defaults.LEAST
"""Losses below this, in nats, count as this where a difference is divided by them."""


@dataclass(frozen=True, order=True)
class Pair:
    """Two checkpoints; the losses of the second are taken from those of the first."""

    model: str
    step: int
    minus_model: str
    minus_step: int


@dataclass(frozen=True)
class Scale:
    """The scale of differences: nats, or relative to a loss."""

    relative: bool = False
    least: float = LEAST
    """Nats."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.least > 0:
            raise BadOption("least", self.least, "a loss in nats, above 0")


def stepwise(checkpoints: Iterable[tuple[str, int]]) -> list[Pair]:
    """Each checkpoint (model, step) with the one before it among those of its model; the first has none."""
    ordered = sorted(set(checkpoints), key=lambda checkpoint: checkpoint[1])
    models = dict.fromkeys(model for model, _ in checkpoints)
    of_model = ([step for name, step in ordered if name == model] for model in models)
    return [
        Pair(model, step, model, before)
        for model, steps in zip(models, of_model, strict=True)
        for before, step in itertools.pairwise(steps)
    ]


def difference(losses: Floats, minus: Floats, scale: Scale | None = None) -> Floats:
    """L₂ − L₁ (`losses` − `minus`, float (…, tokens)), float32; with a relative `scale` divided by max(L₁, least)."""
    how = scale or Scale()
    changes = losses.astype(np.float64) - minus
    if how.relative:
        changes /= np.maximum(minus, how.least)
    return changes.astype(np.float32)


def sums_by_context(values: Floats, context: Whole, contexts: Whole) -> np.ndarray:
    """Sums of values (tokens,) by their contexts, float64 (contexts,), of those numbered in `contexts`."""
    sums = np.bincount(context, weights=values, minlength=int(contexts.max(initial=-1)) + 1)
    return sums[contexts]


@dataclass(frozen=True)
class Extreme:
    """One of the largest differences."""

    value: float
    """By which they are ranked."""
    pair: Pair
    part: int
    """Number of the set of columns."""
    column: int
    loss: float
    minus_loss: float


class Extremes:
    """The lowest values below 0 and the highest above 0, among all that are added; memory holds no others."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._low: list[Extreme] = []
        self._high: list[Extreme] = []

    def add(self, pair: Pair, part: int, values: np.ndarray, losses: np.ndarray, minus: np.ndarray) -> None:
        """Take up the differences of a pair, (columns,); NaN are left aside."""
        if not self._count:
            return
        for sign, kept in ((1, self._low), (-1, self._high)):
            last = sign * kept[-1].value if len(kept) == self._count else 0.0
            for column in _lowest(sign * values, self._count, last):
                kept.append(
                    Extreme(
                        float(values[column]), pair, part, column, float(losses[column]), float(minus[column])
                    )
                )
            kept.sort(key=lambda extreme: (sign * extreme.value, extreme.pair, extreme.part, extreme.column))
            del kept[self._count :]

    def fell(self) -> list[Extreme]:
        """The lowest, from the lowest on."""
        return list(self._low)

    def rose(self) -> list[Extreme]:
        """The highest, from the highest on."""
        return list(self._high)


def _lowest(values: np.ndarray, count: int, last: float) -> Iterator[int]:
    """Numbers of the lowest `count` values that are below 0 and not above `last`, of equal ones the first."""
    below = np.flatnonzero((values < 0) & (values <= last))
    if len(below) > count:
        candidates = values[below]
        end = np.partition(candidates, count - 1)[count - 1]
        equal = np.flatnonzero(candidates == end)[: count - int((candidates < end).sum())]
        below = below[np.concatenate([np.flatnonzero(candidates < end), equal])]
    yield from map(int, below)


def shares(values: np.ndarray, noise: float) -> tuple[float, float]:
    """(share that fell, share that rose) by more than `noise`, of the values that are there; NaN where none are."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    return float(np.mean(finite < -noise)), float(np.mean(finite > noise))


def pairs_of_models(steps: Sequence[int], first: str, second: str) -> list[Pair]:
    """The second model minus the first at each of these steps."""
    return [Pair(second, step, first, step) for step in steps]
