"""Measures in the scoring pass: the streams get what the pass makes for the losses, and no second pass is made."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from trajstore.forward.losses import evaluating, vocabulary_rows
from trajstore.measures.in_pass import Observer
from trajstore.measures.run import PassValues
from trajstore.measures.streams import PassFacts, Predictions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor
    from transformers import PreTrainedModel

    from trajstore.forward.logit_tile import LogitTile
    from trajstore.measures.definitions import MeasureDefinition
    from trajstore.measures.streams import Ids


class MeasuringWatcher:
    """Hands what a pass of `token_scores` makes to the streams of measures, and gives their values after it."""

    def __init__(
        self,
        model: PreTrainedModel,
        ids: Sequence[Ids],
        definitions: Iterable[MeasureDefinition],
        vocabulary: int | None = None,
    ) -> None:
        """The pass is that over these contexts, with its softmax over the ids below `vocabulary`."""
        facts = PassFacts(model, ids, vocabulary or vocabulary_rows(model))
        with torch.no_grad(), evaluating(model):
            self._observer = Observer(definitions, facts)
        self._predictions = Predictions.of((), ())

    @property
    def needs_logits(self) -> bool:
        """Return whether a stream takes tiles of logits."""
        return self._observer.needs("logits")

    def attached(self) -> AbstractContextManager[None]:
        """Inside the block the model's modules hand on what they make."""
        return self._observer.attached()

    @contextmanager
    def batch(self, contexts: Sequence[int]) -> Iterator[None]:
        """Inside the block the model runs over these contexts."""
        if self.needs_logits:
            ids = self._observer.facts.ids
            self._predictions = Predictions.of(contexts, [ids[number] for number in contexts])
        with self._observer.batch(contexts):
            yield

    def tile(self, positions: slice, tile: LogitTile) -> None:
        """Hand on a tile of logits."""
        self._observer.tile(tile, self._predictions[positions])

    def log_sums(self, positions: slice, log_sums: Tensor) -> None:
        """Hand on the ends of tiles."""
        self._observer.log_sums(log_sums, self._predictions[positions])

    def finish(self) -> PassValues:
        """The values, after the pass."""
        with torch.no_grad():
            return PassValues(self._observer.finish(), self._observer.left_out)
