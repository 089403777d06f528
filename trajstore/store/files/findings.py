"""Findings: stored results of analyses, such as a fit of principal components; here, their files.

A finding is a folder of tables, `findings/kind=K/finding=NAME/TABLE.parquet`, published whole: all its tables come
from one run. Each table's footer says what the finding was made of (`facts`), and is sealed as slices are. Knows
nothing of what an analysis means, and computes none.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.testing import assert_frame_equal

from trajstore import sqlfiles
from trajstore.display import Brief, of_names
from trajstore.errors import DamagedFile, FindingExists, PassedOver, UnknownName
from trajstore.schema import DIGEST_KEY, FORMAT, META_KEY, check_name, is_name
from trajstore.store.disk import digests, layout, parquet_files
from trajstore.store.files.finding_kinds import Tables, declared, tables_of, view_of
from trajstore.store.files.finding_subjects import FindingSubject
from trajstore.store.files.finding_tables import TABLES
from trajstore.version import __version__

_AGAIN = "Remove the finding (trajstore finding drop) and compute it again"


@dataclass(frozen=True, repr=False)
class Finding(Brief):
    """A finding of a store."""

    kind: str
    name: str
    made: str
    """When, UTC."""
    facts: Mapping[str, Any]
    """Inputs and method, as its analysis wrote them."""
    folder: Path

    def brief(self) -> str:
        """Kind, name, when it was made, and of which models and datasets."""
        of = (("model", self.subject.models), ("dataset", self.subject.datasets))
        named = [of_names(names, noun) for noun, names in of if names]
        return ", ".join([f"{self.kind} {self.name!r}", *named, f"made {self.made}"])

    @property
    def subject(self) -> FindingSubject:
        """The losses that it is of."""
        return FindingSubject.of(self.facts)

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Its tables; raises `DamagedFile`."""
        for name in self.schemas:
            yield name, self.table(name)

    def table(self, name: str) -> pl.DataFrame:
        """One of its tables, by its name or that of its view in SQL; raises `UnknownName` and `DamagedFile`."""
        schemas = self.schemas
        table = table_named(self.kind, schemas, name)
        return pl.DataFrame(_read(self.folder / f"{table}.parquet", schemas[table]))

    @property
    def schemas(self) -> Tables:
        """Its tables' columns, by the tables' names."""
        return _tables(self.folder)


def _tables(folder: Path) -> Tables:
    """The tables of the finding in a folder; raises `DamagedFile`."""
    return tables_of(folder.parents[2], folder.parent.name.removeprefix("kind="))


def table_named(kind: str, tables: Tables, name: str) -> str:
    """The table of a kind of finding by its name or that of its view in SQL; raises `UnknownName`."""
    table = name if name in tables else _by_view(kind).get(name, name.removeprefix(view_of(kind, "")))
    if table not in tables:
        raise UnknownName(f"table of a {kind} finding", name, list(tables))
    return table


def views_of(root: Path, kind: str) -> list[str]:
    """The views in SQL of a kind of finding; raises `DamagedFile`."""
    if kind in TABLES:
        return list(_by_view(kind))
    return [view_of(kind, table) for table in tables_of(root, kind)]


@cache
def _by_view(kind: str) -> dict[str, str]:
    """The table of a kind of trajstore's own by the name of the view that reads it: `pca_loadings` is `loadings`."""
    tables = {}
    for view in sqlfiles.load("views"):
        if read := re.search(rf"kind={kind}/[^']*/(\w+)\.parquet", view.body):
            tables[re.sub(r"^\d+_", "", view.name)] = read[1]
    return tables


Put = Callable[[pl.DataFrame | pa.Table], None]
"""Writes rows of one table."""


