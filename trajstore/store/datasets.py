"""Datasets on disk: a fixed, named list of contexts under one tokenizer, published once and never changed.

`tokens.parquet` holds every token (position 0 included) in canonical order (context, position), `contexts.parquet`
a row a context; the footer of the first holds the dataset's own facts. How a dataset is drawn is not decided here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import BadDataset, DamagedFile
from trajstore.schema import FORMAT, META_KEY
from trajstore.store import layout

Source = dict[str, str | int | float | bool | None]
"""How a dataset was drawn: the options of the command that made it."""

CONTEXT_COLUMNS: dict[str, Any] = {
    "document": pl.String,
    "byte_start": pl.Int64,
    "byte_end": pl.Int64,
    "category": pl.String,
    "shot": pl.Int64,
    "meta": pl.String,
}
"""What a context may carry beside its tokens; `meta` is JSON."""

ITEM_COLUMNS: dict[str, Any] = {"item": pl.Int64, "item_position": pl.Int32, "role": pl.String}
"""What a token may carry beside its place: what is the same under two prompts, and its part in it."""


@dataclass(frozen=True)
class TokenizerFacts:
    """The tokenizer that a dataset's ids belong to."""

    name: str
    """Repository or folder, as given."""
    vocabulary_sha256: str
    """Hash over the JSON list of [id, piece] pairs in order of id, as `sha256:…`."""
    size: int
    """Number of entries."""


@dataclass(frozen=True)
class NewDataset:
    """A dataset before it is in a store."""

    ids: list[np.ndarray]
    """int32, one array a context, all positions 0 … n−1, n ≥ 2."""
    texts: list[list[str]]
    """One text a token; stray bytes as `<0xNN>`."""
    contexts: pl.DataFrame
    """One row a context, with the columns of `CONTEXT_COLUMNS`."""
    tokenizer: TokenizerFacts
    source: Source
    """How it was drawn."""
    items: pl.DataFrame | None = None
    """One row a token in canonical order, with the columns of `ITEM_COLUMNS`, null for a token of no item. None stands
    for the context, the position and no role."""

    def __post_init__(self) -> None:
        """Refuse what cannot be a dataset."""
        if not self.ids:
            raise BadDataset("A dataset needs one context at least.")
        for number, (ids, texts) in enumerate(zip(self.ids, self.texts, strict=True)):
            if len(ids) < 2:
                raise BadDataset(f"Context {number} has {len(ids)} token; a loss needs two at least.")
            if len(ids) != len(texts):
                raise BadDataset(f"Context {number} has {len(ids)} tokens and {len(texts)} texts.")
        if self.contexts.height != len(self.ids):
            raise BadDataset(f"{len(self.ids)} contexts, but {self.contexts.height} rows that describe them.")
        if self.items is not None and self.items.height != (tokens := sum(map(len, self.ids))):
            raise BadDataset(f"{tokens} tokens, but {self.items.height} rows with their items.")

    @property
    def tokens_sha256(self) -> str:
        """Hash of the tokens, see `hash_tokens`."""
        return hash_tokens(self.ids)


@dataclass(frozen=True)
class Dataset:
    """A dataset of a store."""

    name: str
    folder: Path
    tokens_sha256: str
    n_contexts: int
    n_tokens: int
    tokenizer: TokenizerFacts
    source: Source
    files: tuple[tuple[int, int, int], ...]
    """Inode, size and time of change (ns) of its files when they were read."""

    def is_current(self) -> bool:
        """Whether its files are those that were read."""
        return self.files == _files(self.folder)

    @property
    def n_losses(self) -> int:
        """Losses of one slice: every token but each context's first."""
        return self.n_tokens - self.n_contexts

    @cached_property
    def files_sha256(self) -> str:
        """`sha256:…` over the bytes of its files: the tokens with their texts, items and roles, and the contexts."""
        digest = hashlib.sha256()
        for name in ("tokens.parquet", "contexts.parquet"):
            with (self.folder / name).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return f"sha256:{digest.hexdigest()}"

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each context, int64 (contexts,)."""
        return _column(self.folder / "contexts.parquet", "n_tokens").astype(np.int64)

    @cached_property
    def loss_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Context and position of each loss in canonical order, both int32 (n_losses,)."""
        n = self.lengths - 1
        position = np.arange(1, self.n_losses + 1, dtype=np.int32)
        position -= np.repeat((np.cumsum(n) - n).astype(np.int32), n)
        return np.repeat(np.arange(self.n_contexts, dtype=np.int32), n), position

    @cached_property
    def belonging(self) -> pl.DataFrame:
        """What contexts belong to: document, category (String), shot (Int64), a row a context."""
        path = self.folder / "contexts.parquet"
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read(columns=["document", "category", "shot"])
        except (OSError, pa.ArrowException) as error:
            raise DamagedFile(path, str(error), _REMAKE) from error
        return pl.DataFrame(table)

    def ids(self) -> list[np.ndarray]:
        """Token ids, one int32 array a context; raises `DamagedFile` where they are not what was published."""
        path = self.folder / "tokens.parquet"
        flat = _column(path, "token")
        contexts = np.split(flat, np.cumsum(self.lengths)[:-1])
        if hash_tokens(contexts) != self.tokens_sha256:
            raise DamagedFile(path, "its tokens are not those its footer speaks of", _REMAKE)
        return contexts

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All tokens in canonical order: context, position, token, text, item, item_position, role.

        Only `columns` of these, if given.
        """
        path = self.folder / "tokens.parquet"
        return pl.read_parquet(path, columns=list(columns) if columns else None, hive_partitioning=False)


def _column(path: Path, name: str) -> np.ndarray:
    """A column of numbers; raises `DamagedFile`."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return numbers(file.read(columns=[name]).column(0))
    except (OSError, pa.ArrowException) as error:
        raise DamagedFile(path, str(error), _REMAKE) from error


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers (rows,), not copied where it is in one piece; raises Arrow's error where one is null."""
    # Arrow's to_numpy imports pandas, which takes longer than most reads.
    parts = [np.from_dlpack(chunk) for chunk in column.chunks]
    return (
        parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, column.type.to_pandas_dtype()), *parts])
    )


