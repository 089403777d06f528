"""The sites of a dataset, looked up by context and position: where a loss belongs, and which token it is of."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trajstore.arguments.spelling import option
from trajstore.errors import BadLosses, runs

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset


class SiteIndex:
    """A dataset's contexts and positions. A site is the number of a loss in canonical order."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.lengths = dataset.lengths
        self.first = dataset.offsets[:-1] - np.arange(dataset.n_contexts)
        """Site of each context's first loss, int64 (contexts,)."""

    @cached_property
    def _tokens(self) -> np.ndarray:
        return np.concatenate(self.dataset.ids())

    def has_context(self, context: np.ndarray) -> np.ndarray:
        """Mask of the numbers that are contexts."""
        mask: np.ndarray = (context >= 0) & (context < len(self.lengths))
        return mask

    def has_position(self, context: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Mask of the positions that these known contexts have, 0 included."""
        mask: np.ndarray = (position >= 0) & (position < self.lengths[context])
        return mask

    def sites(self, context: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Sites of positions from 1 on, int64; those of position 0 are one before the context's first."""
        sites: np.ndarray = self.first[context] + position - 1
        return sites

    def tokens(self, context: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Token ids at positions that exist, int32."""
        tokens: np.ndarray = self._tokens[self.dataset.tokens_at(context, position)]
        return tokens

    def place(self, site: int) -> tuple[int, int]:
        """(context, position) of a site."""
        context = int(np.searchsorted(self.first, site, side="right")) - 1
        return context, site - int(self.first[context]) + 1

    def whole_contexts(self, values: np.ndarray, partial: bool) -> np.ndarray:
        """The contexts, int64, whose losses are not NaN; raises `BadLosses` unless they are whole.

        All must be there unless `partial` allows less.
        """
        absent = np.isnan(values)
        n = self.lengths - 1
        lacking = np.add.reduceat(absent, self.first, dtype=np.int64)
        if (torn := np.flatnonzero((lacking > 0) & (lacking < n))).size:
            context = int(torn[0])
            inside = absent[self.first[context] : self.first[context] + n[context]]
            raise BadLosses(
                f"context {context} lacks losses at positions {runs((np.flatnonzero(inside) + 1).tolist())}"
                + (f", and {len(torn) - 1} other contexts lack some" if len(torn) > 1 else "")
                + "; a context is there whole or not at all"
            )
        whole = np.flatnonzero(lacking == 0)
        if not whole.size:
            raise BadLosses("it has no losses")
        if len(whole) < len(n) and not partial:
            raise BadLosses(
                f"{len(n) - len(whole)} of {len(n)} contexts are missing ({runs(np.flatnonzero(lacking).tolist())}); "
                f"to keep what is there until they come: {option('partial', True)}"
            )
        return whole
