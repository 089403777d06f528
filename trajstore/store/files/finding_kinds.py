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
        if self.type not in get_args(ColumnType):
            raise BadName("type", self.type, f"one of {', '.join(get_args(ColumnType))}")


def schema_of(columns: Iterable[Column]) -> pa.Schema:
    """Return the schema of a table with these columns, which holds their meanings."""
    chosen = list(columns)
    meanings = json.dumps({column.name: column.meaning for column in chosen}, ensure_ascii=False)
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
    return {path.stem: _declared(path) for path in sorted(_folder(root, kind).glob("*.parquet"))}


def whole_tables_of(root: Path, kind: str) -> Tables:
    """As `tables_of`, none where one of their files is damaged, which `declare` then makes anew."""
    try:
        return tables_of(root, kind)
    except DamagedFile:
        return {}


def same_tables(some: Tables, others: Tables, *, meaning: bool = False) -> bool:
    """Return whether tables have the same names and columns, with `meaning` the same meanings of columns too."""
    return some.keys() == others.keys() and all(
        some[name].equals(others[name], check_metadata=meaning) for name in some
    )


def declared(root: Path) -> list[str]:
    """The kinds of other packages that a store knows, sorted."""
    stand_in = _folder(root, "*").relative_to(root)
    kinds = {path.parent.name.removeprefix("kind=") for path in root.glob(str(stand_in))}
    return sorted(kind for kind in kinds if kind not in TABLES and GROUP_NAME.fullmatch(kind))


def declare(root: Path, kind: str, tables: Tables) -> None:
    """Make a kind of another package known to a store, or its columns those of `tables`.

    Raises `BadName` for names that are taken, `FindingsDiffer` where findings of the kind have other columns.
    """
    for name in (kind, *tables):
        if not GROUP_NAME.fullmatch(name):
            raise BadName("finding", name, "small letters, digits and '_' only, starting with a letter")
    taken = sqlfiles.view_names()
    for table in tables:
        if kind in TABLES or view_of(kind, table) in taken:
            raise BadName(
                "finding", kind, f"trajstore has {view_of(kind, table)} or findings of that name itself"
            )
    known = whole_tables_of(root, kind)
    if (
        known
        and not same_tables(known, tables)
        and any((root / "findings" / f"kind={kind}").glob("finding=[A-Za-z0-9]*"))
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


def _declared(path: Path) -> pa.Schema:
    """The schema in a file without rows; raises `DamagedFile` where it is not as `declare` writes one."""
    try:
        schema = pq.read_schema(layout.plain(layout.unlinked(path)))
        schema = schema.with_metadata({_COMMENTS: (schema.metadata or {})[_COMMENTS]})
        known = set(meanings(schema)) == set(schema.names) and all(map(GROUP_NAME.fullmatch, schema.names))
        known = known and all(field.type in TYPES.values() for field in schema)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(path, f"it is no table of a kind of findings ({error})", _REMEDY) from error
    if not known or not GROUP_NAME.fullmatch(path.stem):
        raise DamagedFile(path, "its columns are not those of a table of findings", _REMEDY)
    return schema
