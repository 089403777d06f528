"""Principal components of a loss matrix, exact, through the small Gram matrix of its rows.

Rows are checkpoints (few), columns tokens (many); columns are centred over all rows, and not scaled, unless asked
otherwise. Works on a `LossMatrix`, an array, or blocks of columns that are never held together; opens no store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.arrays import Floats
from trajstore.analysis.components.gram import (
    ArrayBlocks,
    Axes,
    Bands,
    RowCentring,
    Treatment,
    axes,
    check_shape,
    combined,
    losses_of,
    of_centred,
    prepared,
    products,
)
from trajstore.arguments import defaults
from trajstore.arguments.choices import Center, Lacking, Precision
from trajstore.display import Brief, count, of_checkpoints
from trajstore.errors import TrajstoreError

if TYPE_CHECKING:
    from trajstore.store.matrix.matrix import LossMatrix

COMPONENTS = defaults.COMPONENTS
"""Components that are kept unless asked otherwise."""


@dataclass(frozen=True, repr=False)
class PCAResult(Brief):
    """A fit."""

    scores: pl.DataFrame
    """The labels of the matrix's rows (model, step), component (from 1), score (nats, along a direction of length 1):
    where each checkpoint lies."""
    variance: pl.DataFrame
    """component, variance (nats²), ratio (share of the whole variance)."""
    loadings: np.ndarray
    """float64 (components, columns), rows of length 1; the largest entry of each is positive."""
    mean: np.ndarray
    """Means that were subtracted from the columns, float64 (columns,), nats; centred by model (models, columns)."""
    columns: pl.DataFrame
    """Labels of the columns, as the matrix had them, without those that were left out."""

    def brief(self) -> str:
        """Its components with their share of the variance, and what they are of."""
        shares = ", ".join(f"{100 * ratio:.1f} %" for ratio in self.variance["ratio"][:3])
        more = ", …" if self.variance.height > 3 else ""
        of = of_checkpoints(self.scores.select("model", "step").iter_rows())
        columns = self.loadings.shape[1]
        return (
            f"{count(self.variance.height, 'component')} ({shares}{more}) of {of}, {count(columns, 'token')}"
        )

    @property
    def zeros(self) -> list[float]:
        """Share of each component's loadings that are exactly zero."""
        return [float(share) for share in (self.loadings == 0).mean(axis=1)]

    def top_tokens(self, n: int = 5) -> pl.DataFrame:
        """The n tokens with the highest positive and lowest negative loading on each component.

        Columns: component, end ("high" or "low"), rank (from 1), loading, then the labels of the column.
        """
        parts: list[pl.DataFrame] = []
        for number, loadings in enumerate(self.loadings, start=1):
            order = np.argsort(loadings, kind="stable")
            low = order[:n][loadings[order[:n]] < 0]
            high = order[::-1][:n][loadings[order[::-1][:n]] > 0]
            for end, chosen in (("high", high), ("low", low)):
                parts.append(
                    self.columns[chosen].select(
                        pl.lit(number, pl.Int64).alias("component"),
                        pl.lit(end).alias("end"),
                        pl.int_range(1, len(chosen) + 1, dtype=pl.Int64).alias("rank"),
                        pl.Series("loading", loadings[chosen]),
                        pl.all(),
                    )
                )
        return pl.concat(parts)


@dataclass(frozen=True)
class FullFit:
    """Components of a matrix as arrays, with their signs fixed."""

    axes: Axes
    scores: np.ndarray
    """float64 (rows, components), nats."""
    loadings: np.ndarray
    """float64 (components, columns), 0 for a column that was left out."""
    means: np.ndarray
    """float64 (means, columns), nats."""
    scale: np.ndarray
    """Divisors of the centred columns, float64 (columns,)."""
    kept: np.ndarray
    """True for a column that is not left out, bool (columns,)."""

    @property
    def variance(self) -> np.ndarray:
        """float64 (components,), nats²."""
        return self.axes.values / self.axes.freedom

    @property
    def ratio(self) -> np.ndarray:
        """Share of the whole variance, float64 (components,)."""
        return self.axes.values / self.axes.total

    def result(self, rows: pl.DataFrame, columns: pl.DataFrame) -> PCAResult:
        """The same with its labels."""
        everything = bool(self.kept.all())
        loadings, means = (
            values if everything else values[:, self.kept] for values in (self.loadings, self.means)
        )
        return PCAResult(
            long_scores(rows, self.scores),
            variance_frame(self.variance, self.ratio),
            loadings,
            means[0] if len(means) == 1 else means,
            columns if everything else columns.filter(pl.Series(self.kept)),
        )


