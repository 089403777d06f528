"""Streams: the part of a measure that is at work during a pass, and what it is handed.

A measure that needs hidden states, attention weights, head outputs or logits is told of the model and its contexts,
gets tensors batch by batch as the pass makes them, and gives its values at the end: no more than a batch is held.

Layer 0 is what enters the first block (the embeddings), layer l the residual stream after l blocks, before the final
norm. Heads have the number of their block, from 0: those of block l read layer l.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from trajstore.forward.logit_tile import LogitTile
    from trajstore.forward.model_structure import Attention
    from trajstore.store.files.measures import Measure

    Ids = npt.NDArray[np.integer[Any]]


def exact(tensor: Tensor) -> Tensor:
    """A tensor in float64, or float32 on a device that has no better."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


@dataclass(frozen=True)
class PassFacts:
    """A pass as its streams are told of it beforehand."""

    model: PreTrainedModel
    """In eval mode; a stream leaves it as it was."""
    ids: Sequence[Ids]
    """The token ids of each context of the pass."""
    vocabulary: int
    """Ids that the softmax runs over, from 0."""

    @cached_property
    def blocks(self) -> list[nn.Module]:
        """The model's blocks; raises `UnknownStructure`."""
        from trajstore.forward.model_structure import find_blocks

        return find_blocks(self.model)

    @cached_property
    def attentions(self) -> list[Attention | None]:
        """The attention of each block; raises `UnknownStructure`."""
        from trajstore.forward.model_structure import find_attention

        return [find_attention(block) for block in self.blocks]

    @cached_property
    def last_states(self) -> dict[int, Tensor]:
        """Of each layer the states of every context's last token, (contexts, width), once for all streams of them."""
        return {}

    @property
    def heads(self) -> int:
        """Heads of each block."""
        from trajstore.forward.model_structure import number_of_heads

        return number_of_heads(self.model)


@dataclass(frozen=True)
class Batch:
    """The contexts of a batch, padded to the right to the longest."""

    numbers: Sequence[int]
    """Of each context in the pass's `ids`."""
    ids: Sequence[Ids]

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each context."""
        return [len(ids) for ids in self.ids]

    @cached_property
    def _on(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        return {}

    def places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The numbers of the contexts and their lengths, int64 (contexts,), which go to a device once a batch."""
        import torch

        if device not in self._on:
            both = torch.tensor([list(self.numbers), self.lengths])
            both = (
                both.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else both.to(device)
            )
            self._on[device] = both[0], both[1]
        return self._on[device]

    def real(self, device: torch.device) -> Tensor:
        """True where a token is no padding, (contexts, longest)."""
        import torch

        return torch.arange(max(self.lengths), device=device) < self.places(device)[1][:, None]


@dataclass(frozen=True)
class Predictions:
    """Predicted positions whose logits come in tiles, (n,) each, int64."""

    context: npt.NDArray[np.int64]
    """Numbers of contexts in the pass's `ids`."""
    position: npt.NDArray[np.int64]
    """Of the predicted token, 1 or more."""
    previous: npt.NDArray[np.int64]
    """The token before it, the last that the prediction sees."""
    target: npt.NDArray[np.int64]
    """The token itself."""

    @classmethod
    def of(cls, numbers: Sequence[int], ids: Sequence[Ids]) -> Predictions:
        """All predictions of some contexts, one context after another."""
        if not ids:
            return cls(*(np.zeros(0, np.int64) for _ in range(4)))
        return cls(
            np.repeat(np.asarray(numbers, np.int64), [len(context) - 1 for context in ids]),
            np.concatenate([np.arange(1, len(context)) for context in ids]).astype(np.int64),
            np.concatenate([context[:-1] for context in ids]).astype(np.int64),
            np.concatenate([context[1:] for context in ids]).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.context)

    def __getitem__(self, chosen: slice) -> Predictions:
        """Some of them."""
        return Predictions(
            self.context[chosen], self.position[chosen], self.previous[chosen], self.target[chosen]
        )


class Stream:
    """The part of a measure that is at work during a pass; a measure overrides the methods of what it needs."""

    needs_pass = True
    """False from `begin` on where that has all that the values take, so that nothing is handed on to it."""

    def begin(self, facts: PassFacts) -> None:
        """Make ready for a pass; raises `NotMeasurable` where the model or its contexts have no such measure."""

    def layer(self, layer: int, hidden: Tensor, batch: Batch) -> None:
        """Take the residual stream at a layer, float32 (contexts, longest, width); need `hidden`."""

    def normed(self, hidden: Tensor, batch: Batch) -> None:
        """Take the hidden states after the final norm, as `layer`; need `normed`."""

    def attention(self, block: int, weights: Tensor, batch: Batch) -> None:
        """Take the attention weights of a block, float32 (contexts, heads, longest, longest); need `attention`.

        Blocks are numbered from 0: block l reads layer l. Row i holds the weights of token i's query.
        """

    def head_outputs(self, block: int, outputs: Tensor, batch: Batch) -> None:
        """Take what a block's heads write, before the output projection; need `head_outputs`.

        Float32 (contexts, longest, heads, size); blocks are numbered from 0.
        """

    def tile(self, tile: LogitTile, predictions: Predictions) -> None:
        """Take a tile of the logits of some predictions; need `logits`.

        The rows of the vocabulary come in order, and after the last of them `log_sums` of the same predictions. Both
        may come again for the same predictions: keep values by site.
        """

    def log_sums(self, log_sums: Tensor, predictions: Predictions) -> None:
        """Take log Σ exp(logit) over the vocabulary for n predictions, float32 (n,)."""

    def finish(self) -> list[Measure]:
        """The values, after the last batch."""
        raise NotImplementedError
