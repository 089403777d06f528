"""Enrichment of a store's groups among tokens that an analysis marked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.statistics.enrichment import enrichment
from trajstore.arguments.choices import Align
from trajstore.errors import GroupError, listed
from trajstore.pipelines.groups.added_groups import ADDED
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.catalog.dependencies import Foundations
from trajstore.store.groups.chosen_by_losses import selected_by
from trajstore.store.matrix.context_sums import Units
from trajstore.store.matrix.matrix import Sites, choose_sites

if TYPE_CHECKING:
    from trajstore.store.store import Store

_MADE_OF_LOSSES = ("compare_", "spike_")
"""Beginnings of the names of groups that analyses add, unless another name was given."""


@dataclass(frozen=True)
class Memberships:
    """Groups of a store as masks over some tokens, to be gone through any number of times."""

    names: Sequence[str]
    units: np.ndarray
    """Number of each token's unit of text, int64 (tokens,)."""
    packed: Sequence[np.ndarray]
    """The mask of each group, eight tokens a byte."""

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, bool (tokens,)) of each group."""
        for name, bits in zip(self.names, self.packed, strict=True):
            yield name, np.unpackbits(bits, count=len(self.units)).astype(bool)


def memberships(
    store: Store,
    sites: Sequence[Sites],
    models: Collection[str] = (),
    align: Align = "predict",
    progress: Progress = SILENT,
) -> Memberships:
    """The groups of the store over these tokens, dataset after dataset.

    Left out, and said, are groups that are defined by losses of these `models` or that an analysis of losses has added,
    and those that cannot be computed.
    Raises `DamagedFile`.
    """
    names, packed = [], []
    by_losses, failed = [], []
    added = _added_by_analyses(store)
    with bar(progress, "groups", len(store.groups.names()), "groups"):
        for name in store.groups.names():
            progress.advance(1, name)
            if name in added or selected_by(store, name) & set(models):
                by_losses.append(name)
                continue
            try:
                packed.append(np.packbits(membership(store, name, sites, align)))
            except GroupError:
                failed.append(name)
            else:
                names.append(name)
    if by_losses:
        progress.say(f"Left out of the groups, as they were chosen by losses: {listed(by_losses)}.")
    if failed:
        progress.say(f"Left out of the groups, as they cannot be computed: {listed(failed)}.")
    return Memberships(names, token_units(sites)[0], packed)


def token_units(sites: Sequence[Sites]) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """The number of each token's unit of text, int64 (tokens,); and of each dataset, its units' tokens."""
    numbers, by_dataset, before = [], list[tuple[str, np.ndarray]](), 0
    for chosen in sites:
        units = Units.of(chosen.dataset)
        own = units.of_context[chosen.contexts]
        by_dataset.append((chosen.dataset.name, np.bincount(own, minlength=units.count)))
        numbers.append(before + own)
        before += units.count
    return np.concatenate(numbers), by_dataset


def _added_by_analyses(store: Store) -> set[str]:
    """The groups that analyses of losses have added, and those that stand on them."""
    foundations = Foundations.of(store.path)
    added = {
        f"groups.{name}"
        for name, definition in foundations.definitions.items()
        if name.startswith(_MADE_OF_LOSSES) or definition.description.endswith(ADDED)
    }
    return {name for name in foundations.definitions if added & foundations.all_under(name)}


def enriched(
    store: Store,
    sites: Sequence[Sites],
    marked: np.ndarray,
    models: Collection[str] = (),
    interval: Interval | None = None,
    align: Align = "predict",
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The enrichment of every group of the store, with the columns of `enrichment.SCHEMA`.

    `sites` are the tokens that could have been marked, dataset after dataset, and `marked` says which were, bool
    (tokens,); `models` those whose losses the marks are made of. Raises as `memberships`.
    """
    groups = memberships(store, sites, models, align, progress)
    return enrichment(groups, marked, groups.units, interval)


def membership(store: Store, group: str, sites: Sequence[Sites], align: Align = "predict") -> np.ndarray:
    """Return which sites are losses of a group's tokens, or aligned `after` of those that follow, bool (tokens,)."""
    masks = []
    for chosen in sites:
        members = choose_sites(
            chosen.dataset, store.groups.members(group, chosen.dataset), None, align, pad_first=False
        )
        masks.append(np.isin(chosen.tokens, members.tokens, assume_unique=True))
    return np.concatenate(masks) if masks else np.zeros(0, dtype=bool)
