"""Principal components from a store into a store: gathered, computed, and kept as a finding.

The Gram matrix of the checkpoints is kept with the components, beside what went into it, so that `updates` can bring
them up to date.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.components.gram import RowCentring, check_shape, products
from trajstore.analysis.components.methods import FittedComponents, Method, find
from trajstore.analysis.components.pca import PCAResult
from trajstore.analysis.trajectories import Comparison
from trajstore.arguments.choices import ComponentsKind
from trajstore.errors import listed
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    facts_of_sites,
    finding_name,
    group_hash,
    one_or_many,
    versions,
)
from trajstore.pipelines.slice_hashes import hashes_read
from trajstore.pipelines.token_context import with_context
from trajstore.pipelines.training_progress import with_training
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.matrix.blocks import BLOCK_BYTES, SliceBlocks
from trajstore.store.matrix.matrix import column_labels, row_labels
from trajstore.store.matrix.selection import Inputs, Selection, resolve

if TYPE_CHECKING:
    from trajstore.arguments.choices import X
    from trajstore.store.store import Store

KIND = "pca"
"""Of the findings."""

VARIANCE = {
    "full": "variance is the sum of a component's squared scores, divided by the rows less the means that were "
    "subtracted",
    "sparse": "variance is by how much a sparse component raises the variance of the losses' least-squares projection "
    "on it and those before it",
    "ratio": "ratio is the share of all columns' variances added up",
}
"""Definitions of explained variance, in words."""


@dataclass(frozen=True, repr=False)
class PrincipalComponents(Result):
    """Principal components of losses, and what they were made of."""

    drawn_by = "trajstore.view.figures.pca:charts_of_components"
    summaries = ("components", "scores")

    result: PCAResult
    inputs: Inputs
    gram: np.ndarray | None
    """Dot products of the rows less the reference row, float64 (rows, rows), nats²; None where all are sparse."""
    slices: pl.DataFrame
    """model, step, dataset, loss_sha256 of the slices that were read."""
    x: X = "step"
    """Along what its charts stand."""
    placed: PCAResult | None = field(default=None, repr=False)
    """With tokens seen or FLOPs beside the scores, where charts stand along them."""

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of one of its tables; of the loadings, component by component."""
        result = self.result
        if table == "components":
            yield result.variance.with_columns(zeros=pl.Series(result.zeros))
        elif table == "scores":
            yield result.scores
        elif table == "gram":
            yield _gram_table(self)
        elif table == "slices":
            yield self.slices
        else:
            for number, loadings in enumerate(result.loadings, start=1):
                yield result.columns.select(
                    *("dataset", "context", "position"),
                    pl.lit(number, pl.Int32).alias("component"),
                    pl.Series("loading", loadings, pl.Float32),
                )

    def along(self, x: X) -> PrincipalComponents:
        """The same with charts along tokens seen or FLOPs; raises `BadOption`, and `TrajstoreError` where not known."""
        scores = self.result.scores.with_columns(dataset=pl.lit(self.inputs.sites[0].dataset.name))
        models = list(dict.fromkeys(scores["model"]))
        beside = with_training(self.store, scores, x, Selection(models=models), Comparison())
        return replace(self, x=x, placed=replace(self.result, scores=beside.drop("dataset")))

    def top_tokens(self, top: int = 5) -> pl.DataFrame:
        """The highest and lowest tokens of each component with `text`, `before`, `marked` and `after`."""
        return with_context(self.store, self.result.top_tokens(top))


