"""Heads of two models matched one to one by the courses of their measures, and a test of the layers of matched heads.

The matching has the least sum of distances (Hungarian algorithm) and does not know the layers. Renumbering heads
leaves that sum as it is, so that it is no test itself; the layers of the matched heads are. By the mean difference of
these, two nulls are tested:

- heads: in one of the models the layer of a head has nothing to do with its course. The layers of its matched heads are
  permuted: exact for few, else Monte Carlo.
- layers: heads of a layer may be alike, but which layer has which says nothing of the other model. The numbers of its
  layers are permuted as wholes.

Where heads of a layer are alike, the first alone would find agreement that is none. Answers are therefore by the
larger p: «agree», «not seen», and «cannot tell» where even the best agreement would not be below the level.

Rates of «agree» at 0.05, of 2000 simulated pairs of models of 4 layers of 4 heads, and of 6 of 8: without any relation
to layers 0.014 and 0.026; where layers have a kind each, in an order of each model's own, 0.040 and 0.038 (by the null
of heads alone 0.164 and 0.243); the same kinds in the same layers 0.762 and 0.981, with half of the heads at random
0.227 and 0.751.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from trajstore.analysis.head_kinds import Courses, Numbers

Answer = Literal["agree", "not seen", "cannot tell"]

DRAWS = 9999
"""Permutations that are drawn where there are too many to go through."""
_MOST_STATES = 10_000
_MOST_LAYERS = 8
"""8! = 40320 orders of layers are gone through."""


@dataclass(frozen=True)
class Matching:
    """Pairs of heads, by the heads of the first model."""

    heads: Numbers
    """(pairs,): numbers of the heads of the first model, ascending."""
    others: Numbers
    """(pairs,): of the second."""
    distances: npt.NDArray[np.float64]
    """(pairs,): of the two heads."""
    next_distances: npt.NDArray[np.float64]
    """(pairs,): of either from the nearest head of the other model besides; infinite where there is none."""
    random_distances: npt.NDArray[np.float64]
    """(pairs,): the mean of either from all other heads of the other model; NaN where there is none."""


@dataclass(frozen=True)
class LayerAgreement:
    """The layers of matched heads."""

    same: int
    """Pairs in one layer."""
    same_expected: float
    """The mean number of them where one model's layers are permuted over its heads."""
    apart: float
    """Mean |layer − other layer|."""
    apart_expected: float
    p_heads: float
    p_layers: float
    least_p: float
    """The p that the best agreement would have."""
    answer: Answer

    @property
    def p(self) -> float:
        """The larger of both."""
        return max(self.p_heads, self.p_layers)


def layers_needed(chance: float) -> int | None:
    """The least number of layers that have enough orders for a p of `chance`; None where it is not told by layers."""
    numbers = range(1, _MOST_LAYERS + 1)
    return next((number for number in numbers if math.factorial(number) * chance >= 1), None)


def match_heads(courses: Courses, others: Courses, seed: int = 0) -> Matching:
    """The one-to-one matching of the heads of two models with the least sum of distances.

    The distance of two heads is Euclidean over the measures, and the root mean square of that over the checkpoints. Of
    matchings with the same sum one is drawn, so that the order of heads, which is that of layers, decides nothing.
    """
    from scipy.optimize import linear_sum_assignment  # half a second, which other analyses need not wait
    from scipy.spatial.distance import cdist

    flat = [side.reshape(len(side), -1) / side.shape[1] ** 0.5 for side in (courses, others)]
    distances = cdist(*flat)
    order = np.random.default_rng(seed).permutation(len(others))
    rows, columns = linear_sum_assignment(distances[:, order])
    columns = order[columns]
    own = distances[rows, columns]
    alone = distances.copy()
    alone[rows, columns] = np.inf
    rivals = len(courses) + len(others) - 2
    with np.errstate(invalid="ignore"):
        random = (distances.sum(1)[rows] + distances.sum(0)[columns] - 2 * own) / rivals
    nearest = np.minimum(alone.min(1)[rows], alone.min(0)[columns])
    return Matching(rows, columns, own, nearest, random)


def layer_agreement(layers: Numbers, others: Numbers, chance: float, seed: int = 0) -> LayerAgreement:
    """The agreement of the layers of matched heads; `chance` is the highest p of «agree»."""
    rng = np.random.default_rng(seed)
    gaps = np.abs(layers[:, None] - others[None])
    apart = int(gaps.trace())
    p_heads, least_heads = _by_heads(layers, others, apart, rng)
    p_layers, least_layers = _by_layers(layers, others, apart, rng)
    p, least = max(p_heads, p_layers), max(least_heads, least_layers)
    return LayerAgreement(
        int((layers == others).sum()),
        float((gaps == 0).mean() * len(layers)),
        apart / len(layers),
        float(gaps.mean()),
        p_heads,
        p_layers,
        least,
        "cannot tell" if least > chance else "agree" if p <= chance else "not seen",
    )


def _by_heads(layers: Numbers, others: Numbers, apart: int, rng: np.random.Generator) -> tuple[float, float]:
    """The p of a sum of differences where `others` are permuted over heads, and the least there is."""
    counts = np.unique(others, return_counts=True)[1]
    if math.prod((counts + 1).tolist()) <= _MOST_STATES:
        ways = _sums_of_differences(layers.tolist(), others.tolist())
        number = sum(ways.values())
        below = sum(times for total, times in ways.items() if total <= apart)
        return below / number, ways[min(ways)] / number
    drawn = np.array([np.abs(layers - rng.permutation(others)).sum() for _ in range(DRAWS)])
    best = np.abs(np.sort(layers) - np.sort(others)).sum()
    return _share(drawn, apart), _share(drawn, best)


def _sums_of_differences(layers: list[int], others: list[int]) -> Counter[int]:
    """Every sum of |layer − other| over the arrangements of `others`, and how many arrangements have it."""
    left = Counter(others)
    states = {tuple(left.values()): Counter({0: 1})}
    for layer in layers:
        following: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for state, sums in states.items():
            for place, other in enumerate(left):
                if state[place]:
                    rest = (*state[:place], state[place] - 1, *state[place + 1 :])
                    for total, ways in sums.items():
                        following[rest][total + abs(layer - other)] += ways
        states = following
    (sums,) = states.values()
    return sums


def _by_layers(layers: Numbers, others: Numbers, apart: int, rng: np.random.Generator) -> tuple[float, float]:
    """The same where the numbers of the layers of `others` are permuted as wholes."""
    numbers, at = np.unique(others, return_inverse=True)
    sums = np.zeros((len(numbers), len(numbers)), np.int64)  # of a layer's heads, were its number another one
    np.add.at(sums, at, np.abs(layers[:, None] - numbers))
    every = np.arange(len(numbers))
    if len(numbers) <= _MOST_LAYERS:
        drawn = sums[every, list(itertools.permutations(every))].sum(1)
        return float((drawn <= apart).mean()), 1 / len(drawn)
    drawn = sums[every, [rng.permutation(every) for _ in range(DRAWS)]].sum(1)
    return _share(drawn, apart), 1 / (DRAWS + 1)


def _share(drawn: Numbers, value: int) -> float:
    """The p of a value among drawn ones, of which it is one."""
    return float((1 + (drawn <= value).sum()) / (1 + len(drawn)))
