"""The three phases of «unigram first»: a model first predicts how frequent tokens are, then leaves that behind.

1. KL to the unigram distribution is low and the interaction energy high.
2. KL rises and energy falls.
3. Energy rises and KL stays high.

Both curves are cut at their critical points: minima and maxima between which they move by more than noise between
checkpoints does, and by a tenth of their range (`Moves`). Phase 1 ends at the lowest minimum of KL; energy there lies
in the upper half of its range, and falls later. Phase 2 is what that rise of KL and a fall of energy share. Phase 3 is
the rise of energy after that fall, while KL stays in the upper half of its rise.

An answer is «cannot tell» where there are too few checkpoints, where the phase may lie before or between them, or
where noise may hide a move of a quarter of the range.

Simulated on Pythia's steps, thinned out evenly over doublings. Of runs without a phase (flat; KL or energy alone
moving; the first two phases alone; KL falling back; both falling) it is seen in at most 4 % with 20 or 30 checkpoints
and 2 % with 60 or 154, in the worst of all cases: noise of 1 to 30 % of the moves that make a phase, white, with ρ =
0.9 between neighbours, heavy-tailed with ρ = 0.8, or of a part of training alone; independent in the two curves, alike
or opposite. Of runs with all three, and noise of 1 % of their moves (ρ = 0.5), they are seen in 27, 21 and 0 % with 20
checkpoints, 98, 97 and 63 % with 30, 100, 100 and 76 % with 60, 100, 100 and 80 % with 154; with 3 % of noise in 17,
11 and 0, 92, 82 and 37, 95, 87 and 44, 97, 88 and 54 %; with 10 % in at most 10 %. A third phase that is there is
called not seen in 7 % of runs with 30 checkpoints, 2 % with more. Fewer than 20 checkpoints cannot tell. Arrays in,
answers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np

from trajstore.analysis.statistics.log_steps import Schedule

Answer = Literal["seen", "not seen", "cannot tell"]
PHASES = ("KL low, energy high", "KL rises, energy falls", "energy rises, KL stays high")
FEWEST_CHECKPOINTS = 20
"""Fewer tell nothing."""
WIDEST_GAP = 2.0
"""Doublings between neighbouring checkpoints in which a phase may lie unseen."""

LEAST_KL, LEAST_ENERGY = 0.1, 0.05
"""Nats, and what energy has no unit for: less is no phase."""

_FEW, _MANY = 30, 36
"""Checkpoints: fewer than the first tell noise badly; as many as the second tell noise that is alike in neighbours."""
_REACH = 15
_MULTIPLES = (18.0, 15.0, 9.0)
"""Standard deviations of the furthest move by noise, of few checkpoints, of more, and of many by far neighbours: by
simulation."""
_QUARTILE = 0.6745
"""Median distance of normal noise from 0, in standard deviations."""
_PART = 0.1
"""Share of a curve's range that a move that counts has at least."""
_COARSE = 0.25
"""Share of the range: where noise may move the curve further, a phase may be hidden in it."""


@dataclass(frozen=True)
class Phase:
    """The answer on one phase."""

    number: int
    answer: Answer
    reason: str
    from_step: int | None = None
    to_step: int | None = None
    low: int | None = None
    """Between this step …"""
    high: int | None = None
    """… and this one lies its end; of the third, its beginning."""


@dataclass(frozen=True)
class Moves:
    """A curve over training, cut where it turns by more than noise does."""

    name: str
    worth: float
    """The least move worth a word, in the curve's unit."""
    steps: np.ndarray
    """int64 (checkpoints,), ascending."""
    values: np.ndarray
    """float64 (checkpoints,)."""

    @cached_property
    def smooth(self) -> np.ndarray:
        """Medians of each checkpoint and its neighbours, so that no turn stands on one checkpoint."""
        padded = np.pad(self.values, 1, mode="reflect")
        medians: np.ndarray = np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)
        return medians

    @cached_property
    def by_noise(self) -> float:
        """The furthest that noise alone moves it."""
        return moves_by_noise(Schedule.of(self.steps), self.values)

    @property
    def least(self) -> float:
        """The least move that counts."""
        return max(self.by_noise, _PART * float(np.ptp(self.smooth)), self.worth)

    @property
    def coarse(self) -> bool:
        """Return whether noise may hide a move that counts."""
        return self.by_noise > max(_COARSE * float(np.ptp(self.smooth)), self.worth)

    @cached_property
    def turns(self) -> list[int]:
        """Checkpoints between which it rises or falls in turn by `least` or more; none where it does not."""
        return turning_points(self.smooth, self.least)

    def legs(self, sign: int) -> list[tuple[int, int]]:
        """The rises (+1) or falls (−1): their first and last checkpoint."""
        return [(a, b) for a, b in pairwise(self.turns) if sign * (self.smooth[b] - self.smooth[a]) > 0]

    def around(self, at: int) -> tuple[int, int]:
        """The steps between which a turn lies: those where it stays within what noise does, and one more."""
        near = np.abs(self.smooth - self.smooth[at]) <= self.by_noise
        apart = np.flatnonzero(~near)
        before, after = apart[apart < at], apart[apart > at]
        low = before[-1] if len(before) else 0
        high = after[0] if len(after) else len(near) - 1
        return int(self.steps[low]), int(self.steps[high])


