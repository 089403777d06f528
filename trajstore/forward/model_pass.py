"""One model's forward pass over a batch of contexts: through its body and the tiled head, else from its own logits.

The tiled head is taken where it gives the model's own logits and losses on the first few tokens of the first context;
that is checked once for a model, and again after it was changed, whatever its weights. Another model is asked for its
logits, of no more than `MOST_LOGITS` at a time where it can give those of some positions only, else of a batch at a
time. Padding lies to the right, where no token sees it, so that no mask is needed and attention takes its fast causal
kernels. A GPU gets a batch into its queue and its columns are taken later, with nothing between that waits for it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trajstore.forward.device_queue import arrival, to_device, to_host
from trajstore.forward.output_heads import Head, RecognisedHead, build, find_head
from trajstore.forward.tiled_head import Columns, Tile, TiledHead, joined, of_logits, tiled

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.tiled_head import LogitWatcher

Ids = npt.NDArray[np.integer[Any]]

MOST_LOGITS = 1 << 28
"""Logits that a model makes at a time where it is scored from its own: a gibibyte of float32."""

_checked: WeakKeyDictionary[PreTrainedModel, tuple[object, float, float | None]] = WeakKeyDictionary()
"""Of models whose head was checked: how they were built then, and the head's scale and cap.

Only what holds for other weights too: where several scales or caps gave the same logits, as they do of a head of zeros,
the next weights decide."""


class Forward:
    """The pass of one model, in its eval mode, outside of any graph."""

    def __init__(
        self,
        model: PreTrainedModel,
        tile: Tile,
        columns: Collection[str],
        vocabulary: int | None,
        sample: Ids | None,
    ) -> None:
        """`sample` is one of the contexts to come; the softmax runs over the ids below `vocabulary`, None for all."""
        self.model, self.tile, self.names, self.vocabulary = model, tile, columns, vocabulary
        self.device: torch.device = next(model.parameters()).device
        self.rows = int(model.config.get_text_config(decoder=True).vocab_size)
        self.built = build(model)
        whole = None if sample is None else self._known_head(sample)
        head = whole if whole is None or vocabulary is None else whole.first(vocabulary)
        self.head = None if head is None else TiledHead(head, tile, columns)

    @property
    def tiled(self) -> bool:
        """Return whether the head runs in tiles, and not the model's own logits are taken."""
        return self.head is not None

    def columns(self, contexts: Sequence[Ids], targets: Sequence[Ids] | None = None) -> list[Columns]:
        """The columns of each context, n − 1 positions, on the CPU.

        `targets` are the tokens whose losses are taken, as many as each context has; by default its own.
        """
        return self.start(contexts, targets).columns()

    def start(
        self,
        contexts: Sequence[Ids],
        targets: Sequence[Ids] | None = None,
        watcher: LogitWatcher | None = None,
    ) -> Started:
        """The batch of `columns`, begun: a GPU has it in its queue, another device has done it.

        The `watcher` is handed the logits of its positions, one context after another.
        """
        lengths = [len(ids) - 1 for ids in contexts]
        padded = _padded(contexts)
        wanted = np.concatenate([ids[1:] for ids in targets or contexts])
        if self.head is None:
            ids, targets_sent = to_device(self.device, padded, wanted)
            columns = joined(list(self._from_logits(ids, targets_sent, lengths, watcher)))
        else:
            predicting = np.flatnonzero(np.arange(padded.shape[1]) < np.array(lengths)[:, None])
            ids, targets_sent, places = to_device(self.device, padded, wanted, predicting)
            hidden = self.model.base_model(ids, use_cache=False).last_hidden_state
            columns = self.head.columns(hidden.flatten(0, 1).index_select(0, places), targets_sent, watcher)
        return Started(columns, lengths)

    def _known_head(self, context: Ids) -> Head | None:
        """The head, checked unless it was for the same model; None where it does not pass."""
        known = _checked.get(self.model)
        if known is not None and known[0] == self.built:
            layer = self.model.get_output_embeddings()
            return Head(layer.weight, layer.bias, *known[1:])
        checked = self._checked_head(context)
        if checked is None:
            return None
        if checked.certain:
            _checked[self.model] = self.built, checked.head.scale, checked.head.cap
        return checked.head

    def _checked_head(self, context: Ids) -> RecognisedHead | None:
        """The head, where its tiles give the losses of the model's own logits up to rounding."""
        tokens = min(16, len(context), max(2, self.tile.elements // self.rows))
        ids = torch.as_tensor(context[:tokens].astype(np.int64), device=self.device)
        recognised = find_head(self.model, ids[None])
        if recognised is None:
            return None
        mine = tiled(recognised.hidden[:-1], recognised.head, ids[1:], self.tile).loss
        theirs = of_logits(recognised.logits[:-1], ids[1:], self.tile).loss
        noise = 4 * torch.finfo(recognised.head.weight.dtype).eps * recognised.logits.abs().max().item()
        return recognised if torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5 + noise) else None

    def _from_logits(
        self, ids: Tensor, targets: Tensor, lengths: list[int], watcher: LogitWatcher | None
    ) -> Iterator[Columns]:
        """The columns of each context of a padded batch (contexts, longest), from the model's own logits.

        `targets` are those of all contexts, as many of each as `lengths` says.
        """
        parts: list[list[Columns]] = [[] for _ in ids]
        wanted, firsts = torch.split(targets, lengths), np.cumsum([0, *lengths]).tolist()
        for start, logits in self._pieces(ids):
            for i, length in enumerate(lengths):
                own = logits[i, : max(0, length - start), : self.vocabulary]
                if len(own):
                    some = wanted[i][start : start + len(own)]
                    parts[i].append(of_logits(own, some, self.tile, self.names, watcher, firsts[i] + start))
        return map(joined, parts)

    def _pieces(self, ids: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The model's own logits (contexts, positions, rows) of all positions but the last, with each piece's start."""
        positions = ids.shape[1] - 1
        step = max(1, MOST_LOGITS // (len(ids) * self.rows))
        if step >= positions or "logits_to_keep" not in inspect.signature(self.model.forward).parameters:
            yield 0, self.model(ids, use_cache=False).logits[:, :-1]
            return
        for start in range(0, positions, step):
            kept = torch.arange(start, min(start + step, positions), device=self.device)
            yield start, self.model(ids, use_cache=False, logits_to_keep=kept).logits


class Started:
    """The columns of a batch that a GPU may still be computing."""

    def __init__(self, columns: Columns, lengths: list[int]) -> None:
        """`lengths` are the positions of each context."""
        self._lengths = lengths
        self._on_host = columns.map(to_host)
        self._arrival = arrival(columns.loss.device)

    def columns(self) -> list[Columns]:
        """The columns of each context, on the CPU; waits until they are there."""
        columns = self._on_host
        if self._arrival is not None:
            self._arrival.synchronize()
            columns = columns.map(torch.clone)  # pinned memory is scarce and used again
        return columns.split(self._lengths)


def _padded(contexts: Sequence[Ids]) -> npt.NDArray[np.int64]:
    """Contexts as one batch (contexts, longest), with zeros behind the shorter ones."""
    lengths = np.array([len(ids) for ids in contexts])
    padded = np.zeros((len(contexts), lengths.max()), np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(contexts)
    return padded
