"""Kinds of findings: the tables of trajstore's own, and those of other packages, which a store keeps in its files.

A kind of another package is declared by a file without rows for each of its tables, so that a store without the package
still knows the tables, their columns and what each column means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from trajstore import sqlfiles
from trajstore.errors import BadName, DamagedFile, FindingsDiffer
from trajstore.schema import EMPTY, GROUP_NAME
from trajstore.store.disk import digests, layout
from trajstore.store.files.finding_tables import TABLES, TYPES

Tables = Mapping[str, pa.Schema]
ColumnType = Literal["text", "int", "long", "float", "double", "doubles", "bool"]
_COMMENTS = b"trajstore.comments"
"""Key of a schema's metadata, and of a file's, with the meaning of each column by its name, as JSON."""
_OF_FOLDERS = ("kind", "finding")
"""Columns that the names of a finding's folders hold."""
_REMEDY = "Remove it and keep a finding of its kind again, which makes it anew"


@dataclass(frozen=True)
class Column:
    """A column of a table of findings."""

    name: str
    type: ColumnType
    meaning: str
    """In a few words, the unit at the end in square brackets: "mean loss [nats]"."""
    nullable: bool = False

    def __post_init__(self) -> None:
        """Refuse a column that SQL would want quotes for, or of no such type."""
        if not GROUP_NAME.fullmatch(self.name):
            raise BadName("column", self.name, "small letters, digits and '_' only, starting with a letter")
        if self.name in _OF_FOLDERS:
            raise BadName("column", self.name, "views take it from the names of folders")
        if self.type not in get_args(ColumnType):
            raise BadName("type", self.type, f"one of {', '.join(get_args(ColumnType))}")


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """Return the schema of a table with these columns, which holds their meanings."""
    chosen = list(columns)
    meanings = json.dumps({column.name: column.meaning for column in chosen}, ensure_ascii=False)
    names = [column.name for column in chosen]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadName("column", twice[0], "the table has another column of that name")
    fields = [pa.field(column.name, TYPES[column.type], column.nullable) for column in chosen]
    return pa.schema(fields, metadata={_COMMENTS: meanings.encode()})


def meanings(schema: pa.Schema) -> dict[str, str]:
    """The meaning of each column of a schema that `schema_of` made."""
    texts: dict[str, str] = json.loads((schema.metadata or {})[_COMMENTS])
    return texts


def view_of(kind: str, table: str) -> str:
    """The view in SQL of a table of another package's findings: `learned_shares`."""
    return f"{kind}_{table}"


def tables_of(root: Path, kind: str) -> Tables:
    """The tables of a kind of findings, none of a kind that the store does not know; raises `DamagedFile`."""
    if kind in TABLES:
        return TABLES[kind]
    return {name: _declared(_folder(root, kind) / f"{name}.parquet", kind) for name in _names(root, kind)}


def whole_tables_of(root: Path, kind: str) -> Tables:
    """As `tables_of`, none where one of their files is damaged, which `declare` then makes anew."""
    try:
        return tables_of(root, kind)
    except DamagedFile:
        return {}


def same_tables(some: Tables, others: Tables) -> bool:
    """Return whether tables have the same names, columns and meanings of columns."""
    return some.keys() == others.keys() and all(
        some[name].equals(others[name], check_metadata=True) for name in some
    )


def declared(root: Path) -> list[str]:
    """The kinds of other packages that a store knows, sorted."""
    tables = (_folder(root, "*") / "*.parquet").relative_to(root)
    kinds = {path.parts[-3].removeprefix("kind=") for path in root.glob(str(tables))}
    return sorted(kind for kind in kinds if kind not in TABLES and GROUP_NAME.fullmatch(kind))


def declare(root: Path, kind: str, tables: Tables) -> None:
    """Make a kind of another package known to a store, or its columns those of `tables`.

    Raises `BadName` for names that are taken, `FindingsDiffer` where findings of the kind have other columns.
    """
    for name in (kind, *tables):
        if not GROUP_NAME.fullmatch(name):
            raise BadName("finding", name, "small letters, digits and '_' only, starting with a letter")
    taken = {view_of(other, table): other for other in declared(root) for table in _names(root, other)}
    for view in (view_of(kind, table) for table in tables):
        if kind in TABLES or view in sqlfiles.view_names():
            raise BadName("finding", kind, f"trajstore has {view} or findings of that name itself")
        if taken.get(view, kind) != kind:
            raise BadName("finding", kind, f"{view} is the view of {taken[view]} findings in this store")
    known = whole_tables_of(root, kind)
    changed = any(name not in tables or not known[name].equals(tables[name]) for name in known)
    added = tables.keys() - known.keys()
    if known and any(
        changed or any(not (folder / f"{name}.parquet").exists() for name in added)
        for folder in (root / "findings" / f"kind={kind}").glob("finding=[A-Za-z0-9]*")
    ):
        raise FindingsDiffer(kind)
    for name in known.keys() - tables.keys():
        layout.remove(root, _folder(root, kind) / f"{name}.parquet")
    for name, schema in tables.items():
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        data = digests.parquet(schema.empty_table(), metadata)
        layout.ensure(root, _folder(root, kind) / f"{name}.parquet", data)


def _folder(root: Path, kind: str) -> Path:
    """The folder of the files without rows of a kind."""
    return root / "findings" / f"kind={kind}" / f"finding={EMPTY}"


def _names(root: Path, kind: str) -> list[str]:
    """The names of the tables of a kind of another package, sorted."""
    return sorted(path.stem for path in _folder(root, kind).glob("*.parquet"))


def _declared(path: Path, kind: str) -> pa.Schema:
    """The schema in a file without rows; raises `DamagedFile` where it is not as `declare` writes one."""
    try:
        metadata = pq.read_metadata(layout.plain(layout.unlinked(path)))
        schema = metadata.schema.to_arrow_schema()
        schema = schema.with_metadata({_COMMENTS: (schema.metadata or {})[_COMMENTS]})
        texts = meanings(schema)
        for text in texts.values():
            text.encode()
        known = sorted(texts) == sorted(schema.names) and all(map(GROUP_NAME.fullmatch, schema.names))
        known = known and not texts.keys() & set(_OF_FOLDERS) and not metadata.num_rows
        known = known and all(field.type in TYPES.values() for field in schema)
    except (
        OSError,
        pa.ArrowException,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise DamagedFile(path, f"it is no table of a kind of findings ({error})", _REMEDY) from error
    if not known or not GROUP_NAME.fullmatch(path.stem):
        raise DamagedFile(path, "it is no table of findings, or has rows", _REMEDY)
    if view_of(kind, path.stem) in sqlfiles.view_names():
        raise DamagedFile(path, f"trajstore has a view {view_of(kind, path.stem)} itself", "Remove it")
    return schema
