"""Rows on a store of many slices, as 170 models at 154 steps have on one dataset: what finding one among them costs.

The slices are small, so that next to nothing but the finding is measured. The peers have the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads

from benchmarks.harness.bulk import copy_model, copy_names
from benchmarks.harness.peers import Right, close_to, equal_to, plain_duckdb, read_slices
from benchmarks.harness.synthetic import DATASET, Family, Size, make_family
from benchmarks.harness.timing import Contender, Rounds, Row, Say, clocked, compare
from trajstore.pipelines.trajectories import trajectories
from trajstore.store.matrix.selection import Selection
from trajstore.store.quoting import quoted
from trajstore.store.store import Store

_CONTEXTS, _TOKENS = 2, 33


@dataclass(frozen=True)
class _Many:
    """The store, and the slice that is asked for."""

    family: Family
    slices: int
    model: str
    step: int

    @property
    def losses(self) -> np.ndarray:
        row: np.ndarray = self.family.losses[self.family.size.labels.index(self.step)]
        return row

    @property
    def where(self) -> str:
        return f"model = {quoted(self.model)} AND dataset = {quoted(DATASET)} AND step = {self.step}"


def many_rows(folder: Path, models: int, steps: int, rounds: Rounds, say: Say) -> list[Row]:
    """Time to open such a store, and to have one of its slices in three ways."""
    say(f"making {models * steps:,} slices")
    folder.mkdir()
    family = make_family(Size(steps, _CONTEXTS, _TOKENS), folder)
    with family.store:
        names = copy_names(models - 1)
        copy_model(family.store, family.size.labels, names)
        many = _Many(family, models * steps, names[-1], family.size.labels[-1])
        return _rows(many, rounds, say)


def _rows(many: _Many, rounds: Rounds, say: Say) -> list[Row]:
    store, right = many.family.store, equal_to(many.losses)
    opened = clocked(lambda: Store(store.path).close(), lambda _: True)
    bound = Contender("DuckDB, columns of the same files asked for, no store", _plain_columns(many), 2)
    glob = Contender("DuckDB on the same files, no store", _plain_sql(many, right), 2)
    discovered = Contender("pyarrow.dataset, hive partitions found and filtered", _pyarrow(many, right), 2)
    of = f"of {many.slices:,} slices"
    works = {
        f"Open a store {of}": (Contender("Store", opened), bound),
        f"One slice {of}, by SQL on losses": (Contender("sql", _sql(many, right), 2), glob),
        f"One slice {of}, by trajectory": (Contender("trajectories", _trajectory(many)), discovered),
        f"One slice {of}, by matrix": (Contender("Store.matrix", _matrix(many, right)), discovered),
    }
    rows = compare("Many slices", list(works.values()), rounds.usual, say)
    return [row.called(what) for what, row in zip(works, rows, strict=True)]


def _sql(many: _Many, right: Right) -> Callable[[], float]:
    query = f"SELECT loss FROM losses WHERE {many.where} ORDER BY context, position"
    return clocked(lambda: np.asarray(many.family.store.sql(query).fetchnumpy()["loss"]), right)


def _trajectory(many: _Many) -> Callable[[], float]:
    """Run what `trajstore trajectory` computes for one checkpoint."""
    chosen = Selection([DATASET], [many.model], str(many.step))

    def trajectory() -> np.ndarray:
        frame = trajectories(many.family.store, [many.family.whole.name], chosen)
        return frame["mean"].to_numpy()

    return clocked(trajectory, close_to(np.array([many.losses.mean(dtype=np.float64)])))


def _matrix(many: _Many, right: Right) -> Callable[[], float]:
    store = many.family.store
    return clocked(lambda: store.matrix(DATASET, many.model, steps=many.step).values[0], right)


def _plain_columns(many: _Many) -> Callable[[], float]:
    connection = plain_duckdb(many.family.folder, 2)
    query = f"FROM {read_slices(many.family.store.path)}"
    return clocked(lambda: connection.sql(query).columns, lambda columns: "loss" in columns)


def _plain_sql(many: _Many, right: Right) -> Callable[[], float]:
    connection = plain_duckdb(many.family.folder, 2)
    source = read_slices(many.family.store.path)
    query = f"SELECT loss FROM {source} WHERE {many.where} ORDER BY context, position"
    return clocked(lambda: np.asarray(connection.sql(query).fetchnumpy()["loss"]), right)


def _pyarrow(many: _Many, right: Right) -> Callable[[], float]:
    """Finds the partitions anew each time, as ours does."""

    def read() -> np.ndarray:
        tables = pads.dataset(many.family.store.path / "losses", partitioning="hive")
        one = (pads.field("model") == many.model) & (pads.field("step") == many.step)
        losses: np.ndarray = tables.to_table(columns=["loss"], filter=one)["loss"].to_numpy()
        return losses

    return clocked(read, right)
