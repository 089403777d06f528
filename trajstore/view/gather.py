"""What a view shows, gathered from a store: several groups' trajectories in one frame, a PCA with its texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.pca import PCAResult, pca
from trajstore.analysis.trajectories import group_trajectory
from trajstore.errors import TrajstoreError
from trajstore.store.excerpts import with_context
from trajstore.store.progress import SILENT, Progress

if TYPE_CHECKING:
    from trajstore.store.matrix import Align
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Selection:
    """Which losses are meant; None is all there are."""

    datasets: Sequence[str] | None = None
    models: Sequence[str] | None = None
    """Names or globs."""
    steps: str = "all"
    """A SPEC, resolved for each model."""
    contexts: str | None = None
    """FIRST:END, as in Python."""
    align: Align = "predict"


def trajectories(
    store: Store, groups: Sequence[str], selection: Selection | None = None, progress: Progress = SILENT
) -> pl.DataFrame:
    """Mean loss by step of each group, with `group` before the columns of `trajectories.SCHEMA`.

    A dataset in which a group has no token, or on which no model was scored, gives no rows; raises
    `TrajstoreError` where none does, as `Store.matrix` otherwise.
    """
    chosen = selection or Selection()
    scored = {each.dataset for each in store.coverage()}
    datasets = list(chosen.datasets or [name for name in store.dataset_names() if name in scored])
    if not datasets:
        raise TrajstoreError("The store has no losses yet. Score a model: trajstore score MODEL --dataset D")
    parts = []
    progress.start("trajectories", len(groups) * len(datasets), "groups")
    try:
        for group in groups:
            sizes = store.groups.show(group).sizes
            for dataset in datasets:
                if sizes.get(dataset) or len(datasets) == 1:
                    matrix = store.matrix(
                        dataset, chosen.models, group, chosen.steps, chosen.contexts, align=chosen.align
                    )
                    parts.append(group_trajectory(matrix).select(pl.lit(group).alias("group"), pl.all()))
                progress.advance(1, f"{group} on {dataset}")
    finally:
        progress.stop()
    if not parts:
        raise TrajstoreError(
            f"No token of {', '.join(groups)} in {', '.join(datasets)}: trajstore group list"
        )
    return pl.concat(parts)


def components(
    store: Store,
    datasets: Sequence[str],
    selection: Selection | None = None,
    group: str | None = None,
    n: int = 10,
    top: int = 5,
) -> tuple[PCAResult, pl.DataFrame]:
    """A joint PCA over models and datasets, and its highest and lowest tokens with `before` and `after`."""
    chosen = selection or Selection()
    matrix = store.matrix(datasets, chosen.models, group, chosen.steps, chosen.contexts, align=chosen.align)
    result = pca(matrix, n)
    return result, with_context(store, result.top_tokens(top))
