"""A tile of logits as the pass hands it on, and what whoever takes it can have of it without making it anew.

On a CPU sums over a tile are taken of a few positions at a time, so that their exponentials stay in a core's cache:
writing those of the whole tile to memory and reading them again costs more than computing them. The last positions
come first, since they are what the pass itself has just left there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    import torch
    from torch import Tensor

CPU_ELEMENTS = 9 << 13
"""Exponentials that are held at a time, a quarter of a mebibyte beside as many logits: an eighth of a `CPU_TILE`."""


class Part(NamedTuple):
    """A few predictions of a tile, and memory for their shares."""

    place: slice
    """Of all predictions of the tile."""
    log_shares: Tensor
    shares: Tensor
    arrays: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None
    """Both as NumPy has them, on a CPU."""


class Spare:
    """Memory for as many numbers as a tile has or more, which the pass has anyway.

    Tiles that lie in the same place are cut into the same parts, which are made once.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        """Float32 (m,)."""
        self._parts: dict[tuple[int, torch.Size], list[Part]] = {}

    def parts(self, log_shares: Tensor) -> list[Part]:
        """The parts of a tile, float32 (n, rows)."""
        key = log_shares.data_ptr(), log_shares.shape
        if key not in self._parts:
            self._parts[key] = _cut(log_shares, self.numbers)
        return self._parts[key]


@dataclass
class LogitTile:
    """The logits of n predictions for some rows of the vocabulary, as shares of the tile's own sum of exponentials.

    With z the logits and s = ln Σ exp z over the tile, log_shares = z − s. Tensors are used again after a stream has
    seen them.
    """

    rows: slice
    """Of the vocabulary."""
    log_shares: Tensor
    """Float32 (n, rows)."""
    log_sums: Tensor
    """s, float32 (n,)."""
    spare: Spare | None = None
    mean_logits: Callable[[Tensor], Tensor] | None = None
    """Σ q · logit over the whole vocabulary, float32 (n,), for a q over it; None where that takes all logits."""

    @cached_property
    def shares(self) -> Tensor:
        """Float32 (n, rows)."""
        import torch

        if self.spare is None:
            return self.log_shares.exp()
        return torch.exp(self.log_shares, out=shaped(self.spare.numbers, self.log_shares))

    @cached_property
    def entropies(self) -> Tensor:
        """−Σ share · ln share of each prediction, float32 (n,)."""
        import torch

        negative = torch.empty_like(self.log_sums)
        for part in self._parts():
            _put_inner_products(part, negative[part.place])
        return negative.neg_()

    def log_means(self, q: Tensor | None, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Σ share · ln q and Σ q · ln share of each prediction, float32 (n,), for one q ≥ 0 over the rows, (rows,).

        The second is 0 without q. The entropies come of the same exponentials, and cost little after this.
        """
        import torch

        of_shares, of_q, negative = self.log_sums.new_zeros((3, len(self.log_sums)))
        for part in self._parts():
            if q is not None:
                torch.mv(part.log_shares, q, out=of_q[part.place])
            torch.mv(part.shares, log_q, out=of_shares[part.place])
            _put_inner_products(part, negative[part.place])
        self.__dict__["entropies"] = negative.neg_()
        return of_shares, of_q

    def _parts(self) -> Iterator[Part]:
        """Yield a few predictions at a time with their shares, which may be overwritten."""
        import torch

        kept, spare = self.__dict__.get("shares"), self.spare
        # shares that are kept may be in the spare memory
        for part in spare.parts(self.log_shares) if spare and kept is None else _cut(self.log_shares):
            if kept is None:
                torch.exp(part.log_shares, out=part.shares)
            else:
                part.shares.copy_(kept[part.place])
            yield part


def _cut(log_shares: Tensor, memory: Tensor | None = None) -> list[Part]:
    """The parts of a tile, the last positions first, all with the same flat memory for their shares."""
    number, width = log_shares.shape
    on_cpu = log_shares.device.type == "cpu"
    step = math.ceil(number / max(1, math.ceil(number * width / CPU_ELEMENTS))) if on_cpu else number
    memory = log_shares.new_empty(step * width) if memory is None else memory
    parts = []
    for at in reversed(range(0, number, step)):
        part = log_shares[at : at + step]
        shares = shaped(memory, part)
        arrays = (part.numpy(), shares.numpy()) if on_cpu else None
        parts.append(Part(slice(at, at + step), part, shares, arrays))
    return parts


def _put_inner_products(part: Part, out: Tensor) -> None:
    """Put Σ share · ln share of each prediction of a part into `out`; its shares may be overwritten."""
    import torch

    if part.arrays is None:
        torch.sum(part.shares.mul_(part.log_shares), 1, out=out)
    else:  # in one pass over both, where PyTorch makes a matrix of products
        np.vecdot(*part.arrays, out=out.numpy())


def shaped(buffer: Tensor, like: Tensor) -> Tensor:
    """The beginning of a flat buffer as a tensor of another's shape."""
    return buffer[: like.numel()].view_as(like)
