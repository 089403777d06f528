"""Batches of contexts: sorted by length, with a token budget that fits the device's memory.

On a GPU the budget is found from what the first context takes and what is free; wherever memory runs out, the batch
is halved and the smaller budget kept. Knows nothing of losses.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import torch

from trajstore.arguments.spelling import option
from trajstore.errors import DeviceError

CPU_BATCH_TOKENS = 512
GPU_BATCH_TOKENS = 65536
"""The most that a GPU is given when nothing else is asked: more is no faster."""
OTHER_BATCH_TOKENS = 8192
"""On devices that do not say how much memory is free."""
MOST_PADDING, LEAST_TOKENS = 0.05, 8192
"""The share of padding in a batch on a GPU, unless it would have fewer tokens than that, padding included."""

_SHARE_OF_FREE = 0.8
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


def in_batches(
    lengths: Sequence[int],
    work: Callable[[list[int]], None],
    budget: int | None,
    device: torch.device,
    *,
    singly: bool = False,
) -> int:
    """Call `work` with the numbers of contexts, the longest first, of at most `budget` tokens after padding.

    One context is always taken, however long. Without a budget it is the device's default, on a GPU what fits; `singly`
    says that one context at a time is the default on a CPU. A GPU gets no more than a little padding in a batch, of
    which a CPU's small batches have little anyway. Where `work` runs out of memory it is called again with
    half the contexts; it must keep nothing of a call that fails. Returns the budget at the end; raises `DeviceError`
    where there is no memory for a single context.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    probing = budget is None and device.type == "cuda"
    if budget is None:
        budget = {"cpu": 1 if singly else CPU_BATCH_TOKENS, "cuda": 1}.get(device.type, OTHER_BATCH_TOKENS)
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        batch = order[start : start + max(1, budget // longest)]
        if device.type == "cuda":
            batch = batch[: _alike([lengths[i] for i in batch])]
        taken = _Taken(device) if probing else None
        if not _fits(work, batch):
            if len(batch) == 1:
                raise DeviceError(
                    f"The memory of {device} does not hold the pass over one context of {longest} tokens. Take a "
                    f"device with more memory, half precision ({option('dtype', 'bfloat16')}), or a dataset "
                    "with shorter contexts."
                )
            budget = len(batch) * longest // 2
            _free(device)
            continue
        if taken is not None:
            budget, probing = max(1, min(GPU_BATCH_TOKENS, taken.tokens_that_fit(longest))), False
        start += len(batch)
    return budget


def _alike(lengths: Sequence[int]) -> int:
    """Return the number of contexts, of lengths that fall, that a batch takes before it has too much padding."""
    tokens = 0
    for number, length in enumerate(lengths, 1):
        tokens += length
        padded = number * lengths[0]
        if padded >= LEAST_TOKENS and padded - tokens > MOST_PADDING * padded:
            return number
    return len(lengths)


def _fits(work: Callable[[list[int]], None], batch: list[int]) -> bool:
    """Do the work; False where memory ran out."""
    try:
        work(batch)
    except (RuntimeError, MemoryError) as error:
        if ran_out_of_memory(error):
            return False
        raise
    return True


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out, whatever the device calls that."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def _free(device: torch.device) -> None:
    """Give back what a failed batch held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class _Taken:
    """The memory of a CUDA device that the work from here on takes; starts torch's count of the peak anew."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        torch.cuda.reset_peak_memory_stats(device)
        self.before = torch.cuda.memory_allocated(device)

    def tokens_that_fit(self, tokens: int) -> int:
        """Return the number of tokens that there is room for, where this many took what was taken since."""
        device = self.device
        bytes_per_token = max(1, torch.cuda.max_memory_allocated(device) - self.before) / tokens
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(_SHARE_OF_FREE * (torch.cuda.mem_get_info(device)[0] + unused) / bytes_per_token)
