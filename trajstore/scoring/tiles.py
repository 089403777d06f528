"""Losses, ranks and entropies from last hidden states, tile by tile: no matrix of (positions × vocabulary) is held.

Of each tile (positions × rows of the head) only a few numbers a position are kept: the log of the sum of
exp(logit), the tile's own entropy, how many logits are higher than the token's, and the token's own logit, which is
read from the same tile as the sum, so that both carry the same rounding. All in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trajstore.scoring.heads import Head


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


@dataclass(frozen=True)
class Columns:
    """What the pass finds for n positions, each (n,)."""

    loss: Tensor
    """Float32, nats."""
    rank: Tensor | None = None
    """Int32: entries of the vocabulary with a logit strictly higher than the token's."""
    entropy: Tensor | None = None
    """Float32, nats: of the predicted distribution."""

    def cpu(self) -> Columns:
        """The same on the CPU."""
        return Columns(
            self.loss.cpu(),
            None if self.rank is None else self.rank.cpu(),
            None if self.entropy is None else self.entropy.cpu(),
        )

    def split(self, lengths: list[int]) -> list[Columns]:
        """The columns of runs of positions of these lengths."""
        none = [None] * len(lengths)
        ranks = none if self.rank is None else torch.split(self.rank, lengths)
        entropies = none if self.entropy is None else torch.split(self.entropy, lengths)
        return list(map(Columns, torch.split(self.loss, lengths), ranks, entropies))


def tiled(hidden: Tensor, head: Head, targets: Tensor, tile: Tile, columns: Collection[str] = ()) -> Columns:
    """The columns for last hidden states (n, width) that predict the tokens `targets`, int64 (n,)."""
    work = _Work(head, tile, min(tile.positions, len(hidden)), columns, hidden.device)
    starts = range(0, len(hidden), tile.positions)
    return joined(
        [
            work.columns(head.prepared(hidden[at : at + tile.positions]), targets[at : at + tile.positions])
            for at in starts
        ]
    )


def joined(parts: Sequence[Columns]) -> Columns:
    """The columns of several runs of positions, one after another."""
    ranks = [part.rank for part in parts if part.rank is not None]
    entropies = [part.entropy for part in parts if part.entropy is not None]
    return Columns(
        torch.cat([part.loss for part in parts]),
        torch.cat(ranks) if ranks else None,
        torch.cat(entropies) if entropies else None,
    )


def of_logits(logits: Tensor, targets: Tensor, tile: Tile, columns: Collection[str] = ()) -> Columns:
    """The columns from logits (n, rows) that predict `targets`, int64 (n,), in pieces no larger than a tile."""
    step = max(1, tile.elements // logits.shape[1])
    return joined(
        [
            _of_rows(logits[at : at + step].float(), targets[at : at + step], columns)
            for at in range(0, len(logits), step)
        ]
    )


def _of_rows(logits: Tensor, targets: Tensor, columns: Collection[str]) -> Columns:
    """The columns of a piece, from its whole rows of logits, float32 (n, rows)."""
    at_target = logits.gather(1, targets[:, None])
    rank = (logits > at_target).sum(1, dtype=torch.int32) if "rank" in columns else None
    entropy = torch.special.entr(logits.softmax(1)).sum(1) if "entropy" in columns else None
    return Columns(logits.logsumexp(1) - at_target[:, 0], rank, entropy)


class _Work:
    """The memory of one pass through the head, used again for each run of positions and each tile."""

    def __init__(
        self, head: Head, tile: Tile, positions: int, columns: Collection[str], device: torch.device
    ) -> None:
        self.head, self.width, self.asked = head, min(tile.vocabulary, len(head)), columns
        size = positions * self.width
        self.logits = torch.empty(size, device=device)
        self.spare = torch.empty(size if columns else 0, device=device)

    def columns(self, hidden: Tensor, targets: Tensor) -> Columns:
        """The columns of one run of positions, from prepared hidden states (n, width)."""
        n, starts = len(hidden), range(0, len(self.head), self.width)
        sums = hidden.new_empty((len(starts), n), dtype=torch.float32)
        entropies = torch.empty_like(sums) if "entropy" in self.asked else None
        at_target = torch.empty_like(sums[0])
        guess = self._logits_at(hidden, targets) if "rank" in self.asked else None
        higher = torch.zeros_like(sums[0])
        for number, start in enumerate(starts):
            logits, inside, place = self._tile(hidden, targets, start)
            at_target = torch.where(inside, logits.gather(1, place)[:, 0], at_target)
            if guess is not None:
                higher += self._above(logits, guess)
            if entropies is not None:
                shares = torch.softmax(logits, 1, out=_shaped(self.spare, logits))
            # the quickest pass over a tile there is; the log of the sum is what it takes off any one logit
            first = logits[:, 0].clone()
            torch.log_softmax(logits, 1, out=logits)
            torch.sub(first, logits[:, 0], out=sums[number])
            if entropies is not None:
                entropies[number] = -torch.linalg.vecdot(shares, logits)
        total = sums.logsumexp(0)
        if guess is not None and not torch.equal(guess, at_target):
            higher = self._higher(hidden, targets, at_target)
        return Columns(
            total - at_target,
            None if guess is None else higher.int(),
            # each tile's own entropy and that of the choice between tiles
            None if entropies is None else ((sums - total).exp() * (entropies + total - sums)).sum(0),
        )

    def _tile(self, hidden: Tensor, targets: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """The logits (n, width) of the tile at `start`, which targets lie in it (n,), and in what column (n, 1)."""
        logits = self.head.logits(hidden, slice(start, start + self.width), self.logits)
        place = targets - start
        inside = (place >= 0) & (place < logits.shape[1])
        return logits, inside, place.clamp_(0, logits.shape[1] - 1)[:, None]

    def _logits_at(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The targets' logits (n,) before any tile is made, by as large a product as a tile's.

        That is the tile's value to the bit on most machines, which whoever counts with it makes sure of afterwards.
        """
        found = []
        for at in range(0, len(targets), self.width):
            part = targets[at : at + self.width]
            found.append(self.head.logits(hidden, part, self.logits)[at:].diagonal().clone())
        return torch.cat(found)

    def _higher(self, hidden: Tensor, targets: Tensor, at_target: Tensor) -> Tensor:
        """How many logits are higher than the targets' own, float32 (n,), in a second run through the tiles."""
        higher = torch.zeros_like(at_target)
        for start in range(0, len(self.head), self.width):
            logits, inside, place = self._tile(hidden, targets, start)
            # the token itself never counts, whatever a second product of the same numbers gives
            own = torch.where(inside[:, None], -torch.inf, logits.gather(1, place))
            logits.scatter_(1, place, own)
            higher += self._above(logits, at_target)
        return higher

    def _above(self, logits: Tensor, at_target: Tensor) -> Tensor:
        """How many logits of each row are above its target's; float32, whose sums are quick and exact to 2²⁴."""
        return torch.gt(logits, at_target[:, None], out=_shaped(self.spare, logits)).sum(1)


def _shaped(buffer: Tensor, like: Tensor) -> Tensor:
    """The beginning of a flat buffer as a tensor of a tile's shape."""
    return buffer[: like.numel()].view_as(like)
