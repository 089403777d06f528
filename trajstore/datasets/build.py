"""Makes a dataset: contexts drawn from a source and tokenised, or token ids taken as they are.

What a source gives is told by `sources`, how contexts are drawn from it by `drawing`. Tables with a column
`input_ids` are not drawn from: every row is a context. Nothing is written here: a store takes the
`NewDataset`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import polars.selectors as cs

from trajstore.arguments import defaults
from trajstore.arguments.spelling import option
from trajstore.datasets import sources
from trajstore.datasets.sampling import draw
from trajstore.datasets.token_bytes import keep_spaces_in_offsets, piece_texts
from trajstore.datasets.tokenizers import load_tokenizer, tokenizer_facts
from trajstore.datasets.vocabularies import (
    NO_TOKENIZER,
    check_known,
    numbered,
    read_vocabulary,
    word_level,
)
from trajstore.errors import BadDataset, listed
from trajstore.progress import SILENT
from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from trajstore.progress import Progress
    from trajstore.store.files.datasets import Source

VOCABULARY_MULTIPLE = 512
"""Models' vocabularies are at most their tokenizer's, rounded up to a multiple of this."""


def build_dataset(
    source: str,
    tokenizer: str,
    *,
    contexts: int = defaults.CONTEXTS,
    length: int = defaults.LENGTH,
    seed: int = 0,
    column: str = defaults.TEXT_COLUMN,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    stream: bool = False,
    vocabulary: str | None = None,
    progress: Progress = SILENT,
) -> NewDataset:
    """Contexts drawn from `source`, tokenised without special tokens by the tokenizer of that name.

    `column` holds the text of a table's rows; `split` ("train" by default), `config`, `revision` and
    `stream` go to `datasets.load_dataset`. The same seed gives the same contexts, and asking for more of
    them only adds to the end. Where the documents are exhausted there are fewer than asked, and `progress`
    says so.

    `byte_start` and `byte_end` bound the smallest run of whole characters of the document's UTF-8 that
    holds the context's tokens. For a byte-level tokenizer that changes no text these are exactly the
    tokens' bytes, unless the slice begins or ends inside a character: then up to 3 bytes at that end belong
    to the token beyond it. A tokenizer without offsets leaves both empty.

    With the tokenizer "none" the source is a table with a column `input_ids`, for models without a tokenizer; ids are
    called as the JSON file `vocabulary` says, by default by their numbers.

    Raises `BadDataset` for a source, column or option that cannot be used, and `TokenizerNotFound`.
    """
    if contexts < 1 or length < 2 or seed < 0:
        raise BadDataset(
            f"{contexts} contexts of {length} tokens with seed {seed} cannot be drawn: "
            f"{option('contexts')} is 1 or more, {option('length')} 2 or more, {option('seed')} 0 or more."
        )
    path = sources.local_path(source)
    if tokenizer == NO_TOKENIZER:
        return _ids_without_tokenizer(path, source, vocabulary, progress)
    if vocabulary is not None:
        raise BadDataset(
            f"{option('vocabulary')} is for token ids with {option('tokenizer', NO_TOKENIZER)}: "
            "a tokenizer has texts of its own."
        )
    loaded = load_tokenizer(tokenizer)
    keep_spaces_in_offsets(loaded)
    origin: Source = {"source": source}
    if path is None:
        split = split or "train"
        commit, unavailable = sources.hub_commit(source, revision)
        documents = sources.hub_documents(
            source, config, split, commit or revision, column, seed, stream, unavailable
        )
        origin |= {"column": column, "config": config, "split": split, "stream": stream}
        origin |= {"revision": revision, "commit": commit}
    elif path.suffix in sources.TABLES:
        table = sources.read_table(path, column)
        if "input_ids" in table.columns:
            return _take_ids(table, source, loaded, tokenizer, progress)
        documents = sources.table_documents(table[column], path.name, seed)
        origin |= {"column": column}
    else:
        documents = sources.text_documents(path, seed, progress)
    windows = draw(documents, loaded, source, contexts, length, seed, progress)
    return from_ids(
        [window.ids for window in windows],
        loaded,
        tokenizer,
        source=origin | {"contexts": contexts, "length": length, "seed": seed},
        document=[window.document for window in windows],
        byte_start=[window.bytes[0] for window in windows],
        byte_end=[window.bytes[1] for window in windows],
    )


def from_ids(
    ids: Sequence[Sequence[int] | np.ndarray],
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    *,
    source: Source | None = None,
    items: pl.DataFrame | None = None,
    **columns: object,
) -> NewDataset:
    """A dataset of these token ids, one sequence a context; `name` is the tokenizer's, `items` as in `NewDataset`.

    `columns` are any of `CONTEXT_COLUMNS` (category, shot, document, byte_start, byte_end, meta): a list
    with a value a context, or one value for all. A mapping in `meta` is written as JSON. Raises
    `BadDataset` for ids below 0 or beyond what a model with this tokenizer can have, contexts of fewer than 2 tokens,
    and unknown columns.
    """
    if unknown := sorted(columns.keys() - CONTEXT_COLUMNS.keys()):
        raise BadDataset(f"A context has no {listed(unknown)}; it may have: {listed(CONTEXT_COLUMNS)}.")
    limit = _id_limit(tokenizer)
    arrays = [_checked(context, f"Context {number}", limit) for number, context in enumerate(ids)]
    if not arrays:
        raise BadDataset("A dataset needs one context at least.")
    described = {name: _a_value_each(columns.get(name), len(arrays)) for name in CONTEXT_COLUMNS}
    described["meta"] = [_json(value) if isinstance(value, Mapping) else value for value in described["meta"]]
    try:
        frame = pl.DataFrame(described, schema=CONTEXT_COLUMNS)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise BadDataset(f"What describes the {len(arrays)} contexts does not fit them: {error}") from error
    texts = iter(piece_texts(tokenizer, np.concatenate(arrays)))
    return NewDataset(
        ids=arrays,
        texts=[[next(texts) for _ in context] for context in arrays],
        contexts=frame,
        tokenizer=tokenizer_facts(tokenizer, name),
        source=source if source is not None else {"source": "token ids"},
        items=items,
    )


def _ids_without_tokenizer(
    path: Path | None, source: str, file: str | None, progress: Progress
) -> NewDataset:
    """The rows of a table with `input_ids`, whose ids a file or their numbers name; raises `BadDataset`."""
    table = (
        sources.read_table(path, "input_ids") if path is not None and path.suffix in sources.TABLES else None
    )
    if table is None:
        raise BadDataset(
            f"{source} has no token ids. Without a tokenizer SOURCE is a .jsonl or .parquet file with a column "
            "input_ids, a context a row."
        )
    _check_lists(table, source)
    rows = [row or () for row in table["input_ids"].to_list()]
    vocabulary = numbered(rows) if file is None else read_vocabulary(file)
    check_known(rows, vocabulary)
    return _take_ids(table, source, word_level(vocabulary), NO_TOKENIZER, progress)


def _check_lists(table: pl.DataFrame, source: str) -> None:
    """Raise `BadDataset` unless `input_ids` are lists of whole numbers."""
    kind = table.schema["input_ids"]
    if not isinstance(kind, pl.List | pl.Array) or not kind.inner.is_integer():
        raise BadDataset(f"input_ids of {source} must be lists of whole numbers; it holds {kind}.")


def _take_ids(
    table: pl.DataFrame, source: str, tokenizer: PreTrainedTokenizerBase, name: str, progress: Progress
) -> NewDataset:
    """A table with `input_ids`: every row a context, in order; other scalar columns go into meta."""
    _check_lists(table, source)
    limit = _id_limit(tokenizer)
    rows = [
        _checked(row, f"Row {number} of {source} (from 0)", limit)
        for number, row in enumerate(table["input_ids"])
    ]
    own = [column for column in ("document", "category", "shot") if column in table.columns]
    if "shot" in own and not (table.schema["shot"].is_integer() or table.schema["shot"] == pl.Null):
        raise BadDataset(f"shot of {source} must be whole numbers; it holds {table.schema['shot']}.")
    columns: dict[str, Any] = {column: table[column].cast(CONTEXT_COLUMNS[column]) for column in own}
    rest = table.drop("input_ids", *own)
    meta = rest.select(~(cs.nested() | cs.binary()))
    if left_out := rest.drop(meta.columns).columns:
        progress.say(f"Columns left out, since JSON has no scalar for them: {listed(left_out)}.")
    if meta.width:
        columns["meta"] = list(meta.iter_rows(named=True))
    progress.say(f"{source} has input_ids: its {len(rows)} rows are taken as they are, none is drawn or cut.")
    return from_ids(rows, tokenizer, name, source={"source": source, "column": "input_ids"}, **columns)


def _id_limit(tokenizer: PreTrainedTokenizerBase) -> int:
    """The limit of ids: the tokenizer's size, rounded up, since models' vocabularies have rows to spare."""
    size = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))
    return -(-size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _checked(ids: Sequence[int] | np.ndarray | pl.Series, where: str, limit: int) -> np.ndarray:
    """Token ids as int32 (tokens,), if they are 2 or more whole numbers below `limit`; raises `BadDataset`."""
    array = np.asarray(ids if ids is not None else [])
    if array.ndim != 1 or len(array) < 2:
        raise BadDataset(f"{where} has {array.size} tokens; a loss needs two at least.")
    if array.dtype.kind not in "iu":
        raise BadDataset(f"{where} must hold whole numbers only, without gaps; it holds {array.dtype}.")
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        raise BadDataset(f"{where} has ids from {array.min()} to {array.max()}; ids are 0 to 2147483647.")
    if array.max() >= limit:
        first = int(np.flatnonzero(array >= limit)[0])
        raise BadDataset(
            f"{where} has the id {array[first]} at position {first}, but with this tokenizer ids are below {limit} "
            f"(its entries, rounded up to a multiple of {VOCABULARY_MULTIPLE} for models that have rows to spare): the "
            f"ids come from another tokenizer. Name theirs with {option('tokenizer')}."
        )
    return array.astype(np.int32)


def _a_value_each(value: object, count: int) -> list[object]:
    """The values of a column: a list as it is, a single value repeated."""
    if isinstance(value, Sequence | np.ndarray | pl.Series) and not isinstance(value, str):
        return list(value)
    return [value] * count


def _json(row: Mapping[str, object]) -> str:
    """A mapping as JSON, which has no NaN or infinity: they become null, as does what is absent."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(finite, ensure_ascii=False, default=str)