def pca(
    matrix: LossMatrix,
    components: int = COMPONENTS,
    *,
    center: Center = "all",
    scale: bool = False,
    missing: Lacking = "error",
    precision: Precision = "double",
) -> PCAResult:
    """Principal components of the matrix's rows; the same as scikit-learn's `PCA(svd_solver="full")` up to sign.

    With X centred by column, G = X Xᵀ = U Λ Uᵀ gives scores U √Λ, variances Λ / (rows − 1), and loadings
    Λ^(−1/2) Uᵀ X. G is summed over blocks of columns in float64. Fewer components come back than asked where the
    matrix has no more (at most rows − 1, and none without variance). `center` "model" takes each model's own means
    from its rows, and divides by rows − models; `scale`, `missing` and `precision` are those of `Treatment`.
    Raises `TrajstoreError` for fewer than two rows, for NaN that is an error, and where nothing varies.
    """
    treatment = Treatment(center, scale, missing, precision)
    blocks = ArrayBlocks(matrix.values)
    check_shape(blocks, components)
    rows = RowCentring.of(matrix.rows["model"].to_list(), center)
    gram = products(blocks, rows, treatment)
    return fit(blocks, rows, treatment, gram, components).result(matrix.rows, matrix.columns)


def fit(blocks: Bands, rows: RowCentring, treatment: Treatment, gram: np.ndarray, components: int) -> FullFit:
    """The components of a matrix whose rows have these dot products (`gram.products`), by one pass over it.

    Raises `TrajstoreError` where nothing varies.
    """
    leading = axes(gram, rows, min(components, blocks.shape[1]))
    root = np.sqrt(leading.values)
    of_means = np.array([rows.parts == number for number in range(rows.means)], dtype=np.float64)
    # Where the weights of a component add up to 0 over the rows of each mean, the means need not be subtracted. A small
    # component's add up to more than rounding, being orthogonal to the means as far as the largest's rounding only.
    of_components = of_centred(leading.vectors / root, rows.parts).T
    weights = np.vstack([of_components, of_means / of_means.sum(axis=1, keepdims=True)])
    columns = blocks.shape[1]
    scale, kept = np.ones(columns), np.ones(columns, dtype=bool)
    if treatment.plain:
        weighted = combined(blocks, weights)
    else:
        weighted = np.empty((len(weights), columns))
        for part in prepared(blocks, rows, treatment):
            at = slice(part.first, part.first + part.values.shape[1])
            weighted[:, at] = weights @ part.values
            weighted[len(root) :, at] = part.offset + part.scale * weighted[len(root) :, at]
            scale[at], kept[at] = part.scale, part.kept
    loadings, means = weighted[: len(root)], weighted[len(root) :]
    sign = signs(loadings)
    loadings *= sign[:, None]
    turned = Axes(leading.vectors * sign, leading.values, leading.total, leading.freedom)
    return FullFit(turned, turned.vectors * root, loadings, means, scale, kept)


def signs(loadings: np.ndarray) -> np.ndarray:
    """1 or −1 for each component, so that the largest entry of its loadings becomes positive; float64 (components,)."""
    largest = loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)]
    return np.where(largest < 0, -1.0, 1.0)


def variance_frame(variance: np.ndarray, ratio: np.ndarray) -> pl.DataFrame:
    """component (from 1), variance, ratio."""
    numbers = np.arange(1, len(variance) + 1)
    return pl.DataFrame({"component": numbers, "variance": variance, "ratio": ratio})


