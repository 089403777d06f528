"""A matrix too large to hold, in blocks that are read from the slices when their turn comes.

Blocks of columns have all rows. A slice is read whole for each that has columns of it, so they are as wide as the limit
on their size lets them be, and equally wide within a dataset. Bands have all columns of a dataset and some rows, and
every slice is read once for them. Memory holds one block or band, and the slices being read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trajstore.arguments.choices import Missing
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.matrix import Sites, SliceRead, each_slice, take_losses

BLOCK_BYTES = 600 << 20
"""Most memory of a block."""

_BAND_ROWS = 128
"""Most rows of a band."""


@dataclass(frozen=True)
class SliceBlocks:
    """The losses of checkpoints at sites of one or more datasets, to be gone through any number of times."""

    root: Path
    """The store's."""
    checkpoints: Sequence[tuple[str, int]]
    """(model, step) of the rows."""
    sites: Sequence[Sites]
    """The columns, dataset after dataset."""
    missing: Missing = "error"
    """Treatment of a missing slice: an error, or losses of NaN."""
    progress: Progress = SILENT
    """Moves by one a slice and block."""
    limit: int = BLOCK_BYTES
    """Most bytes of a block; it has one column at least."""
    loss_hashes: dict[tuple[str, str, int], str] = field(default_factory=dict)
    """By dataset, model and step: the hash of each slice's losses, once it has been read."""
    _held: list[np.ndarray] = field(default_factory=list)
    """The whole matrix where it is no larger than a block, once it has been read."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.checkpoints), sum(len(chosen.tokens) for chosen in self.sites)

    @property
    def reads(self) -> int:
        """Slices that are read when it is gone through by columns: none for a matrix that is held."""
        if self._held:
            return 0
        parts = self.sites if self._fits else [part for _, part in self._parts()]
        return len(self.checkpoints) * sum(1 for part in parts if len(part.tokens))

    @property
    def band_reads(self) -> int:
        """Slices that are read when it is gone through by rows: none for a matrix that is held."""
        return 0 if self._held else len(self.checkpoints) * sum(1 for part in self.sites if len(part.tokens))

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of its first column, block), float32 (rows, at most the columns that fit), nats.

        A block's memory is used again for the next; a matrix that is one block is read once and held. Raises as
        `matrix.pull`.
        """
        if self._fits:
            if not self._held:
                whole = np.empty(self.shape, dtype=np.float32)
                self._read([chosen for chosen in self.sites if len(chosen.tokens)], whole, self.checkpoints)
                self._held.append(whole)
            yield 0, self._held[0]
            return
        width = max(len(part.tokens) for _, part in self._parts())
        memory = np.empty(len(self.checkpoints) * width, dtype=np.float32)
        for first, part in self._parts():
            columns = len(part.tokens)
            block = memory[: len(self.checkpoints) * columns].reshape(-1, columns)
            self._read([part], block, self.checkpoints)
            yield first, block

    def bands(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """(its first row, its first column, block float32 (some rows, a dataset's columns), nats).

        Memory and errors are those of blocks.
        """
        if self._fits:
            for first, block in self:
                yield 0, first, block
            return
        before = 0
        for chosen in self.sites:
            columns = len(chosen.tokens)
            height = min(_BAND_ROWS, len(self.checkpoints), max(1, self.limit // (4 * max(1, columns))))
            memory = np.empty((height, columns), dtype=np.float32)
            for row in range(0, len(self.checkpoints) if columns else 0, height):
                of_rows = self.checkpoints[row : row + height]
                self._read([chosen], memory[: len(of_rows)], of_rows)
                yield row, before, memory[: len(of_rows)]
            before += columns

    @property
    def _fits(self) -> bool:
        rows, columns = self.shape
        return 4 * rows * columns <= self.limit

    def _read(self, sites: Sequence[Sites], block: np.ndarray, rows: Sequence[tuple[str, int]]) -> None:
        """Fill a block that has these columns and rows."""
        if self.missing == "nan":
            block[:] = np.nan

        def fill(job: SliceRead) -> bool:
            facts = take_losses(job, block[job.row, job.first : job.first + len(job.sites.tokens)])
            self.loss_hashes[facts.dataset, facts.model, facts.step] = facts.loss_sha256
            return facts.partial

        each_slice(self.root, rows, sites, fill, self.missing, progress=self.progress)

    def _parts(self) -> Iterator[tuple[int, Sites]]:
        """(number of its first column, sites) of each block."""
        fitting = max(1, self.limit // (4 * max(1, len(self.checkpoints))))
        before = 0
        for chosen in self.sites:
            columns = len(chosen.tokens)
            pieces = math.ceil(columns / fitting)
            ends = [columns * piece // max(pieces, 1) for piece in range(pieces + 1)]
            for first, end in itertools.pairwise(ends):
                yield before + first, chosen if pieces == 1 else _piece(chosen, first, end)
            before += columns


def _piece(sites: Sites, first: int, end: int) -> Sites:
    take = np.arange(first, end) if sites.take is None else sites.take[first:end]
    return Sites(sites.dataset, sites.tokens[first:end], take)
