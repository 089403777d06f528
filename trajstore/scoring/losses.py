"""The forward pass: per-token losses of a causal language model on given contexts, in nats, float32.

    loss[p] = −log softmax(logits[p−1])[token[p]]    for p = 1 … n−1

Position 0 has no prediction and no loss. The body of the model runs on right-padded batches of contexts of
about the same length; the output head then runs in tiles (positions × vocabulary rows) with an online
logsumexp in float32, so that no (tokens × vocabulary) matrix is ever held. That needs a head which is a
plain linear layer on the last hidden state: every call checks this against the model's own logits. A model
that does more there (a soft cap, a scale) is scored from its own logits, those of one context at a time.

The softmax runs over all rows of the head. Logits are float32 also under half-precision weights, so that such
losses are less rounded than the model's own. Reads no files and writes none.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trajstore.errors import UnfitContext
from trajstore.store.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

    from trajstore.store.progress import Progress

Ids = npt.NDArray[np.integer[Any]]
Losses = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tile:
    """How much of the (positions × vocabulary) matrix of logits exists at a time."""

    positions: int = 512
    """Rows: predicted positions."""
    vocabulary: int = 1048
    """Columns: rows of the output head."""

    @property
    def elements(self) -> int:
        """Float32 numbers in a tile."""
        return self.positions * self.vocabulary


CPU_TILE, GPU_TILE = Tile(), Tile(positions=4096, vocabulary=8192)
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1024, 16384


def default_batch_tokens(device: torch.device) -> int:
    """Tokens (padding included) that run through the body at once when nothing else is asked."""
    return CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS


def token_losses(
    model: PreTrainedModel,
    contexts: Sequence[npt.ArrayLike],
    *,
    batch_tokens: int | None = None,
    tile: Tile | None = None,
    progress: Progress = SILENT,
) -> list[Losses]:
    """Losses of every token but the first of each context.

    `model` is a transformers causal language model, on the device and in the dtype in which it shall run;
    it is put into eval mode for the call. `contexts` are token ids, n ≥ 2 each. A batch holds at most
    `batch_tokens` tokens, padding included, but at least one context. Returns one float32 array of n − 1 nats
    a context, in the given order: element p − 1 belongs to position p. `progress` advances by tokens.
    Raises `UnfitContext` where a context is shorter than 2 tokens or does not fit the model.
    """
    ids = [np.asarray(context) for context in contexts]
    check_contexts(model, ids)
    if not ids:
        return []
    device = _device(model)
    tile = tile or (CPU_TILE if device.type == "cpu" else GPU_TILE)
    losses: list[Losses] = [np.empty(0, np.float32)] * len(ids)
    with torch.inference_mode(), _evaluating(model):
        tiled = head_is_linear(model, ids[0], tile)
        budget = (batch_tokens or default_batch_tokens(device)) if tiled else 1
        for batch in _batches([len(context) for context in ids], budget):
            score = _tiled_batch if tiled else _plain_batch
            found = score(model, [ids[i] for i in batch], tile)
            for i, loss in zip(batch, found, strict=True):
                losses[i] = loss
            progress.advance(sum(len(ids[i]) for i in batch))
    return losses


def check_contexts(model: PreTrainedModel, contexts: Sequence[Ids]) -> None:
    """Raises `UnfitContext` unless each context has 2 tokens or more and the model has room for it."""
    longest = getattr(model.config, "max_position_embeddings", None) or 0  # 0 and below: as many as one likes
    rows = vocabulary_rows(model)
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


def vocabulary_rows(model: PreTrainedModel) -> int:
    """Token ids that the model can read and predict: rows of the smaller of its two embedding matrices."""
    matrices = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = [len(m.weight) for m in matrices if isinstance(getattr(m, "weight", None), Tensor)]
    return min(rows, default=int(model.config.vocab_size))


def head_is_linear(model: PreTrainedModel, context: Ids, tile: Tile) -> bool:
    """Whether the logits are the output layer applied to the body's last hidden state, and nothing more.

    Runs both on the first few tokens of `context`. The layer's own result must equal the model's logits up to
    another order of summation, and the tiles' losses those of the logits up to rounding. NaN counts as no.
    """
    head, body = model.get_output_embeddings(), getattr(model, "base_model", model)
    if not isinstance(head, nn.Linear) or body is model or not head.weight.is_floating_point():
        return False
    tokens = min(16, len(context), max(2, tile.elements // len(head.weight)))
    ids = torch.as_tensor(context[:tokens].astype(np.int64), device=_device(model))[None]
    hidden = getattr(body(ids, use_cache=False), "last_hidden_state", None)
    if not isinstance(hidden, Tensor) or hidden.shape != (1, tokens, head.in_features):
        return False
    again, logits = head(hidden)[0].float(), model(ids, use_cache=False).logits[0].float()
    if logits.shape != again.shape or not logits.isfinite().all():
        return False
    eps, scale = torch.finfo(head.weight.dtype).eps, logits.abs().max().item()
    if not torch.allclose(again, logits, rtol=eps, atol=1e-5 * scale):
        return False
    mine = _tiled_losses(hidden[0, :-1], head, ids[0, 1:], tile)
    theirs = _losses_of_logits(logits[:-1], ids[0, 1:], tile)
    return torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5 + 4 * eps * scale)


def _tiled_batch(model: PreTrainedModel, batch: list[Ids], tile: Tile) -> list[Losses]:
    """Losses of one right-padded batch, through the body and the tiled head."""
    lengths = np.array([len(ids) for ids in batch])
    padded = np.zeros((len(batch), lengths.max()), np.int64)
    real = np.arange(padded.shape[1]) < lengths[:, None]
    padded[real] = np.concatenate(batch)
    device = _device(model)
    ids, mask = torch.as_tensor(padded, device=device), torch.as_tensor(real, device=device)
    # Without padding no mask is needed, and attention takes its faster causal kernel.
    attention = None if real.all() else mask.long()
    hidden = model.base_model(ids, attention_mask=attention, use_cache=False).last_hidden_state
    predicted = mask[:, 1:]
    head = model.get_output_embeddings()
    losses = _tiled_losses(hidden[:, :-1][predicted], head, ids[:, 1:][predicted], tile).cpu().numpy()
    return np.split(losses, np.cumsum(lengths - 1)[:-1])


def _plain_batch(model: PreTrainedModel, batch: list[Ids], tile: Tile) -> list[Losses]:
    """Losses from the model's own logits, context by context."""
    losses = []
    for context in batch:
        ids = torch.as_tensor(context.astype(np.int64), device=_device(model))
        logits = model(ids[None], use_cache=False).logits[0, :-1]
        losses.append(_losses_of_logits(logits, ids[1:], tile).cpu().numpy())
    return losses


