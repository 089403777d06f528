"""Scores of heads by what they attend to: the mean attention that tokens give to positions which a rule names.

A rule names pairs (i, j) of a context's positions. A head's score in a context is the sum of its weights on these pairs
over the number of tokens i that have any, so that a head which does nothing else has the score 1. What a pattern of
attention suggests a head is for, it need not cause: see the measure ablation.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.errors import NotMeasurable
from trajstore.measures.context_means import context_measures
from trajstore.measures.streams import Stream

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from trajstore.measures.streams import Batch, Ids, PassFacts
    from trajstore.store.files.measures import Measure

    Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

SOURCES = "Olsson et al. 2022, In-context learning and induction heads"


class AttentionScore(Stream):
    """The score of every head in every context, by the rule of a subclass."""

    name: str
    nothing: str
    """Why there may be no pair."""

    def begin(self, facts: PassFacts) -> None:
        """Find the pairs of every context."""
        self.pairs = [self.pairs_of(np.asarray(ids)) for ids in facts.ids]
        if not any(len(rows) for rows, _ in self.pairs):
            raise NotMeasurable(f"{self.name}: {self.nothing}.")
        self.scores: dict[int, npt.NDArray[np.float64]] = {}

    @abstractmethod
    def pairs_of(self, ids: Ids) -> Pairs:
        """The positions i and j of a context's pairs."""

    def params(self) -> dict[str, Any]:
        """What the score depends on."""
        return {}

    def attention(self, block: int, weights: Tensor, batch: Batch) -> None:
        """Take the scores of a block's heads in a batch."""
        import torch

        scores = self.scores.setdefault(block, np.full((weights.shape[1], len(self.pairs)), np.nan))
        own = [torch.full(weights.shape[1:2], torch.nan, device=weights.device)] * len(batch.numbers)
        for place, number in enumerate(batch.numbers):
            rows, columns = self.pairs[number]
            if len(rows):
                own[place] = weights[place][:, rows, columns].sum(-1) / len(np.unique(rows))
        scores[:, batch.numbers] = torch.stack(own, 1).cpu().numpy()

    def finish(self) -> list[Measure]:
        """The scores in each context, and their means."""
        return [
            row
            for block, scores in sorted(self.scores.items())
            for head, values in enumerate(scores)
            for row in context_measures(self.name, values, layer=block, head=head, params=self.params())
        ]


def earlier_occurrences(ids: Ids) -> Pairs:
    """The pairs (i, j) with j < i and the same token at both."""
    same = np.tril(ids[:, None] == ids[None, :], -1)
    rows, columns = np.nonzero(same)
    return rows, columns
