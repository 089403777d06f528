"""The forward pass: per-token losses of a causal language model on given contexts, in nats, float32.

    loss[p] = −log softmax(logits[p−1])[token[p]]    for p = 1 … n−1

Position 0 has no prediction and no loss. Contexts run in batches of about the same length; where the model's output
head is one that can be told apart, it runs in tiles, so that no (tokens × vocabulary) matrix is ever held.

The softmax runs over all rows of the head, or over the first so many. Logits are float32 also under half-precision
weights, so that such losses are less rounded than the model's own. Beside the loss, the same pass can keep the rank
of each token and the entropy of each prediction. Reads no files and writes none.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trajstore.arguments.spelling import option
from trajstore.errors import UnfitContext
from trajstore.forward.batching import in_batches
from trajstore.forward.causality import check_causal
from trajstore.forward.device import exact_products
from trajstore.forward.device_queue import queueing, runs_ahead
from trajstore.forward.model_pass import Forward, Started
from trajstore.forward.tiled_head import CPU_TILE, GPU_TILE, Columns, LogitWatcher, Tile
from trajstore.forward.workspace import Workspace
from trajstore.progress import SILENT
from trajstore.schema import check_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from transformers import PreTrainedModel

    from trajstore.progress import Progress

Ids = npt.NDArray[np.integer[Any]]
Losses = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int32]


class PassWatcher(LogitWatcher, Protocol):
    """Takes what is inside a model as the pass makes it; a batch that runs out of memory comes again in parts."""

    def attached(self) -> AbstractContextManager[None]:
        """A block in which the model runs the pass."""

    def batch(self, contexts: Sequence[int]) -> AbstractContextManager[None]:
        """A block in which the model runs over these contexts, by number, padded to the right."""

    @property
    def needs_logits(self) -> bool:
        """Return whether it takes tiles of logits."""


@dataclass(frozen=True)
class Scores:
    """The results of a pass: one array of n − 1 a context, element p − 1 of which belongs to position p."""

    loss: list[Losses]
    """Nats."""
    rank: list[Ranks] | None
    """Entries of the vocabulary with a logit strictly higher than the token's: 0 is the top. None if not asked for."""
    entropy: list[Losses] | None
    """Of the predicted distribution, nats. None if not asked for."""
    batch_tokens: int
    """The token budget of a batch at the end of the pass."""
    tiled: bool
    """True where the head ran in tiles, False where the model's own logits were taken."""


def token_losses(
    model: PreTrainedModel,
    contexts: Sequence[npt.ArrayLike],
    *,
    batch_tokens: int | None = None,
    vocabulary: int | None = None,
    tile: Tile | None = None,
    progress: Progress = SILENT,
) -> list[Losses]:
    """Losses of every token but the first of each context.

    `model` is a transformers causal language model, on the device and in the dtype in which it shall run;
    it is put into eval mode for the call. `contexts` are token ids, n ≥ 2 each. A batch holds at most
    `batch_tokens` tokens, padding included, but at least one context; by default what suits the device, and less
    where its memory runs out. The softmax runs over the ids below `vocabulary`, by default over all rows of the head.
    Returns one float32 array of n − 1 nats a context, in the given order: element p − 1 belongs to position p.
    `progress` advances by tokens. Raises `UnfitContext` where a context is shorter than 2 tokens or does not fit the
    model, `NotCausal` where the model's predictions depend on later tokens, as BERT's do, and `DeviceError` where
    there is no memory for one context.
    """
    return token_scores(
        model, contexts, batch_tokens=batch_tokens, vocabulary=vocabulary, tile=tile, progress=progress
    ).loss