def _tiled_losses(hidden: Tensor, head: nn.Linear, targets: Tensor, tile: Tile) -> Tensor:
    """−log softmax(hidden @ head.T + bias)[target], float32 (n,), tile by tile, from hidden (n, width).

    Keeps, for each position, the largest logit so far, the sum of exp(logit − largest) and the target's
    logit, which is read from the same tile as the sum, so that both carry the same rounding.
    """
    weight, bias = head.weight, head.bias
    rows = len(weight)
    buffer = torch.empty(min(tile.positions, len(hidden)) * min(tile.vocabulary, rows), device=hidden.device)
    losses = torch.empty(len(hidden), device=hidden.device)
    for start in range(0, len(hidden), tile.positions):
        part = hidden[start : start + tile.positions].float()
        target = targets[start : start + tile.positions]
        largest = torch.full((len(part),), -torch.inf, device=hidden.device)
        total, at_target = torch.zeros_like(largest), torch.zeros_like(largest)
        for row in range(0, rows, tile.vocabulary):
            matrix = weight[row : row + tile.vocabulary].float()
            logits = buffer[: len(part) * len(matrix)].view(len(part), len(matrix))
            torch.mm(part, matrix.T, out=logits)
            if bias is not None:
                logits += bias[row : row + tile.vocabulary].float()
            inside = (target >= row) & (target < row + len(matrix))
            picked = logits.gather(1, (target - row).clamp(0, len(matrix) - 1)[:, None])[:, 0]
            at_target = torch.where(inside, picked, at_target)
            higher = torch.maximum(largest, logits.amax(1))
            total = total * (largest - higher).exp() + logits.sub_(higher[:, None]).exp_().sum(1)
            largest = higher
        losses[start : start + tile.positions] = largest + total.log() - at_target
    return losses


def _losses_of_logits(logits: Tensor, targets: Tensor, tile: Tile) -> Tensor:
    """−log softmax(logits)[target], float32 (n,), from logits (n, rows), in pieces no larger than a tile."""
    step = max(1, tile.elements // logits.shape[1])
    losses = torch.empty(len(logits), device=logits.device)
    for start in range(0, len(logits), step):
        part = logits[start : start + step].float()
        at_target = part.gather(1, targets[start : start + step, None])[:, 0]
        losses[start : start + step] = part.logsumexp(1) - at_target
    return losses


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Numbers of contexts, the longest first, in batches of at most `budget` tokens after padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        count = max(1, budget // lengths[order[start]])
        yield order[start : start + count]
        start += count


def _device(model: PreTrainedModel) -> torch.device:
    """Where the model's parameters lie."""
    device: torch.device = next(model.parameters()).device
    return device


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode (no dropout) inside the block, and the mode that was there before after it."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
