"""Slices: all losses of one checkpoint on one dataset, the unit of work and of commit; here, their files.

A slice holds context, position (of the predicted token, from 1) and loss (nats, float32) in canonical order, so
that its row number is the site's index; rank and entropy too where they were asked for. The footer says what the
losses are of (dataset's hash, weights, how they were computed) and carries a hash of the values and a digest of the
whole file. A partial slice has the rows of some whole contexts only, and its footer says so. Which slice takes a path
is decided by `publish_slices`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import DamagedFile
from trajstore.schema import DIGEST_KEY, FORMAT, META_KEY, PASS_COLUMNS
from trajstore.store import loss_limits
from trajstore.store.disk import digests, layout, parquet_files
from trajstore.store.files import models
from trajstore.store.files.datasets import Dataset, numbers


def slice_schema(columns: Iterable[str] = ()) -> pa.Schema:
    """The columns of a slice that holds these of `PASS_COLUMNS`, required: a matrix is pulled a quarter faster so."""
    keys = [("context", pa.int32()), ("position", pa.int32()), ("loss", pa.float32())]
    more = [
        (name, pa.from_numpy_dtype(np.dtype(PASS_COLUMNS[name])))
        for name in PASS_COLUMNS
        if name in set(columns)
    ]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in [*keys, *more]])


# As the footer's JSON has it, and how near to the file's end.
_PARTIAL = b'"partial": true'
_FACTS_WITHIN = 1 << 14

# One page of at most this many rows a column: fewer pages read faster and pack better.
_ROWS_PER_PAGE = 1 << 20


@dataclass(frozen=True)
class Provenance:
    """The origin of a slice's losses; None where it is not known."""

    revision: str | None = None
    """Hub ref or folder that held the weights."""
    commit: str | None = None
    """Commit that the ref resolved to."""
    weights: str | None = None
    """Fingerprint of the weights, `sha256:…`."""
    tokens_seen: int | None = None
    """Training tokens before this checkpoint."""
    tokens_exact: bool | None = None
    """False where a rounded number was all there was."""
    dtype: str = "float32"
    """Of the weights in the forward pass; the softmax is always float32."""
    attention: str | None = None
    """Attention kernel."""
    vocab: str = "full"
    """Rows of the head that the softmax ran over: full, or the tokenizer's alone."""
    batch_tokens: int | None = None
    """Token budget of a batch."""
    versions: dict[str, str] = field(default_factory=dict)
    """Packages that computed the losses."""
    device: str | None = None
    run: str | None = None
    """One id for each scoring run."""
    time: str | None = None
    """UTC, ISO 8601."""
    source: str | None = None
    """Files that the losses were ingested from, if they were computed elsewhere."""
    known_bad: str | None = None
    """Why the weights were said, when they were scored, not to be what their name says; None where nothing was."""
    remote_code: bool = False
    """True if model code that comes with the weights was run."""


@dataclass(frozen=True)
class SliceFacts:
    """The facts in a slice's footer."""

    model: str
    dataset: str
    step: int
    rows: int
    tokens_sha256: str
    """Of the dataset's tokens."""
    loss_sha256: str
    """Of the losses as little-endian float32 in canonical order."""
    provenance: Provenance
    partial: bool = False
    """True if it has some contexts only."""


def hash_losses(flat: np.ndarray) -> str:
    """`sha256:…` over the losses as little-endian float32."""
    return f"sha256:{hashlib.sha256(np.ascontiguousarray(flat, dtype='<f4').data).hexdigest()}"


def encode_slice(
    flat: np.ndarray,
    keys: tuple[np.ndarray, np.ndarray],
    facts: SliceFacts,
    columns: Mapping[str, np.ndarray] | None = None,
) -> memoryview:
    """The bytes of a slice's file.

    `keys` are context and position of each loss, both int32 (losses,); `columns` those of `PASS_COLUMNS` that are kept
    beside the loss, (losses,) each.
    """
    columns = columns or {}
    schema = slice_schema(columns)
    table = pa.table([*keys, flat, *(columns[name] for name in schema.names[3:])], schema=schema)
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        column_encoding={
            field.name: "BYTE_STREAM_SPLIT" if pa.types.is_floating(field.type) else "PLAIN"
            for field in schema
        },
        data_page_size=8 * _ROWS_PER_PAGE,
        max_rows_per_page=_ROWS_PER_PAGE,
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=_ROWS_PER_PAGE)
        writer.add_key_value_metadata({META_KEY: _facts_json(facts), DIGEST_KEY: digests.ZEROS})
    data = sink.getbuffer()
    digests.seal(data)
    return data


