"""A tile of logits as the pass hands it on, and what whoever takes it can have of it without making it anew.

On a CPU sums over a tile are taken of a few positions at a time, so that their exponentials stay in a core's cache:
writing those of the whole tile to memory and reading them again costs more than computing them. The last positions
come first, since they are what the pass itself has just left there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

CPU_ELEMENTS = 9 << 14
"""Exponentials that are held at a time, half a mebibyte of float32 beside as many logits: a quarter of a `CPU_TILE`."""


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
    spare: Tensor | None = None
    """Memory for as many numbers as the tile has or more, float32 (m,), which the pass has anyway."""
    mean_logits: Callable[[Tensor], Tensor] | None = None
    """Σ q · logit over the whole vocabulary, float32 (n,), for a q over it; None where that takes all logits."""

    @cached_property
    def shares(self) -> Tensor:
        """Float32 (n, rows)."""
        import torch

        return torch.exp(self.log_shares, out=self._room(self.log_shares))

    @cached_property
    def entropies(self) -> Tensor:
        """−Σ share · ln share of each prediction, float32 (n,)."""
        import torch

        negative = torch.empty_like(self.log_sums)
        for place, shares, log_shares in self._parts():
            torch.sum(shares.mul_(log_shares), 1, out=negative[place])
        return negative.neg_()

    def log_means(self, q: Tensor | None, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Σ share · ln q and Σ q · ln share of each prediction, float32 (n,), for one q ≥ 0 over the rows, (rows,).

        The second is 0 without q. The entropies come of the same exponentials, and cost little after this.
        """
        import torch

        of_shares, of_q, negative = self.log_sums.new_zeros((3, len(self.log_sums)))
        for place, shares, log_shares in self._parts():
            if q is not None:
                torch.mv(log_shares, q, out=of_q[place])
            torch.mv(shares, log_q, out=of_shares[place])
            torch.sum(shares.mul_(log_shares), 1, out=negative[place])
        self.__dict__["entropies"] = negative.neg_()
        return of_shares, of_q

    def _parts(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield a few predictions at a time, their shares, which may be overwritten, and their log shares."""
        import torch

        number, width = self.log_shares.shape
        on_cpu = self.log_shares.device.type == "cpu"
        parts = max(1, math.ceil(number * width / CPU_ELEMENTS)) if on_cpu else 1
        step = math.ceil(number / parts)
        kept = self.__dict__.get("shares")
        for at in reversed(range(0, number, step)):
            place = slice(at, at + step)
            part = self.log_shares[place]
            shares = torch.exp(part, out=self._room(part)) if kept is None else kept[place].clone()
            yield place, shares, part

    def _room(self, like: Tensor) -> Tensor:
        """Return memory of a part's shape."""
        import torch

        return torch.empty_like(like) if self.spare is None else self.spare[: like.numel()].view_as(like)
