"""Draws weights near a checkpoint's by Langevin dynamics, and keeps what their losses are.

With w₀ the checkpoint's weights, ∇ the gradient of the mean loss of a batch, ε the step size and n independent normal:

    SGLD          w ← w + ε/2 · (−nβ ∇ + γ (w₀ − w)) + √ε n
    RMSprop-SGLD  the same with ε G for ε, G = 1 / (stability + √v), v ← α v + (1 − α) ∇² entry by entry

The losses of a draw are taken beside those of w₀ on the same batch, so that which contexts a batch holds is no noise.
Knows nothing of models: an `Objective` gives losses and gradients. The weights are w₀ again afterwards, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from trajstore.errors import BadMeasures, ChainDiverged

if TYPE_CHECKING:
    import numpy.typing as npt

    Losses = list[npt.NDArray[np.float64]]
    """Of each site of each context."""

Method = Literal["sgld", "rmsprop_sgld"]


class Objective(Protocol):
    """The loss of weights on contexts."""

    contexts: int

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The weights that are drawn; others stay as they are."""

    @property
    def masks(self) -> Sequence[Tensor | None]:
        """1 for the entries of a parameter that are drawn, 0 for others; None for all of it."""

    def losses(self, contexts: Sequence[int]) -> Losses:
        """The losses of each site of some contexts."""

    def losses_and_gradient(self, contexts: Sequence[int]) -> Losses:
        """The same, and the gradient of their mean in `grad` of the parameters."""


@dataclass(frozen=True)
class Sampling:
    """Settings by which weights are drawn."""

    nbeta: float
    """Samples times inverse temperature, which the mean loss is multiplied by."""
    step_size: float
    """ε."""
    gamma: float
    """Strength of the pull to the checkpoint's weights; 0 for none."""
    method: Method = "sgld"
    chains: int = 4
    draws: int = 200
    """Of each chain, burn-in included."""
    burn_in: int = 50
    """Draws at the start of each chain that are left out."""
    batch: int = 32
    """Contexts of a draw."""
    seed: int = 0
    alpha: float = 0.99
    """Of RMSprop's running mean of squares."""
    stability: float = 0.1
    """Added to its root."""

    def __post_init__(self) -> None:
        """Refuse what draws nothing."""
        if self.method not in get_args(Method):
            raise BadMeasures(f"The sampler is {' or '.join(get_args(Method))}, and not {self.method!r}.")
        if not (self.nbeta > 0 and self.step_size > 0 and self.gamma >= 0):
            raise BadMeasures("nbeta and step_size must be above 0, and gamma 0 or more.")
        if self.chains < 1 or self.batch < 1 or not 0 <= self.burn_in < self.draws:
            raise BadMeasures("It takes 1 chain or more, a batch of 1 or more, and more draws than burn_in.")

    @property
    def params(self) -> dict[str, Any]:
        """Settings that an estimate depends on; those of RMSprop only where it is used."""
        own = asdict(self)
        return own if self.method == "rmsprop_sgld" else {k: v for k, v in own.items() if k not in _RMSPROP}


_RMSPROP = ("alpha", "stability")


@dataclass(frozen=True)
class Chain:
    """One chain's losses less those of the checkpoint's weights on the same contexts."""

    trace: npt.NDArray[np.float64]
    """The mean over the sites of each draw's batch, (draws,)."""
    sums: npt.NDArray[np.float64]
    """Over the draws after burn-in, of each site of all contexts one after another: their number, sum and sum of
    squares, (3, sites)."""


def run_chain(objective: Objective, sampling: Sampling, number: int, baseline: Losses) -> Chain:
    """Draw one chain; `baseline` are the losses of all contexts at the checkpoint's weights.

    Raises `ChainDiverged` where a loss or a weight is no finite number.
    """
    numpy_draw = np.random.default_rng([sampling.seed, number])
    device = objective.parameters[0].device
    torch_draw = torch.Generator(device).manual_seed(int(numpy_draw.integers(1 << 62)))
    start = [parameter.detach().clone() for parameter in objective.parameters]
    squares = (
        [torch.zeros_like(parameter) for parameter in start] if sampling.method == "rmsprop_sgld" else None
    )
    places = np.cumsum([0, *map(len, baseline)])
    sums, trace = np.zeros((3, places[-1])), np.zeros(sampling.draws)
    batch = min(sampling.batch, objective.contexts)
    before = [(parameter.grad, parameter.requires_grad) for parameter in objective.parameters]
    try:
        for parameter in objective.parameters:
            parameter.grad = None
            parameter.requires_grad_(True)
        for draw in range(sampling.draws):
            chosen = numpy_draw.permutation(objective.contexts)[:batch].tolist()
            losses = objective.losses_and_gradient(chosen)
            apart = [own - baseline[context] for own, context in zip(losses, chosen, strict=True)]
            trace[draw] = np.concatenate(apart).mean()
            if not np.isfinite(trace[draw]):
                raise ChainDiverged(number, draw)
            if draw >= sampling.burn_in:
                for context, own in zip(chosen, apart, strict=True):
                    site = slice(places[context], places[context + 1])
                    sums[:, site] += np.stack([np.ones_like(own), own, own**2])
            _step(objective, sampling, start, squares, torch_draw)
    finally:
        with torch.no_grad():
            for parameter, own, (gradient, learns) in zip(objective.parameters, start, before, strict=True):
                parameter.copy_(own)
                parameter.grad = gradient
                parameter.requires_grad_(learns)
    return Chain(trace, sums)


@torch.no_grad()
def _step(
    objective: Objective,
    sampling: Sampling,
    start: Sequence[Tensor],
    squares: Sequence[Tensor] | None,
    draw: torch.Generator,
) -> None:
    """Move the weights once along the gradient that they have."""
    for number, (parameter, origin, mask) in enumerate(
        zip(objective.parameters, start, objective.masks, strict=True)
    ):
        gradient = parameter.grad
        if gradient is None:
            continue
        size: float | Tensor = sampling.step_size
        if squares is not None:
            mean = squares[number].mul_(sampling.alpha).addcmul_(gradient, gradient, value=1 - sampling.alpha)
            size = sampling.step_size / (mean.sqrt() + sampling.stability)
        noise = torch.empty_like(parameter).normal_(generator=draw)
        drift = (origin - parameter).mul_(sampling.gamma).sub_(gradient, alpha=sampling.nbeta)
        move = drift.mul_(size / 2).add_(noise.mul_(size**0.5))
        parameter.add_(move if mask is None else move.mul_(mask))
        parameter.grad = None
