"""Full, sparse and hybrid components of a matrix that comes in blocks of columns.

Hybrid is full components first, and sparse ones of what these leave: the residual, which has nothing along any of them.
Losses are nats; neither the matrix nor its residual is ever held. Opens no store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np
import polars as pl

from trajstore.analysis.components.gram import Bands, Blocks, RowCentring, Treatment, of_centred, prepared
from trajstore.analysis.components.pca import COMPONENTS, FullFit, PCAResult, fit, long_scores, variance_frame
from trajstore.analysis.components.sparse_pca import SparseFit, sparse_pca
from trajstore.arguments import defaults
from trajstore.arguments.choices import ComponentsKind
from trajstore.errors import BadOption
from trajstore.progress import SILENT, Progress


@dataclass(frozen=True)
class Sparsity:
    """The options of `sparse_pca`."""

    alpha: float = defaults.SPARSE_ALPHA
    ridge_alpha: float = defaults.RIDGE_ALPHA
    max_iter: int = defaults.MAX_ITER
    tol: float = defaults.TOL
    restarts: int = defaults.RESTARTS
    seed: int = defaults.SPARSE_SEED


@dataclass(frozen=True)
class Method:
    """The components to compute of a matrix."""

    kind: ComponentsKind = "full"
    components: int = COMPONENTS
    """To keep at most; hybrid as many of either kind."""
    treatment: Treatment = field(default_factory=Treatment)
    sparsity: Sparsity = field(default_factory=Sparsity)

    def __post_init__(self) -> None:
        """Refuse a kind that there is not."""
        if self.kind not in get_args(ComponentsKind):
            raise BadOption("method", self.kind, "full, sparse or hybrid")

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it, without what plays no part."""
        facts = {"method": self.kind, "components": self.components, **asdict(self.treatment)}
        return facts if self.kind == "full" else {**facts, **asdict(self.sparsity)}


@dataclass(frozen=True)
class FittedComponents:
    """Components of one matrix, by any method."""

    result: PCAResult
    left_out: int
    """Columns that were left out."""
    facts: dict[str, Any]
    """Facts of the fit of the sparse ones (JSON); empty without any."""


class Residual:
    """The treated and centred columns of a matrix, less what lies along full components: blocks in float64, nats.

    Once gone through, `means` are what was subtracted, float64 (means, columns), nats, and `kept` says which columns
    are in, bool (columns,).
    """

    def __init__(
        self, blocks: Blocks, rows: RowCentring, treatment: Treatment, full: FullFit | None = None
    ) -> None:
        self.shape = blocks.shape
        self.means = np.empty((rows.means, self.shape[1]))
        self.kept: np.ndarray = np.ones(self.shape[1], dtype=bool)
        self._blocks, self._rows, self._treatment = blocks, rows, treatment
        self._directions = None if full is None else full.axes.vectors

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of its first column, block (rows, some columns))."""
        parts = self._rows.parts
        for part in prepared(self._blocks, self._rows, self._treatment):
            at = slice(part.first, part.first + part.values.shape[1])
            of_means = [part.values[parts == number].mean(axis=0) for number in range(self._rows.means)]
            self.means[:, at] = part.offset + part.scale * np.array(of_means)
            self.kept[at] = part.kept
            values = of_centred(part.values, parts)
            if self._directions is not None:
                values -= self._directions @ (self._directions.T @ values)
            yield part.first, values


def find(
    blocks: Bands,
    rows: RowCentring,
    method: Method,
    gram: np.ndarray | None,
    labels: tuple[pl.DataFrame, pl.DataFrame],
    progress: Progress = SILENT,
) -> FittedComponents:
    """The components of a matrix with these labels of rows and columns.

    `gram` are the products of its rows (`gram.products`), which full and hybrid need. Raises as `sparse_pca`.
    """
    full = None
    if method.kind != "sparse":
        assert gram is not None
        full = fit(blocks, rows, method.treatment, gram, method.components)
    if method.kind == "full":
        assert full is not None
        return FittedComponents(full.result(*labels), int((~full.kept).sum()), {})
    rest = Residual(blocks, rows, method.treatment, full)
    sparse = sparse_pca(rest, method.components, **asdict(method.sparsity), progress=progress)
    result = _joined(full, sparse, rest, rows, labels)
    return FittedComponents(result, int((~rest.kept).sum()), _sparse_facts(sparse))


def _joined(
    full: FullFit | None,
    sparse: SparseFit,
    rest: Residual,
    rows: RowCentring,
    labels: tuple[pl.DataFrame, pl.DataFrame],
) -> PCAResult:
    """Sparse components, after the full ones if any."""
    # The solver knows of no means, and divides by one less than the rows.
    freedom = (len(rows.parts) - 1) / (len(rows.parts) - rows.means)
    variance, scores, loadings = sparse.variance * freedom, sparse.scores, sparse.components
    total = sparse.total_variance * freedom
    if full is not None:
        total = full.axes.total / full.axes.freedom
        variance = np.concatenate([full.variance, variance])
        scores = np.concatenate([full.scores, scores], axis=1)
        loadings = np.concatenate([full.loadings, loadings])
    means = rest.means[:, rest.kept]
    return PCAResult(
        long_scores(labels[0], scores),
        variance_frame(variance, variance / total),
        loadings[:, rest.kept],
        means[0] if len(means) == 1 else means,
        labels[1].filter(pl.Series(rest.kept)),
    )


def _sparse_facts(sparse: SparseFit) -> dict[str, Any]:
    """Return how a sparse fit came about, as JSON has it."""
    return {
        "alpha_limit": sparse.alpha_limit,
        "objective": sparse.objective[-1],
        "iterations": len(sparse.objective),
        "descents": list(sparse.starts),
        "converged": sparse.converged,
    }
