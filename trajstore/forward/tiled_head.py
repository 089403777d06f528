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

    from trajstore.forward.output_heads import Head


@dataclass(frozen=True)
class Tile:
    """The part of the (positions × vocabulary) matrix of logits that exists at a time."""

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
    """The results of the pass for n positions, (n,) each."""

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
    return TiledHead(head, tile, columns).columns(hidden, targets)


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


class TiledHead:
    """A head that runs in tiles, with memory that is used again for each tile of each call."""

    def __init__(self, head: Head, tile: Tile, columns: Collection[str] = ()) -> None:
        self.head, self.tile, self.asked = head, tile, columns
        self.width = min(tile.vocabulary, len(head))
        self.logits = self.spare = head.weight.new_empty(0, dtype=torch.float32)

    def columns(self, hidden: Tensor, targets: Tensor) -> Columns:
        """The columns for last hidden states (n, width) that predict the tokens `targets`, int64 (n,)."""
        size = self.width * min(self.tile.positions, len(hidden))
        if len(self.logits) < size:
            self.logits = self.logits.new_empty(size)
            self.spare = self.spare.new_empty(size if self.asked else 0)
        step = self.tile.positions
        return joined(
            [
                self._run(self.head.prepared(hidden[at : at + step]), targets[at : at + step])
                for at in range(0, len(hidden), step)
            ]
        )

    def _run(self, hidden: Tensor, targets: Tensor) -> Columns:
        """The columns of one run of positions, from prepared hidden states (n, width)."""
        tiles = self._tiles(targets)
        sums = hidden.new_empty((len(tiles), len(hidden)), dtype=torch.float32)
        entropies = torch.empty_like(sums) if "entropy" in self.asked else None
        at_target = torch.empty_like(sums[0])
        guess = self._logits_at(hidden, targets) if "rank" in self.asked else None
        higher = torch.zeros_like(sums[0])
        for number, (rows, those, places) in enumerate(tiles):
            logits = self.head.logits(hidden, rows, self.logits)
            at_target[those] = logits[those, places]
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
            higher = self._higher(hidden, tiles, at_target)
        return Columns(
            total - at_target,
            None if guess is None else higher.int(),
            # each tile's own entropy and that of the choice between tiles
            None if entropies is None else ((sums - total).exp() * (entropies + total - sums)).sum(0),
        )

    def _tiles(self, targets: Tensor) -> list[tuple[slice, Tensor, Tensor]]:
        """Return for each tile its rows of the head, the positions with their target in it, and the target's column."""
        starts = range(0, len(self.head), self.width)
        tokens, order = targets.sort()
        ends = torch.searchsorted(tokens, tokens.new_tensor([*starts, len(self.head)])).tolist()
        return [
            (slice(start, start + self.width), order[begin:end], tokens[begin:end] - start)
            for start, begin, end in zip(starts, ends[:-1], ends[1:], strict=True)
        ]

    def _logits_at(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The targets' logits (n,) before any tile is made, by as large a product as a tile's.

        That is the tile's value to the bit on most machines, which whoever counts with it makes sure of afterwards.
        """
        found = []
        for at in range(0, len(targets), self.width):
            part = targets[at : at + self.width]
            found.append(self.head.logits(hidden, part, self.logits)[at:].diagonal().clone())
        return torch.cat(found)

    def _higher(self, hidden: Tensor, tiles: list[tuple[slice, Tensor, Tensor]], at_target: Tensor) -> Tensor:
        """Return the number of logits higher than the targets' own, float32 (n,), by a second run through the tiles."""
        higher = torch.zeros_like(at_target)
        for rows, those, places in tiles:
            logits = self.head.logits(hidden, rows, self.logits)
            # the token itself never counts, whatever a second product of the same numbers gives
            logits[those, places] = -torch.inf
            higher += self._above(logits, at_target)
        return higher

    def _above(self, logits: Tensor, at_target: Tensor) -> Tensor:
        """Return the number of logits above the target's by row; float32, whose sums are quick and exact to 2²⁴."""
        return torch.gt(logits, at_target[:, None], out=_shaped(self.spare, logits)).sum(1)


def _shaped(buffer: Tensor, like: Tensor) -> Tensor:
    """The beginning of a flat buffer as a tensor of a tile's shape."""
    return buffer[: like.numel()].view_as(like)
