"""A model's weights by name: those of blocks by their name in the block, with the block's number as layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trajstore.errors import UnknownStructure
from trajstore.measures.streams import exact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from transformers import PreTrainedModel

    from trajstore.measures.spectra import Spectrum

_ROWS = 2048
"""Of a matrix that are in float64 at a time."""
_COLUMNS = 128
"""Of the products of a matrix that are computed at a time."""


class Weights(NamedTuple):
    """One tensor of a model's weights; shared ones come once."""

    full_name: str
    """As in the model's state."""
    name: str
    """Within the block, or the full name outside of blocks."""
    layer: int | None
    """The number of its block, from 0; None outside of blocks."""
    values: Tensor


def weights_of(model: PreTrainedModel) -> Iterator[Weights]:
    """The floating-point parameters of a model."""
    from trajstore.forward.model_structure import find_blocks

    places: dict[int, tuple[int, str]] = {}
    try:
        blocks = find_blocks(model)
    except UnknownStructure:
        blocks = []
    for layer, block in enumerate(blocks):
        for name, parameter in block.named_parameters():
            places[id(parameter)] = layer, name
    for full_name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            layer_, name = places.get(id(parameter), (None, full_name))
            yield Weights(full_name, name, layer_, parameter.detach())


def squared_sum(values: Tensor) -> float:
    """Σ w², summed up in float64."""
    import torch

    dtype = exact(values[:0]).dtype
    return float(torch.linalg.vector_norm(values, dtype=dtype).item() ** 2)


def singular_values(matrix: Tensor) -> Spectrum:
    """Of a matrix, by the products of its shorter side in float64; 0 where below the rounding of its numbers."""
    import torch

    rows = matrix if len(matrix) >= matrix.shape[1] else matrix.T
    width = rows.shape[1]
    products = exact(torch.zeros(width, width, device=rows.device))
    room = products.new_empty(min(_ROWS, len(rows)), width)
    for at in range(0, len(rows), _ROWS):
        part = rows[at : at + _ROWS]
        block = room[: len(part)].copy_(part)
        # products are symmetric, and eigvalsh reads those below the diagonal only
        for first in range(0, width, _COLUMNS):
            last = min(first + _COLUMNS, width)
            products[first:last, :last].addmm_(block[:, first:last].T, block[:, :last])
    values: Spectrum = (
        torch.linalg.eigvalsh(products, UPLO="L").flip(0).clamp(min=0).sqrt().cpu().numpy().astype(np.float64)
    )
    noise = np.finfo(np.float32).eps * values.max(initial=0)
    return np.where(values > noise, values, 0.0)
