"""Draws a dataset's contexts from a source: a text file, a table, a folder of texts, a Hugging Face dataset.

A context is a slice of at most `length` tokens anywhere inside a document, not its beginning, and never
shorter than 2 tokens. Documents come up in a seeded order, one slice each, and round again while they have
windows left: a document of n > `length` tokens has n // `length` windows that do not overlap, at a random
offset, given out in random order. No token is drawn twice. What a document gives depends on the seed and
the document's number alone. Tables with a column `input_ids` are taken as they are. Nothing is written
here: a store takes the `NewDataset`.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import polars.selectors as cs

from trajstore.errors import BadDataset, TokenizerNotFound, listed
from trajstore.scoring.pieces import encode, keep_spaces_in_offsets, piece_texts
from trajstore.scoring.suites import parse_revision
from trajstore.scoring.weightfiles import VOCABULARY_FILES
from trajstore.store.datasets import CONTEXT_COLUMNS, NewDataset, TokenizerFacts
from trajstore.store.progress import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import PreTrainedTokenizerBase

    from trajstore.store.datasets import Source
    from trajstore.store.progress import Progress

SOURCES = (
    "SOURCE is a .txt file (one document), a .jsonl or .parquet file (a document a row), a folder of text "
    "files, or the name of a Hugging Face dataset, as in NeelNanda/pile-10k."
)
SHUFFLE_BUFFER = 10_000
"""Documents of a streamed dataset that are shuffled among themselves."""

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True)
class _Document:
    """One document, in memory only while its windows are cut."""

    number: int
    """Its place in the source, from 0, which its randomness depends on."""
    name: str
    text: str


@dataclass(frozen=True)
class _Window:
    """A slice of a document: one context."""

    document: str
    ids: np.ndarray
    """int32 (tokens,)."""
    bytes: tuple[int | None, int | None]
    """[start, end) in the document's UTF-8; None where the tokenizer keeps no offsets."""