def moves_by_noise(schedule: Schedule, values: np.ndarray) -> float:
    """The furthest that noise between checkpoints alone moves a curve, in all but one of twenty.

    A multiple of the noise's standard deviation, which is told by the median distance of checkpoints from the line
    through two others on either side: a smooth course has nearly none. The median is over checkpoints or over
    doublings, whichever is larger, as noise may be of a part of training alone. Where checkpoints are many, noise of
    neighbours is alike, and the two others are up to one part in `_REACH` of all away.
    """
    number = len(values)
    near = _distances(schedule, values, 1)
    multiple = _MULTIPLES[0] if number < _FEW else _MULTIPLES[1]
    moves = [multiple * _deviation(near, schedule.weights[1:-1])]
    if number < _MANY:
        moves.append(multiple * _deviation(near, np.ones(number - 2)))
    else:
        far = (_distances(schedule, values, lag) for lag in range(1, number // _REACH + 1))
        moves += [_MULTIPLES[2] * _deviation(distances, np.ones(len(distances))) for distances in far]
    return max(moves)


def _distances(schedule: Schedule, values: np.ndarray, lag: int) -> np.ndarray:
    """The distance of points from the line through those `lag` checkpoints before and after, in white noise's units."""
    places = schedule.places
    before = (places[2 * lag :] - places[lag:-lag]) / (places[2 * lag :] - places[: -2 * lag])
    off = values[lag:-lag] - before * values[: -2 * lag] - (1 - before) * values[2 * lag :]
    scaled: np.ndarray = np.abs(off) / np.sqrt(1 + before**2 + (1 - before) ** 2)
    return scaled


def _deviation(distances: np.ndarray, weights: np.ndarray) -> float:
    """The standard deviation of normal noise with this weighted median of distances from 0."""
    order = np.argsort(distances)
    reached = weights[order].cumsum() >= weights.sum() / 2
    return float(distances[order[reached.argmax()]]) / _QUARTILE


def turning_points(values: np.ndarray, least: float) -> list[int]:
    """The ends of rises and falls by turns, each of `least` or more, ascending; empty where there is none."""
    turns = list[int]()
    low = high = extreme = sign = 0
    for at, value in enumerate(values.tolist()):
        if not sign:
            low = at if value < values[low] else low
            high = at if value > values[high] else high
            if max(value - values[low], values[high] - value) >= least > 0:
                sign = 1 if value - values[low] >= least else -1
                turns, extreme = [low if sign > 0 else high], at
        elif sign * (value - values[extreme]) > 0:
            extreme = at
        elif sign * (values[extreme] - value) >= least:
            turns.append(extreme)
            sign, extreme = -sign, at
    return [*turns, extreme] if sign else []


@dataclass(frozen=True)
class _Run:
    """KL and energy of one run at the same checkpoints."""

    kl: Moves
    energy: Moves

    @cached_property
    def rise(self) -> tuple[int, int] | None:
        """The rise of KL from its lowest turn: first and last checkpoint."""
        return min(self.kl.legs(1), key=lambda leg: self.kl.smooth[leg[0]], default=None)

    @cached_property
    def fall(self) -> tuple[int, int] | None:
        """The largest fall of energy that lies in that rise, as far as it does, while KL rises enough."""
        if self.rise is None:
            return None
        shared = [(max(self.rise[0], a), min(self.rise[1], b)) for a, b in self.energy.legs(-1)]
        kl, energy = self.kl.smooth, self.energy.smooth
        enough = [
            (a, b)
            for a, b in shared
            if a < b and kl[b] - kl[a] >= self.kl.least and energy[a] - energy[b] >= self.energy.least
        ]
        return max(enough, key=lambda leg: energy[leg[0]] - energy[leg[1]], default=None)

    def first(self) -> Phase:
        """KL is low and energy high."""
        if self.rise is None:
            return self._without(1, f"KL rises by less than {self.kl.least:.2g} nats after any low", self.kl)
        low, top = self.rise
        if low == self.kl.turns[0]:
            if self.kl.steps[0] > 0:
                return Phase(
                    1, "cannot tell", f"KL rises from step {self.kl.steps[low]} on, with no fall before"
                )
            return self._without(1, f"KL does not fall before step {self.kl.steps[low]}", self.kl)
        energy, values = self.energy, self.energy.smooth
        middle = (values.min() + values.max()) / 2
        if values[low] < middle or values[low] - values[low:].min() < energy.least:
            return self._without(
                1, f"energy is not high where KL is lowest, at step {self.kl.steps[low]}", energy
            )
        kl = self.kl.smooth
        high = np.flatnonzero(kl[:low] > (kl[low] + kl[top]) / 2)
        start = int(high[-1]) + 1 if len(high) else 0
        reason = f"KL is lowest, {self.kl.values[low]:.2g} nats, at step {self.kl.steps[low]}"
        return self._seen(1, start, low, reason, self.kl.around(low))

    def second(self) -> Phase:
        """KL rises and energy falls."""
        if self.rise is None:
            return self._without(2, f"KL rises by less than {self.kl.least:.2g} nats after any low", self.kl)
        if self.fall is None:
            return self._without(
                2, f"energy falls by less than {self.energy.least:.2g} while KL rises", self.energy
            )
        first, last = self.fall
        kl, energy = self.kl.smooth, self.energy.smooth
        reason = (
            f"KL rises by {kl[last] - kl[first]:.2g} nats, energy falls by {energy[first] - energy[last]:.2g}"
        )
        ended_by = self.energy if last in self.energy.turns else self.kl
        return self._seen(2, first, last, reason, ended_by.around(last))

    def third(self, second: Phase) -> Phase:
        """Energy rises and KL stays high."""
        if self.rise is None or self.fall is None:
            return Phase(3, second.answer, "phase 2 comes before it")
        rises = [leg for leg in self.energy.legs(1) if leg[0] >= self.fall[1]]
        if not rises:
            return self._without(
                3, f"energy rises by less than {self.energy.least:.2g} after its fall", self.energy
            )
        first, last = rises[0]
        kl = self.kl.smooth
        low, high = kl[self.rise[0]], kl[self.rise[0] : first + 1].max()
        if kl[first : last + 1].min() < (low + high) / 2:
            return self._without(3, "KL falls back while energy rises", self.kl)
        rise = self.energy.smooth[last] - self.energy.smooth[first]
        return self._seen(3, first, last, f"energy rises by {rise:.2g}", self.energy.around(first))

    def _seen(self, number: int, first: int, last: int, reason: str, border: tuple[int, int]) -> Phase:
        steps = self.kl.steps
        return Phase(number, "seen", reason, int(steps[first]), int(steps[last]), *border)

    def _without(self, number: int, reason: str, curve: Moves) -> Phase:
        """A phase that is not seen, or of which that cannot be told: noise or a gap may hide it."""
        if curve.coarse:
            hidden = f"noise alone may move {curve.name} by {curve.by_noise:.2g}"
            return Phase(number, "cannot tell", f"{reason}; {hidden}")
        steps = self.kl.steps
        ends = np.concatenate([[1], steps[steps > 1]])
        gap = int(np.diff(np.log2(ends)).argmax()) if len(ends) > 1 else 0
        if len(ends) > 1 and np.log2(ends[gap + 1] / ends[gap]) > WIDEST_GAP:
            hidden = f"there is no checkpoint between steps {ends[gap]} and {ends[gap + 1]}"
            return Phase(number, "cannot tell", f"{reason}; {hidden}")
        return Phase(number, "not seen", reason)


def find_unigram_first(steps: np.ndarray, kl: np.ndarray, energy: np.ndarray) -> tuple[Phase, Phase, Phase]:
    """The three phases, from KL in nats and energy at the same steps, ascending."""
    if len(steps) < FEWEST_CHECKPOINTS:
        few = f"{len(steps)} checkpoints have both measures, and it takes {FEWEST_CHECKPOINTS}"
        return Phase(1, "cannot tell", few), Phase(2, "cannot tell", few), Phase(3, "cannot tell", few)
    run = _Run(Moves("KL", LEAST_KL, steps, kl), Moves("energy", LEAST_ENERGY, steps, energy))
    second = run.second()
    return run.first(), second, run.third(second)
