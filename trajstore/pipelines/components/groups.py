"""Loadings of groups on the components of a PCA that is kept as a finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.errors import BadOption
from trajstore.pipelines.components.pca import KIND
from trajstore.progress import SILENT, Progress, bar

if TYPE_CHECKING:
    from trajstore.store.store import Store


def component_groups(
    store: Store,
    finding: str,
    groups: Sequence[str] | None = None,
    component: int | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The part of groups, all by default, in the components of a PCA, or in one of them.

    Columns: component, group, tokens (of the group among the columns), mean (loading), share (of the squared loadings),
    expected (that share if the component were spread evenly over all tokens), times (share / expected); by component
    and falling `times`. A group without a token among the columns gives no row; if it was named, that is said. Raises
    `UnknownName` and, for a component that the PCA does not have, `BadOption`.
    """
    facts = store.finding(KIND, finding).facts
    align, known = facts["asked"]["align"], len(facts["zeros"])
    if component is not None and not 1 <= component <= known:
        raise BadOption("component", component, f"a number from 1 to {known}, as {finding} has {known}")
    names = list(groups) if groups else store.groups.names()
    frames: list[pl.DataFrame] = []
    with bar(progress, "loadings", len(names), "groups"):
        for name in names:
            loadings = store.query(
                "component_groups", finding=finding, group=name, align=align, component=component
            ).pl()
            frames.append(loadings.select("component", pl.lit(name).alias("group"), pl.exclude("component")))
            if groups and not loadings["tokens"].sum():
                progress.say(f"{name} has no token among those of {finding}, and is left out.")
            progress.advance(1, name)
    rows: pl.DataFrame = pl.concat(frames).filter(pl.col("tokens") > 0)
    rows = rows.with_columns(times=pl.col("share") / pl.col("expected"))
    return rows.sort("component", "times", descending=[False, True], maintain_order=True)
