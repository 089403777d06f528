"""Matrices of losses, a row a checkpoint and a column a site: .npy, .npz, and what `trajstore matrix` exports.

Files are mapped or read row by row, never held. Labels lie beside them, as `trajstore matrix` writes them:
NAME.rows.parquet (model, step) and NAME.columns.parquet (dataset, context, position, token). Without the second,
columns are all losses of the dataset in canonical order, with or without one for each position 0. NaN is no loss.
"""

from __future__ import annotations

import math
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from trajstore import display
from trajstore.arguments.spelling import option
from trajstore.errors import BadSource, listed
from trajstore.importers.request import IncomingSlice, IngestRequest, Tally
from trajstore.store import loss_limits
from trajstore.store.disk.spill import nameless_file
from trajstore.text import describe_file_error

if TYPE_CHECKING:
    from trajstore.importers.site_index import SiteIndex

Label = tuple[str, int]
"""(model, step) of a row."""


@dataclass(frozen=True)
class _MatrixColumns:
    """The sites that the columns of a matrix hold."""

    count: int
    """Columns that the matrix must have."""
    take: np.ndarray
    """Columns with losses of the dataset, int64."""
    sites: np.ndarray
    """Their sites."""
    padding: np.ndarray
    """Columns of positions 0."""


def is_matrix(path: Path, kind: str) -> bool:
    """Return whether a file holds a matrix: .npy, .npz, or a Parquet or Arrow file with a list of losses a row."""
    if kind not in ("parquet", "arrow"):
        return kind in ("npy", "npz")
    with _readable(path, kind):
        schema = _schema(path, kind)
    at = schema.get_field_index("losses")
    return at >= 0 and _is_list(schema.field(at).type)


def read(
    path: Path, kind: str, root: Path, sites: SiteIndex, request: IngestRequest, tally: Tally
) -> Iterator[IncomingSlice]:
    """A slice for each row of a matrix that was asked for and holds losses; raises `BadSource`."""
    columns: _MatrixColumns | None = None
    arrays = kind in ("npy", "npz")
    rows = _array_rows(path, kind, root, request) if arrays else _list_rows(path, kind, request)
    with _readable(path, kind):
        for number, ((model, step), values) in enumerate(rows):
            columns = columns or _columns(path, len(values), sites)
            tally.rows += 1
            if not (request.takes("model", model) and request.takes("step", step)):
                tally.left_out += 1
                continue
            if len(values) != columns.count:
                raise BadSource(
                    f"{path} has {display.count(len(values), 'loss', 'losses')} in row {number} (from 0), "
                    f"{columns.count} in others."
                )
            losses = _nats(values, request.unit)
            tally.padding += len(columns.padding)
            if np.isnan(losses[columns.take]).all():
                tally.empty += 1
                continue
            problem = _problem(values, losses, columns, sites, request)
            flat = np.full(sites.dataset.n_losses, np.nan, dtype=np.float32)
            flat[columns.sites] = losses[columns.take]
            where = f"row {number} (from 0) of {path}: {problem}"
            yield IncomingSlice(model, step, str(path), None if problem else flat, where if problem else "")


def under_name(path: Path, kind: str, request: IngestRequest) -> IngestRequest:
    """The request, with the one model that a matrix is of renamed to the one asked for.

    Raises `BadSource` where the matrix is of several models, and not of that one.
    """
    with _readable(path, kind):
        models = _models(path, kind)
    if request.model is None or not models or request.model in models:
        return request
    if len(models) > 1:
        raise BadSource(
            f"{path} has losses of {listed(models)}, and none of {request.model}: give one of them with "
            f"{option('model')}. Only a matrix of one model can be taken under another name."
        )
    return replace(request, renamed=models[0])


def _models(path: Path, kind: str) -> list[str]:
    """The models that a matrix, or the labels beside it, name, in order of name; none where they do not."""
    beside = path.with_suffix(".rows.parquet")
    if kind == "npz":
        with zipfile.ZipFile(path) as archive:
            named = "models.npy" in archive.namelist()
            names = _unpacked(archive, "models").tolist() if named else []
    elif kind == "npy":
        names = (
            pl.read_parquet(beside, hive_partitioning=False)["model"].to_list() if beside.is_file() else []
        )
    elif "model" not in _schema(path, kind).names:
        names = []
    else:
        batches = _parquet_batches(path, ["model"]) if kind == "parquet" else _arrow_batches(path)
        names = [model for batch in batches for model in batch.column("model").to_pylist()]
    return sorted({str(model) for model in names if model is not None})


