"""Sparse PCA of a loss matrix: few components, each of which most tokens have no part in.

Minimises ½‖X − UV‖² + α‖V‖₁ over U (rows, k) with columns of length ≤ 1 and V (k, columns): the objective of
scikit-learn's `SparsePCA`, with the meaning of its output. X are losses (nats), rows checkpoints (few), columns tokens
(many), centred by column. α is in nats, and what it does depends on the number of rows: read the share of zeros.

Descents run on X projected on the leading principal directions of its rows, which is small; the best is finished on X
itself. So X is read a handful of times, by blocks of columns, and may lie on disk. Opens no store.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trajstore.analysis.arrays import Floats
from trajstore.analysis.components.alternating import Descent, descend
from trajstore.analysis.components.gram import ArrayBlocks, Blocks, losses_of
from trajstore.analysis.components.pca import signs
from trajstore.analysis.components.projection import Centred, Projection, project
from trajstore.arguments import defaults
from trajstore.arguments.spelling import option
from trajstore.display import Brief
from trajstore.errors import TrajstoreError
from trajstore.progress import SILENT, Progress, bar

if TYPE_CHECKING:
    from typing import Self

    from trajstore.store.matrix.matrix import LossMatrix

_BASIS = 64
"""Directions that descents run in, at least: what is held is this × columns, float64."""


@dataclass(frozen=True, repr=False)
class SparseFit(Brief):
    """A fit. Components come in order of the variance along them, and the largest entry of each is positive."""

    components: np.ndarray
    """float64 (k, columns), rows of length 1; a row of zeros where the data has no use for as many."""
    scores: np.ndarray
    """float64 (rows, k), nats: what `transform` gives for the rows of the fit."""
    directions: np.ndarray
    """U, float64 (rows, k), columns of length ≤ 1."""
    lengths: np.ndarray
    """float64 (k,), nats: V is components × lengths, row by row."""
    mean: np.ndarray
    """float64 (columns,), nats."""
    variance: np.ndarray
    """float64 (k,), nats²: by how much each component raises the variance of X's least-squares projection on it and
    those before it; divided by rows − 1."""
    total_variance: float
    """nats²: that of X, over all columns."""
    alpha_limit: float
    """nats: the length of X's longest column x. From this α on all loadings are 0, as a direction u of length ≤ 1 has
    |u·x| ≤ ‖x‖ and the lasso keeps 0 where that is ≤ α; below it u = x / ‖x‖ lowers the objective, so some are not."""
    ridge_alpha: float
    objective: tuple[float, ...]
    """½‖X − UV‖² + α‖V‖₁, nats², after each iteration of the best descent and its finish; never rises."""
    starts: tuple[float, ...]
    """The objective that each descent ended at, before the best was finished."""
    converged: bool
    """False where `max_iter` ended it."""

    @property
    def zeros(self) -> float:
        """Share of the components' entries that are exactly 0."""
        return float((self.components == 0).mean())

    def transform(self, values: np.ndarray) -> np.ndarray:
        """Scores (rows, k) of other rows (rows, columns): least squares on the components, with a ridge."""
        products = np.zeros((len(values), len(self.components)))
        for first, block in Centred(ArrayBlocks(values), self.mean):
            products += block @ self.components[:, first : first + block.shape[1]].T
        return _ridge(self.components @ self.components.T, products, self.ridge_alpha)


def sparse_pca(
    values: np.ndarray | Blocks,
    components: int = defaults.COMPONENTS,
    *,
    alpha: float = defaults.SPARSE_ALPHA,
    ridge_alpha: float = defaults.RIDGE_ALPHA,
    max_iter: int = defaults.MAX_ITER,
    tol: float = defaults.TOL,
    restarts: int = defaults.RESTARTS,
    seed: int = defaults.SPARSE_SEED,
    progress: Progress = SILENT,
) -> SparseFit:
    """Fit sparse components to losses (rows, columns), which need not be centred.

    `restarts` is the number of descents: the first starts from the principal components, as scikit-learn's only one
    does, the others from columns drawn by `seed`; the one that ends lowest is kept. A descent ends when an iteration
    lowers the objective by less than `tol` of it, or after `max_iter`; so does the finish on the whole matrix.
    `ridge_alpha` serves `transform` alone. Raises `TrajstoreError` for fewer than two rows, NaN, options out of range,
    and where nothing varies.
    """
    _check_options(components, alpha, ridge_alpha, max_iter, tol, restarts)
    with bar(progress, "sparse PCA", restarts + 2, "parts"):
        progress.advance(0, "reading")
        data = project(
            ArrayBlocks(values) if isinstance(values, np.ndarray) else values, max(_BASIS, 2 * components)
        )
        descents = _Descents(data, components, alpha, max_iter, tol, seed, progress)
        progress.advance()
        tried = [descents.begun(number) for number in range(restarts)]
        done = descents.finished(min(tried, key=lambda descent: descent.objective[-1]))
    return _fit(done, data, ridge_alpha, tuple(descent.objective[-1] for descent in tried))