def _facts_json(facts: SliceFacts) -> str:
    """A slice's facts as its footer holds them: flat, with the format's version."""
    flat = asdict(facts)
    return json.dumps({"format": FORMAT, **flat.pop("provenance"), **flat})


def read_facts(path: Path, metadata: pq.FileMetaData) -> SliceFacts:
    """The facts in a slice's footer; raises `DamagedFile` where there are none, or the path says otherwise."""
    try:
        raw = json.loads((metadata.metadata or {})[META_KEY.encode()])
        # Fields that later versions add are absent here and keep their defaults.
        provenance = Provenance(**_of_type(Provenance, raw))
        facts = SliceFacts(**_of_type(SliceFacts, raw), provenance=provenance)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(path, f"its footer lacks the facts of a slice ({error!r})") from error
    labels = [part.partition("=")[2] for part in path.parts[-4:-1]]
    if labels[0] != facts.model and models.old_name(path.parents[4], labels[0]) == facts.model:
        facts = replace(facts, model=labels[0])  # a renaming has not come to this footer yet
    if labels != [facts.model, facts.dataset, str(facts.step)]:
        raise DamagedFile(
            path,
            f"it holds {facts.model} on {facts.dataset} at step {facts.step}, so it is under another's name",
        )
    return facts


def _of_type(kind: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a class of facts that JSON has, each of its type; raises `ValueError`."""
    values = {}
    for name, wanted, optional in _types_of(kind):
        if name in raw:
            values[name] = value = raw[name]
            if value is None and optional:
                continue
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                raise ValueError(f"its {name} is {value!r:.40}")
            if isinstance(value, dict) and not all(isinstance(text, str) for text in value.values()):
                raise ValueError(f"its {name} holds more than texts")
    return values


@cache
def _types_of(kind: type) -> list[tuple[str, type, bool]]:
    """(name, type, whether it may be null) of each field of a class of facts."""
    types = {"str": str, "int": int, "bool": bool, "dict[str, str]": dict}
    facts = [(fact.name, str(fact.type)) for fact in fields(kind) if fact.name != "provenance"]
    return [(name, types[text.removesuffix(" | None")], text.endswith("None")) for name, text in facts]


def is_complete(path: Path) -> bool:
    """Return whether a slice is there and its footer does not say that it has some contexts only.

    Looks for the words at the file's end, which takes a quarter of the time of reading the footer; whether the file is
    sound is not asked. Raises `DamagedFile` for what is no file at all.
    """
    try:
        descriptor = os.open(layout.plain(path), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        return _PARTIAL not in os.pread(descriptor, _FACTS_WITHIN, max(0, end - _FACTS_WITHIN))
    finally:
        os.close(descriptor)


def kept_columns(path: Path) -> tuple[str, ...]:
    """Return the `PASS_COLUMNS` that a slice holds; raises `DamagedFile`."""
    with parquet_files.opened(path) as file:
        return tuple(name for name in PASS_COLUMNS if name in file.schema_arrow.names)


def read_column(path: Path, dataset: Dataset, name: str) -> np.ndarray | None:
    """One of `PASS_COLUMNS` of a slice, (n_losses,) in canonical order; None where it was not kept.

    Raises as `read_losses`.
    """
    with parquet_files.opened(path) as file:
        _fitting_facts(path, file.metadata, dataset)
        return _column(file, name) if name in file.schema_arrow.names else None


def read_losses(path: Path, dataset: Dataset) -> np.ndarray:
    """The losses of a slice in canonical order, float32 (n_losses,); NaN in the contexts that a partial slice lacks.

    The row number is the site's index once the footer names the dataset's tokens and the full number of rows.
    Raises `DamagedFile` where it does not, or where a page fails its checksum.
    """
    return read_checked(path, dataset)[1]


def read_checked(path: Path, dataset: Dataset) -> tuple[SliceFacts, np.ndarray]:
    """The facts and the losses of a slice; raises as `read_losses`."""
    with parquet_files.opened(path) as file:
        facts = _fitting_facts(path, file.metadata, dataset)
        losses = _column(file, "loss")
        if not facts.partial:
            return facts, losses
        present = _sites(path, file, dataset, partial=True)
    values = np.full(dataset.n_losses, np.nan, dtype=np.float32)
    values[present] = losses
    return facts, values


def _sites(path: Path, file: pq.ParquetFile, dataset: Dataset, *, partial: bool) -> np.ndarray:
    """Return which of its losses the rows are of, bool (n_losses,); raises `DamagedFile` for any other order."""
    context, position = _column(file, "context"), _column(file, "position")
    inside = context[(context >= 0) & (context < dataset.n_contexts)]
    rows = dataset.losses_in(inside if partial else slice(None))
    for column, key in zip((context, position), dataset.loss_keys, strict=True):
        if not np.array_equal(column, key[rows]):
            what = "those of whole contexts in order" if partial else "in the order of its dataset's tokens"
            raise DamagedFile(path, f"its rows are not {what}")
    return rows


def _column(file: pq.ParquetFile, name: str) -> np.ndarray:
    return numbers(file.read(columns=[name], use_threads=False).column(0))


def check(path: Path, dataset: Dataset, *, deep: bool) -> None:
    """Raise `DamagedFile` unless the slice's footer fits its path, its dataset and the format, and its losses can be.

    Quick: the lowest loss as the footer has it. Deep: all bytes, each row's place, and the hash of the losses.
    """
    if deep and (changed := digests.problem(path)):
        raise DamagedFile(path, changed)
    with parquet_files.opened(path) as file:
        facts = _fitting_facts(path, file.metadata, dataset)
        if not file.schema_arrow.equals(slice_schema(file.schema_arrow.names)):
            raise DamagedFile(
                path, f"its columns are {', '.join(file.schema_arrow.names)}, of types not a slice's"
            )
        _require_possible(path, _extremes(file.metadata), facts)
        if not deep:
            return
        losses = _column(file, "loss")
        _sites(path, file, dataset, partial=facts.partial)
    if hash_losses(losses) != facts.loss_sha256:
        raise DamagedFile(path, "its losses are not those that were written (hash of the losses)")
    if not np.isfinite(losses).all():
        raise DamagedFile(path, "it holds losses that are no numbers")
    _require_possible(path, (float(losses.min()), float(losses.max())), facts)


def _extremes(metadata: pq.FileMetaData) -> tuple[float, float] | None:
    """The lowest and the highest loss as a footer has them; None where it has not."""
    column = metadata.schema.names.index("loss")
    parts = [metadata.row_group(n).column(column).statistics for n in range(metadata.num_row_groups)]
    if not parts or not all(part is not None and part.has_min_max for part in parts):
        return None
    return min(part.min for part in parts), max(part.max for part in parts)


def _require_possible(path: Path, extremes: tuple[float, float] | None, facts: SliceFacts) -> None:
    """Raise `DamagedFile` where losses are lower than rounding explains, or higher than logits can span."""
    for loss in extremes or ():
        if not loss_limits.possible(np.array(loss), facts.provenance.dtype):
            rule = loss_limits.rule(facts.provenance.dtype, loss)
            raise DamagedFile(path, f"it holds a loss of {loss:g} nats, and {rule}")


def _fitting_facts(path: Path, metadata: pq.FileMetaData, dataset: Dataset) -> SliceFacts:
    """The facts in a footer, if they are of this dataset's tokens and, unless it says partial, of all of them."""
    facts = read_facts(path, metadata)
    if facts.tokens_sha256 != dataset.tokens_sha256:
        raise DamagedFile(path, f"its losses are of other tokens than those of {dataset.name}")
    rows, losses = metadata.num_rows, dataset.n_losses
    if rows > losses or (rows != facts.rows if facts.partial else rows != losses):
        raise DamagedFile(path, f"it has {rows} losses, {dataset.name} has {losses}")
    return facts
