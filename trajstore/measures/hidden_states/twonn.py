"""TwoNN: the intrinsic dimension of hidden states, from the distances to two nearest neighbours, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.hidden_states.features import LastTokens
from trajstore.measures.streams import exact
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from trajstore.measures.streams import PassFacts

LEAST_POINTS = 20


class TwoNN(LastTokens):
    """The intrinsic dimension of the last tokens' states at every layer."""

    def __init__(self, discarded: float) -> None:
        if not 0 <= discarded < 1:
            raise BadMeasures(f"twonn: discarded is a share from 0 to below 1, and not {discarded}.")
        self.discarded = discarded

    def begin(self, facts: PassFacts) -> None:
        """Make room, where there are enough contexts."""
        if len(facts.ids) < LEAST_POINTS:
            raise NotMeasurable(
                f"twonn takes {LEAST_POINTS} contexts or more, and there are {len(facts.ids)}."
            )
        super().begin(facts)

    def finish(self) -> list[Measure]:
        """The dimensions; none of layers where too few states differ."""
        rows = []
        for layer, states in sorted(self.states.items()):
            ratios = neighbour_ratios(states)
            if len(ratios) >= LEAST_POINTS:
                params = {"features": "last", "number": len(ratios), "discarded": self.discarded}
                value = dimension(ratios, self.discarded)
                rows.append(Measure("twonn", value, layer=layer, params=params))
        return rows


def neighbour_ratios(states: Tensor) -> npt.NDArray[np.float64]:
    """r₂ / r₁ of different states (n, width): their distances to the second and the nearest neighbour; all above 1."""
    import torch

    points = exact(torch.unique(states, dim=0))
    if len(points) < 3:
        return np.zeros(0)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    nearest = distances.topk(2, dim=1, largest=False).values.cpu().numpy().astype(np.float64)
    ratios: npt.NDArray[np.float64] = nearest[:, 1] / nearest[:, 0]
    return ratios[ratios > 1]


def dimension(ratios: npt.NDArray[np.float64], discarded: float) -> float:
    """The slope through 0 of −ln(1 − F(μ)) on ln μ, F the share of ratios up to μ, without the largest ratios."""
    ordered = np.sort(ratios)
    kept = len(ordered) - max(1, round(discarded * len(ordered)))
    x = np.log(ordered[:kept])
    y = -np.log1p(-np.arange(1, kept + 1) / len(ordered))
    return float((x * y).sum() / (x * x).sum())


DEFINITIONS = (
    MeasureDefinition(
        "twonn",
        formula="d of the fit ln(1 − F(μ)) = −d ln μ, μ = r₂/r₁ the distances to two nearest neighbours",
        unit="1",
        stream=TwoNN,
        needs=("hidden",),
        axes=("layer",),
        parameters={"discarded": 0.1},
        source="Facco et al. 2017, Estimating the intrinsic dimension of datasets",
        meaning=(
            "The dimension of the surface that the states of contexts' last tokens lie on, if their density is about "
            "even over two neighbours' distance. It is too small for few points in many dimensions. States that are "
            "the same count once; the largest ratios are left out."
        ),
    ),
)
