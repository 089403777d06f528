"""Losses, ranks and entropies from last hidden states, tile by tile: no matrix of (positions × vocabulary) is held.

Of each tile (positions × rows of the head) only a few numbers a position are kept: the log of the sum of
exp(logit), the tile's own entropy, how many logits are higher than the token's, and the token's own logit, which is
read from the same tile as the sum, so that both carry the same rounding. All in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from trajstore.forward.logit_tile import LogitTile, Spare, shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

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

    def map(self, change: Callable[[Tensor], Tensor]) -> Columns:
        """The columns after a change of every one."""
        return Columns(
            change(self.loss),
            None if self.rank is None else change(self.rank),
            None if self.entropy is None else change(self.entropy),
        )

    def split(self, lengths: list[int]) -> list[Columns]:
        """The columns of runs of positions of these lengths."""
        none = [None] * len(lengths)
        ranks = none if self.rank is None else torch.split(self.rank, lengths)
        entropies = none if self.entropy is None else torch.split(self.entropy, lengths)
        return list(map(Columns, torch.split(self.loss, lengths), ranks, entropies))


class LogitWatcher(Protocol):
    """Takes the logits of the pass as they are made; what it is handed is used again afterwards."""

    def tile(self, positions: slice, tile: LogitTile) -> None:
        """Take some rows of the vocabulary for some positions of a batch, one context after another."""

    def log_sums(self, positions: slice, log_sums: Tensor) -> None:
        """Take ln Σ exp(logit) over the vocabulary, (n,), after all rows of it."""


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


def of_logits(
    logits: Tensor,
    targets: Tensor,
    tile: Tile,
    columns: Collection[str] = (),
    watcher: LogitWatcher | None = None,
    first: int = 0,
) -> Columns:
    """The columns from logits (n, rows) that predict `targets`, int64 (n,), in pieces no larger than a tile.

    The watcher is told that the logits are of the positions of a batch from `first` on.
    """
    step = max(1, tile.elements // logits.shape[1])
    parts = []
    for at in range(0, len(logits), step):
        piece = logits[at : at + step].float()
        parts.append(_of_rows(piece, targets[at : at + step], columns))
        if watcher is not None:
            log_sums, positions = piece.logsumexp(1), slice(first + at, first + at + len(piece))
            rows = slice(0, piece.shape[1])
            watcher.tile(positions, LogitTile(rows, piece - log_sums[:, None], log_sums))
            watcher.log_sums(positions, log_sums)
    return joined(parts)


def _of_rows(logits: Tensor, targets: Tensor, columns: Collection[str]) -> Columns:
    """The columns of a piece, from its whole rows of logits, float32 (n, rows)."""
    at_target = logits.gather(1, targets[:, None])
    rank = (logits > at_target).sum(1, dtype=torch.int32) if "rank" in columns else None
    entropy = torch.special.entr(logits.softmax(1)).sum(1) if "entropy" in columns else None
    return Columns(logits.logsumexp(1) - at_target[:, 0], rank, entropy)


@dataclass(frozen=True)
class _RunSums:
    """The results of a run of n positions, float32 (n,) each."""

    total: Tensor
    """The log of the sum of exp(logit) over the vocabulary."""
    at_target: Tensor
    higher: Tensor | None
    """Logits above the guess at the target's."""
    wrong_guess: Tensor | None
    """True where one of the guesses was not the target's logit to the bit, bool ()."""
    entropy: Tensor | None

    def columns(self) -> Columns:
        """The run's columns."""
        rank = None if self.higher is None else self.higher.int()
        return Columns(self.total - self.at_target, rank, self.entropy)


