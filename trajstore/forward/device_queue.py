"""The queue of a GPU: work is put into it and fetched later, and nothing between waits for the device.

Ids go there and columns come back through pinned memory, by copies that the device makes in the order of its queue. On
other devices all of it is done at once.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import masking_utils

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKED = "find_packed_sequence_indices"
"""The function of transformers that looks, on the device, for contexts packed into one row."""


def runs_ahead(device: torch.device) -> bool:
    """Return whether the device has a queue, so that the next batch can be put into it while this one is computed."""
    return device.type == "cuda"


@contextmanager
def queueing(device: torch.device) -> Iterator[None]:
    """The device as torch's current one inside the block, with no look for packed contexts, which waits for it."""
    if not runs_ahead(device):
        yield
        return
    with torch.cuda.device(device), unpacked():
        yield


@contextmanager
def unpacked() -> Iterator[None]:
    """Attention masks without a look for contexts packed into one row, where all rows have the same positions.

    No batch of this package has any, and the answer would have to come from the device before the first layer.
    """
    look: Any = getattr(masking_utils, _PACKED, None)
    if look is None:  # a version of transformers that does not look
        yield
        return

    def no_look(position_ids: Tensor) -> Tensor | None:
        indices: Tensor | None = None if position_ids.stride(0) == 0 else look(position_ids)
        return indices

    setattr(masking_utils, _PACKED, no_look)
    try:
        yield
    finally:
        setattr(masking_utils, _PACKED, look)


def to_device(device: torch.device, *arrays: npt.NDArray[np.int64]) -> list[Tensor]:
    """Arrays as tensors on the device, by one copy."""
    flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
    if runs_ahead(device):
        flat = flat.pin_memory()  # torch keeps such memory until the copy is made
    sent = flat.to(device, non_blocking=runs_ahead(device))
    parts = torch.split(sent, [array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def to_host(tensor: Tensor) -> Tensor:
    """A tensor on the CPU; from a device that runs ahead it is there when a later `arrival` has come."""
    if not runs_ahead(tensor.device):
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def arrival(device: torch.device) -> torch.cuda.Event | None:
    """The end of all that the device has in its queue by now, to be waited for; None where all is done."""
    if not runs_ahead(device):
        return None
    stream: Any = torch.cuda.current_stream(device)
    event: torch.cuda.Event = stream.record_event()
    return event
