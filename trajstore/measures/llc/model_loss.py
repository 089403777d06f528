"""The losses of a language model as what Langevin dynamics draws weights for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch

from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.forward.losses import token_losses
from trajstore.forward.model_structure import find_blocks, head_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from trajstore.measures.llc.sampler import Losses
    from trajstore.measures.streams import Ids

BATCH_TOKENS = 512
"""Tokens whose logits are held at a time, in one pass forward and back."""


class ModelLoss:
    """The token losses of a model in eval mode on contexts; drawn are its weights, or those of a block or head.

    Only tokens from position `first` on count, of contexts that are all longer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        ids: Sequence[Ids],
        *,
        layer: int | None = None,
        head: int | None = None,
        first: int = 1,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        module: nn.Module = model
        if layer is not None:
            blocks = find_blocks(model)
            if not 0 <= layer < len(blocks):
                raise NotMeasurable(f"There is no block {layer}; there are 0 to {len(blocks) - 1}.")
            module = blocks[layer]
        if first < 1 or any(len(context) <= first for context in ids):
            raise BadMeasures(
                f"first is a position from 1 to the last of the shortest context, and not {first}."
            )
        self.model, self.ids, self.first, self.batch_tokens = model, ids, first, batch_tokens
        self.parameters = list(module.parameters())
        self.masks: list[Tensor | None] = [None] * len(self.parameters)
        if head is not None:
            if layer is None:
                raise BadMeasures("A head is one of a layer: say which (layer).")
            own = head_masks(model, layer, head)
            self.parameters, self.masks = [parameter for parameter, _ in own], [mask for _, mask in own]
        self.contexts = len(ids)
        if any(parameter.dtype not in (torch.float32, torch.float64) for parameter in self.parameters):
            raise NotMeasurable("Weights are drawn in float32 or float64; load the model in float32 (dtype).")

    def losses(self, contexts: Sequence[int]) -> Losses:
        """The losses of each token of some contexts that counts."""
        own = token_losses(self.model, [self.ids[number] for number in contexts])
        return [losses[self.first - 1 :].astype(np.float64) for losses in own]

    def losses_and_gradient(self, contexts: Sequence[int]) -> Losses:
        """The same, and the gradient of their mean, a few contexts at a time."""
        total = sum(len(self.ids[number]) - self.first for number in contexts)
        order = sorted(contexts, key=lambda number: -len(self.ids[number]))
        losses: dict[int, np.ndarray] = {}
        place = 0
        while place < len(order):
            longest = len(self.ids[order[place]])
            part = order[place : place + max(1, self.batch_tokens // longest)]
            losses.update(self._part(part, longest, total))
            place += len(part)
        return [losses[number] for number in contexts]

    def _part(self, numbers: Sequence[int], longest: int, total: int) -> dict[int, np.ndarray]:
        """The losses of a padded batch, after a pass forward and back."""
        device = self.parameters[0].device
        padded = torch.zeros((len(numbers), longest), dtype=torch.int64)
        targets = torch.full((len(numbers), longest - 1), -100)
        for row, number in enumerate(numbers):
            own = torch.as_tensor(np.asarray(self.ids[number], np.int64))
            padded[row, : len(own)] = own
            targets[row, self.first - 1 : len(own) - 1] = own[self.first :]
        with torch.enable_grad():
            logits = self.model(padded.to(device), use_cache=False).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten().to(device), ignore_index=-100, reduction="none"
            )
            torch.autograd.backward(losses.sum() / total, inputs=self.parameters)
        rows = losses.detach().view(len(numbers), -1).cpu().numpy().astype(np.float64)
        return {
            number: row[self.first - 1 : len(self.ids[number]) - 1]
            for number, row in zip(numbers, rows, strict=True)
        }

    def subject(self) -> str:
        """A digest of the weights and contexts, for what is kept of an estimate."""
        digest = hashlib.sha256()
        for parameter in self.model.parameters():
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        for context in self.ids:
            digest.update(np.asarray(context, np.int64).tobytes() + b"|")
        which = "" if self.first == 1 else f" from {self.first}"
        return digest.hexdigest() + str(len(self.parameters)) + which
