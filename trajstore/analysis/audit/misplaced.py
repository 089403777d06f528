"""Misplaced checkpoints of a run: nearer in their losses to a far step than to their neighbours.

A run's losses, one vector a step, move along a path; a checkpoint that holds another step's weights lies elsewhere on
it. With d(s, t) the root mean square over tokens of the difference of two steps' losses (nats), and neighbours and
places counted among the steps there are, a step t

    near   second smallest d(t, s) of the two steps before and the two after it (one of them may be bad itself),
    far    least of all places more than 2 steps away of the second smallest d(t, s) of the three steps there
           (one of them alone may be near by chance),
    gap    largest d between steps that follow each other within 3 steps of t, t left out,

is out of place if far < c · near and near > 1.2 · gap, where c is 0.7, or 0.7 times what 9 in 10 of the other steps
exceed in far / near if that is below 1. The second condition keeps what training itself moves between two checkpoints
from counting, such as the noise of a plateau; by its c, the first is stricter where that noise has few directions, so
that steps are near far ones by chance. The worst is taken out and the rest judged again until none is left.

A step that is only a little off, in a plateau or between steps that lie far apart, is not told from a good one, and
two wrong ones side by side hide each other.
Arrays in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trajstore.analysis.arrays import Floats

REACH = 2
"""Steps on either side that count as neighbours."""
FEWEST = 8
"""Steps below which nothing is said of a run but its near copies."""
_MUCH_NEARER = 0.7
_MUCH_FARTHER = 1.2
_USUAL = 0.1
_BLOCK = 1 << 15


@dataclass(frozen=True)
class Misplaced:
    """A step that is out of place; distances are root mean squares of differences, nats."""

    step: int
    like: int
    """The far step whose losses are nearest."""
    far: float
    """Distance to the place of that step."""
    near: float
    """Distance to its neighbours."""

    @property
    def ratio(self) -> float:
        """The ratio of the distances to the neighbours and to the far place."""
        return self.far / self.near


def distances(values: Floats) -> Floats:
    """Root mean square difference of each two rows, float64 (rows, rows), of losses float32 (rows, tokens)."""
    gram = np.zeros((len(values), len(values)))
    for first in range(0, values.shape[1], _BLOCK):
        # Differences from one row, which are small, keep their digits.
        block = (values[:, first : first + _BLOCK] - values[-1:, first : first + _BLOCK]).astype(np.float64)
        gram += block @ block.T
    squares = np.diag(gram)
    squared = squares[:, None] + squares[None, :] - 2 * gram
    # The same losses differ by nothing, and not by what rounding leaves.
    squared[squared < squares.max(initial=0) * 1e-13] = 0
    apart: Floats = np.sqrt(squared / values.shape[1])
    return apart


def out_of_place(
    steps: Sequence[int], apart: np.ndarray, twins: Sequence[Sequence[int]] = ()
) -> list[Misplaced]:
    """The steps that are out of place, in order; `apart` are their distances (steps, steps), steps ascending.

    `twins` are sets of steps that are one checkpoint, which is in place under one of them at most: steps that follow
    each other count as one, others are judged each by itself among those without a twin. Nothing is said of fewer than
    `FEWEST` steps.
    """
    place = {step: number for number, step in enumerate(steps)}
    groups = [sorted(place[step] for step in group) for group in twins]
    left_out = repeats(groups)
    scattered = [group for group in groups if group[0] in left_out]
    rows = [number for number in range(len(steps)) if number not in left_out]
    misplaced = []
    while len(rows) >= FEWEST:
        judged = _judge(apart[np.ix_(rows, rows)])
        if not judged.bad.any():
            break
        worst = int(np.where(judged.bad, judged.ratio, np.inf).argmin())
        misplaced.append(judged.misplaced(worst, [steps[number] for number in rows]))
        del rows[worst]
    for number in (number for group in scattered for number in group):
        if len(rows) >= FEWEST:
            among = sorted([*rows, number])
            judged, at = _judge(apart[np.ix_(among, among)]), among.index(number)
            if judged.bad[at]:
                misplaced.append(judged.misplaced(at, [steps[row] for row in among]))
    return sorted(misplaced, key=lambda misplaced_step: misplaced_step.step)


def repeats(groups: Iterable[Sequence[int]]) -> set[int]:
    """Rows of sets, each ascending, that are one checkpoint: all but the first of those that follow each other, else
    all.
    """
    rows: set[int] = set()
    for group in groups:
        rows.update(group[1:] if group[-1] - group[0] == len(group) - 1 else group)
    return rows


@dataclass(frozen=True)
class _Judged:
    """Each step's figures, (steps,)."""

    near: np.ndarray
    far: np.ndarray
    like: np.ndarray
    ratio: np.ndarray
    bad: np.ndarray

    def misplaced(self, at: int, steps: Sequence[int]) -> Misplaced:
        """One step's figures."""
        return Misplaced(steps[at], steps[self.like[at]], float(self.far[at]), float(self.near[at]))


def _judge(apart: np.ndarray) -> _Judged:
    """The figures of the module's docstring."""
    n, pad = len(apart), REACH + 1
    framed = np.pad(apart, pad, constant_values=np.nan)
    t = np.arange(n) + pad
    beside = np.sort([framed[t, t + k] for k in range(-REACH, REACH + 1) if k], axis=0)
    near = np.where(np.isnan(beside[2]), beside[0], beside[1])  # of an end's two neighbours, the nearer
    around = [k for k in range(-pad, pad + 1) if k]
    gap = np.nanmax([framed[t + a, t + b] for a, b in pairwise(around)], axis=0)
    away = np.where(np.abs(np.subtract.outer(t, t)) > REACH, apart, np.inf)
    ends = np.pad(away, ((0, 0), (1, 1)), constant_values=np.inf)
    far = np.sort([ends[:, :-2], ends[:, 1:-1], ends[:, 2:]], axis=0)[1].min(axis=1)
    ratio = np.divide(far, near, out=np.full(n, np.inf), where=near > 0)
    # What the others exceed: without the step itself, the next in order stands in the same place.
    order, place = np.sort(ratio), int(_USUAL * (n - 2))
    usual = np.where(ratio <= order[place], order[place + 1], order[place])
    bad = (ratio < _MUCH_NEARER * np.minimum(1, usual)) & (near > _MUCH_FARTHER * gap)
    return _Judged(near, far, away.argmin(axis=1), ratio, bad)
