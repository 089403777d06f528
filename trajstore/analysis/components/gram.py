"""The Gram matrix of checkpoints, and what it tells: exact principal components of any number of columns.

Rows are checkpoints (few), columns tokens (many). Columns come in blocks that have all rows, so that memory holds the
dot products of the rows, rows², and one block. Before products are taken, one row is subtracted from all (the
reference), which changes nothing that is centred and spares digits. Sums are float64. Losses are nats. Opens no store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, get_args

import numpy as np

from trajstore.analysis.arrays import Flags, Floats, Whole
from trajstore.arguments.choices import Center, Lacking, Precision
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError

if TYPE_CHECKING:
    from trajstore.store.matrix.matrix import LossMatrix

_WIDTH = 1 << 12
"""Columns taken at a time."""

_ELEMENTS = 1 << 21
"""Losses taken in float64 at a time where there are not all rows of them."""


class Blocks(Protocol):
    """A matrix as blocks of columns, to be gone through any number of times."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of its first column, block (rows, some columns)), which may be valid until the next only."""


class Bands(Blocks, Protocol):
    """Blocks that can be had by rows too."""

    def bands(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """(its first row, its first column, block (some rows, some columns)): all that there is, once, in any order."""


@dataclass(frozen=True)
class ArrayBlocks:
    """An array as one block."""

    values: np.ndarray
    """(rows, columns)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.values.shape
        return rows, columns

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """The array."""
        yield 0, self.values

    def bands(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """The array."""
        yield 0, 0, self.values


def losses_of(matrix: LossMatrix | np.ndarray) -> np.ndarray:
    """The losses of either, (rows, columns)."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.values


def check_shape(blocks: Blocks, components: int) -> None:
    """Raise `TrajstoreError` where a matrix has too few rows, or no component is asked for."""
    if components < 1:
        raise TrajstoreError(f"{option('components', components)}: one at least.")
    if blocks.shape[0] < 2:
        raise TrajstoreError(
            f"PCA compares checkpoints, and this matrix has {blocks.shape[0]}. Choose more {option('steps')} or models."
        )


@dataclass(frozen=True)
class Treatment:
    """The treatment of a matrix's columns before anything is computed of it."""

    center: Center = "all"
    """The mean that is subtracted: over all rows, or over the rows of each model."""
    scale: bool = False
    """True to divide each column by its standard deviation about that mean (divided by the number of rows)."""
    missing: Lacking = "error"
    """NaN is an error, has its column left out, or counts as the mean that is subtracted (of the column's other rows,
    those of its model where there are any and `center` is model); a column of NaN alone is left out."""
    precision: Precision = "double"
    """Of the dot products of a few thousand columns, which are added up in float64: float64 themselves, or float32,
    about half the work, which leaves an element of the Gram matrix off by 1e-8 of the largest."""

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        for argument, value, known in (
            ("center", self.center, Center),
            ("missing", self.missing, Lacking),
            ("precision", self.precision, Precision),
        ):
            if value not in get_args(known):
                raise BadOption(argument, value, " or ".join(get_args(known)))

    @property
    def plain(self) -> bool:
        """Return whether nothing is done with a column but to centre it."""
        return not self.scale and self.missing == "error"


@dataclass(frozen=True)
class Prepared:
    """Columns treated but for their means: `of_centred` subtracts those."""

    first: int
    """Number of the first of them."""
    values: np.ndarray
    """float64, or float32 where that was asked for, (rows, columns): less the reference row, divided by `scale`; a
    column that is left out is 0. Its memory is used again for the next."""
    offset: np.ndarray
    """The reference row, float64 (columns,), nats."""
    scale: np.ndarray
    """float64 (columns,); 1 where nothing is scaled, and for a column that does not vary."""
    kept: np.ndarray
    """True for a column that is not left out, bool (columns,)."""


@dataclass(frozen=True)
class RowCentring:
    """The rows of a matrix: their means and their reference."""

    parts: np.ndarray
    """Number of the mean that each row is centred by, from 0, int64 (rows,)."""
    reference: int
    """Number of the row that is subtracted."""

    @classmethod
    def of(cls, models: list[str], center: Center, reference: int | None = None) -> RowCentring:
        """Rows of these models; the reference is the one in the middle unless given."""
        names = {name: number for number, name in enumerate(dict.fromkeys(models))}
        parts = [names[name] if center == "model" else 0 for name in models]
        return cls(np.array(parts, np.int64), len(models) // 2 if reference is None else reference)

    @property
    def means(self) -> int:
        """The number of means that are subtracted."""
        return int(self.parts.max()) + 1


@dataclass(frozen=True)
class Axes:
    """The leading eigenvectors of a centred Gram matrix."""

    vectors: np.ndarray
    """float64 (rows, components), of length 1."""
    values: np.ndarray
    """Eigenvalues, float64 (components,), descending; nats²."""
    total: float
    """The sum of all eigenvalues."""
    freedom: int
    """Rows less means that were subtracted: what sums of squares are divided by to be variances."""


def prepared(
    blocks: Blocks, rows: RowCentring, treatment: Treatment, precision: Precision = "double"
) -> Iterator[Prepared]:
    """The columns of a matrix in order, some at a time; raises `TrajstoreError` for NaN that is an error."""
    kind = np.float64 if precision == "double" else np.float32
    memory = np.empty((blocks.shape[0], min(_WIDTH, blocks.shape[1])), dtype=kind)
    for start, block in blocks:
        for first in range(0, block.shape[1], _WIDTH):
            yield _prepare(start + first, block[:, first : first + _WIDTH], rows, treatment, memory)


def _prepare(
    first: int, block: np.ndarray, rows: RowCentring, treatment: Treatment, memory: np.ndarray
) -> Prepared:
    """Columns in `memory`, which has the precision they are wanted in."""
    offset = np.nan_to_num(block[rows.reference].astype(np.float64))
    # A difference of two float32 is the same whether it is rounded once it is taken or taken in float32.
    less = offset.astype(np.promote_types(memory.dtype, block.dtype))
    values = np.subtract(block, less, out=memory[:, : block.shape[1]], casting="same_kind")
    kept: np.ndarray = np.ones(values.shape[1], dtype=bool)
    # A sum is finite where all its terms are, and takes no memory.
    if not np.isfinite(values.sum()):
        lacking = np.isnan(values)
        if treatment.missing == "error":
            at = int(lacking.any(axis=0).argmax())
            raise TrajstoreError(
                f"This matrix lacks losses: {lacking[:, at].sum()} of {len(values)} checkpoints have none in its "
                f"column {first + at}. Score them, leave such columns out ({option('missing', 'drop-columns')}), or "
                f"take a column's mean for what it lacks ({option('missing', 'mean')})."
            )
        kept[lacking.any(axis=0) if treatment.missing == "drop-columns" else lacking.all(axis=0)] = False
        values = _filled(values, lacking, rows.parts)
        values[:, ~kept] = 0
    scale = np.ones(values.shape[1])
    if treatment.scale:
        centred = of_centred(values, rows.parts)
        scale = np.sqrt((centred**2).mean(axis=0))
        # Below this share of its values, a deviation is rounding.
        scale[scale <= 1e-12 * np.abs(values).max(axis=0)] = 1
        values /= scale
    return Prepared(first, values, offset, scale, kept)


def _filled(values: Floats, lacking: Flags, parts: Whole) -> Floats:
    """The values with means where they lack: of the part's rows, of all rows where the part has none, 0 without any."""
    filled = np.where(lacking, _mean(values, lacking), values)
    for part in np.unique(parts):
        own = parts == part
        of_part = np.where(lacking[own].all(axis=0), filled[own][0], _mean(values[own], lacking[own]))
        filled[own] = np.where(lacking[own], of_part, values[own])
    return filled


def _mean(values: Floats, lacking: Flags) -> Floats:
    """The mean of each column's values that are there, 0 where none is."""
    means: Floats = np.where(lacking, 0, values).sum(axis=0) / np.maximum((~lacking).sum(axis=0), 1)
    return means


def of_centred(values: Floats, parts: Whole) -> Floats:
    """The values less the mean of their part's rows, (rows, columns)."""
    centred = np.empty_like(values)
    for part in np.unique(parts):
        own = parts == part
        centred[own] = values[own] - values[own].mean(axis=0)
    return centred


def products(blocks: Blocks, rows: RowCentring, treatment: Treatment) -> np.ndarray:
    """Dot products of all pairs of rows less the reference row, float64 (rows, rows), nats²."""
    n = blocks.shape[0]
    gram = np.zeros((n, n))
    for part in prepared(blocks, rows, treatment, treatment.precision):
        # numpy takes BLAS's symmetric product here, which is half the work.
        gram += part.values @ part.values.T
    return gram


def combined(blocks: Bands, weights: np.ndarray) -> np.ndarray:
    """Sums of the rows of a matrix by weights (sums, rows): float64 (sums, columns).

    Raises `TrajstoreError` for NaN.
    """
    sums = np.zeros((len(weights), blocks.shape[1]))
    memory = np.empty(0)
    for row, column, band in blocks.bands():
        of_rows = weights[:, row : row + len(band)]
        width = max(1, _ELEMENTS // len(band))
        if memory.size < len(band) * width:
            memory = np.empty(len(band) * width)
        for first in range(0, band.shape[1], width):
            piece = band[:, first : first + width]
            values = memory[: piece.size].reshape(piece.shape)
            values[:] = piece
            sums[:, column + first : column + first + piece.shape[1]] += of_rows @ values
    if not np.isfinite(sums.sum()):
        raise TrajstoreError(
            "Losses that were there are missing now: a slice was replaced while it was read. Run it again."
        )
    return sums


def products_of(blocks: Blocks, rows: RowCentring, new: np.ndarray, treatment: Treatment) -> np.ndarray:
    """Dot products of some rows, by their numbers `new`, with all rows: float64 (new rows, rows), nats²."""
    dots = np.zeros((len(new), blocks.shape[0]))
    for part in prepared(blocks, rows, treatment, treatment.precision):
        dots += part.values[new] @ part.values.T
    return dots


def centred_products(gram: Floats, parts: Whole) -> Floats:
    """The Gram matrix of centred rows, H G H with H = I − 11ᵀ/n in each part."""
    once = of_centred(gram, parts)
    twice = of_centred(once.T, parts)
    return (twice + twice.T) / 2


def axes(gram: np.ndarray, rows: RowCentring, components: int) -> Axes:
    """The leading axes of the rows whose dot products these are; fewer where there are no more.

    Raises `TrajstoreError` where nothing varies.
    """
    from scipy.linalg import eigh

    centred = centred_products(gram, rows.parts)
    n = len(gram)
    k = min(components, n)
    values, vectors = eigh(centred, subset_by_index=[n - k, n - 1], check_finite=False)
    values, vectors = values[::-1], vectors[:, ::-1]
    # Below this share of the largest, an eigenvalue is rounding.
    real = int((values > values[0] * n * np.finfo(float).eps).sum()) if values[0] > 0 else 0
    # Where nothing varies, what is left of the products is rounding as well.
    if real == 0 or values[0] <= n * np.finfo(float).eps * np.trace(gram):
        raise TrajstoreError("Nothing varies between these checkpoints, so there are no components.")
    return Axes(vectors[:, :real], values[:real], float(np.trace(centred)), n - rows.means)
