"""Groups that are kept as a table: `groups/NAME.parquet`, sites that were given or that a Python function found.

The rows are dataset, context, position and the tokens_sha256 of the dataset that they were found in, by which a reader
leaves out those of a dataset that has changed since. The footer says how the table was made, and the file is sealed as
slices are. Knows nothing of how sites are found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import DamagedFile
from trajstore.schema import FORMAT, META_KEY
from trajstore.store.disk import digests, layout, parquet_files
from trajstore.store.files.datasets import Dataset, numbers

_SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("context", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("tokens_sha256", pa.string(), nullable=False),
    ]
)

_AGAIN = "Remove it with its .sql file, and make that group again"


@dataclass(frozen=True)
class Code:
    """The Python function that found a table's sites."""

    function: str
    """MODULE:FUNCTION."""
    module_sha256: str
    """Of the module's file, as `sha256:…`: a function may use all of it, so that this tells whether it has changed."""
    function_sha256: str
    """Of the function's own lines in it; "" where it is not defined by a statement of its own."""


@dataclass(frozen=True)
class SitesFacts:
    """A table's sites in one dataset."""

    tokens_sha256: str
    """Of the dataset's tokens."""
    files_sha256: str
    """Of the dataset's files, which hold its texts and roles too."""
    sites: int
    """Number of sites."""


@dataclass(frozen=True)
class TableFacts:
    """The origin of a table."""

    description: str
    """Description of the group."""
    time: str
    """When, UTC, to the second."""
    code: Code | None
    """None where the sites were given."""
    every_dataset: bool
    """True if the function is meant for all datasets of the store, later ones too."""
    parts: Mapping[str, SitesFacts]
    """By dataset."""
    sites_sha256: str
    """Hash of all sites, as `sha256:…`."""


@dataclass(frozen=True)
class GroupSites:
    """Sites in one dataset, before they are kept: each once, ascending."""

    dataset: Dataset
    context: np.ndarray
    """int32 (sites,)"""
    position: np.ndarray
    """int32 (sites,)"""


def path_of(root: Path, name: str) -> Path:
    """The table of a group."""
    return layout.group_path(root, name).with_suffix(".parquet")


def hash_sites(sites: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """`sha256:…` over each dataset's name, its number of sites, its contexts and its positions, by name."""
    digest = hashlib.sha256()
    for name, (context, position) in sorted(sites.items()):
        digest.update(f"{name}\0{len(context)}\0".encode())
        digest.update(context.astype("<i4").tobytes())
        digest.update(position.astype("<i4").tobytes())
    return f"sha256:{digest.hexdigest()}"


def encode_table(
    name: str,
    description: str,
    sites: list[GroupSites],
    code: Code | None = None,
    *,
    every_dataset: bool = False,
) -> tuple[TableFacts, bytes]:
    """A group's table: what its footer says, and its bytes."""
    ordered = sorted(sites, key=lambda part: part.dataset.name)
    parts = {
        part.dataset.name: SitesFacts(
            part.dataset.tokens_sha256, part.dataset.files_sha256, len(part.context)
        )
        for part in ordered
    }
    made = TableFacts(
        description,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        code,
        every_dataset,
        parts,
        hash_sites({part.dataset.name: (part.context, part.position) for part in ordered}),
    )
    # A row group a dataset, so that a reader of one skips the others.
    tables = [
        pa.Table.from_arrays(
            [
                pa.repeat(part.dataset.name, len(part.context)),
                pa.array(part.context, pa.int32()),
                pa.array(part.position, pa.int32()),
                pa.repeat(part.dataset.tokens_sha256, len(part.context)),
            ],
            schema=_SCHEMA,
        )
        for part in ordered
    ]
    facts = {"format": FORMAT, "group": name, **asdict(made)}
    return made, digests.parquet(tables or _SCHEMA.empty_table(), {META_KEY: json.dumps(facts)})


def read_table(root: Path, name: str) -> TableFacts:
    """Return how a group's table was made, from its footer; raises `DamagedFile`."""
    path = path_of(root, name)
    with parquet_files.opened(path, _AGAIN, absent=True) as file:
        return _facts(path, name, file)


def _facts(path: Path, name: str, file: pq.ParquetFile) -> TableFacts:
    """Return the facts in a footer; raises `DamagedFile` where that is not this group's, or does not fit its rows."""
    try:
        facts = json.loads(file.metadata.metadata[META_KEY.encode()])
        parts = {
            str(dataset): SitesFacts(
                str(part["tokens_sha256"]), str(part["files_sha256"]), int(part["sites"])
            )
            for dataset, part in facts["parts"].items()
        }
        code = None if facts["code"] is None else Code(**facts["code"])
        made = TableFacts(
            str(facts["description"]),
            str(facts["time"]),
            code,
            bool(facts["every_dataset"]),
            parts,
            str(facts["sites_sha256"]),
        )
        own, rows = facts["group"], sum(part.sites for part in parts.values())
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedFile(path, f"its footer lacks the facts of a group ({error!r})", _AGAIN) from error
    if own != name:
        raise DamagedFile(path, f"it is the table of {own!r}, so it is under another's name", _AGAIN)
    if not file.schema_arrow.equals(_SCHEMA):
        raise DamagedFile(path, "its columns are not those of a group", _AGAIN)
    if file.metadata.num_rows != rows:
        raise DamagedFile(
            path, f"it has {file.metadata.num_rows} rows, and its footer speaks of {rows}", _AGAIN
        )
    return made


def sites(root: Path, name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(contexts, positions) of a group's table, int32, by dataset; raises `DamagedFile` where they are not its own."""
    path = path_of(root, name)
    with parquet_files.opened(path, _AGAIN, absent=True) as file:
        made = _facts(path, name, file)
        table = file.read(columns=["dataset", "context", "position"])
    context, position = numbers(table["context"]), numbers(table["position"])
    ends = np.cumsum([part.sites for part in made.parts.values()], dtype=np.int64)
    # The rows lie in the order of the parts, which are sorted by name.
    by_dataset = {
        dataset: (context[end - part.sites : end], position[end - part.sites : end])
        for (dataset, part), end in zip(made.parts.items(), ends, strict=True)
    }
    if hash_sites(by_dataset) != made.sites_sha256:
        raise DamagedFile(path, "its sites are not those its footer speaks of", _AGAIN)
    return by_dataset


def table_problem(root: Path, name: str, *, deep: bool) -> str | None:
    """Return the fault of a group's table, or None; `deep` reads every byte."""
    read = sites if deep else read_table
    return digests.fault(path_of(root, name), lambda: read(root, name), deep=deep)


def publish_empty_table(root: Path, name: str) -> None:
    """A table of zero rows, by which a view can be made where no store is."""
    _, data = encode_table(name, "", [])
    layout.publish(root, path_of(root, name), data)


def changed(made: TableFacts, datasets: Mapping[str, Dataset]) -> list[str]:
    """Datasets that are not what they were when the table was made; one that is gone is left out."""
    return [
        name
        for name, part in made.parts.items()
        if name in datasets
        and part.files_sha256 not in (datasets[name].files_sha256, datasets[name].former_files_sha256)
    ]


def added(made: TableFacts, datasets: Mapping[str, Dataset]) -> list[str]:
    """Datasets that the table should have and has not, since they came later."""
    return [name for name in datasets if made.every_dataset and name not in made.parts]
