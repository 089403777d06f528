"""Interaction energy: how close to one another the hidden states of a context are, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.measures.context_means import context_measures
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import Stream, exact

if TYPE_CHECKING:
    from torch import Tensor

    from trajstore.measures.streams import Batch, PassFacts
    from trajstore.store.files.measures import Measure

NAME, NORMED = "interaction_energy", "interaction_energy_normed"
CPU_COSINES, GPU_COSINES = 1 << 16, 1 << 25
"""Cosines that are held at a time: what a core's cache holds, and what keeps a GPU at work."""


def interaction_energy(hidden: Tensor, lengths: Tensor, *, padded: bool = True) -> Tensor:
    """n⁻² Σᵢⱼ exp(cos(xᵢ, xⱼ)) of each of some contexts, float64 (contexts,).

    `hidden` is (contexts, longest, width), of which the first `lengths`, int64 (contexts,), are no padding: all, unless
    `padded`. A state of zeros has the cosine 0 with all.
    """
    import torch

    number, longest, _ = hidden.shape
    hidden = hidden.float()
    if padded:
        padding = torch.arange(longest, device=hidden.device) >= lengths[:, None]
        hidden = hidden.masked_fill(padding[..., None], 0)
    scales = torch.linalg.vector_norm(hidden, dim=-1).clamp_min_(1e-12).reciprocal_()
    most = CPU_COSINES if hidden.device.type == "cpu" else GPU_COSINES
    together = max(1, most // longest**2)
    rows = max(1, min(longest, most // longest))
    chosen = (
        range(number) if together == 1 else [slice(at, at + together) for at in range(0, number, together)]
    )
    sums = [_pair_sums(hidden[some], scales[some], rows).reshape(-1) for some in chosen]
    # padding has the cosine 0 with all, and exp(0) is 1
    pairs = exact(lengths) ** 2
    return (torch.cat(sums) - (longest**2 - pairs)) / pairs


def _pair_sums(states: Tensor, scales: Tensor, rows: int) -> Tensor:
    """Σᵢⱼ exp(sᵢ sⱼ xᵢ · xⱼ) of states (…, n, width) and scales (…, n), float64 (…).

    Products are scaled, rather than a copy of the states; by rows, since what lies below the diagonal is its mirror
    image.
    """
    import torch

    sums = states.new_empty((2, *scales.shape))
    for at in range(0, scales.shape[-1], rows):
        block = states[..., at : at + rows, :]
        products = block @ states[..., at:, :].mT
        products *= scales[..., None, at:]
        products *= scales[..., at : at + rows, None]
        size = block.shape[-2]
        exponentials = products.exp_()
        torch.sum(exponentials[..., :size], -1, out=sums[0, ..., at : at + rows])
        torch.sum(exponentials[..., size:], -1, out=sums[1, ..., at : at + rows])
    squares, rest = exact(sums).sum(-1).unbind()
    return squares + 2 * rest


class InteractionEnergy(Stream):
    """The energy of every context at every layer, and after the final norm."""

    def begin(self, facts: PassFacts) -> None:
        """Make room for the values, which are kept where they are computed until the end."""
        self.contexts, self.layers = len(facts.ids), 1 + len(facts.blocks)
        self.energies: dict[tuple[str, int], Tensor] = {}

    def layer(self, layer: int, hidden: Tensor, batch: Batch) -> None:
        """Take the energies at a layer."""
        self._keep(NAME, layer, hidden, batch)

    def normed(self, hidden: Tensor, batch: Batch) -> None:
        """Take the energies of what the output head reads."""
        self._keep(NORMED, self.layers - 1, hidden, batch)

    def _keep(self, name: str, layer: int, hidden: Tensor, batch: Batch) -> None:
        if not self.energies:
            places = [*((NAME, number) for number in range(self.layers)), (NORMED, self.layers - 1)]
            values = exact(hidden.new_full((len(places), self.contexts), np.nan))
            self.energies = dict(zip(places, values, strict=True))
        numbers, lengths = batch.places(hidden.device)
        padded = min(batch.lengths) < hidden.shape[1]
        self.energies[name, layer][numbers] = interaction_energy(hidden, lengths, padded=padded)

    def finish(self) -> list[Measure]:
        """The energies of the contexts, and their means."""
        return [
            row
            for (name, layer), values in self.energies.items()
            for row in context_measures(name, values.cpu().numpy(), layer=layer)
        ]


DEFINITIONS = (
    MeasureDefinition(
        NAME,
        formula="n⁻² Σᵢⱼ exp(cos(xᵢ, xⱼ)) over the hidden states of a context; _normed after the final norm",
        unit="1",
        stream=InteractionEnergy,
        needs=("hidden", "normed"),
        axes=("layer", "context"),
        source="Geshkovski et al. 2023, A mathematical perspective on transformers",
        meaning=(
            "Between 1 and e: e where all tokens point the same way, 1 + (e − 1)/n where n of them are orthogonal. It "
            "says how far the states of a context have collapsed onto one another, not what they hold, and a few "
            "directions of large norm can dominate every cosine."
        ),
    ),
)
