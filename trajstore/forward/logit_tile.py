"""A tile of logits as the pass hands it on, and what whoever takes it can have of it without making it anew.

On a CPU sums over a tile are taken of a few positions at a time, so that their exponentials stay in a core's cache:
writing those of the whole tile to memory and reading them again costs more than computing them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    @cached_property
    def shares(self) -> Tensor:
        """Float32 (n, rows)."""
        import torch

        return torch.exp(self.log_shares, out=self._room(self.log_shares))

    @cached_property
    def entropies(self) -> Tensor:
        """−Σ share · ln share of each prediction, float32 (n,)."""
        import torch

        return torch.cat([_negative_entropies_(*part) for part in self._parts()]).neg_()

    def log_means(self, q: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Σ share · ln q and Σ q · ln share of each prediction, float32 (n,), for one q ≥ 0 over the rows, (rows,).

        The entropies come of the same exponentials, and cost little after this.
        """
        import torch

        of_shares, of_q, negative = [], [], []
        for shares, log_shares in self._parts():
            of_shares.append(shares @ log_q)
            of_q.append(log_shares @ q)
            negative.append(_negative_entropies_(shares, log_shares))
        self.__dict__["entropies"] = torch.cat(negative).neg_()
        return torch.cat(of_shares), torch.cat(of_q)

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the shares, which may be overwritten, and the log shares of a few predictions at a time."""
        import torch

        number, width = self.log_shares.shape
        on_cpu = self.log_shares.device.type == "cpu"
        parts = max(1, math.ceil(number * width / CPU_ELEMENTS)) if on_cpu else 1
        step = math.ceil(number / parts)
        kept = self.__dict__.get("shares")
        for at in range(0, number, step):
            part = self.log_shares[at : at + step]
            yield (
                torch.exp(part, out=self._room(part)) if kept is None else kept[at : at + step].clone(),
                part,
            )

    def _room(self, like: Tensor) -> Tensor:
        """Return memory of a part's shape."""
        import torch

        return torch.empty_like(like) if self.spare is None else self.spare[: like.numel()].view_as(like)


def _negative_entropies_(shares: Tensor, log_shares: Tensor) -> Tensor:
    """Σ share · ln share by row; the shares are lost."""
    return shares.mul_(log_shares).sum(1)