def _problem(
    values: np.ndarray, losses: np.ndarray, columns: _MatrixColumns, sites: SiteIndex, request: IngestRequest
) -> str:
    """The first value of a row that cannot be a loss, or nothing; `losses` are the values in nats."""
    padding = values[columns.padding]
    if (bad := np.flatnonzero((padding != 0) & ~np.isnan(padding))).size:
        column = int(columns.padding[bad[0]])
        return (
            f"column {column} is of a position 0, which has no loss (0 or NaN), and holds {padding[bad[0]]!s}"
        )
    taken = losses[columns.take]
    if (bad := np.flatnonzero(~np.isnan(taken) & ~loss_limits.possible(taken, request.dtype))).size:
        context, position = sites.dataset.site_of_loss(int(columns.sites[bad[0]]))
        return (
            f"{display.count(len(bad), 'loss', 'losses')} cannot be right; the first is {taken[bad[0]]!s} at context "
            f"{context}, position {position} ({loss_limits.rule(request.dtype, taken[bad[0]])})"
        )
    return ""


def _nats(values: np.ndarray, unit: str) -> np.ndarray:
    """Values as float32 nats; NaN stays, and a perplexity that has no logarithm is −∞."""
    with np.errstate(over="ignore", divide="ignore"):
        if unit == "bits":
            values = values.astype(np.float64) * math.log(2)
        elif unit == "perplexity":
            values = np.log(np.where(values < 0, 0, values.astype(np.float64)))
        return values.astype(np.float32)


def _columns(path: Path, count: int, sites: SiteIndex) -> _MatrixColumns:
    """The sites of the columns: as the labels beside the file say, else the whole dataset in canonical order."""
    labels = path.with_suffix(".columns.parquet")
    if labels.is_file():
        return _labelled_columns(labels, count, sites)
    dataset = sites.dataset
    if count not in (dataset.n_losses, dataset.n_tokens):
        raise BadSource(
            f"{path} has {count} columns; {dataset.name} has {dataset.n_losses} losses ({dataset.n_tokens} with each "
            f"position 0), and there is no {labels.name} beside it to say which these are."
        )
    first = np.zeros(count, dtype=bool)
    if count == dataset.n_tokens:
        first[dataset.offsets[:-1]] = True
    return _MatrixColumns(count, np.flatnonzero(~first), np.arange(dataset.n_losses), np.flatnonzero(first))


def _labelled_columns(path: Path, count: int, sites: SiteIndex) -> _MatrixColumns:
    """The columns that are of the dataset, by their labels; raises `BadSource` for labels that do not fit it."""
    with _readable(path, "parquet"):
        frame = pl.read_parquet(path, hive_partitioning=False)
    if "item" in frame.columns and "context" not in frame.columns:
        raise BadSource(
            f"{path} labels columns by item, for several datasets at once (matrix {option('align', 'item')}); such "
            f"losses cannot be ingested. Export each dataset by itself, without {option('align', 'item')}."
        )
    if missing := [name for name in ("context", "position") if name not in frame.columns]:
        raise BadSource(f"{path} has no column {missing[0]!r}; its columns are: {listed(frame.columns)}.")
    if frame.height != count:
        raise BadSource(f"{path} has labels for {frame.height} columns; the matrix has {count}.")
    name, frame = sites.dataset.name, frame.with_row_index("column")
    if "dataset" in frame.columns:
        names = frame["dataset"].unique(maintain_order=True).to_list()
        frame = frame.filter(dataset=name)
        if not frame.height:
            raise BadSource(f"{path} has no column of the dataset {name}; they are of: {listed(names)}.")
    column, context, position = (
        frame[label].cast(pl.Int64).fill_null(-1).to_numpy() for label in ("column", "context", "position")
    )
    known = sites.dataset.has_sites(context, position)
    if not known.all():
        i = int(np.argmin(known))
        raise BadSource(
            f"{path} names context {context[i]}, position {position[i]} for column {column[i]} (from 0), which {name} "
            "does not have."
        )
    if "token" in frame.columns:
        token, own = frame["token"].cast(pl.Int64), sites.tokens(context, position)
        if (
            other := np.flatnonzero((token != pl.Series(own.astype(np.int64))).fill_null(False).to_numpy())
        ).size:
            i = int(other[0])
            raise BadSource(
                f"{path} names the token {token[i]} at context {context[i]}, position {position[i]}; {name} has "
                f"{own[i]} there."
            )
    taken = position > 0
    where = sites.dataset.losses_at(context[taken], position[taken])
    if len(np.unique(where)) < len(where):
        raise BadSource(f"{path} names a context and position of {name} for two columns.")
    return _MatrixColumns(count, column[taken], where, column[~taken])


def _array_rows(
    path: Path, kind: str, root: Path, request: IngestRequest
) -> Iterator[tuple[Label, np.ndarray]]:
    with _readable(path, kind):
        with np.errstate(over="ignore"):  # of shapes that no file can hold, which are refused
            array, own = _mapped(path, kind, root)
        if array.dtype.kind != "f":
            raise BadSource(f"{path} holds {array.dtype}; losses are floating-point numbers.")
        if array.ndim == 0:
            raise BadSource(f"{path} holds a single number; a matrix has a row of losses for each step.")
        if array.ndim == 1:
            array = array[None]
        labels = _row_labels(path, len(array), own, request)
        for label, row in zip(labels, array, strict=True):
            yield label, row.reshape(-1)


