"""Slices: all losses of one checkpoint on one dataset, the unit of work and of commit.

A slice holds context, position (of the predicted token, from 1) and loss (nats, float32) in canonical order, so
that its row number is the site's index. The footer says what the losses are of (dataset's hash, weights, how they
were computed) and carries a hash of the values and a digest of the whole file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import BadLosses, DamagedFile, SliceExists
from trajstore.schema import DIGEST_KEY, FORMAT, LOWEST_LOSS, META_KEY
from trajstore.store import layout
from trajstore.store.datasets import Dataset

# Required columns: without definition levels a matrix is pulled a quarter faster.
_SCHEMA = pa.schema(
    [
        pa.field("context", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("loss", pa.float32(), nullable=False),
    ]
)

# One page of at most this many rows a column: fewer pages read faster and pack better.
_ROWS_PER_PAGE = 1 << 20


@dataclass(frozen=True)
class Provenance:
    """How the losses of a slice came about; None where it is not known."""

    revision: str | None = None
    """Hub ref or folder that held the weights."""
    commit: str | None = None
    """What the ref resolved to."""
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


@dataclass(frozen=True)
class SliceFacts:
    """What a slice's footer says."""

    model: str
    dataset: str
    step: int
    rows: int
    tokens_sha256: str
    """Of the dataset's tokens."""
    loss_sha256: str
    """Of the losses as little-endian float32 in canonical order."""
    provenance: Provenance


def flat_losses(losses: Sequence[Any] | np.ndarray, dataset: Dataset, dtype: str, what: str) -> np.ndarray:
    """Losses as one float32 array in canonical order, checked; raises `BadLosses` naming the first bad place.

    Takes a flat array or one array a context (n_tokens − 1 each); anything numpy can read as numbers, such as
    CPU torch tensors or Arrow arrays. `dtype` is that of the forward pass: it decides how far below zero rounding
    can lead.
    """
    if len(losses) and np.ndim(losses[0]) == 1:
        parts = [np.asarray(part) for part in losses]
        lengths = np.array([len(part) for part in parts])
        if len(parts) != dataset.n_contexts:
            raise BadLosses(
                f"{what}: losses of {len(parts)} contexts; {dataset.name} has {dataset.n_contexts}."
            )
        if (wrong := np.flatnonzero(lengths != dataset.lengths - 1)).size:
            context = int(wrong[0])
            raise BadLosses(
                f"{what}: context {context} has {lengths[context]} losses; its {dataset.lengths[context]} tokens have "
                f"{dataset.lengths[context] - 1} (position 0 is not predicted)."
            )
        flat = np.concatenate(parts)
    else:
        flat = np.asarray(losses)
    if flat.ndim != 1 or len(flat) != dataset.n_losses:
        raise BadLosses(
            f"{what}: an array of shape {flat.shape}; {dataset.name} has {dataset.n_losses} losses "
            f"({dataset.n_tokens} tokens less the first of each of its {dataset.n_contexts} contexts)."
        )
    flat = flat.astype(np.float32)
    lowest = LOWEST_LOSS.get(dtype, LOWEST_LOSS["float32"])
    if (bad := np.flatnonzero(~(np.isfinite(flat) & (flat >= lowest)))).size:
        context, position = site(dataset, int(bad[0]))
        raise BadLosses(
            f"{what}: {len(bad)} of {len(flat)} losses cannot be right; the first is {flat[bad[0]]} at context "
            f"{context}, position {position} (a loss is finite and at least {lowest:g} nats). Nothing was written."
        )
    return flat


def site(dataset: Dataset, row: int) -> tuple[int, int]:
    """(context, position) of a row of the dataset's slices."""
    ends = np.cumsum(dataset.lengths - 1)
    context = int(np.searchsorted(ends, row, side="right"))
    return context, row - int(ends[context] - (dataset.lengths[context] - 1)) + 1


def append(
    root: Path,
    model: str,
    dataset: Dataset,
    step: int,
    losses: Sequence[Any] | np.ndarray,
    provenance: Provenance,
    *,
    replace_existing: bool = False,
) -> Path:
    """Check and publish one slice; raises `BadLosses`, or `SliceExists` where its path is taken."""
    path = layout.slice_path(root, model, dataset.name, step)
    if not replace_existing and path.exists():
        raise SliceExists(model, dataset.name, step)
    flat = flat_losses(losses, dataset, provenance.dtype, f"{model} on {dataset.name} at step {step}")
    if provenance.time is None:
        provenance = replace(provenance, time=datetime.now(UTC).isoformat(timespec="seconds"))
    facts = SliceFacts(
        model, dataset.name, step, len(flat), dataset.tokens_sha256, hash_losses(flat), provenance
    )
    if not layout.publish(root, path, encode(flat, dataset.lengths, facts), replace=replace_existing):
        raise SliceExists(model, dataset.name, step)
    return path


def hash_losses(flat: np.ndarray) -> str:
    """`sha256:…` over the losses as little-endian float32."""
    return f"sha256:{hashlib.sha256(flat.astype('<f4', copy=False).tobytes()).hexdigest()}"


