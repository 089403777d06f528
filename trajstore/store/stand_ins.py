"""Files without rows that stand in for others: a view needs one file at least when it is made, and when it is read.

Each lies where the files that it stands in for do, under the key `.empty` in the place of a name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.schema import EMPTY, is_stand_in
from trajstore.store.disk import digests, layout
from trajstore.store.files import datasets, measures, slices
from trajstore.store.files.finding_tables import TABLES

MODELS = f"models/model={EMPTY}.json"
STAND_INS: Mapping[str, pa.Schema | None] = {
    f"losses/model={EMPTY}/dataset={EMPTY}/step=0/slice.parquet": slices.slice_schema(),
    f"tokens/dataset={EMPTY}/tokens.parquet": datasets.TOKENS,
    f"tokens/dataset={EMPTY}/contexts.parquet": datasets.CONTEXTS,
    MODELS: None,
    # The view of measures takes the columns of the first by name.
    f"measures/model={EMPTY}/step=0/empty.parquet": measures.SCHEMA,
    f"measures/model={EMPTY}/step=0/llc.empty.parquet": measures.TOKEN_SCHEMA,
    **{
        f"findings/kind={kind}/finding={EMPTY}/{table}.parquet": schema
        for kind, tables in TABLES.items()
        for table, schema in tables.items()
    },
}
"""Their paths in a store, with their columns; the one of models holds an empty list."""
_NO_MODELS = b"[]\n"

OLD = (".osses", ".okens", ".odels", ".easures", ".indings")
"""Folders that had them before the migration 0003."""


def put(root: Path) -> None:
    """Put the stand-ins in place; those that are not as they were written are made anew.

    Raises `DamagedFile` for a pipe, socket or device, on which making the views would wait.
    """
    layout.check_small_files(root)
    for path, schema in STAND_INS.items():
        data = _NO_MODELS if schema is None else digests.parquet(schema.empty_table())
        layout.ensure(root, root / path, data)
    for old in root.glob(".indings/kind=*/finding=_/*.parquet"):
        kind = old.parts[-3]
        new = root / "findings" / kind / f"finding={EMPTY}" / old.name
        if kind.removeprefix("kind=") not in TABLES and not new.exists():  # of another package
            layout.ensure(root, new, layout.plain(layout.unlinked(old)).read_bytes())
    for path, _ in damaged(root):
        if path not in STAND_INS:  # of another package, which the views would read as well
            with contextlib.suppress(FileNotFoundError):  # another job was quicker
                layout.plain(layout.unlinked(root / path)).unlink()


def put_back(root: Path) -> None:
    """Put the stand-ins in place if one is gone, as after `rm -r losses/*`."""
    if not all(os.path.exists(f"{root}/{path}") for path in STAND_INS):  # noqa: PTH110 - before each slice
        put(root)


def damaged(root: Path) -> Iterator[tuple[str, str]]:
    """(path in the store, what is wrong) of stand-ins that are not there as they were written."""
    declared = (str(path.relative_to(root)) for path in root.glob(f"findings/*/finding={EMPTY}/*.parquet"))
    for path in dict.fromkeys([*STAND_INS, *sorted(declared)]):
        file = root / path
        if not file.is_file():
            yield path, "it is not there, so that a view may find no file"
        elif path == MODELS:
            if file.read_bytes() != _NO_MODELS:
                yield path, digests.CHANGED
        elif what := digests.problem(file) or _rows(file):
            yield path, what


def _rows(file: Path) -> str | None:
    """The problem of a file that is no table without rows, or None."""
    try:
        rows = pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException) as error:
        return f"it cannot be read ({error})"
    return "it has rows, which views read and nothing lists" if rows else None


def is_stray(inside: str) -> bool:
    """Return whether a file at this path in a store lies among the stand-ins and is none; findings have others too."""
    return is_stand_in(inside) and inside not in STAND_INS and not inside.startswith("findings/")


def remove_old(root: Path) -> None:
    """Remove the folders that stand-ins were in before; to be called when no view reads them any more."""
    for name in OLD:
        if (root / name).exists():
            layout.remove_folder(root, root / name)
