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

    @cached_property
    def _tokens(self) -> np.ndarray:
        return np.concatenate(self.dataset.ids())

    def tokens(self, context: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Token ids at positions that exist, int32."""
        tokens: np.ndarray = self._tokens[self.dataset.tokens_at(context, position)]
        return tokens

    def whole_contexts(self, values: np.ndarray, partial: bool) -> np.ndarray:
        """The contexts, int64, whose losses are not NaN; raises `BadLosses` unless they are whole.

        All must be there unless `partial` allows less.
        """
        absent = np.isnan(values)
        n, first = self.lengths - 1, self.dataset.first_losses
        lacking = np.add.reduceat(absent, first, dtype=np.int64)
        if (torn := np.flatnonzero((lacking > 0) & (lacking < n))).size:
            context = int(torn[0])
            inside = absent[first[context] : first[context] + n[context]]
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
