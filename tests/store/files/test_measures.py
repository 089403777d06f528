"""Measures go in whole, come back in SQL and as a frame, are checked for damage, and go with their slices."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from tests.conftest import PLANTED_STEPS, ragged
from trajstore.errors import BadMeasures, BadName, DamagedFile, MeasuresExist, StoreTooOld, UnknownName
from trajstore.store import checks
from trajstore.store.catalog import catalog, migrate
from trajstore.store.files import measures
from trajstore.store.files.measures import Measure
from trajstore.store.lifecycle import migrate_store
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

HEADS = [
    Measure("matching", 0.25, layer=0, head=1, stderr=0.01, params={"offset": 1, "n": 25}),
    Measure("matching", 0.75, layer=1, head=0, params={"offset": 1, "n": 25}),
    Measure("matching_best", 0.75, context=3),
]
COLUMNS = ["model", "step", "dataset", "name", "layer", "head", "context", "value", "stderr", "params"]


def problems(store: Store, *, deep: bool = False) -> dict[str, str]:
    return {problem.path: problem.what for problem in checks.check(store, deep=deep)}


def test_an_empty_store_has_the_view(store: Store) -> None:
    assert store.sql("FROM measures").columns == COLUMNS
    assert store.sql("FROM measures").fetchall() == []
    assert store.measures().rows() == []


def test_what_goes_in_comes_back(planted: Store) -> None:
    planted.add_measures("matching", HEADS, model="a", step=8, dataset="d")
    planted.add_measures("energy", [Measure("energy", 2.5, layer=np.int64(4))], model="a", step=np.int64(16))
    params = '{"n": 25, "offset": 1}'
    wanted = [
        ("a", 8, "d", "matching", 0, 1, None, 0.25, 0.01, params),
        ("a", 8, "d", "matching", 1, 0, None, 0.75, None, params),
        ("a", 8, "d", "matching_best", None, None, 3, 0.75, None, None),
        ("a", 16, None, "energy", 4, None, None, 2.5, None, None),
    ]
    assert planted.sql("FROM measures ORDER BY step, name, layer").fetchall() == wanted
    frame = planted.measures("a")
    assert frame.columns == COLUMNS
    assert frame.rows() == wanted
    assert planted.measures("*", "matching").rows() == wanted[:2]
    assert planted.measures("a", "matching_best", "d").rows() == wanted[2:3]
    assert planted.measures("a", dataset="e").rows() == planted.measures("b").rows() == []
    asked = "SELECT sum((params ->> '$.n')::INT) FROM measures"
    assert planted.sql(asked).fetchall() == [(50,)]
    # any reader of hive-partitioned Parquet
    plain = pl.scan_parquet(planted.path / "measures", hive_partitioning=True).collect()
    assert plain["value"].sum() == pytest.approx(4.25)
    assert set(plain["step"].to_list()) == {8, 16}
    assert problems(planted, deep=True) == {}


def test_each_dataset_and_computation_has_a_file(planted: Store) -> None:
    for dataset in ("d", "e", None):
        planted.add_measures("energy", [Measure("energy", 1.0)], model="a", step=0, dataset=dataset)
    names = sorted(path.name for path in (planted.path / "measures/model=a/step=0").iterdir())
    assert names == ["energy.d.parquet", "energy.e.parquet", "energy.parquet"]


def test_they_never_change_but_on_purpose(planted: Store) -> None:
    planted.add_measures("energy", [Measure("energy", 1.0)], model="a", step=0)
    with pytest.raises(MeasuresExist, match="energy of a at step 0: there already"):
        planted.add_measures("energy", [Measure("energy", 2.0)], model="a", step=0)
    assert planted.measures()["value"].to_list() == [1.0]
    planted.add_measures("energy", [Measure("energy", 2.0)], model="a", step=0, replace=True)
    assert planted.measures()["value"].to_list() == [2.0]
    assert list((planted.path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("matching", {"value": float("nan")}, "must be finite"),
        ("matching", {"stderr": float("inf")}, "must be finite"),
        ("matching", {"name": "other"}, "is not matching"),
        ("matching", {"name": "matching_A"}, "is not matching"),
        ("matching", {"params": {"model": object()}}, "cannot be JSON"),
        ("matching", {"params": {"beta": float("nan")}}, "cannot be JSON"),
        ("matching", {"layer": 1, "head": 0, "stderr": None}, "two values have the same name"),
    ],
)
def test_what_cannot_be_kept(planted: Store, name: str, change: dict[str, object], said: str) -> None:
    with pytest.raises(BadMeasures, match=said):
        planted.add_measures(name, [replace(HEADS[0], **change), *HEADS[1:]], model="a", step=0)
    assert [path.name for path in (planted.path / "measures").iterdir()] == ["model=.empty"]


def test_names_that_cannot_be(planted: Store) -> None:
    energy = [Measure("energy", 1.0)]
    with pytest.raises(BadName, match="measure"):
        planted.add_measures("../energy", energy, model="a", step=0)
    with pytest.raises(BadName, match="model"):
        planted.add_measures("energy", energy, model="a/b", step=0)
    with pytest.raises(BadName, match="step"):
        planted.add_measures("energy", energy, model="a", step=-1)
    with pytest.raises(UnknownName, match="dataset 'f'"):
        planted.add_measures("energy", energy, model="a", step=0, dataset="f")
    with pytest.raises(BadMeasures, match="nothing to keep"):
        planted.add_measures("energy", [], model="a", step=0)
    with pytest.raises(UnknownName, match="model 'c'"):
        planted.measures("c")
    assert [path.name for path in (planted.path / "measures").iterdir()] == ["model=.empty"]


def test_damage_is_found_and_named(planted: Store) -> None:
    path = planted.add_measures("matching", HEADS, model="a", step=8, dataset="d")
    inside, good = str(path.relative_to(planted.path)), path.read_bytes()
    rng = random.Random(2)
    for _ in range(60):
        at, bit = rng.randrange(len(good)), 1 << rng.randrange(8)
        path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
        assert measures.measures_problem(path, deep=True) is not None, (at, bit)
    path.write_bytes(good[:-9])
    assert inside in problems(planted)
    with pytest.raises(DamagedFile, match=r"matching\.d\.parquet is damaged"):
        planted.measures()
    path.write_bytes(good.replace(b'"format": 1', b'"format": 9'))
    assert problems(planted) == {}
    assert problems(planted, deep=True) == {
        inside: "its bytes are not those that were written (digest of the file)"
    }
    path.write_bytes(good)
    moved = path.with_name("energy.d.parquet")
    shutil.copy(path, moved)
    assert "under another's name" in problems(planted)[str(moved.relative_to(planted.path))]
    moved.unlink()
    pl.read_parquet(path, hive_partitioning=False).write_parquet(path.with_name("own.parquet"))
    (planted.path / "measures/notes.txt").touch()
    (planted.path / "measures/model=a/step=8/linked.parquet").symlink_to(path)
    found = problems(planted)
    assert "lacks the facts" in found["measures/model=a/step=8/own.parquet"]
    assert found["measures/notes.txt"] == "it is a stray file"
    assert "symbolic link" in found["measures/model=a/step=8/linked.parquet"]


def test_they_go_with_their_slices(planted: Store) -> None:
    energy = [Measure("energy", 1.0)]
    for step in (0, 1, 2):
        for dataset in ("d", "e", None):
            planted.add_measures("energy", energy, model="a", step=step, dataset=dataset)
        planted.add_measures("energy", energy, model="b", step=step)
    planted.add_measures("energy", energy, model="a", step=77)  # of a checkpoint that has no slice
    planted.drop([("a", "d", 0), ("a", "d", 1), ("a", "e", 1)])

    def left(model: str) -> list[tuple[int, str | None]]:
        return planted.measures(model).select("step", "dataset").rows()

    assert left("a") == [(0, "e"), (0, None), (2, "d"), (2, "e"), (2, None), (77, None)]
    planted.drop([("a", name, step) for name in ("d", "e") for step in PLANTED_STEPS])
    assert not (planted.path / "measures/model=a").exists()
    assert left("b") == [(0, None), (1, None), (2, None)]
    assert problems(planted, deep=True) == {}


def test_those_that_another_job_drops_meanwhile_are_left_out(
    planted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (0, 1):
        measures.publish_measures(planted.path, "a", step, "icl", "d", [Measure("icl", 0.5)])
    listed = measures.files(planted.path, "a")
    planted.drop([("a", "d", 1)])
    monkeypatch.setattr(measures, "files", lambda *_: listed)
    assert planted.measures("a")["step"].to_list() == [0]


def test_a_store_from_before_measures_opens_after_migrating(
    store_path: Path, planted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its catalog has no such view and its folder no file for an empty one."""
    from trajstore import sqlfiles

    planted.close()
    real = sqlfiles.load

    def older(kind: str) -> tuple[sqlfiles.SqlFile, ...]:
        since = ("11_measures", "11_llc_tokens", "noise_floor", "stepwise")
        return tuple(file for file in real(kind) if file.name not in since)

    shutil.rmtree(store_path / "measures")
    (store_path / "catalog.duckdb").unlink()
    with monkeypatch.context() as before:
        before.setattr(sqlfiles, "load", older)
        with catalog.creating(store_path, store_path / "catalog.duckdb") as connection:
            migrate.migrate(connection, store_path)
    with pytest.raises(StoreTooOld, match="trajstore migrate"):
        Store(store_path)
    assert migrate_store(store_path) == [migrate.DEFINITIONS]
    with Store(store_path) as opened:
        opened.add_measures("energy", [Measure("energy", 1.0)], model="a", step=0)
        assert opened.sql("SELECT value FROM measures").fetchall() == [(1.0,)]