class SparsePCA:
    """Sparse components with the manners of scikit-learn's class of that name; takes a `LossMatrix` or an array.

    After `fit`: `components_` (k, columns), rows of length 1 or of zeros; `error_`, the objective by iteration;
    `n_iter_`; `mean_` (columns,); `zeros_`, the share of zeros in the components; `result_`, the `SparseFit`. Options
    and errors are those of `sparse_pca`.
    """

    def __init__(
        self,
        n_components: int = defaults.COMPONENTS,
        *,
        alpha: float = defaults.SPARSE_ALPHA,
        ridge_alpha: float = defaults.RIDGE_ALPHA,
        max_iter: int = defaults.MAX_ITER,
        tol: float = defaults.TOL,
        restarts: int = defaults.RESTARTS,
        random_state: int = defaults.SPARSE_SEED,
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.ridge_alpha = ridge_alpha
        self.max_iter = max_iter
        self.tol = tol
        self.restarts = restarts
        self.random_state = random_state

    def fit(self, X: np.ndarray | LossMatrix, y: None = None) -> Self:  # noqa: N803, ARG002
        """Fit to losses (rows, columns); `y` is ignored."""
        self.result_ = sparse_pca(
            losses_of(X),
            self.n_components,
            alpha=self.alpha,
            ridge_alpha=self.ridge_alpha,
            max_iter=self.max_iter,
            tol=self.tol,
            restarts=self.restarts,
            seed=self.random_state,
        )
        self.components_ = self.result_.components
        self.error_ = list(self.result_.objective)
        self.n_iter_ = len(self.error_)
        self.mean_ = self.result_.mean
        self.zeros_ = self.result_.zeros
        return self

    def transform(self, X: np.ndarray | LossMatrix) -> np.ndarray:  # noqa: N803
        """Scores (rows, k) of other rows of the same columns."""
        return self.result_.transform(losses_of(X))

    def fit_transform(self, X: np.ndarray | LossMatrix, y: None = None) -> np.ndarray:  # noqa: N803
        """Fit, and the scores of the same rows."""
        return self.fit(X, y).result_.scores

    def inverse_transform(self, scores: Floats) -> Floats:
        """Losses (rows, columns) that scores (rows, k) stand for."""
        losses: Floats = scores @ self.components_ + self.mean_
        return losses


@dataclass(frozen=True)
class _Descents:
    """The descents of a fit: what they share, and how each begins."""

    data: Projection
    components: int
    alpha: float
    max_iter: int
    tol: float
    seed: int
    progress: Progress

    def begun(self, number: int) -> Descent:
        """Descent `number` in the projection."""
        rng = np.random.default_rng([self.seed, number])
        reduced, k = self.data.reduced, self.components
        directions, columns = reduced.shape
        if number:
            start = reduced[:, rng.choice(columns, k, replace=columns < k)]
        else:
            # The basis is in order: its first directions, as long as the data is along them, are the components.
            lengths = np.linalg.norm(reduced[:k], axis=1)
            start = np.zeros((directions, k))
            np.fill_diagonal(start, lengths)
        return self._descend(ArrayBlocks(reduced), start, np.zeros((k, columns)), rng)

    def finished(self, best: Descent) -> Descent:
        """A descent taken up again on the matrix itself."""
        basis = self.data.basis
        directions = basis @ best.directions
        if self.data.complete:
            self.progress.advance()
            return replace(best, directions=directions, products=basis @ best.products)
        rng = np.random.default_rng([self.seed])
        done = self._descend(self.data.whole, directions, best.loadings, rng)
        return replace(done, objective=best.objective + done.objective)

    def _descend(
        self, blocks: Blocks, directions: np.ndarray, loadings: np.ndarray, rng: np.random.Generator
    ) -> Descent:
        descent = descend(
            blocks,
            self.data.total,
            self.alpha,
            directions,
            loadings,
            max_iter=self.max_iter,
            tol=self.tol,
            rng=rng,
            watch=lambda objective: self.progress.advance(0, f"objective {objective:.7g}"),
        )
        self.progress.advance()
        return descent


def _fit(done: Descent, data: Projection, ridge_alpha: float, starts: tuple[float, ...]) -> SparseFit:
    """Components of length 1, in order and with their signs, and what follows from them."""
    lengths = np.linalg.norm(done.loadings, axis=1)
    unit = np.where(lengths > 0, lengths, 1)
    along = np.linalg.norm(done.products / unit, axis=0)
    order = np.argsort(-along, kind="stable")
    components = done.loadings[order] / unit[order, None]
    sign = signs(components)
    components *= sign[:, None]
    products = done.products[:, order] * sign / unit[order]
    inner = components @ components.T
    degrees = len(products) - 1
    return SparseFit(
        components=components,
        scores=_ridge(inner, products, ridge_alpha),
        directions=done.directions[:, order] * sign,
        lengths=lengths[order],
        mean=data.whole.mean,
        variance=_added(inner, products) / degrees,
        total_variance=data.total / degrees,
        alpha_limit=data.longest,
        ridge_alpha=ridge_alpha,
        objective=done.objective,
        starts=starts,
        converged=done.converged,
    )


def _ridge(inner: Floats, products: Floats, ridge_alpha: float) -> Floats:
    """Scores (rows, k) that minimise ‖x − score · components‖² + ridge_alpha ‖score‖² for each row x.

    `inner` is components · componentsᵀ and `products` X · componentsᵀ.
    """
    return products @ np.linalg.pinv(inner + ridge_alpha * np.eye(len(inner)), hermitian=True)


def _added(inner: np.ndarray, products: np.ndarray) -> np.ndarray:
    """By how much each component raises the squared length of X's projection on it and those before it, (k,)."""
    reached = [
        float((products[:, :k] @ np.linalg.pinv(inner[:k, :k], hermitian=True) * products[:, :k]).sum())
        for k in range(1, len(inner) + 1)
    ]
    return np.diff(reached, prepend=0.0)


def _check_options(
    components: int, alpha: float, ridge_alpha: float, max_iter: int, tol: float, restarts: int
) -> None:
    for argument, value, least in (
        ("components", components, 1),
        ("alpha", alpha, 0),
        ("ridge_alpha", ridge_alpha, 0),
        ("max_iter", max_iter, 1),
        ("tol", tol, 0),
        ("restarts", restarts, 1),
    ):
        if not value >= least or not np.isfinite(value):
            raise TrajstoreError(f"{option(argument, value)}: {least} at least.")