def _mapped(path: Path, kind: str, root: Path) -> tuple[np.ndarray, list[tuple[str | None, int]] | None]:
    """The matrix as an array on disk, and the models, if it has them, and steps of a .npz."""
    if kind == "npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), None
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if missing := [name for name in ("losses", "steps") if name not in names]:
            raise BadSource(
                f"{path} has no array {missing[0]!r}; it needs losses and steps and has: {listed(names)}."
            )
        steps = _unpacked(archive, "steps")
        models = _unpacked(archive, "models") if "models" in names else None
        if steps.ndim != 1 or steps.dtype.kind not in "iu":
            raise BadSource(
                f"{path} has steps of {steps.dtype} {steps.shape}; they are a list of whole numbers."
            )
        if models is not None and (models.shape != steps.shape or models.dtype.kind != "U"):
            raise BadSource(
                f"{path} has models of {models.dtype} {models.shape}; they are a name for each of {len(steps)} steps."
            )
        of_rows = [None] * len(steps) if models is None else models.tolist()
        # Unpacked on disk, since a packed array can only be read as a whole.
        with archive.open("losses.npy") as packed, nameless_file(root) as file:
            shutil.copyfileobj(packed, file, 1 << 20)
            return _map(path, file), list(zip(of_rows, steps.tolist(), strict=True))


def _unpacked(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as packed:
        return np.lib.format.read_array(packed, allow_pickle=False)


def _map(path: Path, file: IO[bytes]) -> np.ndarray:
    file.seek(0)
    one = np.lib.format.read_magic(file) == (1, 0)
    shape, fortran, dtype = (
        np.lib.format.read_array_header_1_0(file) if one else np.lib.format.read_array_header_2_0(file)
    )
    if dtype.hasobject:
        raise BadSource(f"{path} holds Python objects; losses are floating-point numbers.")
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _row_labels(
    path: Path, count: int, own: list[tuple[str | None, int]] | None, request: IngestRequest
) -> list[Label]:
    """(model, step) of each row: from the .npz, from the labels beside the file, or what was asked."""
    beside = path.with_suffix(".rows.parquet")
    if own is None and beside.is_file():
        with _readable(beside, "parquet"):
            frame = pl.read_parquet(beside, columns=["model", "step"], hive_partitioning=False)
        labels = [_label(beside, model, step, request) for model, step in frame.iter_rows()]
    else:
        if own is None and request.steps is None:
            raise BadSource(
                f"{path} has {display.count(count, 'row')}, does not say of which steps, and there is no {beside.name} "
                f"beside it. Give them in order: {option('step', [0, 1, 2, 4])}"
            )
        rows = own if own is not None else [(None, step) for step in request.steps or ()]
        labels = [_label(path, model, step, request) for model, step in rows]
    if len(labels) != count:
        raise BadSource(
            f"{path} has {display.count(count, 'row')}; given are {display.count(len(labels), 'step')}."
        )
    return labels


def _list_rows(path: Path, kind: str, request: IngestRequest) -> Iterator[tuple[Label, np.ndarray]]:
    names = _schema(path, kind).names
    if "step" not in names:
        raise BadSource(f"{path} has no column 'step'; its columns are: {listed(names)}.")
    wanted = [name for name in ("model", "step", "losses") if name in names]
    for batch in _parquet_batches(path, wanted) if kind == "parquet" else _arrow_batches(path):
        steps = batch.column("step").to_pylist()
        models = batch.column("model").to_pylist() if "model" in names else [None] * len(steps)
        for model, step, losses in zip(models, steps, batch.column("losses"), strict=True):
            values = losses.values
            yield (
                _label(path, model, step, request),
                np.empty(0, np.float32) if values is None else values.to_numpy(zero_copy_only=False),
            )


def _parquet_batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        yield from file.iter_batches(4, columns=columns, use_threads=False)


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


def _schema(path: Path, kind: str) -> pa.Schema:
    if kind == "parquet":
        return pq.read_schema(path)
    with pa.memory_map(str(path)) as source:
        # A matrix is written as a file, which can be read by batches; a table may be a stream too.
        try:
            return pa.ipc.open_file(source).schema
        except pa.ArrowInvalid:
            return pa.ipc.open_stream(source).schema


def _label(path: Path, model: object, step: object, request: IngestRequest) -> Label:
    """The label of a row; raises `BadSource` where the model is said nowhere, or the step is no whole number."""
    if not isinstance(step, int):
        raise BadSource(f"{path} has a row whose step is {step}; a step is a whole number.")
    name = request.model if model is None or model == request.renamed else model
    if name is None:
        raise BadSource(f"{path} does not say which model its losses are of: {option('model', 'M')}")
    return str(name), step


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(fits(kind) for fits in lists)


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Errors of reading as `BadSource`."""
    try:
        yield
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        OverflowError,
        MemoryError,
        zipfile.BadZipFile,
        pa.ArrowException,
        pl.exceptions.PolarsError,
    ) as error:
        raise BadSource(f"{path} cannot be read as {kind}: {describe_file_error(error)}") from error