_REMAKE = "Remove the dataset's folder and make it again: trajstore dataset add"


def hash_tokens(ids: Sequence[np.ndarray]) -> str:
    """`sha256:…` over little-endian int64s: the number of contexts, each one's length, then all ids in order."""
    digest = hashlib.sha256()
    digest.update(np.array([len(ids), *map(len, ids)], dtype="<i8").tobytes())
    for context in ids:
        digest.update(np.asarray(context).astype("<i8").tobytes())
    return f"sha256:{digest.hexdigest()}"


def publish(root: Path, name: str, new: NewDataset) -> bool:
    """Write a dataset; False if one of that name is there."""
    return layout.publish_folder(
        root,
        layout.dataset_path(root, name),
        {"tokens.parquet": _tokens_file(new), "contexts.parquet": _contexts_file(new)},
    )


def read(root: Path, name: str) -> Dataset:
    """A dataset of the store by its footer; raises `FileNotFoundError` or `DamagedFile`."""
    folder = layout.dataset_path(root, name)
    path = layout.plain(layout.unlinked(folder / "tokens.parquet"))
    try:
        layout.plain(layout.unlinked(folder / "contexts.parquet"))
    except FileNotFoundError:
        raise DamagedFile(folder / "contexts.parquet", "it is not there", _REMAKE) from None
    files = _files(folder)
    try:
        facts = json.loads(pq.read_metadata(path).metadata[META_KEY.encode()])
        return Dataset(
            name,
            folder,
            facts["tokens_sha256"],
            facts["n_contexts"],
            facts["n_tokens"],
            TokenizerFacts(**facts["tokenizer"]),
            facts["source"],
            files,
        )
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DamagedFile(path, f"its footer cannot be read ({error})", _REMAKE) from error


def _files(folder: Path) -> tuple[tuple[int, int, int], ...]:
    """Inode, size and time of change (ns) of a dataset's files that are there."""
    found = []
    for name in ("tokens.parquet", "contexts.parquet"):
        with contextlib.suppress(FileNotFoundError):
            facts = (folder / name).stat(follow_symlinks=False)
            found.append((facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(found)


def names(root: Path) -> list[str]:
    """Datasets of the store, sorted."""
    return sorted(
        path.parent.name.removeprefix("dataset=") for path in root.glob("tokens/dataset=*/tokens.parquet")
    )


def _tokens_file(new: NewDataset) -> bytes:
    """The bytes of tokens.parquet."""
    lengths = np.array([len(ids) for ids in new.ids])
    context = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    position = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])
    items = new.items
    if items is None:
        items = pl.DataFrame({"item": context, "item_position": position, "role": None}, schema=ITEM_COLUMNS)
    table = pa.table(
        {
            "context": context,
            "position": position,
            "token": np.concatenate(new.ids).astype(np.int32),
            "text": pa.array([text for texts in new.texts for text in texts], pa.string()),
            "item": items["item"].to_arrow().cast(pa.int64()),
            "item_position": items["item_position"].to_arrow().cast(pa.int32()),
            "role": items["role"].to_arrow().cast(pa.string()),
        }
    )
    facts = {
        "format": FORMAT,
        "tokens_sha256": new.tokens_sha256,
        "n_contexts": len(new.ids),
        "n_tokens": int(lengths.sum()),
        "tokenizer": asdict(new.tokenizer),
        "source": new.source,
    }
    return _parquet(table, {META_KEY: json.dumps(facts)})


def _contexts_file(new: NewDataset) -> bytes:
    """The bytes of contexts.parquet."""
    frame = new.contexts.select(
        pl.Series("context", range(len(new.ids)), dtype=pl.Int32),
        pl.Series("n_tokens", [len(ids) for ids in new.ids], dtype=pl.Int32),
        *(pl.col(name).cast(kind) for name, kind in CONTEXT_COLUMNS.items()),
    )
    return _parquet(frame.to_arrow().cast(_arrow_contexts()), {})


def _arrow_contexts() -> pa.Schema:
    """The schema of contexts.parquet, with plain strings, which every reader knows."""
    kinds = {pl.String: pa.string(), pl.Int64: pa.int64()}
    return pa.schema(
        [("context", pa.int32()), ("n_tokens", pa.int32())]
        + [(name, kinds[kind]) for name, kind in CONTEXT_COLUMNS.items()]
    )


def _parquet(table: pa.Table, metadata: dict[str, str]) -> bytes:
    """A table as one Parquet file in memory."""
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True, store_schema=False
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)
    return sink.getvalue()


def publish_empty(root: Path) -> None:
    """The stand-in of zero rows, outside `tokens/`, that lets views exist before the first dataset."""
    folder = root / ".okens" / "dataset=_"
    if not folder.exists():
        tokens = {"context": pa.int32(), "position": pa.int32(), "token": pa.int32(), "text": pa.string()}
        items = {"item": pa.int64(), "item_position": pa.int32(), "role": pa.string()}
        layout.publish_folder(
            root,
            folder,
            {
                "tokens.parquet": _parquet(pa.schema({**tokens, **items}.items()).empty_table(), {}),
                "contexts.parquet": _parquet(_arrow_contexts().empty_table(), {}),
            },
        )
