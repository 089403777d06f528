"""Vocabulary share: how much of each head's attention goes to the number that comes next, number by number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.demo.sorting.lists import FIRST_SORTED, LENGTH, NUMBERS
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import Stream
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from torch import Tensor

    from trajstore.measures.streams import Batch, PassFacts


class VocabularyShare(Stream):
    """The mean attention to each number, over the places where it comes next, of every head."""

    def begin(self, facts: PassFacts) -> None:
        """Make room."""
        shape = len(facts.blocks), facts.heads, NUMBERS
        self.sums, self.times = np.zeros(shape), np.zeros((len(facts.blocks), NUMBERS))

    def attention(self, block: int, weights: Tensor, batch: Batch) -> None:
        """Take the attention of a block from each sorted place to where the next number is in the list."""
        ids = np.stack(batch.ids).astype(np.int64)
        lists, following = ids[:, :LENGTH], ids[:, FIRST_SORTED:]
        place = (lists[:, None, :] == following[:, :, None]).argmax(axis=2)
        rows = np.arange(FIRST_SORTED - 1, FIRST_SORTED - 1 + LENGTH)
        chosen = weights.cpu().numpy()[np.arange(len(ids))[:, None], :, rows[None], place]
        np.add.at(self.times[block], following, 1)
        for head, own in enumerate(self.sums[block]):
            np.add.at(own, following, chosen[:, :, head])

    def finish(self) -> list[Measure]:
        """A value for each head and number that occurs."""
        return [
            Measure(
                "vocabulary_share",
                float(self.sums[block, head, number] / self.times[block, number]),
                layer=block,
                head=head,
                params={"number": number},
            )
            for block, head, number in np.ndindex(self.sums.shape)
            if self.times[block, number]
        ]


VOCABULARY_SHARE = MeasureDefinition(
    "vocabulary_share",
    formula="mean of A[i, j], i a place of the numbers in order and j that of the next one in the list, by number",
    unit="1",
    stream=VocabularyShare,
    needs=("attention",),
    axes=("layer", "head"),
    cost="probe",
)


def heads_apart(shares: np.ndarray) -> float:
    """The mean over numbers of the difference of two heads' shares, (2, numbers): 1 where each has its own."""
    return float(np.abs(shares[0] - shares[1]).mean())


def stretches(shares: np.ndarray) -> int:
    """The number of stretches of neighbouring numbers to which the same of two heads attends more."""
    return 1 + int(np.count_nonzero(np.diff(shares[0] > shares[1])))
