"""Groups of sites: of frames, of files, again, and of a dataset that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.conftest import new_dataset
from tests.store.conftest import SITES
from trajstore.errors import GroupError, StaleGroup, TrajstoreError
from trajstore.store import checks

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store


class Stream:
    """A table that offers Arrow's stream and nothing else."""

    def __arrow_c_stream__(self, schema: object = None) -> object:
        return pa.table(SITES).__arrow_c_stream__(schema)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame(SITES),
        pl.LazyFrame({**SITES, "note": [1, 2, 3]}),
        pd.DataFrame({**SITES, "loss": [0.5, 1, 2]}),
        pa.table(SITES),
        Stream(),
        pl.DataFrame(SITES, schema={"dataset": pl.Categorical, "context": pl.UInt8, "position": pl.Int16}),
    ],
    ids=["polars", "lazy", "pandas", "arrow", "stream", "types"],
)
def test_sites_of_frames(lettered: Store, frame: object) -> None:
    group = lettered.groups.add("mine", frame, "Mine.")
    assert (group.origin, group.sizes, group.description) == ("sites", {"d": 2}, "Mine.")
    assert lettered.sql("FROM groups.mine ORDER BY ALL").fetchall() == [("d", 0, 3), ("d", 1, 0)]
    assert lettered.groups.members("mine", lettered.dataset("d")).tolist() == [3, 4]
    assert checks.check(lettered, deep=True) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_sites_of_files(lettered: Store, tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(SITES).with_columns(text=pl.lit("x"))
    path = tmp_path / f"sites.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    assert lettered.groups.add_sites("mine", path).sizes == {"d": 2}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"position": [0, 1, 9]},
            "Row 3 of the sites names context 1, position 9 of d, which does not exist",
        ),
        (
            {"context": [1, 2, -1]},
            "Row 2 of the sites names context 2, position 3 of d, which does not exist",
        ),
        ({"position": [0, -1, 9]}, "Row 2 of the sites names context 0, position -1"),
        ({"context": [1, None, 1]}, "Row 2 of the sites has no whole number for a context"),
        ({"dataset": ["d", "d", None]}, "Row 3 of the sites has no dataset"),
        ({"dataset": ["d", "e", "d"]}, "There is no dataset 'e' here"),
        ({"position": [0.0, 1.0, 1.5]}, "position is Float64, and not a whole number"),
        ({"position": None}, r"The frame gives dataset, context \(without position\)"),
    ],
)
def test_sites_that_cannot_be(lettered: Store, columns: dict[str, list[Any] | None], message: str) -> None:
    given = {name: values for name, values in (SITES | columns).items() if values is not None}
    with pytest.raises(TrajstoreError, match=message):
        lettered.groups.add("mine", pl.DataFrame(given))
    for nothing in (pl.DataFrame(SITES).clear(), 7):
        with pytest.raises(GroupError, match="There are no sites in it|this is a int"):
            lettered.groups.add("mine", nothing)
    assert list((lettered.path / "groups").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "s.csv",
            "dataset,context,position\nd,0,1\nd,0.5,1\n",
            "Row 2 of the sites has no whole number for a context",
        ),
        ("s.csv", "dataset,context\nd,0\n", r"s.csv gives dataset, context \(without position\)"),
        ("s.csv", "", r"\(without dataset, context, position\)"),
        ("s.parquet", "no", "s.parquet cannot be read as parquet"),
        ("s.txt", "", "sites are read from .csv and .parquet files"),
        ("none.csv", None, "There is no file"),
    ],
)
def test_files_of_no_sites(
    lettered: Store, tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(TrajstoreError, match=message):
        lettered.groups.add_sites("mine", tmp_path / name)


def test_sites_again(lettered: Store) -> None:
    first = lettered.groups.add("mine", pl.DataFrame(SITES), "Mine.")
    assert lettered.groups.add("mine", pl.DataFrame(SITES)[::-1]) == first
    with pytest.raises(GroupError, match="with another definition"):
        lettered.groups.add("mine", pl.DataFrame(SITES)[:1])
    with pytest.raises(GroupError, match="with another description"):
        lettered.groups.add("mine", pl.DataFrame(SITES), "Others.")
    assert lettered.groups.add("mine", pl.DataFrame(SITES)[:1], replace=True).sizes == {"d": 1}
    for replace in (False, True):
        with pytest.raises(GroupError, match="is how a kept table is read, and no definition"):
            lettered.groups.add("mine", "FROM kept_sites('mine')", replace=replace)
    assert lettered.groups.show("mine").sizes == {"d": 1}
    lettered.groups.drop("mine")
    assert list((lettered.path / "groups").iterdir()) == []


def test_sites_of_a_dataset_that_changed(lettered: Store) -> None:
    lettered.groups.add("mine", pl.DataFrame(SITES))
    lettered.drop_dataset("d", losses=True)
    lettered.add_dataset("d", new_dataset([["x", "y"], ["x", "y"]]))
    with pytest.warns(StaleGroup, match="d has changed.*trajstore group add mine --sites FILE --replace"):
        assert lettered.sql("FROM groups.mine").fetchall() == []
    assert lettered.groups.show("mine").stale == "d has changed"