def long_scores(rows: pl.DataFrame, scores: np.ndarray) -> pl.DataFrame:
    """Scores (rows, components) in long format, component by component."""
    return pl.concat(
        [
            rows.select(pl.all(), pl.lit(number, pl.Int64).alias("component"), pl.Series("score", column))
            for number, column in enumerate(scores.T, start=1)
        ]
    )


class PCA:
    """Principal components in the manner of scikit-learn's class, exact through the Gram matrix of the rows.

    After `fit`: `components_` float64 (components, columns), the largest entry of each positive;
    `explained_variance_` and `explained_variance_ratio_` (components,); `mean_` (columns,), or centred by model
    (models, columns) with `models_` naming them; `scale_` (columns,), all 1 unless `scale`; `n_components_`, fewer than
    `n_components` where the matrix has no more.
    """

    def __init__(
        self,
        n_components: int = COMPONENTS,
        *,
        center: Center = "all",
        scale: bool = False,
        precision: Precision = "double",
    ) -> None:
        """`center`, `scale` and `precision` are `Treatment`'s; centred by model, matrices must be a `LossMatrix`."""
        self.n_components = n_components
        self.treatment = Treatment(center, scale, precision=precision)

    def fit(self, matrix: LossMatrix | np.ndarray, y: object = None) -> PCA:  # noqa: ARG002 — as scikit-learn's
        """Find the components of a matrix (rows, columns); raises `TrajstoreError` as `pca`."""
        blocks = ArrayBlocks(losses_of(matrix))
        check_shape(blocks, self.n_components)
        labels = self._labels(matrix)
        self.models_ = list(dict.fromkeys(labels))
        rows = RowCentring.of(labels, self.treatment.center)
        gram = products(blocks, rows, self.treatment)
        fitted = fit(blocks, rows, self.treatment, gram, self.n_components)
        self.components_, self.scale_ = fitted.loadings, fitted.scale
        self.mean_ = fitted.means if self.treatment.center == "model" else fitted.means[0]
        self.explained_variance_, self.explained_variance_ratio_ = fitted.variance, fitted.ratio
        self.n_components_ = len(fitted.loadings)
        return self

    def transform(self, matrix: LossMatrix | np.ndarray) -> Floats:
        """Scores of the rows of a matrix, float64 (rows, components)."""
        centred = losses_of(matrix).astype(np.float64) - self._means(matrix)
        scores: Floats = (centred / self.scale_) @ self.components_.T
        return scores

    def fit_transform(self, matrix: LossMatrix | np.ndarray, y: object = None) -> np.ndarray:
        """`fit`, then `transform`."""
        return self.fit(matrix, y).transform(matrix)

    def inverse_transform(self, scores: Floats, matrix: LossMatrix | None = None) -> Floats:
        """The rows that have these scores and no other deviation, float64 (rows, columns), nats.

        Centred by model, the rows of `matrix` say which model each is of.
        """
        means = self._means(scores if matrix is None else matrix)
        rows: Floats = scores @ self.components_ * self.scale_ + means
        return rows

    def _labels(self, matrix: LossMatrix | np.ndarray) -> list[str]:
        """The model of each row; all one where that does not matter."""
        if self.treatment.center == "all":
            return [""] * len(losses_of(matrix))
        if isinstance(matrix, np.ndarray):
            raise TrajstoreError('center="model" takes a LossMatrix, whose rows say which model they are of.')
        return [str(model) for model in matrix.rows["model"]]

    def _means(self, matrix: LossMatrix | np.ndarray) -> np.ndarray:
        """Return the means that are subtracted from a matrix: (columns,), or (rows, columns) centred by model."""
        if self.treatment.center == "all":
            return self.mean_
        labels = self._labels(matrix)
        if unknown := [model for model in labels if model not in self.models_]:
            raise TrajstoreError(
                f"The components were centred by model, and {unknown[0]} was not among them."
            )
        return self.mean_[[self.models_.index(model) for model in labels]]
