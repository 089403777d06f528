"""Sources of texts, and the documents in them: a text file, a table, a folder of texts, a Hugging Face dataset.

Documents come up in the seed's order, one at a time, each with its number in the source. Cuts and tokenises
nothing.
"""

from __future__ import annotations

import glob
import os
import re
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.arguments.spelling import option
from trajstore.checkpoints import hub
from trajstore.checkpoints.hub import first_line
from trajstore.errors import BadDataset, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trajstore.progress import Progress

SOURCES = (
    "SOURCE is a .txt file (one document), a .jsonl or .parquet file (a document a row), a folder of text "
    "files, or the name of a Hugging Face dataset, as in NeelNanda/pile-10k."
)
SHUFFLE_BUFFER = 10_000
"""Documents of a streamed dataset that are shuffled among themselves."""

TABLES: dict[str, Callable[[Path], pl.LazyFrame]] = {
    ".jsonl": lambda path: pl.scan_ndjson(glob.escape(str(path)), infer_schema_length=None),
    ".parquet": lambda path: pl.scan_parquet(path, glob=False),
}
"""Readers of tables, by the suffix of the table's name."""

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True)
class Document:
    """One document, in memory only while its windows are cut."""

    number: int
    """Its place in the source, from 0, which its randomness depends on."""
    name: str
    text: str


def local_path(source: str) -> Path | None:
    """The file or folder that `source` names, or None for the name of a Hugging Face dataset.

    Raises `BadDataset` where it is neither.
    """
    path = Path(source).expanduser()
    readable = (".txt", *TABLES)
    if source and (path.is_dir() or (path.is_file() and path.suffix in readable)):
        return path
    if source and path.exists():
        raise BadDataset(f"{source} is of a kind that is not read. {SOURCES}")
    if hub.names_path(source) or not _HUB_NAME.fullmatch(source):
        raise BadDataset(f"There is no file or folder {source!r}. {SOURCES}")
    return None


def text_documents(path: Path, seed: int, progress: Progress) -> Iterator[Document]:
    """A text file, or every visible file below a folder that is UTF-8, numbered by relative path.

    How many were left out is told to `progress`. Raises `BadDataset` for a file that cannot be read, and for a
    folder with tables, whose source would pass for text.
    """
    if path.is_file():
        if (text := _utf8(path)) is None:
            raise BadDataset(f"{path} is not UTF-8 text.")
        return iter([Document(0, path.name, text)])
    files = sorted(visible_files(path), key=lambda file: file.relative_to(path).as_posix())
    if tables := [file.relative_to(path) for file in files if file.suffix.lower() in TABLES]:
        raise BadDataset(
            f"A folder is read as text files, a document each, but {path} holds tables: {listed(tables)}. Give the "
            "table itself as SOURCE, or a folder without any."
        )
    texts = [file for file in files if _utf8(file) is not None]
    if len(texts) < len(files):
        progress.say(f"{len(files) - len(texts)} of {len(files)} files in {path} are not UTF-8: left out.")

    def read(number: int) -> tuple[str, str]:
        name = os.fsencode(texts[number].relative_to(path)).decode(errors="backslashreplace")
        return name, _utf8(texts[number]) or ""

    return _in_random_order(len(texts), read, seed)


def visible_files(folder: Path) -> Iterator[Path]:
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


def read_table(path: Path, column: str) -> pl.DataFrame:
    """The whole table if it has a column `input_ids`, else its column of texts; raises `BadDataset`."""
    try:
        table = TABLES[path.suffix](path)
        names = table.collect_schema().names()
        if "input_ids" in names:
            return table.collect()
        _check_column(column, names, str(path))
        return table.select(pl.col(column)).collect()
    except pl.exceptions.PolarsError as error:
        raise BadDataset(f"{path} cannot be read as {path.suffix}: {first_line(error)}.") from error


def table_documents(texts: pl.Series, name: str, seed: int) -> Iterator[Document]:
    """A document a row; rows without text are empty ones. Raises `BadDataset` for a column of anything else."""
    if texts.dtype != pl.String:
        raise BadDataset(f"The column {texts.name!r} of {name} holds {texts.dtype}, not text.")
    return _in_random_order(len(texts), lambda number: (f"{name}#{number}", texts[number] or ""), seed)


def hub_commit(name: str, revision: str | None) -> tuple[str | None, str | None]:
    """The commit of a dataset's revision, or None and why the Hub does not give it, if no revision was demanded.

    Without the Hub, `load_dataset` takes its newest local copy whatever revision it is asked for, so that
    `BadDataset` is raised for a revision that cannot be checked.
    """
    from huggingface_hub import HfApi

    try:
        info = hub.quickly(lambda: HfApi().dataset_info(name, revision=revision, timeout=hub.QUICK_SECONDS))
    except Exception as error:  # offline, unreachable, or unknown
        if revision is None:
            return None, first_line(error)
        raise BadDataset(
            f"The revision {revision!r} of the Hugging Face dataset {name!r} cannot be found or checked: "
            f"{first_line(error)}. Without {option('revision')}, a copy that was downloaded before is used offline."
        ) from error
    return info.sha, None


def hub_documents(
    name: str,
    config: str | None,
    split: str,
    revision: str | None,
    column: str,
    seed: int,
    stream: bool,
    unavailable: str | None = None,
) -> Iterator[Document]:
    """The rows of one split of a Hugging Face dataset; streamed ones are shuffled within a buffer.

    `unavailable` is why the Hub does not give it, so that only a local copy is looked for. Raises `BadDataset` where it
    cannot be loaded or has no such column of texts.
    """
    import datasets as hf_datasets

    try:
        with nullcontext() if unavailable is None else _without_hub():
            data = hf_datasets.load_dataset(name, config, split=split, revision=revision, streaming=stream)
    except Exception as error:  # the library raises many kinds, some of them not its own
        reason = str(error)
        if unavailable is not None:
            reason = (
                f"the Hub has none or cannot be asked ({unavailable}), and no copy on this disk fits. Check the name "
                "and the network, or give a file or folder."
            )
        raise BadDataset(
            f"There is no file or folder {name!r}, and no Hugging Face dataset of that name could be loaded "
            f"(config {config}, split {split}, revision {revision}): {reason}\n{SOURCES}"
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
    return (Document(n, f"{split} shuffled by seed {seed}#{n}", text(row)) for n, row in enumerate(shuffled))


@contextmanager
def _without_hub() -> Iterator[None]:
    """The libraries offline inside the block: a Hub that does not answer is not asked again and again."""
    import datasets as hf_datasets
    from huggingface_hub import constants

    places = (hf_datasets.config, constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _check_column(column: str, names: Sequence[str], where: str) -> None:
    if column not in names:
        raise BadDataset(
            f"{where} has no column {column!r}; it has: {listed(names)}. Choose one with {option('column')}."
        )


def _in_random_order(count: int, read: Callable[[int], tuple[str, str]], seed: int) -> Iterator[Document]:
    """Documents 0 … count−1 in the seed's order, each read (name, text) when it comes up."""
    for number in np.random.default_rng(seed).permutation(count):
        yield Document(int(number), *read(int(number)))
