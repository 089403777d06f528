"""Sums of losses by context, of many checkpoints: what a group's mean by step and its interval are made of.

Each slice is read once for all groups, added up and let go, so that memory holds the slices being read and the sums,
never a matrix. Losses are nats; a partial slice gives no sum (NaN) for a context that it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from trajstore.arguments.choices import Missing
from trajstore.progress import SILENT, Progress
from trajstore.store.files.datasets import Dataset
from trajstore.store.matrix.matrix import Sites, SliceRead, each_slice, row_labels, take_losses, union_of


@dataclass(frozen=True)
class Units:
    """The parts of a dataset's text that are chosen as a whole, so that losses within one are not independent."""

    kind: str
    """context, document or category."""
    of_context: np.ndarray
    """Number of each context's unit, from 0, int64 (contexts of the dataset,)."""

    @classmethod
    def of(cls, dataset: Dataset) -> Units:
        """A dataset's units: contexts, unless several of them belong together.

        They do where contexts are made of problems, by category, and where several are of one document. A
        dataset that is all of one category or document has its contexts as units.
        """
        facts = dataset.belonging
        problems = facts["shot"].is_not_null().all() and facts["category"].is_not_null().all()
        kind = "category" if problems else "document"
        # A context of no known document is one of its own.
        alone = pl.format("\0{}", pl.int_range(pl.len()))
        ranks = facts.select(pl.col(kind).fill_null(alone).rank("dense")).to_series()
        numbers = ranks.to_numpy().astype(np.int64) - 1
        if 1 < (count := int(numbers.max()) + 1) < facts.height:
            return cls(kind, numbers)
        return cls("category" if problems and count > 1 else "context", np.arange(facts.height))

    @property
    def count(self) -> int:
        """Units of the dataset."""
        return int(self.of_context.max()) + 1


@dataclass(frozen=True)
class ContextSums:
    """The losses of a group in one dataset, summed by context, of several checkpoints."""

    dataset: str
    units: Units
    """Of the dataset."""
    rows: pl.DataFrame
    """model (String), step (Int64)."""
    contexts: np.ndarray
    """Number of the context of each sum, int64 (contexts,), ascending; one without losses is left out."""
    tokens: np.ndarray
    """Losses in each sum, int64 (contexts,), 1 at least."""
    sums: np.ndarray
    """float64 (rows, contexts), nats; NaN where nothing is."""

    def by_unit(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the units of these contexts, which have sums: numbers, tokens and sums, as `bootstrap.Ratio` has both."""
        units, place = np.unique(self.units.of_context[contexts], return_inverse=True)
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(len(units)))
        chosen = np.searchsorted(self.contexts, contexts)[order]
        tokens = np.add.reduceat(self.tokens[chosen], starts).astype(np.float64)
        return units, tokens, np.add.reduceat(self.sums[:, chosen], starts, axis=1)


def context_sums(
    root: Path,
    checkpoints: Sequence[tuple[str, int]],
    groups: Mapping[str, Sites],
    missing: Missing = "error",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, ContextSums]:
    """The sums of each group over these checkpoints (model, step).

    `groups` are the sites of each in one dataset, one at least in each. `progress` moves by one a slice. Raises as
    `matrix.pull`.
    """
    every = union_of(list(groups.values()))
    parts = [_GroupSums.of(sites, every, len(checkpoints)) for sites in groups.values()]

    def add(job: SliceRead) -> bool:
        losses = np.empty(len(every.tokens), dtype=np.float32)
        facts = take_losses(job, losses)
        for part in parts:
            part.add(job.row, losses)
        return facts.partial

    each_slice(root, checkpoints, [every], add, missing, threads, progress)
    rows, units = row_labels(checkpoints), Units.of(every.dataset)
    return {
        group: ContextSums(every.dataset.name, units, rows, part.contexts, part.tokens, part.sums)
        for group, part in zip(groups, parts, strict=True)
    }


@dataclass(frozen=True)
class _GroupSums:
    """One group's sums while slices are read."""

    within: np.ndarray | None
    """Its losses among those that are read, int64; None for all of them."""
    starts: np.ndarray
    """Where each context begins among its losses."""
    contexts: np.ndarray
    tokens: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, sites: Sites, every: Sites, n_rows: int) -> _GroupSums:
        """The sums of `sites`, which are among `every`, before any slice is read."""
        context = sites.contexts
        starts = np.flatnonzero(np.diff(context, prepend=-1))
        same = len(sites.tokens) == len(every.tokens)
        return cls(
            None if same else np.searchsorted(every.tokens, sites.tokens),
            starts,
            context[starts],
            np.diff(np.append(starts, len(context))),
            np.full((n_rows, len(starts)), np.nan),
        )

    def add(self, row: int, losses: np.ndarray) -> None:
        own = losses if self.within is None else losses[self.within]
        np.add.reduceat(own, self.starts, dtype=np.float64, out=self.sums[row])
