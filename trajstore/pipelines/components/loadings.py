"""The tokens that load most on kept principal components, read from their finding without the rest of the loadings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.pipelines.token_context import with_context

if TYPE_CHECKING:
    from trajstore.store.store import Store

_TOP_LOADINGS = """
    WITH of_component AS (FROM pca_loadings WHERE finding = $finding AND component = $component)
    FROM (
        (FROM of_component ORDER BY loading DESC, dataset, context, position LIMIT $n)
        UNION
        (FROM of_component ORDER BY loading, dataset, context, position LIMIT $n)
    )
    WHERE loading <> 0
    ORDER BY loading DESC, dataset, context, position
"""


def top_loadings(
    store: Store, finding: str, components: Sequence[int], n: int, width: int = 8
) -> pl.DataFrame:
    """The n highest and the n lowest tokens of each of these components in their contexts, by falling loading."""
    frames = [
        store.sql(_TOP_LOADINGS, parameters={"finding": finding, "component": number, "n": n}).pl()
        for number in sorted(set(components))
    ]
    return with_context(store, pl.concat(frames), width)