class Writer:
    """Tables of one finding, while it is written."""

    def __init__(self, folder: Path, tables: Tables, footer: Mapping[str, object]) -> None:
        self._folder, self._tables = folder, tables
        self._footer = {META_KEY: json.dumps(footer, allow_nan=False), DIGEST_KEY: digests.ZEROS}

    def add(self, table: str, rows: pl.DataFrame | pa.Table) -> None:
        """Write a whole table; its columns may come in any order and in types that convert."""
        with self.stream(table) as put:
            put(rows)

    @contextlib.contextmanager
    def stream(self, table: str) -> Iterator[Put]:
        """A function that writes rows of a table as they come, in one or many calls."""
        schema, path = self._tables[table], self._folder / f"{table}.parquet"
        with pq.ParquetWriter(
            path, schema, compression="zstd", write_page_checksum=True, store_schema=False
        ) as writer:
            yield lambda rows: writer.write_table(converted(rows, schema))
            writer.add_key_value_metadata(self._footer)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            with memoryview(mapped) as data:
                digests.seal(data)
            mapped.flush()


def converted(rows: pl.DataFrame | pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows as a table has them: its columns in its order, in its types."""
    table = rows.to_arrow() if isinstance(rows, pl.DataFrame) else rows
    return table.select(schema.names).cast(schema)


def path_of(root: Path, kind: str, name: str) -> Path:
    """The folder of a finding; raises `BadName`."""
    return root / "findings" / f"kind={kind}" / f"finding={check_name('finding', name)}"


Replace = bool | Literal["same"]
"""True to put a new finding in the place of one of its name, False not to; "same" leaves that if it holds the same."""


def is_there(root: Path, kind: str, name: str, question: Mapping[str, object]) -> bool:
    """Return whether there is one by this name that was made of the same question; `asked` are the facts that say so.

    Raises `FindingExists` for one of another question: to be asked before long work, not after it.
    """
    layout.put_back(root)
    if not path_of(root, kind, name).exists():
        return False
    facts = read_finding(root, kind, name).facts
    if any(facts.get(key) != value for key, value in json.loads(json.dumps(question)).items()):
        raise FindingExists(kind, name)
    return True


@contextlib.contextmanager
def writing(
    root: Path, kind: str, name: str, facts: Mapping[str, object], *, replace: Replace = False
) -> Iterator[Writer]:
    """Write a finding, whole or not at all: it is published when the block ends well.

    All tables of its kind must be written. `facts` are JSON. Raises `FindingExists` unless `replace`, which puts it in
    the place of the one that is there; with "same" that is left as it is where it holds the same but for rounding, and
    raises `FindingExists` otherwise.
    """
    folder, tables = path_of(root, kind, name), tables_of(root, kind)
    if not replace:
        layout.put_back(root)
        if folder.exists():  # said before long work, not after it
            raise FindingExists(kind, name)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    footer = {
        "format": FORMAT,
        "kind": kind,
        "finding": name,
        "made": made,
        "trajstore": __version__,
        "facts": dict(facts),
    }
    with layout.temporary_folder(root) as temp:
        yield Writer(temp, tables, footer)
        if missing := [table for table in tables if not (temp / f"{table}.parquet").exists()]:
            raise ValueError(f"the finding {kind} {name} has no table {missing[0]}")
        if layout.move_folder(root, temp, folder, replace=replace is True):
            return
        if replace != "same" or not _holds_the_same(temp, folder, tables):
            raise FindingExists(kind, name)


def _holds_the_same(new: Path, old: Path, tables: Tables) -> bool:
    """Return whether two folders hold the same finding: facts but versions, and tables but for rounding.

    Raises `DamagedFile` where the old one cannot be read.
    """
    first = next(iter(tables))
    made_facts = json.loads(pq.read_metadata(new / f"{first}.parquet").metadata[META_KEY.encode()])["facts"]
    facts = [{**side, "versions": None} for side in (made_facts, _open(old).facts)]
    if facts[0] != facts[1]:
        return False
    for table, schema in tables.items():
        try:
            made, kept = pq.read_table(new / f"{table}.parquet"), _read(old / f"{table}.parquet", schema)
            assert_frame_equal(pl.DataFrame(made), pl.DataFrame(kept))
        except AssertionError:
            return False
    return True


def all_of(root: Path, kind: str | None = None) -> list[Finding]:
    """All findings, or those of one kind, by kind and name; those that are damaged are left out, with a warning."""
    readable = []
    for folder in folders(root, kind):
        try:
            readable.append(_open(folder))
        except DamagedFile as error:
            warnings.warn(PassedOver(str(error)), stacklevel=3)
    return readable


def folders(root: Path, kind: str | None = None) -> list[Path]:
    """The folders of all findings, or those of one kind, by kind and name."""
    layout.put_back(root)
    known = {*TABLES, *declared(root)}
    paths = sorted((root / "findings").glob(f"kind={kind or '*'}/finding=*"))
    return [
        folder
        for folder in paths
        if folder.parent.name.removeprefix("kind=") in known
        and is_name(folder.name.removeprefix("finding="))
        and folder.is_dir()
    ]


def missing(folder: Path) -> list[str]:
    """The files that a finding's folder should have and has not."""
    with contextlib.suppress(DamagedFile):  # of what tells the tables, which the check of that file says
        return [
            f"{table}.parquet"
            for table in _tables(folder)
            if not os.path.lexists(folder / f"{table}.parquet")
        ]
    return []


def names(root: Path) -> list[str]:
    """Names of all findings, each once."""
    return sorted({folder.name.removeprefix("finding=") for folder in folders(root)})


def read_finding(root: Path, kind: str, name: str) -> Finding:
    """One finding; raises `UnknownName` and `DamagedFile`."""
    if kind not in (known := [*TABLES, *declared(root)]):
        raise UnknownName("kind of finding", kind, known)
    folder = path_of(root, kind, name)
    layout.put_back(root)
    if not folder.is_dir():
        existing = [path.name.removeprefix("finding=") for path in folders(root, kind)]
        raise UnknownName(f"{kind} finding", name, existing, "See them all: trajstore finding list")
    return _open(folder)


def drop_finding(root: Path, kind: str, name: str) -> None:
    """Remove a finding for good; raises `UnknownName`."""
    folder = path_of(root, kind, name)
    layout.put_back(root)
    if not folder.is_dir():
        read_finding(root, kind, name)
    layout.forget_aside(root, folder)
    layout.remove_folder(root, folder)


def _open(folder: Path) -> Finding:
    """A finding, from the footer of one of its tables; raises `DamagedFile`."""
    kind, name = (folder.parent.name.removeprefix("kind="), folder.name.removeprefix("finding="))
    if absent := missing(folder):
        raise DamagedFile(folder / absent[0], "it is not there", _AGAIN)
    path = folder / f"{next(iter(_tables(folder)))}.parquet"
    footer = _footer(path)
    return Finding(kind, name, str(footer["made"]), footer["facts"], folder)


def _footer(path: Path, schema: pa.Schema | None = None) -> dict[str, Any]:
    """Return the facts in a table's footer; raises `DamagedFile`, also where its columns are not those of `schema`."""
    try:
        parquet = pq.read_metadata(layout.plain(layout.unlinked(path)))
        metadata = parquet.metadata or {}
        if schema is not None and not parquet.schema.to_arrow_schema().equals(schema):
            raise DamagedFile(path, "its columns are not those of such a table", _AGAIN)
        facts: dict[str, Any] = json.loads(metadata[META_KEY.encode()])
        place = (f"kind={facts['kind']}", f"finding={facts['finding']}")
        known = isinstance(facts["facts"], dict) and isinstance(facts["made"], str)
    except FileNotFoundError as error:
        raise DamagedFile(path, "it is not there", _AGAIN) from error
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(path, f"its footer lacks the facts of a finding ({error})", _AGAIN) from error
    if not known or place != path.parts[-3:-1]:
        raise DamagedFile(path, f"it belongs to {'/'.join(place)}, so it is under another's name", _AGAIN)
    return facts


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    _footer(path, schema)
    with parquet_files.opened(path, _AGAIN, absent=True) as file:
        return file.read()


NO_TABLE = "it is no table of a finding that the store knows"
"""Problem of a file beside a finding's tables, or of one whose kind the store has lost."""


def finding_problem(path: Path, *, deep: bool) -> str | None:
    """Return the fault of a table's file, or None; `deep` reads every byte."""
    try:
        schema = _tables(path.parent).get(path.stem)
    except DamagedFile:  # of what tells the tables, which the check of that file says
        return None
    if schema is None:
        return NO_TABLE
    read = _read if deep else _footer
    return digests.fault(path, lambda: read(path, schema), deep=deep)
