"""Formats of files that hold losses: trajstore's own and those of installed packages, in one list.

A package adds a format by an entry point of the group `trajstore.importers`, whose name is the format's and which names
an `Importer`: a class that needs no arguments, or a module. Imports none of them before a file is of its format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from trajstore.arguments.spelling import as_given, option
from trajstore.errors import BadSource, TrajstoreError, describe_error
from trajstore.importers import devinterp
from trajstore.plugins import OWN_PACKAGE, Plugin, PluginError, find, plugins
from trajstore.store.files.foreign_tables import Reader, arrow_reader

_COMPRESSED = (".gz", ".zst")
_READ_PACKED = {"gzip": ".gz", "zstd": ".zst"}
"""Compressions that DuckDB unpacks of CSV and JSON lines as it reads, by the endings of their names."""
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


@runtime_checkable
class Importer(Protocol):
    """Reads files of one format as tables in the long format: a row a loss, in any order."""

    suffixes: Sequence[str]
    """Endings of file names that are of this format where none is named, as in (".losses",)."""

    def batches(self, path: Path) -> pa.RecordBatchReader:
        """The rows of a file in batches, so that memory holds a few of them at a time.

        Columns are called model, dataset, step, context, position, token and loss, or otherwise, and the argument
        `columns` of `ingest` says which is which; those that a call names (`model`, `step`) may be missing. Numbers may
        be of any type: they are cast, checked against the dataset and converted from their `unit` by trajstore.
        Called more than once for a file, the first time for the names of its columns.
        """
        ...


@dataclass(frozen=True)
class Format:
    """A format of files, by its name as `format` of `ingest`."""

    name: str
    suffixes: tuple[str, ...]
    package: str = OWN_PACKAGE
    reader: Reader | None = None
    """Opens a file as batches of rows; None where DuckDB reads it, and for arrays."""
    folder: bool = False
    """It is a folder of files that belong together, not one file."""


OWN = {
    form.name: form
    for form in (
        Format("parquet", (".parquet", ".pq")),
        Format("csv", (".csv", ".tsv")),
        Format("jsonl", (".jsonl", ".ndjson")),
        Format("arrow", (".arrow", ".feather", ".ipc"), reader=arrow_reader),
        Format("npy", (".npy",)),
        Format("npz", (".npz",)),
        Format("devinterp", (devinterp.SUFFIX,), reader=devinterp.devinterp_reader, folder=True),
    )
}
"""trajstore's own formats, by name; files of some hold tables or matrices."""


def names() -> list[str]:
    """The names of all formats, trajstore's own first; imports none of the others."""
    return [*OWN, *(plugin.name for plugin in plugins("importers") if plugin.name not in OWN)]


def format_of(path: Path, name: str = "auto") -> Format:
    """The format of a file: the one asked for, or by the file's name where that is "auto".

    Raises `BadSource` for a file that cannot be read so, `TrajstoreError` for a format that there is not, and
    `PluginError` for one that cannot be used.
    """
    if name not in ("auto", *OWN) and name not in (known := names()):
        raise TrajstoreError(f"{as_given('format', name)}: there is auto, {', '.join(known)}.")
    named = _own_by_name(path) if name == "auto" else OWN.get(name)
    if path.is_dir():
        if named is not None and named.folder:
            return named
        raise BadSource(f"{path} is a folder; name the files in it, as in {path}/*.parquet")
    if not path.is_file():
        raise BadSource(f"There is no file {path}.")
    if named is not None and named.folder:
        raise BadSource(f"{path} is a file; {named.name} is a folder.")
    if name not in ("auto", *OWN):
        return _imported(find("importers", name))
    broken: list[PluginError] = []
    if name == "auto" and named is None:
        foreign, broken = _foreign_by_name(path)
        if foreign is not None:
            return foreign
    if packed := _compressed(path):
        raise BadSource(f"{path} is {packed}")
    if named is None:
        endings = (ending for own in OWN.values() for ending in own.suffixes)
        raise BadSource(
            f"Cannot tell from the name {path.name!r} what it holds: it ends in none of {', '.join(endings)}. "
            f"Say it: {option('format', '|'.join(names()))}"
            + "".join(f". {str(error)[:-1]}" for error in broken)
        )
    return named


def _own_by_name(path: Path) -> Format | None:
    """trajstore's own format that a file is of by its name, that of a compression left aside."""
    suffix = next((s.lower() for s in reversed(path.suffixes) if s.lower() not in _COMPRESSED), "")
    return next((own for own in OWN.values() if suffix in own.suffixes), None)


def _foreign_by_name(path: Path) -> tuple[Format | None, list[PluginError]]:
    """A package's format that a file is of by its name, if any, and why those that cannot be used cannot."""
    broken = []
    for plugin in plugins("importers"):
        try:
            foreign = _imported(plugin)
        except PluginError as error:
            broken.append(error)
            continue
        if path.name.lower().endswith(tuple(ending.lower() for ending in foreign.suffixes)):
            return foreign, broken
    return None, broken


def _imported(plugin: Plugin) -> Format:
    """A package's format, its importer loaded; raises `PluginError` where it is none."""
    loaded = plugin.load()
    try:
        importer = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:
        raise plugin.problem(f"cannot be made ({describe_error(error)})") from error
    if not isinstance(importer, Importer):
        raise plugin.problem("is no Importer: it lacks suffixes or batches")

    def read(path: Path) -> pa.RecordBatchReader:
        try:
            batches = importer.batches(path)
        except Exception as error:  # whatever the package raises
            raise BadSource(
                f"{path} cannot be read as {plugin.name} by the package {plugin.package}: {describe_error(error)}"
            ) from error
        if not isinstance(batches, pa.RecordBatchReader):
            raise plugin.problem(f"gives {type(batches).__name__}, not a pyarrow.RecordBatchReader")
        return batches

    return Format(plugin.name, tuple(importer.suffixes), plugin.package, read)


def _compressed(path: Path) -> str:
    """Describe a compression that cannot be read, and what to do; "" for any other file."""
    with path.open("rb") as file:
        start = file.read(6)
    packed = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")
    text = next(
        (s.lower() for s in path.suffixes if s.lower() in (".csv", ".tsv", ".jsonl", ".ndjson")), ".csv"
    )
    if not packed or (path.suffix.lower() == _READ_PACKED.get(packed) and path.suffixes[-2:-1] != []):
        return ""
    ending = _READ_PACKED.get(packed)
    as_it_is = (
        f", or, if it holds such text, name it {path.stem.split('.')[0]}{text}{ending}" if ending else ""
    )
    return f"compressed ({packed}). Unpack it first{as_it_is}."