class TiledHead:
    """A head that runs in tiles, with memory that is used again for each tile of each call."""

    def __init__(self, head: Head, tile: Tile, columns: Collection[str] = ()) -> None:
        self.head, self.tile, self.names = head, tile, columns
        self.width = min(tile.vocabulary, len(head))
        self.logits = self.spare = head.weight.new_empty(0, dtype=torch.float32)
        self._means: dict[Tensor, tuple[Tensor, float]] = {}

    def columns(self, hidden: Tensor, targets: Tensor, watcher: LogitWatcher | None = None) -> Columns:
        """The columns for last hidden states (n, width) that predict the tokens `targets`, int64 (n,).

        Only ranks make it wait for the device, once at the end.
        """
        size = self.width * min(self.tile.positions, len(hidden))
        if len(self.logits) < size:
            self.logits = self.logits.new_empty(size)
        if len(self.spare) < size and (self.names or watcher is not None):
            self.spare = self.spare.new_empty(size)
        step = self.tile.positions
        runs = [
            self._run(self.head.prepared(hidden[at : at + step]), targets[at : at + step], at, watcher)
            for at in range(0, len(hidden), step)
        ]
        if "rank" in self.names:
            wrong = torch.stack([run.wrong_guess for run in runs if run.wrong_guess is not None])
            for number in wrong.nonzero()[:, 0].tolist():
                part = slice(number * step, (number + 1) * step)
                higher = self._higher(self.head.prepared(hidden[part]), targets[part], runs[number].at_target)
                runs[number] = replace(runs[number], higher=higher)
        return joined([run.columns() for run in runs])

    def _run(
        self, hidden: Tensor, targets: Tensor, first: int = 0, watcher: LogitWatcher | None = None
    ) -> _RunSums:
        """The results of one run of positions, those from `first` on, from prepared hidden states (n, width)."""
        tiles = self._tiles()
        sums = hidden.new_empty((len(tiles), len(hidden)), dtype=torch.float32)
        entropies = torch.empty_like(sums) if "entropy" in self.names else None
        at_place = torch.empty_like(sums)
        guess = self._logits_at(hidden, targets) if "rank" in self.names else None
        higher = torch.zeros_like(sums[0])
        positions = slice(first, first + len(hidden))
        mean_logits = None if self.head.cap is not None else partial(self._mean_logits, hidden)
        tile_of, place = (targets // self.width)[None], (targets % self.width)[:, None]
        spare = Spare(self.spare)
        for number, rows in enumerate(tiles):
            logits = self.head.logits(hidden, rows, self.logits)
            # of all tiles the same column, so that nothing depends on where targets lie
            torch.gather(logits, 1, place.clamp(max=logits.shape[1] - 1), out=at_place[number, :, None])
            if guess is not None:
                higher += self._above(logits, guess)
            log_sums_(logits, sums[number])
            tile = LogitTile(rows, logits, sums[number], spare, mean_logits)
            if watcher is not None:
                watcher.tile(positions, tile)
            if entropies is not None:  # after the watcher, whose sums over the tile may give them on the way
                entropies[number] = tile.entropies
        total, at_target = sums.logsumexp(0), at_place.gather(0, tile_of)[0]
        if watcher is not None:
            watcher.log_sums(positions, total)
        return _RunSums(
            total,
            at_target,
            None if guess is None else higher,
            None if guess is None else (guess != at_target).any(),
            # each tile's own entropy and that of the choice between tiles
            None if entropies is None else ((sums - total).exp() * (entropies + total - sums)).sum(0),
        )

    def _mean_logits(self, hidden: Tensor, q: Tensor) -> Tensor:
        """Σ q · logit over the vocabulary, float32 (n,): the product with Σ q · row of the head, made once a q."""
        if q not in self._means:
            sums = [self.head.weight[rows].float().T @ q[rows] for rows in self._tiles()]
            mean = torch.stack(sums).double().sum(0).float()
            bias = 0.0 if self.head.bias is None else float(self.head.bias.float() @ q)
            self._means[q] = mean, bias
        mean, bias = self._means[q]
        return (hidden.float() @ mean + bias) * self.head.scale

    def _tiles(self) -> list[slice]:
        """Return the rows of the head in each tile."""
        rows = len(self.head)
        return [slice(start, min(start + self.width, rows)) for start in range(0, rows, self.width)]

    def _logits_at(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The targets' logits (n,) before any tile is made, by as large a product as a tile's.

        That is the tile's value to the bit on most machines, which whoever counts with it makes sure of afterwards.
        """
        logits_at = []
        for at in range(0, len(targets), self.width):
            part = targets[at : at + self.width]
            logits_at.append(self.head.logits(hidden, part, self.logits)[at:].diagonal().clone())
        return torch.cat(logits_at)

    def _higher(self, hidden: Tensor, targets: Tensor, at_target: Tensor) -> Tensor:
        """Return the number of logits higher than the targets' own, float32 (n,), by a second run through the tiles."""
        higher = torch.zeros_like(at_target)
        for rows in self._tiles():
            logits = self.head.logits(hidden, rows, self.logits)
            own = (targets - rows.start)[:, None]
            inside = (own >= 0) & (own < logits.shape[1])
            # the token itself never counts, whatever a second product of the same numbers gives
            place = own.clamp(0, logits.shape[1] - 1)
            logits.scatter_(1, place, logits.gather(1, place).masked_fill(inside, -torch.inf))
            higher += self._above(logits, at_target)
        return higher

    def _above(self, logits: Tensor, at_target: Tensor) -> Tensor:
        """Return the number of logits above the target's by row; float32, whose sums are quick and exact to 2²⁴."""
        return torch.gt(logits, at_target[:, None], out=shaped(self.spare, logits)).sum(1)


def log_sums_(logits: Tensor, out: Tensor) -> None:
    """Put the log of the sum of exp(logit) of each row into `out`; the logits become log-probabilities in their place.

    The quickest pass over a tile there is: the log of the sum is what it takes off any one logit.
    """
    first = logits[:, 0].clone()
    torch.log_softmax(logits, 1, out=logits)
    torch.sub(first, logits[:, 0], out=out)
