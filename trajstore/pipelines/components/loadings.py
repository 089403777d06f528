"""The tokens that load most on kept principal components, read from their finding without the rest of the loadings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.pipelines.token_context import with_context

if TYPE_CHECKING:
    from trajstore.store.store import Store

_TOP_LOADINGS = """
    FROM pca_loadings
    WHERE finding = $finding AND component IN $components
    QUALIFY least(
        row_number() OVER (PARTITION BY component ORDER BY loading DESC, dataset, context, position),
        row_number() OVER (PARTITION BY component ORDER BY loading, dataset, context, position)
    ) <= $n AND loading <> 0
    ORDER BY component, loading DESC, dataset, context, position
"""


def top_loadings(
    store: Store, finding: str, components: Sequence[int], n: int, width: int = 8
) -> pl.DataFrame:
    """The n highest and the n lowest tokens of each of these components in their contexts, by falling loading."""
    parameters = {"finding": finding, "components": list(components), "n": n}
    return with_context(store, store.sql(_TOP_LOADINGS, parameters=parameters).pl(), width)