def test_the_noise_floor_of_two_steps(planted: Store) -> None:
    """By hand: the larger of the two; of one alone where only that was measured; null where none was."""
    for model, dataset, step, value in (
        ("a", "d", 0, 0.25),
        ("a", "d", 1, 0.5),
        ("a", "d", 2, 9.0),
        ("b", "d", 1, 0.125),
    ):
        found = [Measure("noise_p99", value), Measure("noise_max", 100.0)]
        planted.add_measures("noise", found, model=model, step=step, dataset=dataset)
    assert planted.sql("FROM noise_floor(0, 1) ORDER BY ALL").fetchall() == [
        ("a", "d", 0.5),
        ("b", "d", 0.125),
    ]
    asked = "SELECT DISTINCT model, dataset, noise FROM stepwise(0, 1) ORDER BY ALL"
    wanted = [("a", "d", 0.5), ("a", "e", None), ("b", "d", 0.125), ("b", "e", None)]
    assert planted.sql(asked).fetchall() == wanted
    rows = planted.sql("SELECT count(*) FROM stepwise(0, 1)").fetchall()
    assert rows == [(2 * sum(planted.dataset(name).n_losses for name in ("d", "e")),)]


def test_of_several_writers_one_is_first(planted: Store) -> None:
    def write(value: float) -> float | None:
        try:
            planted.add_measures("energy", [Measure("energy", value)], model="a", step=0)
        except MeasuresExist:
            return None
        return value

    with ThreadPoolExecutor(8) as pool:
        written = [value for value in pool.map(write, range(8)) if value is not None]
    assert planted.measures()["value"].to_list() == written


def test_frames_of_many_files_have_one_schema(store: Store) -> None:
    store.add_dataset("d", ragged([3, 4]))
    store.append(model="m", dataset="d", step=0, losses=np.ones(5, np.float32))
    for step in range(5):
        store.add_measures("energy", [Measure("energy", float(step))], model="m", step=step)
    frame = store.measures("m", "energy")
    assert frame["step"].to_list() == [0, 1, 2, 3, 4]
    assert dict(frame.schema) == measures.COLUMNS
