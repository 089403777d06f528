"""Kinds of attention heads from a store into a store: heads clustered by the course of their measures, a finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.head_kinds import HeadClusters, cluster_heads
from trajstore.arguments import defaults
from trajstore.errors import BadOption
from trajstore.pipelines.finding_facts import Request, Result, finding_name, one_or_many
from trajstore.pipelines.measures.head_courses import read_head_courses
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "head_kinds"
"""Of the findings."""


@dataclass(frozen=True, repr=False)
class HeadKinds(Result):
    """The kind and the cluster of each head of some models."""

    drawn_by = "trajstore.view.figures.head_kinds:charts_of_head_kinds"
    summaries = ("heads",)

    heads: pl.DataFrame
    """model, layer, head."""
    measures: tuple[str, ...]
    """The kinds that were looked for, each by its measure."""
    steps: tuple[int, ...]
    """The checkpoints that all models have."""
    clusters: HeadClusters
    left_out: dict[str, list[str]]
    """By kind that was not looked for: the models that have no measure of it."""

    @property
    def frame(self) -> pl.DataFrame:
        """The columns of the view `head_kinds` without its first, by cluster."""
        of_head = self.clusters.of_head - 1
        return self.heads.with_columns(
            pl.Series("kind", [self.clusters.kinds[number] for number in of_head], pl.String),
            pl.Series("cluster", of_head + 1, pl.Int32),
            pl.Series("distance", self.clusters.distances[of_head]),
            pl.Series("nearest", self.clusters.nearest, pl.String),
            pl.Series("since", np.array(self.steps, np.int64)[self.clusters.since]),
        ).sort("cluster", maintain_order=True)

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of its one table."""
        del table
        yield self.frame.rename({"kind": "head_kind"})


def head_kinds(
    store: Store, selection: Selection | None = None, *, apart: float = defaults.APART
) -> HeadKinds:
    """The kinds of the heads of models, by their measures at the steps that all have; nothing is written.

    Raises `BadOption` and as `read_head_courses`.
    """
    if not apart > 0:
        raise BadOption("apart", str(apart), "a number above 0")
    chosen = selection or Selection()
    read = read_head_courses(store, chosen)
    asked = request(chosen, apart)
    clusters = cluster_heads(read.courses, read.measures, apart)
    facts = {**asked.facts, **read.facts(store)}
    return HeadKinds(
        read.heads,
        read.measures,
        read.steps,
        clusters,
        read.left_out,
        store=store,
        request=asked,
        facts=facts,
    )


def request(selection: Selection, apart: float = defaults.APART) -> Request:
    """The finding of kinds of heads; its default name has the models where they are named."""
    facts: dict[str, Any] = {"selection": selection.facts, "apart": apart}
    names = [one_or_many(selection.models, "models")] if selection.models else []
    return Request(KIND, finding_name(names, facts), facts)
