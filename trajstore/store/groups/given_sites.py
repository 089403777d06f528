"""Sites that a user gives for a group: a frame or a file with the columns dataset, context, position.

Each is checked against the datasets; what other columns there are is left aside, as in a group's query. Publishes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trajstore.errors import BadSource, GroupError
from trajstore.store.files import foreign_tables
from trajstore.store.files.datasets import Dataset
from trajstore.store.files.group_tables import GroupSites

COLUMNS = ("dataset", "context", "position")

_KINDS = {".csv": "csv", ".parquet": "parquet"}


def read_sites(path: Path) -> pl.DataFrame:
    """The sites of a .csv or .parquet file; raises `BadSource` or `GroupError`."""
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise BadSource(f"Cannot tell what {path.name} holds: sites are read from .csv and .parquet files.")
    if not path.is_file():
        raise BadSource(f"There is no file {path}.")
    _require_columns(str(path), foreign_tables.column_names(path, kind))
    return pl.concat(
        [
            pl.DataFrame(schema={"dataset": pl.String, "context": pl.Int64, "position": pl.Int64}),
            *(
                pl.DataFrame(batch)
                for batch in foreign_tables.batches(path, kind, {name: name for name in COLUMNS})
            ),
        ]
    )


def frame_of(source: Any) -> pl.DataFrame:
    """A frame's sites as Polars: it may be Polars, pandas, Arrow, or offer `__arrow_c_stream__`.

    Raises `GroupError` where it is no frame, or its columns are not those of sites.
    """
    if isinstance(source, pl.LazyFrame):
        source = source.collect()
    if not isinstance(source, pl.DataFrame) and not hasattr(source, "__arrow_c_stream__"):
        raise GroupError(
            f"A group is made of a query or of a frame of sites (Polars, pandas, Arrow); this is a "
            f"{type(source).__name__}."
        )
    frame = pl.DataFrame(source)
    _require_columns("The frame", frame.columns)
    for name in COLUMNS[1:]:
        if not frame[name].dtype.is_integer():
            raise GroupError(f"In the frame of sites {name} is {frame[name].dtype}, and not a whole number.")
    return frame.select(pl.col("dataset").cast(pl.String), *(pl.col(name) for name in COLUMNS[1:]))


def lacking(columns: Sequence[str]) -> str:
    """Columns that are not those of sites with the names that are missing: «a, b (without c)»; "" where none is."""
    missing = [name for name in COLUMNS if name not in columns]
    return f"{', '.join(columns)} (without {', '.join(missing)})" if missing else ""


def _require_columns(what: str, columns: Sequence[str]) -> None:
    if problem := lacking(columns):
        raise GroupError(f"{what} gives {problem}; sites have the columns dataset, context, position.")


def check_sites(frame: pl.DataFrame, dataset: Callable[[str], Dataset]) -> list[GroupSites]:
    """The sites by dataset, each once and in canonical order; raises `GroupError` naming the first that does not exist.

    `dataset` gives a dataset by its name, or raises `UnknownName`.
    """
    if not frame.height:
        raise GroupError("There are no sites in it.")
    for name in COLUMNS:
        if (bad := frame[name].is_null().arg_max()) is not None and frame[name].null_count():
            what = "dataset" if name == "dataset" else f"whole number for a {name}"
            raise GroupError(f"Row {bad + 1} of the sites has no {what}.")
    names = frame["dataset"].unique(maintain_order=True)
    datasets = {name: dataset(name) for name in names}
    rows = frame.with_row_index("row")
    absent: list[tuple[int, str]] = []
    sites = []
    for name, of in datasets.items():
        own = rows.filter(pl.col("dataset") == name)
        context, position = own["context"].to_numpy(), own["position"].to_numpy()
        known = of.has_sites(context, position)
        if not known.all():
            at = int(np.flatnonzero(~known)[0])
            absent.append((int(own["row"][at]), f"context {context[at]}, position {position[at]} of {name}"))
            continue
        unique = own.select("context", "position").unique().sort("context", "position").cast(pl.Int32)
        sites.append(GroupSites(of, unique["context"].to_numpy(), unique["position"].to_numpy()))
    if absent:
        row, place = min(absent)
        raise GroupError(f"Row {row + 1} of the sites names {place}, which does not exist.")
    return sites
