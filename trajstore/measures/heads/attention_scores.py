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
    import torch
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
        self.blocks = len(facts.blocks)
        self.scores: Tensor | None = None
        """(blocks, contexts, heads)."""
        self._indexed: Batch | None = None

    @abstractmethod
    def pairs_of(self, ids: Ids) -> Pairs:
        """The positions i and j of a context's pairs."""

    def params(self) -> dict[str, Any]:
        """Return the parameters that the score depends on."""
        return {}

    def attention(self, block: int, weights: Tensor, batch: Batch) -> None:
        """Take the scores of a block's heads in a batch."""
        device, heads = weights.device, weights.shape[1]
        if self._indexed is not batch:
            self._indexed, (self._index, self._tokens) = batch, self._index_of(batch, device)
        place, rows, columns = self._index
        picked = weights[place, :, rows, columns]
        sums = weights.new_zeros((len(batch.numbers), heads)).index_add_(0, place, picked)
        if self.scores is None:
            self.scores = weights.new_full((self.blocks, len(self.pairs), heads), np.nan)
        # 0/0, which is NaN, where a context has no pair
        self.scores[block, batch.places(device)[0]] = sums / self._tokens[:, None]

    def _index_of(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """The place in the batch, row and column of each pair, (3, pairs); and tokens with pairs, by context."""
        import torch

        own = [self.pairs[number] for number in batch.numbers]
        places = np.repeat(np.arange(len(own)), [len(rows) for rows, _ in own])
        index = np.stack([places, *(np.concatenate(part) for part in zip(*own, strict=True))]).astype(
            np.int64
        )
        tokens = [len(np.unique(rows)) for rows, _ in own]
        return torch.as_tensor(index, device=device), torch.tensor(tokens, device=device)

    def finish(self) -> list[Measure]:
        """The scores in each context, and their means."""
        return [
            row
            for block, scores in enumerate(() if self.scores is None else self.scores)
            for head, values in enumerate(scores.T.cpu().numpy())
            for row in context_measures(self.name, values, layer=block, head=head, params=self.params())
        ]


def earlier_occurrences(ids: Ids) -> Pairs:
    """The pairs (i, j) with j < i and the same token at both."""
    same = np.tril(ids[:, None] == ids[None, :], -1)
    rows, columns = np.nonzero(same)
    return rows, columns