def token_scores(
    model: PreTrainedModel,
    contexts: Sequence[npt.ArrayLike],
    *,
    columns: Iterable[str] = (),
    batch_tokens: int | None = None,
    vocabulary: int | None = None,
    tile: Tile | None = None,
    workspace: Workspace | None = None,
    watcher: PassWatcher | None = None,
    progress: Progress = SILENT,
) -> Scores:
    """The losses as `token_losses` gives them, and beside them `columns`, any of rank and entropy, of the same pass.

    A job that scores many checkpoints of one run gives all its calls one `workspace`, so that what holds for all of
    them is looked for once. The `watcher` is handed what is inside the model on the way, which changes no loss.
    """
    ids, names = [np.asarray(context) for context in contexts], check_columns(columns)
    check_contexts(model, ids, vocabulary)
    device: torch.device = next(model.parameters()).device
    # no inference mode: what a model keeps from such a call could not be trained with
    autocast = torch.autocast(device.type, enabled=False)
    watching = nullcontext() if watcher is None else watcher.attached()
    with torch.no_grad(), autocast, exact_products(), queueing(device), evaluating(model):
        tile = tile or (CPU_TILE if device.type == "cpu" else GPU_TILE)
        forward = Forward(model, tile, names, vocabulary, ids[0] if ids else None)
        check_causal(forward, ids, min(vocabulary_rows(model), vocabulary or sys.maxsize))
        results = _Results(forward, ids, watcher, progress)
        lengths = [len(context) for context in ids]
        longest, workspace = max(lengths, default=0), workspace or Workspace()
        known = workspace.budget(names, longest) if batch_tokens is None else batch_tokens
        with watching:  # not before: to the checks above, a model with hooks on it is another one, each time
            budget = in_batches(lengths, results.work, known, device, singly=not forward.tiled)
            results.take()
        if batch_tokens is None and runs_ahead(device):
            workspace.keep_budget(names, longest, budget)
    scored = [results.columns[i] for i in range(len(ids))]
    return Scores(
        loss=_arrays(context.loss for context in scored),
        rank=_arrays(context.rank for context in scored) if "rank" in names else None,
        entropy=_arrays(context.entropy for context in scored) if "entropy" in names else None,
        batch_tokens=budget,
        tiled=forward.tiled,
    )


class _Results:
    """The columns of contexts; on a device that runs ahead, those of a batch are taken when the next one is begun."""

    def __init__(
        self, forward: Forward, ids: Sequence[Ids], watcher: PassWatcher | None, progress: Progress
    ) -> None:
        self.columns: dict[int, Columns] = {}
        self._forward, self._ids, self._watcher, self._progress = forward, ids, watcher, progress
        self._begun: list[tuple[list[int], Started]] = []

    def work(self, batch: list[int]) -> None:
        """Begin a batch, the numbers of its contexts; keeps nothing of it where it fails."""
        contexts, watcher = [self._ids[i] for i in batch], self._watcher
        if watcher is None:
            started = self._forward.start(contexts)
        else:
            with watcher.batch(batch):
                started = self._forward.start(contexts, watcher=watcher if watcher.needs_logits else None)
        self.take()
        self._begun.append((batch, started))
        if not runs_ahead(self._forward.device):
            self.take()

    def take(self) -> None:
        """Take the columns of the batch that was begun, and wait for them."""
        for batch, started in self._begun:
            self.columns.update(zip(batch, started.columns(), strict=True))
            self._progress.advance(sum(len(self._ids[i]) for i in batch))
        self._begun.clear()


def check_contexts(model: PreTrainedModel, contexts: Sequence[Ids], vocabulary: int | None = None) -> None:
    """Raises `UnfitContext` unless each context has 2 tokens or more and the model has room for it.

    Its ids must be below `vocabulary` too, where the softmax runs over those alone.
    """
    longest = getattr(model.config, "max_position_embeddings", None) or 0  # 0 and below: as many as one likes
    rows = vocabulary_rows(model)
    if vocabulary is not None and vocabulary < 1:
        raise UnfitContext(f"A softmax runs over 1 id or more, not {vocabulary}.")
    for number, ids in enumerate(contexts):
        if ids.ndim != 1 or len(ids) < 2:
            raise UnfitContext(
                f"Context {number} has the shape {ids.shape}; it takes a row of 2 tokens or more."
            )
        if 0 < longest < len(ids):
            raise UnfitContext(
                f"Context {number} has {len(ids)} tokens, but the model has positions for {longest}. "
                f"Make the dataset with shorter contexts: trajstore dataset add … --length {longest}"
            )
        if ids.min() < 0 or ids.max() >= rows:
            bad = ids[(ids < 0) | (ids >= rows)][0]
            raise UnfitContext(
                f"Context {number} has the token id {bad}, but the model's vocabulary has the ids 0 to "
                f"{rows - 1}: the dataset was made with another tokenizer."
            )
        if vocabulary is not None and ids.max() >= vocabulary:
            raise UnfitContext(
                f"Context {number} has the token id {ids.max()}, but the softmax shall run over the ids 0 to "
                f"{vocabulary - 1} only: take all rows of the head ({option('vocab', 'full')})."
            )


def vocabulary_rows(model: PreTrainedModel) -> int:
    """Token ids that the model can read and predict: rows of the smaller of its two embedding matrices."""
    matrices = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = [len(m.weight) for m in matrices if isinstance(getattr(m, "weight", None), Tensor)]
    return min(rows, default=int(model.config.vocab_size))


def _arrays(tensors: Iterable[Tensor | None]) -> list[npt.NDArray[Any]]:
    """Tensors on the CPU as arrays."""
    return [tensor.numpy() for tensor in tensors if tensor is not None]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode (no dropout) inside the block; after it each module has the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
