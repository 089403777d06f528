"""Datasets on disk: a fixed, named list of contexts under one tokenizer, published once and never changed.

`tokens.parquet` holds every token (position 0 included) in canonical order (context, position), `contexts.parquet`
a row a context; the footer of the first holds the dataset's own facts. How a dataset is drawn is not decided here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import BadDataset, DamagedFile
from trajstore.schema import FORMAT, META_KEY, is_name
from trajstore.store.disk import digests, layout, parquet_files

Source = dict[str, str | int | float | bool | None]
"""Origin of a dataset: the options of the command that made it."""

CONTEXT_COLUMNS: dict[str, Any] = {
    "document": pl.String,
    "byte_start": pl.Int64,
    "byte_end": pl.Int64,
    "category": pl.String,
    "shot": pl.Int64,
    "meta": pl.String,
}
"""Columns that a context may have beside its tokens; `meta` is JSON."""

ITEM_COLUMNS: dict[str, Any] = {"item": pl.Int64, "item_position": pl.Int32, "role": pl.String}
"""Columns that a token may have beside its place: its item, the same under two prompts, and its part in that item."""

# With plain strings, which every reader knows.
TOKENS = pa.schema(
    {
        "context": pa.int32(),
        "position": pa.int32(),
        "token": pa.int32(),
        "text": pa.string(),
        "item": pa.int64(),
        "item_position": pa.int32(),
        "role": pa.string(),
    }.items()
)
CONTEXTS = pa.schema(
    {
        "context": pa.int32(),
        "n_tokens": pa.int32(),
        "document": pa.string(),
        "byte_start": pa.int64(),
        "byte_end": pa.int64(),
        "category": pa.string(),
        "shot": pa.int64(),
        "meta": pa.string(),
    }.items()
)

_MOST_TOKENS = 1 << 24
_TOKENS_A_BYTE = 1000
"""More tokens than the first, or than this many for a byte of their file, are no tokens that were written here."""


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
    """Origin of the dataset."""
    items: pl.DataFrame | None = None
    """One row a token in canonical order, with the columns of `ITEM_COLUMNS`, null for a token of no item. None stands
    for the context, the position and no role."""

    def __post_init__(self) -> None:
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
    former_files_sha256: str | None = None
    """`files_sha256` before its files got digests, where they were written without."""

    def is_current(self) -> bool:
        """Return whether its files are those that were read."""
        return self.files == _files(self.folder)

    @property
    def is_probe(self) -> bool:
        """True of one that the store made for measures, on which no losses are expected."""
        return self.source.get("source") == "probe"

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
    def _contexts(self) -> pa.Table:
        """contexts.parquet, whole; raises `DamagedFile` where it is not what was published, or not this dataset's."""
        path = self.folder / "contexts.parquet"
        table = _table(path, CONTEXTS, self.n_contexts)
        _require_digest(path)
        return table

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each context, int64 (contexts,); raises `DamagedFile`."""
        path = self.folder / "contexts.parquet"
        with parquet_files.sound(path, _REMAKE, absent=True):
            context, lengths = (numbers(self._contexts[name]) for name in ("context", "n_tokens"))
            if not np.array_equal(context, np.arange(self.n_contexts)):
                raise ValueError("its contexts are not 0, 1, 2, … in order")
            if lengths.min() < 2 or int(lengths.sum(dtype=np.int64)) != self.n_tokens:
                raise ValueError(f"its contexts do not have the {self.n_tokens} tokens of the dataset")
        return lengths.astype(np.int64)

    @cached_property
    def offsets(self) -> np.ndarray:
        """Rows of tokens.parquet at which the contexts begin, and at which the last ends, int64 (contexts + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def tokens_at(self, context: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Rows of tokens.parquet of sites that exist, int64 (sites,)."""
        rows: np.ndarray = self.offsets[context] + position
        return rows

    def contexts_of(self, tokens: np.ndarray | slice) -> np.ndarray:
        """The contexts of rows of tokens.parquet, int64 (rows,)."""
        contexts: np.ndarray = np.repeat(np.arange(self.n_contexts), self.lengths)[tokens]
        return contexts

    def site_of(self, token: int) -> tuple[int, int]:
        """(context, position) of a row of tokens.parquet."""
        context = int(np.searchsorted(self.offsets, token, side="right")) - 1
        return context, int(token - self.offsets[context])

    def has_sites(self, context: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return which sites are in the dataset, position 0 included, bool (sites,)."""
        known: np.ndarray = (context >= 0) & (context < self.n_contexts)
        known &= (position >= 0) & (position < self.lengths.take(context, mode="clip"))
        return known

    @cached_property
    def first_losses(self) -> np.ndarray:
        """Numbers, in canonical order, of the contexts' first losses, int64 (contexts,)."""
        numbers: np.ndarray = self.offsets[:-1] - np.arange(self.n_contexts)
        return numbers

    def losses_at(self, context: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Numbers of the losses at positions from 1 on, int64 (sites,); position 0 gets one less than the first."""
        numbers: np.ndarray = self.first_losses[context] + position - 1
        return numbers

    def site_of_loss(self, loss: int) -> tuple[int, int]:
        """(context, position) of a loss by its number."""
        context = int(np.searchsorted(self.first_losses, loss, side="right")) - 1
        return context, loss - int(self.first_losses[context]) + 1

    @cached_property
    def loss_keys(self) -> tuple[np.ndarray, np.ndarray]:
        """Context and position of each loss in canonical order, both int32 (n_losses,)."""
        context, n = np.arange(self.n_contexts, dtype=np.int32), self.lengths - 1
        position = np.arange(1, self.n_losses + 1, dtype=np.int32)
        position -= np.repeat(self.first_losses.astype(np.int32), n)
        return np.repeat(context, n), position

    def losses_in(self, contexts: np.ndarray | slice) -> np.ndarray:
        """Return which losses are of these contexts, bool (n_losses,)."""
        chosen = np.zeros(self.n_contexts, dtype=bool)
        chosen[contexts] = True
        return np.repeat(chosen, self.lengths - 1)

    @cached_property
    def belonging(self) -> pl.DataFrame:
        """Return the document, category (String) and shot (Int64) of contexts, a row a context."""
        return pl.DataFrame(self._contexts.select(["document", "category", "shot"]))

    def check(self) -> None:
        """Raise `DamagedFile` unless its files, once read, are those of the dataset: types, places, texts, digests."""
        _ = self._checked  # done once

    @cached_property
    def _checked(self) -> bool:
        path = self.folder / "tokens.parquet"
        _ = self.offsets
        _require_digest(path)
        with parquet_files.sound(path, _REMAKE, absent=True):
            table = _table(path, TOKENS, self.n_tokens)
            context = self.contexts_of(slice(None))
            if not np.array_equal(numbers(table["context"]), context):
                raise ValueError("its contexts are not in order")
            if not np.array_equal(
                numbers(table["position"]), np.arange(self.n_tokens) - self.offsets[context]
            ):
                raise ValueError("its positions are not in order")
            if numbers(table["token"]).min() < 0 or table["text"].null_count:
                raise ValueError("it has tokens without an id or a text")
        return True

    def ids(self) -> list[np.ndarray]:
        """Token ids, one int32 array a context; raises `DamagedFile` where they are not what was published."""
        path = self.folder / "tokens.parquet"
        with parquet_files.sound(path, _REMAKE, absent=True):
            flat = numbers(_table(path, TOKENS, self.n_tokens, ["token"]).column(0))
        contexts = np.split(flat, self.offsets[1:-1])
        if hash_tokens(contexts) != self.tokens_sha256:
            raise DamagedFile(path, "its tokens are not those its footer speaks of", _REMAKE)
        return contexts

    def frame(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """All tokens in canonical order: context, position, token, text, item, item_position, role.

        Only `columns` of these, if given.
        """
        self.check()
        path, chosen = self.folder / "tokens.parquet", list(columns or TOKENS.names)
        return pl.DataFrame(_table(path, TOKENS, self.n_tokens, chosen).select(chosen))


def _table(path: Path, schema: pa.Schema, rows: int, columns: Sequence[str] | None = None) -> pa.Table:
    """The columns asked for of a file that has this schema and so many rows; raises `DamagedFile`."""
    with parquet_files.opened(path, _REMAKE, absent=True) as file:
        if not file.schema_arrow.equals(schema):
            raise ValueError("its columns are not those of a dataset")
        if file.metadata.num_rows != rows:
            raise ValueError(f"it has {file.metadata.num_rows} rows, the dataset says {rows}")
        return file.read(columns=columns)


def _require_digest(path: Path) -> None:
    """Raise `DamagedFile` where a file has another digest than it carries."""
    with parquet_files.sound(path, _REMAKE, absent=True):
        if (what := digests.problem(path)) not in (None, digests.MISSING):
            raise ValueError(what)


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


def publish_dataset(root: Path, name: str, new: NewDataset) -> bool:
    """Write a dataset; False if one of that name is there."""
    return layout.publish_folder(
        root,
        layout.dataset_path(root, name),
        {"tokens.parquet": _tokens_file(new), "contexts.parquet": _contexts_file(new)},
    )


def read_dataset(root: Path, name: str) -> Dataset:
    """A dataset of the store by its footer; raises `FileNotFoundError` or `DamagedFile`."""
    folder = layout.dataset_path(root, name)
    path = layout.plain(layout.unlinked(folder / "tokens.parquet"))
    try:
        layout.plain(layout.unlinked(folder / "contexts.parquet"))
    except FileNotFoundError:
        raise DamagedFile(folder / "contexts.parquet", "it is not there", _REMAKE) from None
    files = _files(folder)
    try:
        metadata = pq.read_metadata(path)
        return _dataset(
            name, folder, json.loads(metadata.metadata[META_KEY.encode()]), metadata.num_rows, files
        )
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(path, f"its footer cannot be read ({error})", _REMAKE) from error


def _dataset(
    name: str, folder: Path, facts: Mapping[str, Any], rows: int, files: tuple[tuple[int, int, int], ...]
) -> Dataset:
    """A dataset from its footer, each fact of its type; raises `KeyError`, `TypeError` or `ValueError`."""
    n_contexts, n_tokens = facts["n_contexts"], facts["n_tokens"]
    tokenizer = TokenizerFacts(**facts["tokenizer"])
    source, former = facts["source"], facts.get("former_files_sha256")
    texts = (facts["tokens_sha256"], tokenizer.name, tokenizer.vocabulary_sha256, former or "")
    counts = (n_contexts, n_tokens, tokenizer.size)
    plain_values = isinstance(source, dict) and all(
        value is None or isinstance(value, str | int | float) for value in source.values()
    )
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(type(n) is int for n in counts)
        or not plain_values
    ):
        raise ValueError("a fact of another type than it should be")
    if not 0 < 2 * n_contexts <= n_tokens or n_tokens != rows:
        raise ValueError(f"{n_contexts} contexts with {n_tokens} tokens, and {rows} rows")
    most = max(_MOST_TOKENS, _TOKENS_A_BYTE * files[0][1])
    if n_tokens > most:
        raise ValueError(f"{n_tokens} tokens in {files[0][1]} bytes")
    return Dataset(name, folder, texts[0], n_contexts, n_tokens, tokenizer, source, files, former)


def add_digests(root: Path, name: str) -> None:
    """Write a dataset's files anew with their digests where they have none; raises `DamagedFile`.

    The tokens go first, whose footer keeps what the files' hash was before.
    """
    dataset = read_dataset(root, name)
    dataset.ids()
    dataset.check()
    former = dataset.former_files_sha256 or dataset.files_sha256
    for file, schema in (("tokens.parquet", TOKENS), ("contexts.parquet", CONTEXTS)):
        path = dataset.folder / file
        if digests.carried(path):
            continue
        table = _table(path, schema, dataset.n_tokens if schema is TOKENS else dataset.n_contexts)
        facts = {}
        if schema is TOKENS:
            known = json.loads(pq.read_metadata(path).metadata[META_KEY.encode()])
            facts[META_KEY] = json.dumps({**known, "former_files_sha256": former})
        layout.publish(root, path, digests.parquet(table, facts), replace=True)


def _files(folder: Path) -> tuple[tuple[int, int, int], ...]:
    """Inode, size and time of change (ns) of a dataset's files that are there."""
    states = []
    for name in ("tokens.parquet", "contexts.parquet"):
        with contextlib.suppress(FileNotFoundError):
            facts = (folder / name).stat(follow_symlinks=False)
            states.append((facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(states)


def names(root: Path) -> list[str]:
    """Datasets of the store, sorted."""
    folders = (
        path.parent.name.removeprefix("dataset=") for path in root.glob("tokens/dataset=*/tokens.parquet")
    )
    return sorted(filter(is_name, folders))


def _tokens_file(new: NewDataset) -> bytes:
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
    return digests.parquet(table, {META_KEY: json.dumps(facts)})


def _contexts_file(new: NewDataset) -> bytes:
    frame = new.contexts.select(
        pl.Series("context", range(len(new.ids)), dtype=pl.Int32),
        pl.Series("n_tokens", [len(ids) for ids in new.ids], dtype=pl.Int32),
        *(pl.col(name).cast(kind) for name, kind in CONTEXT_COLUMNS.items()),
    )
    return digests.parquet(frame.to_arrow().cast(CONTEXTS))
