"""The noise of losses: how far those that were kept are from those of a repeat in other batches and another dtype.

Some contexts, the same ones at every step, run once more: one at a time instead of in batches (in larger batches where
they ran singly), and in the next more exact dtype, float64 for weights in float32, float32 for those in half
precision. What differs is the rounding of the losses that were kept, so that a difference between two steps
that is no larger says nothing. The measures, in nats: `noise_max`, the largest absolute difference, and `noise_p99`,
the 99th percentile. Weights are the same: the noise of training is not in it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from trajstore.arguments.spelling import option
from trajstore.errors import DeviceError
from trajstore.forward.losses import token_losses
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.losses import Ids, Scores

NOISE = "noise"
"""The computation's name; its measures begin with it."""


def measure_noise(
    model: PreTrainedModel,
    ids: Sequence[Ids],
    scores: Scores,
    contexts: int,
    vocabulary: int | None = None,
    seed: int = 0,
) -> list[Measure]:
    """The noise of a dataset's losses from a repeat of so many of its `contexts`, drawn with `seed`.

    `scores` are what the model, in the dtype that it has now, gave for all contexts `ids`, its softmax over the ids
    below `vocabulary`. No measures where no contexts are asked for. The model is the same afterwards. Raises as
    `token_losses`, and `DeviceError` where the other dtype cannot be had.
    """
    if not contexts:
        return []
    drawn = np.sort(np.random.default_rng(seed).permutation(len(ids))[:contexts])
    chosen = [ids[i] for i in drawn]
    kept = np.concatenate([scores.loss[i] for i in drawn])
    longest = max(map(len, chosen))
    budget = longest if scores.batch_tokens >= 2 * longest else 4 * longest
    first = next(model.parameters())
    own = first.dtype
    other = more_exact(own, first.device)
    try:
        with in_dtype(model, other):
            again = np.concatenate(token_losses(model, chosen, batch_tokens=budget, vocabulary=vocabulary))
    except RuntimeError as error:  # no memory for it, or a kernel that does not know the dtype
        raise DeviceError(
            f"Contexts cannot be scored again in {_name(other)}, so leave out {option('repeat_noise')}: {error}"
        ) from error
    apart = np.abs(again.astype(np.float64) - kept)
    params = {
        "contexts": len(chosen),
        "losses": len(kept),
        "seed": seed,
        "batch_tokens": scores.batch_tokens,
        "dtype": _name(own),
        "repeat_batch_tokens": budget,
        "repeat_dtype": _name(other),
    }
    return [
        Measure(f"{NOISE}_max", float(apart.max()), params=params),
        Measure(f"{NOISE}_p99", float(np.quantile(apart, 0.99)), params=params),
    ]


def more_exact(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of the repeat; the same where the device has no better one."""
    if dtype.itemsize < torch.float32.itemsize:
        return torch.float32
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """The model with all its floating-point tensors in a dtype that holds all their values; then as it was, to the bit.

    In place, tensor by tensor: a tensor that two layers share stays shared, and what another dtype was meant for gets
    it back.
    """
    tensors = [tensor for tensor in [*model.parameters(), *model.buffers()] if tensor.is_floating_point()]
    before = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(torch.promote_types(tensor.dtype, dtype))
        yield
    finally:
        for tensor, own in zip(tensors, before, strict=True):
            tensor.data = tensor.data.to(own)


def _name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")