def encode(flat: np.ndarray, lengths: np.ndarray, facts: SliceFacts) -> bytes:
    """The bytes of a slice's file. `lengths` are tokens a context, int64 (contexts,)."""
    n = lengths - 1
    context = np.repeat(np.arange(len(n), dtype=np.int32), n)
    position = np.arange(1, len(flat) + 1, dtype=np.int32)
    position -= np.repeat((np.cumsum(n) - n).astype(np.int32), n)
    table = pa.table([context, position, flat], schema=_SCHEMA)
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        _SCHEMA,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        column_encoding={
            "context": "DELTA_BINARY_PACKED",
            "position": "DELTA_BINARY_PACKED",
            "loss": "BYTE_STREAM_SPLIT",
        },
        data_page_size=8 * _ROWS_PER_PAGE,
        max_rows_per_page=_ROWS_PER_PAGE,
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=_ROWS_PER_PAGE)
        writer.add_key_value_metadata({META_KEY: _facts_json(facts), DIGEST_KEY: "0" * 64})
    return seal(sink.getvalue())


def _facts_json(facts: SliceFacts) -> str:
    """A slice's facts as its footer holds them: flat, with the format's version."""
    flat = asdict(facts)
    return json.dumps({"format": FORMAT, **flat.pop("provenance"), **flat})


def seal(data: bytes) -> bytes:
    """The file with its digest patched in: sha256 of the file while the digest's own 64 digits are zeros."""
    at = _digest_place(data)
    if at is None:
        raise ValueError("no place for the digest")
    digest = hashlib.sha256(data).hexdigest().encode()
    return data[:at] + digest + data[at + 64 :]


def is_sealed(data: bytes) -> bool:
    """Whether a file's bytes are those that were published."""
    at = _digest_place(data)
    if at is None:
        return False
    zeroed = data[:at] + b"0" * 64 + data[at + 64 :]
    return hashlib.sha256(zeroed).hexdigest().encode() == data[at : at + 64]


def _digest_place(data: bytes) -> int | None:
    """Where the digest's digits stand in the footer, or None."""
    # Thrift compact protocol: after the key, the value's field has a header byte and a length byte (64).
    key = DIGEST_KEY.encode() + b"\x18\x40"
    at = data.rfind(key)
    return None if at < 0 else at + len(key)


def read_facts(path: Path, metadata: pq.FileMetaData) -> SliceFacts:
    """The facts in a slice's footer; raises `DamagedFile` where there are none, or the path says otherwise."""
    try:
        raw = json.loads((metadata.metadata or {})[META_KEY.encode()])
        # Fields that later versions add are absent here and keep their defaults.
        provenance = Provenance(
            **{name: raw[name] for name in Provenance.__dataclass_fields__ if name in raw}
        )
        facts = SliceFacts(
            **{name: raw[name] for name in SliceFacts.__dataclass_fields__ if name != "provenance"},
            provenance=provenance,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(path, f"its footer lacks the facts of a slice ({error!r})") from error
    labels = [part.partition("=")[2] for part in path.parts[-4:-1]]
    if labels != [facts.model, facts.dataset, str(facts.step)]:
        raise DamagedFile(
            path,
            f"it holds {facts.model} on {facts.dataset} at step {facts.step}, so it is under another's name",
        )
    return facts


def open_slice(path: Path) -> pq.ParquetFile:
    """A slice's file, page checksums verified on reading; raises `DamagedFile`."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise DamagedFile(path, str(error)) from error


def read_losses(path: Path, dataset: Dataset) -> np.ndarray:
    """The losses of a slice in canonical order, float32 (n_losses,).

    The row number is the site's index once the footer names the dataset's tokens and the full number of rows.
    Raises `DamagedFile` where it does not, or where a page fails its checksum.
    """
    return read_checked(path, dataset)[1]


def read_checked(path: Path, dataset: Dataset) -> tuple[SliceFacts, np.ndarray]:
    """The facts and the losses of a slice; raises as `read_losses`."""
    with open_slice(path) as file:
        facts = _fitting_facts(path, file.metadata, dataset)
        try:
            column = file.read(columns=["loss"], use_threads=False).column(0)
        except (OSError, pa.ArrowException) as error:
            raise DamagedFile(path, str(error)) from error
    return facts, column.to_numpy()


def check_footer(path: Path, dataset: Dataset) -> None:
    """Raise `DamagedFile` unless the slice's footer fits its path, its dataset and the format."""
    with open_slice(path) as file:
        _fitting_facts(path, file.metadata, dataset)
        if not file.schema_arrow.equals(_SCHEMA):
            raise DamagedFile(
                path, f"its columns are {', '.join(file.schema_arrow.names)}, of types not a slice's"
            )


def _fitting_facts(path: Path, metadata: pq.FileMetaData, dataset: Dataset) -> SliceFacts:
    """The facts in a footer, if they are of this dataset's tokens and of all of them."""
    facts = read_facts(path, metadata)
    if facts.tokens_sha256 != dataset.tokens_sha256:
        raise DamagedFile(path, f"its losses are of other tokens than those of {dataset.name}")
    if metadata.num_rows != dataset.n_losses:
        raise DamagedFile(path, f"it has {metadata.num_rows} losses, {dataset.name} has {dataset.n_losses}")
    return facts


def publish_empty(root: Path) -> None:
    """The stand-in of zero rows, outside `losses/`, that lets views exist before the first slice."""
    sink = io.BytesIO()
    pq.write_table(_SCHEMA.empty_table(), sink, store_schema=False)
    path = root / ".osses" / "model=_" / "dataset=_" / "step=0" / "slice.parquet"
    layout.publish(root, path, sink.getvalue())
