"""Principal components from a store into a store: gathered, computed, and kept as a finding.

The Gram matrix of the checkpoints is kept with the components, beside what went into it, so that `updates` can bring
them up to date.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.components.gram import Rows, products
from trajstore.analysis.components.methods import Found, Kind, Method, find
from trajstore.analysis.components.pca import PCAResult, check_shape
from trajstore.analysis.trajectories import Comparison
from trajstore.display import Brief
from trajstore.errors import listed
from trajstore.pipelines.finding_facts import (
    Request,
    facts_of_sites,
    finding_name,
    group_hashes,
    one_or_many,
    versions,
)
from trajstore.pipelines.matrix_inputs import Asked, Inputs, hashes_read, resolve
from trajstore.pipelines.token_context import with_context
from trajstore.pipelines.training_progress import with_training
from trajstore.pipelines.trajectories import Selection
from trajstore.progress import SILENT, Progress
from trajstore.store.files.findings import Replace
from trajstore.store.matrix.blocks import BLOCK_BYTES, SliceBlocks
from trajstore.store.matrix.matrix import column_labels, row_labels

if TYPE_CHECKING:
    from trajstore.pipelines.training_progress import X
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
"""How explained variance is computed."""


@dataclass(frozen=True, repr=False)
class Fitted(Brief):
    """Components, and what they were made of."""

    result: PCAResult
    inputs: Inputs
    facts: dict[str, Any]
    gram: np.ndarray | None
    """Dot products of the rows less the reference row, float64 (rows, rows), nats²; None where all are sparse."""
    slices: pl.DataFrame
    """model, step, dataset, loss_sha256 of the slices that were read."""


def components(
    store: Store,
    datasets: Sequence[str],
    selection: Selection | None = None,
    group: str | None = None,
    method: Method | None = None,
    progress: Progress = SILENT,
    limit: int = BLOCK_BYTES,
) -> Fitted:
    """Components over models and datasets; nothing is written.

    Memory holds rows², one block of at most `limit` bytes, and the loadings. Raises as `Store.matrix`, and
    `TrajstoreError` where there is nothing to compare or nothing varies.
    """
    how = method or Method()
    inputs = resolve(store, Asked.of(datasets, selection or Selection(), group))
    rows = Rows.of([model for model, _ in inputs.checkpoints], how.treatment.center)
    blocks = inputs.blocks(store, how.treatment.missing != "error", progress, limit)
    check_shape(blocks, how.components)
    gram = None
    if how.kind != "sparse":
        with bar(blocks, "dot products", blocks.reads):
            gram = products(blocks, rows, how.treatment)
    return finish(store, inputs, how, rows, blocks, gram, progress)


def finish(
    store: Store,
    inputs: Inputs,
    method: Method,
    rows: Rows,
    blocks: SliceBlocks,
    gram: np.ndarray | None,
    progress: Progress,
) -> Fitted:
    """The components once the Gram matrix is known."""
    labels = row_labels(inputs.checkpoints), pl.concat([column_labels(chosen) for chosen in inputs.sites])
    if method.kind != "full":
        blocks = replace(blocks, progress=SILENT)  # the solver has a bar of its own
    with bar(blocks, "loadings", blocks.band_reads if method.treatment.plain else blocks.reads):
        found = find(blocks, rows, method, gram, labels, progress)
    return Fitted(found.result, inputs, _facts(store, inputs, method, rows, found), gram, hashes_read(blocks))


def along(store: Store, fitted: Fitted, x: X) -> PCAResult:
    """The components with tokens seen or FLOPs beside the scores, as `pca_charts` draws them; for step, as they are.

    Raises `BadOption`, and `TrajstoreError` where they are not known.
    """
    scores = fitted.result.scores.with_columns(dataset=pl.lit(fitted.inputs.asked.datasets[0]))
    models = list(dict.fromkeys(scores["model"]))
    beside = with_training(store, scores, x, Selection(models=models), Comparison())
    return replace(fitted.result, scores=beside.drop("dataset"))


def top_tokens(store: Store, result: PCAResult, top: int = 5) -> pl.DataFrame:
    """The highest and lowest tokens of each component with `text`, `before`, `marked` and `after`."""
    return with_context(store, result.top_tokens(top))


def subject(facts: Mapping[str, Any]) -> str:
    """What a finding is of, for a title: its group, datasets, and its model where it is one."""
    group = facts["asked"]["group"] or "all tokens"
    models = facts["models"]
    return f"{group} of {listed(facts['datasets'], 4)}" + (f", {models[0]}" if len(models) == 1 else "")


def request(asked: Asked, method: Method) -> Request:
    """The finding of components; its default name has the method, the dataset or how many, and the group."""
    parts = [method.kind, one_or_many(asked.datasets, "datasets"), *([asked.group] if asked.group else [])]
    facts = {**method.facts, "asked": asked.facts}
    return Request(KIND, finding_name(parts, [asked.facts, method.facts]), facts)


def keep(store: Store, name: str, fitted: Fitted, *, replace: Replace = False) -> None:
    """Put components into the store as a finding; raises `FindingExists` unless `replace`."""
    result = fitted.result
    with store.add_finding(KIND, name, fitted.facts, replace=replace) as writer:
        writer.add("components", result.variance.with_columns(zeros=pl.Series(result.zeros)))
        writer.add("scores", result.scores)
        with writer.stream("loadings") as put:
            for number, loadings in enumerate(result.loadings, start=1):
                put(
                    result.columns.select(
                        *("dataset", "context", "position"),
                        pl.lit(number, pl.Int32).alias("component"),
                        pl.Series("loading", loadings, pl.Float32),
                    )
                )
        writer.add("gram", _gram_table(fitted))
        writer.add("slices", fitted.slices)


def _gram_table(fitted: Fitted) -> pl.DataFrame:
    """model, step, products: of each row with each up to itself."""
    rows = row_labels(fitted.inputs.checkpoints)
    if fitted.gram is None:
        return rows.clear().with_columns(pl.Series("products", [], pl.List(pl.Float64)))
    lower = [row[: number + 1] for number, row in enumerate(fitted.gram)]
    return rows.with_columns(pl.Series("products", lower, pl.List(pl.Float64)))


def _facts(store: Store, inputs: Inputs, method: Method, rows: Rows, found: Found) -> dict[str, Any]:
    """What a finding is made of and how."""
    group = inputs.asked.group
    return {
        **method.facts,
        **found.facts,
        "asked": inputs.asked.facts,
        "models": list(dict.fromkeys(model for model, _ in inputs.checkpoints)),
        "rows": len(inputs.checkpoints),
        "columns": sum(len(chosen.tokens) for chosen in inputs.sites),
        "columns_left_out": found.left_out,
        "datasets": facts_of_sites(inputs.sites),
        "group_sha256": group_hashes(store, [group]).get(group or ""),
        "reference": list(inputs.checkpoints[rows.reference]),
        "zeros": found.result.zeros,
        "explained": "; ".join(VARIANCE[part] for part in _explained(method.kind)),
        "versions": versions("numpy", "scipy"),
    }


def _explained(kind: Kind) -> tuple[str, ...]:
    """What has to be said of the variances of a method."""
    return (*(("full", "sparse") if kind == "hybrid" else (kind,)), "ratio")


@contextlib.contextmanager
def bar(blocks: SliceBlocks, label: str, reads: int) -> Iterator[None]:
    """A bar for one pass over blocks, if so many slices are read for it."""
    if reads:
        blocks.progress.start(label, reads, "slices")
    try:
        yield
    finally:
        blocks.progress.stop()