def pca(
    store: Store,
    selection: Selection | None = None,
    method: Method | None = None,
    progress: Progress = SILENT,
    limit: int = BLOCK_BYTES,
) -> PrincipalComponents:
    """Principal components over models and datasets, by default all with losses; nothing is written.

    Memory holds rows², one block of at most `limit` bytes, and the loadings. Raises as `Store.matrix`, and
    `TrajstoreError` where there is nothing to compare or nothing varies.
    """
    how = method or Method()
    inputs = resolve(store, selection or Selection())
    rows = RowCentring.of([model for model, _ in inputs.checkpoints], how.treatment.center)
    blocks = inputs.blocks(store, how.treatment.missing != "error", progress, limit)
    check_shape(blocks, how.components)
    gram = None
    if how.kind != "sparse":
        with bar(progress, "dot products", blocks.reads, "slices"):
            gram = products(blocks, rows, how.treatment)
    return finish(store, inputs, how, rows, blocks, gram, progress)


def finish(
    store: Store,
    inputs: Inputs,
    method: Method,
    rows: RowCentring,
    blocks: SliceBlocks,
    gram: np.ndarray | None,
    progress: Progress,
) -> PrincipalComponents:
    """The components once the Gram matrix is known."""
    labels = row_labels(inputs.checkpoints), pl.concat([column_labels(chosen) for chosen in inputs.sites])
    if method.kind != "full":
        blocks = replace(blocks, progress=SILENT)  # the solver has a bar of its own
    reads = blocks.band_reads if method.treatment.plain else blocks.reads
    with bar(blocks.progress, "loadings", reads, "slices"):
        components = find(blocks, rows, method, gram, labels, progress)
    return PrincipalComponents(
        components.result,
        inputs,
        gram,
        hashes_read(blocks),
        store=store,
        request=request(inputs.selection, method),
        facts=_facts(store, inputs, method, rows, components),
    )


def subject(facts: Mapping[str, Any]) -> str:
    """Describe the subject of a finding for a title: its group, datasets, and its model where it is one."""
    group = facts["asked"]["group"] or "all tokens"
    models = facts["models"]
    return f"{group} of {listed(facts['datasets'], 4)}" + (f", {models[0]}" if len(models) == 1 else "")


def request(selection: Selection, method: Method) -> Request:
    """The finding of components; its default name has the method, the dataset or how many, and the group."""
    group = [selection.group] if selection.group else []
    parts = [method.kind, one_or_many(selection.datasets or (), "datasets"), *group]
    facts = {**method.facts, "asked": selection.matrix_facts}
    return Request(KIND, finding_name(parts, [selection.matrix_facts, method.facts]), facts)


def _gram_table(fitted: PrincipalComponents) -> pl.DataFrame:
    """model, step, products: of each row with each up to itself."""
    rows = row_labels(fitted.inputs.checkpoints)
    if fitted.gram is None:
        return rows.clear().with_columns(pl.Series("products", [], pl.List(pl.Float64)))
    lower = [row[: number + 1] for number, row in enumerate(fitted.gram)]
    return rows.with_columns(pl.Series("products", lower, pl.List(pl.Float64)))


def _facts(
    store: Store, inputs: Inputs, method: Method, rows: RowCentring, components: FittedComponents
) -> dict[str, Any]:
    """Return the facts of a finding: its inputs and method."""
    return {
        **method.facts,
        **components.facts,
        "asked": inputs.selection.matrix_facts,
        "models": list(dict.fromkeys(model for model, _ in inputs.checkpoints)),
        "rows": len(inputs.checkpoints),
        "columns": sum(len(chosen.tokens) for chosen in inputs.sites),
        "columns_left_out": components.left_out,
        "datasets": facts_of_sites(inputs.sites),
        "group_sha256": group_hash(store, inputs.selection.group),
        "reference": list(inputs.checkpoints[rows.reference]),
        "zeros": components.result.zeros,
        "explained": "; ".join(VARIANCE[part] for part in _explained(method.kind)),
        "versions": versions("numpy", "scipy"),
    }


def _explained(kind: ComponentsKind) -> tuple[str, ...]:
    """Return the keys of `VARIANCE` that explain a method's variances."""
    return (*(("full", "sparse") if kind == "hybrid" else (kind,)), "ratio")