def build_dataset(
    source: str,
    tokenizer: str,
    *,
    contexts: int = 512,
    length: int = 512,
    seed: int = 0,
    column: str = "text",
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    stream: bool = False,
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

    Raises `BadDataset` for a source, column or option that cannot be used, and `TokenizerNotFound`.
    """
    if contexts < 1 or length < 2 or seed < 0:
        raise BadDataset(
            f"{contexts} contexts of {length} tokens with seed {seed} cannot be drawn: "
            "--contexts is 1 or more, --length 2 or more, --seed 0 or more."
        )
    path = _local_path(source)
    loaded = load_tokenizer(tokenizer)
    keep_spaces_in_offsets(loaded)
    origin: Source = {"source": source}
    if path is None:
        split, commit = split or "train", _hub_commit(source, revision)
        documents = _hub_documents(source, config, split, commit or revision, column, seed, stream)
        origin |= {"column": column, "config": config, "split": split, "stream": stream}
        origin |= {"revision": revision, "commit": commit}
    elif path.suffix in _SCANS:
        table = _read_table(path, column)
        if "input_ids" in table.columns:
            return _take_ids(table, source, loaded, tokenizer, progress)
        documents = _table_documents(table[column], path.name, seed)
        origin |= {"column": column}
    else:
        documents = _text_documents(path, seed, progress)
    windows = _draw(documents, loaded, source, contexts, length, seed, progress)
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
    **columns: object,
) -> NewDataset:
    """A dataset of these token ids, one sequence a context; `name` is the tokenizer's.

    `columns` are any of `CONTEXT_COLUMNS` (category, shot, document, byte_start, byte_end, meta): a list
    with a value a context, or one value for all. A mapping in `meta` is written as JSON. Raises
    `BadDataset` for ids below 0 or beyond int32, contexts of fewer than 2 tokens, and unknown columns.
    """
    if unknown := sorted(columns.keys() - CONTEXT_COLUMNS.keys()):
        raise BadDataset(f"A context has no {listed(unknown)}; it may have: {listed(CONTEXT_COLUMNS)}.")
    arrays = [_checked(context, f"Context {number}") for number, context in enumerate(ids)]
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
    )


def load_tokenizer(name: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hub repository or local folder.

    A folder without one whose subfolders are checkpoints (`step1000`, `checkpoint-10`) gives that of the last
    step that has one. Code from a repository is never run. Raises `TokenizerNotFound`.
    """
    from transformers import AutoTokenizer

    folder = Path(name).expanduser()
    place = _tokenizer_folder(folder) if folder.is_dir() else name
    try:
        return AutoTokenizer.from_pretrained(place, revision=revision or "main", trust_remote_code=False)
    except Exception as error:  # whatever the library and its backends raise
        raise TokenizerNotFound(name, _first_line(error)) from error


def tokenizer_facts(tokenizer: PreTrainedTokenizerBase, name: str) -> TokenizerFacts:
    """What the store keeps of a tokenizer: its name as given, a hash of its vocabulary, its size."""
    pairs = sorted((token, piece) for piece, token in tokenizer.get_vocab().items())
    text = json.dumps(pairs, ensure_ascii=True, separators=(",", ":"))
    return TokenizerFacts(name, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", len(tokenizer))


def _tokenizer_folder(folder: Path) -> Path:
    """The folder itself, else its last checkpoint that holds a tokenizer; raises `TokenizerNotFound`."""
    steps = [(step, path) for path in folder.iterdir() if (step := parse_revision(path.name)) is not None]
    for candidate in [folder, *(path for _, path in sorted(steps, reverse=True))]:
        if any((candidate / file).is_file() for file in VOCABULARY_FILES):
            return candidate
    raise TokenizerNotFound(
        str(folder), f"neither the folder nor any of its {len(steps)} checkpoints holds one"
    )


# Sources: each gives its documents in the order in which they come up.


def _local_path(source: str) -> Path | None:
    """The file or folder that `source` names, or None for the name of a Hugging Face dataset."""
    path = Path(source).expanduser()
    readable = (".txt", *_SCANS)
    if source and (path.is_dir() or (path.is_file() and path.suffix in readable)):
        return path
    if source and path.exists():
        raise BadDataset(f"{source} is of a kind that is not read. {SOURCES}")
    if path.suffix in readable or not _HUB_NAME.fullmatch(source):
        raise BadDataset(f"There is no file or folder {source!r}. {SOURCES}")
    return None


def _in_random_order(count: int, read: Callable[[int], tuple[str, str]], seed: int) -> Iterator[_Document]:
    """Documents 0 … count−1 in the seed's order, each read (name, text) when it comes up."""
    for number in _random(seed).permutation(count):
        yield _Document(int(number), *read(int(number)))


def _text_documents(path: Path, seed: int, progress: Progress) -> Iterator[_Document]:
    """A text file, or every visible file below a folder that is UTF-8, numbered by relative path."""
    if path.is_file():
        if (text := _utf8(path)) is None:
            raise BadDataset(f"{path} is not UTF-8 text.")
        return iter([_Document(0, path.name, text)])
    files = sorted(_visible_files(path), key=lambda file: file.relative_to(path).as_posix())
    texts = [file for file in files if _utf8(file) is not None]
    if len(texts) < len(files):
        progress.say(f"{len(files) - len(texts)} of {len(files)} files in {path} are not UTF-8: left out.")

    def read(number: int) -> tuple[str, str]:
        name = os.fsencode(texts[number].relative_to(path)).decode(errors="backslashreplace")
        return name, _utf8(texts[number]) or ""

    return _in_random_order(len(texts), read, seed)


def _visible_files(folder: Path) -> Iterator[Path]:
    """Files below a folder, none of whose names from there on starts with a dot."""
    for base, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (
            path for name in files if not name.startswith(".") and (path := Path(base, name)).is_file()
        )


def _utf8(path: Path) -> str | None:
    """A file's text with its line ends as they are, so that offsets are the file's own; None if not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise BadDataset(f"{path} cannot be read: {error.strerror}.") from error


_SCANS: dict[str, Callable[[Path], pl.LazyFrame]] = {
    ".jsonl": lambda path: pl.scan_ndjson(glob.escape(str(path)), infer_schema_length=None),
    ".parquet": lambda path: pl.scan_parquet(path, glob=False),
}


def _read_table(path: Path, column: str) -> pl.DataFrame:
    """The whole table if it has token ids, else its column of texts."""
    try:
        table = _SCANS[path.suffix](path)
        names = table.collect_schema().names()
        if "input_ids" in names:
            return table.collect()
        _check_column(column, names, str(path))
        return table.select(pl.col(column)).collect()
    except pl.exceptions.PolarsError as error:
        raise BadDataset(f"{path} cannot be read as {path.suffix}: {_first_line(error)}.") from error


def _table_documents(texts: pl.Series, name: str, seed: int) -> Iterator[_Document]:
    """A document a row; rows without text are empty ones."""
    if texts.dtype != pl.String:
        raise BadDataset(f"The column {texts.name!r} of {name} holds {texts.dtype}, not text.")
    return _in_random_order(len(texts), lambda number: (f"{name}#{number}", texts[number] or ""), seed)


def _hub_commit(name: str, revision: str | None) -> str | None:
    """The commit of a dataset's revision; None where the Hub cannot be asked and no revision was demanded.

    Without the Hub, `load_dataset` takes its newest local copy whatever revision it is asked for.
    """
    from huggingface_hub import HfApi

    try:
        commit: str | None = HfApi().dataset_info(name, revision=revision).sha
    except Exception as error:  # offline, unreachable, or unknown: loading says more about the last
        if revision is None:
            return None
        raise BadDataset(
            f"The revision {revision!r} of the Hugging Face dataset {name!r} cannot be found or checked: "
            f"{_first_line(error)}. Without --revision, a copy that was downloaded before is used offline."
        ) from error
    return commit


def _hub_documents(
    name: str, config: str | None, split: str, revision: str | None, column: str, seed: int, stream: bool
) -> Iterator[_Document]:
    """The rows of one split of a Hugging Face dataset; streamed ones are shuffled within a buffer."""
    import datasets as hf_datasets

    try:
        data = hf_datasets.load_dataset(name, config, split=split, revision=revision, streaming=stream)
    except Exception as error:  # the library raises many kinds, some of them not its own
        raise BadDataset(
            f"There is no file or folder {name!r}, and no Hugging Face dataset of that name could be loaded "
            f"(config {config}, split {split}, revision {revision}): {error}\n{SOURCES}"
        ) from error
    _check_column(column, data.column_names or list(next(iter(data), {})), name)

    def text(row: Mapping[str, object]) -> str:
        if not isinstance(value := row[column] or "", str):
            raise BadDataset(f"The column {column!r} of {name} holds {type(value).__name__}, not text.")
        return value

    data = data.select_columns([column])
    if not stream:
        return _in_random_order(len(data), lambda number: (f"{split}#{number}", text(data[number])), seed)
    shuffled = data.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
    return (_Document(n, f"{split} shuffled by seed {seed}#{n}", text(row)) for n, row in enumerate(shuffled))


def _check_column(column: str, names: Sequence[str], where: str) -> None:
    if column not in names:
        raise BadDataset(
            f"{where} has no column {column!r}; it has: {listed(names)}. Choose one with --column."
        )


def _take_ids(
    table: pl.DataFrame, source: str, tokenizer: PreTrainedTokenizerBase, name: str, progress: Progress
) -> NewDataset:
    """A table with `input_ids`: every row a context, in order; other scalar columns go into meta."""
    kind = table.schema["input_ids"]
    if not isinstance(kind, pl.List | pl.Array) or not kind.inner.is_integer():
        raise BadDataset(f"input_ids of {source} must be lists of whole numbers; it holds {kind}.")
    rows = [
        _checked(row, f"Row {number} of {source} (from 0)") for number, row in enumerate(table["input_ids"])
    ]
    own = [column for column in ("document", "category", "shot") if column in table.columns]
    if "shot" in own and not (table.schema["shot"].is_integer() or table.schema["shot"] == pl.Null):
        raise BadDataset(f"shot of {source} must be whole numbers; it holds {table.schema['shot']}.")
    columns: dict[str, object] = {column: table[column].cast(CONTEXT_COLUMNS[column]) for column in own}
    rest = table.drop("input_ids", *own)
    meta = rest.select(~(cs.nested() | cs.binary()))
    if left_out := rest.drop(meta.columns).columns:
        progress.say(f"Columns left out, since JSON has no scalar for them: {listed(left_out)}.")
    if meta.width:
        columns["meta"] = list(meta.iter_rows(named=True))
    progress.say(f"{source} has input_ids: its {len(rows)} rows are taken as they are, none is drawn or cut.")
    return from_ids(rows, tokenizer, name, source={"source": source, "column": "input_ids"}, **columns)


# Drawing.


def _random(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for each key, independent of all others of the seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw(
    documents: Iterator[_Document],
    tokenizer: PreTrainedTokenizerBase,
    source: str,
    contexts: int,
    length: int,
    seed: int,
    progress: Progress,
) -> list[_Window]:
    """One window of each document in turn, round after round, until there are enough or none is left."""
    drawn: list[_Window] = []
    looked_at = 0

    def rounds() -> Iterator[_Window]:
        nonlocal looked_at
        waiting = []
        for document in documents:
            looked_at += 1
            # No more can be asked of it, so that no more is kept.
            windows = _windows(document, tokenizer, length, seed, contexts - len(drawn))
            waiting.append(windows)
            yield from windows[:1]
        for turn in range(1, max(map(len, waiting), default=0)):
            yield from (windows[turn] for windows in waiting if turn < len(windows))

    progress.start("drawing contexts", contexts, "contexts")
    try:
        for window in rounds():
            drawn.append(window)
            progress.advance()
            if len(drawn) == contexts:
                return drawn
    finally:
        progress.stop()
    if not drawn:
        raise BadDataset(f"{source} has no document of 2 tokens or more ({looked_at} looked at). {SOURCES}")
    progress.say(f"{contexts} contexts were asked for; {source} gave {len(drawn)} (documents: {looked_at}).")
    return drawn


def _windows(
    document: _Document, tokenizer: PreTrainedTokenizerBase, length: int, seed: int, most: int
) -> list[_Window]:
    """A document's first `most` windows in the order in which they are given out; none under 2 tokens."""
    tokens = encode(tokenizer, document.text)
    n = len(tokens.ids)
    if n < 2:
        return []
    random = _random(seed, document.number)
    size = min(length, n)
    count = n // size
    offset = int(random.integers(n - count * size, endpoint=True))
    starts = [offset + size * int(place) for place in random.permutation(count)[:most]]
    return [
        _Window(document.name, tokens.ids[start : start + size].copy(), tokens.span(start, start + size))
        for start in starts
    ]


# Values.


def _checked(ids: Sequence[int] | np.ndarray | pl.Series, where: str) -> np.ndarray:
    """Token ids as int32 (tokens,), if they are 2 or more whole numbers from 0; raises `BadDataset`."""
    array = np.asarray(ids if ids is not None else [])
    if array.ndim != 1 or len(array) < 2:
        raise BadDataset(f"{where} has {array.size} tokens; a loss needs two at least.")
    if array.dtype.kind not in "iu":
        raise BadDataset(f"{where} must hold whole numbers only, without gaps; it holds {array.dtype}.")
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        raise BadDataset(f"{where} has ids from {array.min()} to {array.max()}; ids are 0 to 2147483647.")
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


def _first_line(error: Exception) -> str:
    """What a library's error says, without its advice and its closing full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
