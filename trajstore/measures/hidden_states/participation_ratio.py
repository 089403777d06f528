"""Participation ratio: the number of directions in which the output of a head varies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import Stream, exact
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from torch import Tensor

    from trajstore.measures.streams import Batch, PassFacts

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Of a head's outputs, as a share of their size."""


class ParticipationRatio(Stream):
    """Sums of products of each head's outputs, (heads, size, size) a block, and of the outputs themselves."""

    def begin(self, facts: PassFacts) -> None:
        """Make room, before the pass makes and frees what each block's would lie between."""
        import torch

        from trajstore.forward.model_structure import matrix

        self.facts = facts
        self.tokens = sum(map(len, facts.ids))
        self.sums: dict[int, Tensor] = {}
        self.products: dict[int, Tensor] = {}
        for block, attention in enumerate(facts.attentions):
            if attention is not None:
                output = matrix(attention.output)
                size = len(output) // facts.heads
                sums = exact(torch.zeros((facts.heads, size), device=output.device))
                self.sums[block], self.products[block] = sums, sums.new_zeros((facts.heads, size, size))

    def head_outputs(self, block: int, outputs: Tensor, batch: Batch) -> None:
        """Add the tokens of a batch."""
        heads = exact(outputs[batch.real(outputs.device)].movedim(1, 0))
        sums, products = heads.sum(1), heads.mT @ heads
        # both or, where memory runs out, none: the batch comes again
        self.sums[block] += sums
        self.products[block] += products

    def finish(self) -> list[Measure]:
        """The ratio of each head; none of heads whose output does not vary."""
        rows = []
        for block, products in sorted(self.products.items()):
            mean = self.sums[block] / self.tokens
            squares = products / self.tokens
            covariance = squares - mean[:, :, None] * mean[:, None, :]
            ratios = self._ratios(block, covariance).tolist()
            for head, (value, varies) in enumerate(zip(ratios, _vary(covariance, squares), strict=True)):
                if varies:
                    params = {"number": self.tokens}
                    rows.append(Measure("participation_ratio", value, layer=block, head=head, params=params))
        return rows

    def _ratios(self, block: int, covariance: Tensor) -> Tensor:
        """(tr C)² / tr C² of C = Wᵀ S W for the covariance S of a head's outputs and its output matrix W, (heads,).

        By the traces of S (W Wᵀ), which is (size, size) where C would be (width, width).
        """
        import torch

        from trajstore.forward.model_structure import matrix

        attention = self.facts.attentions[block]
        assert attention is not None, "it gave the outputs"
        heads, size = covariance.shape[:2]
        output = exact(torch.unflatten(matrix(attention.output), 0, (heads, size)))
        shared = covariance @ (output @ output.mT)
        trace = shared.diagonal(dim1=1, dim2=2).sum(1)
        squares = (shared * shared.mT).sum((1, 2))
        return torch.where(squares > 0, trace**2 / squares, torch.nan)


def _vary(covariance: Tensor, squares: Tensor) -> list[bool]:
    """Return of each head whether its output varies by more than the rounding of float32 about its size."""
    variance, size = (part.diagonal(dim1=1, dim2=2).sum(1) for part in (covariance, squares))
    varies: list[bool] = (variance > (_ROUNDING**2) * size).tolist()
    return varies


DEFINITIONS = (
    MeasureDefinition(
        "participation_ratio",
        formula="(Σλ)² / Σλ², λ the eigenvalues of the covariance of what a head adds to the residual stream",
        unit="1",
        stream=ParticipationRatio,
        needs=("head_outputs",),
        axes=("layer", "head"),
        source="Gao et al. 2017, A theory of multineuronal dimensionality, dynamics and measurement",
        meaning=(
            "n where a head writes evenly into n directions, 1 where it writes along one; at most the head's size. It "
            "says how many directions a head uses, not how much it matters."
        ),
    ),
)
