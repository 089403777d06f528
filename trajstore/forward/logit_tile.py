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
    """A few predictions of a tile, with memory for their shares and for what is summed up of these."""

    place: slice
    """Of all predictions of the tile."""
    log_shares: Tensor
    shares: Tensor
    of_shares: Tensor
    """Σ share · ln q."""
    of_q: Tensor
    """Σ q · ln share."""
    products: Tensor
    """Σ share · ln share."""
    arrays: tuple[npt.NDArray[np.float32], ...] | None
    """Log shares, shares and products as NumPy has them, on a CPU."""

    def put_products(self) -> None:
        """Sum up the products; the shares may be overwritten."""
        import torch

        if self.arrays is None:
            torch.sum(self.shares.mul_(self.log_shares), 1, out=self.products)
        else:  # in one pass over both, where PyTorch makes a matrix of products
            log_shares, shares, products = self.arrays
            np.vecdot(log_shares, shares, out=products)


class Cut:
    """A tile cut into parts, the last positions first, all with the same memory for their shares."""

    def __init__(self, log_shares: Tensor, memory: Tensor | None = None) -> None:
        number, width = log_shares.shape
        on_cpu = log_shares.device.type == "cpu"
        step = math.ceil(number / max(1, math.ceil(number * width / CPU_ELEMENTS))) if on_cpu else number
        memory = log_shares.new_empty(step * width) if memory is None else memory
        self.sums = log_shares.new_empty((3, number))
        """Of all parts: of shares, of q, products."""
        self.parts = []
        for at in reversed(range(0, number, step)):
            place = slice(at, at + step)
            part = log_shares[place]
            shares = shaped(memory, part)
            of_shares, of_q, products = self.sums[:, place]
            arrays = (part.numpy(), shares.numpy(), products.numpy()) if on_cpu else None
            self.parts.append(Part(place, part, shares, of_shares, of_q, products, arrays))


class Spare:
    """Memory for as many numbers as a tile has or more, which the pass has anyway.

    Tiles that lie in the same place are cut once.
    """

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers
        """Float32 (m,)."""
        self._cuts: dict[tuple[int, torch.Size], Cut] = {}

    def cut(self, log_shares: Tensor) -> Cut:
        """A tile, float32 (n, rows), in parts."""
        key = log_shares.data_ptr(), log_shares.shape
        if key not in self._cuts:
            self._cuts[key] = Cut(log_shares, self.numbers)
        return self._cuts[key]


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
        cut = self._cut()
        for part in self._filled(cut):
            part.put_products()
        return cut.sums[2].neg()

    def log_means(self, q: Tensor | None, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Σ share · ln q and Σ q · ln share of each prediction, float32 (n,), for one q ≥ 0 over the rows, (rows,).

        The second is 0 without q. The entropies come of the same exponentials, and cost little after this.
        """
        import torch

        cut = self._cut()
        for part in self._filled(cut):
            if q is not None:
                torch.mv(part.log_shares, q, out=part.of_q)
            torch.mv(part.shares, log_q, out=part.of_shares)
            part.put_products()
        of_shares, of_q, products = cut.sums.clone()
        self.__dict__["entropies"] = products.neg_()
        return of_shares, of_q if q is not None else of_q.zero_()

    def _cut(self) -> Cut:
        """Return the tile's parts."""
        # shares that are kept may be in the spare memory
        if self.spare is None or "shares" in self.__dict__:
            return Cut(self.log_shares)
        return self.spare.cut(self.log_shares)

    def _filled(self, cut: Cut) -> Iterator[Part]:
        """Yield the parts one by one with their shares."""
        import torch

        kept = self.__dict__.get("shares")
        for part in cut.parts:
            if kept is None:
                torch.exp(part.log_shares, out=part.shares)
            else:
                part.shares.copy_(kept[part.place])
            yield part


def shaped(buffer: Tensor, like: Tensor) -> Tensor:
    """The beginning of a flat buffer as a tensor of another's shape."""
    return buffer[: like.numel()].view_as(like)
