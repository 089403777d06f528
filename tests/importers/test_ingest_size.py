"""Tables of any size in any order: memory does not grow with them, and nothing is lost on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ragged
from tests.importers.conftest import LOSS, of, reasons, rows, there, write
from trajstore.importers.ingest import ingest
from trajstore.store.matrix.export import save_matrix
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore

pytestmark = pytest.mark.usefixtures("_dataset")

# size, order, and the round trip

MEASURE = """
import re, sys
from pathlib import Path
from trajstore.importers.ingest import ingest
from trajstore.store.store import Store

def peak():  # of this program, which ru_maxrss would mix with the one that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

with Store(sys.argv[1]) as store:
    store.sql("SELECT 1").pl()
    before = peak()
    report = ingest(store, sys.argv[2], dataset="long", budget=4 << 20)
    assert not report.failures, report.failures[0]
    print(report.written, peak() - before)
"""
BOUND = 160.0
"""Megabytes that reading takes beside what is imported, with 4 MiB of rows held."""


def long_file(path: Path, steps: int, contexts: int, length: int) -> None:
    """A file of whole slices, the steps running fastest, so that all slices are open until the end."""
    whole = [(name, pa.int64()) for name in ("step", "context", "position")]
    schema = pa.schema([("model", pa.string()), *whole, ("loss", pa.float64())])
    rows = steps * contexts * (length - 1)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 1 << 17):
            row = np.arange(start, min(start + (1 << 17), rows))
            step, site = row % steps, row // steps
            context, position = site // (length - 1), site % (length - 1) + 1
            loss = ((step * 31 + position * 7 + context) % 1000) / 64
            model = pa.DictionaryArray.from_arrays(np.zeros(len(row), np.int8), ["model"]).cast(pa.string())
            writer.write_table(pa.table([model, step, context, position, loss], schema=schema))


def grown(store: Store, path: Path) -> tuple[int, float]:
    command = [sys.executable, "-c", MEASURE, str(store.path), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    written, megabytes = done.stdout.split()
    return int(written), float(megabytes)


@pytest.mark.parametrize(("most", "contexts"), [(500, 50), pytest.param(1250, 240, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_file(store: Store, tmp_path: Path, most: int, contexts: int) -> None:
    """Ten times the rows (3.2 million, 130 MB as Arrow) in little more memory; the slow file is ten times the bound."""
    length = 129
    store.add_dataset("long", ragged([length] * contexts))
    measured = []
    for steps in (50, most):
        path = tmp_path / f"{steps}.parquet"
        long_file(path, steps, contexts, length)
        written, megabytes = grown(store, path)
        assert written == steps
        measured.append(megabytes)
        store.drop(store.chosen_slices("model"))
    assert max(measured) < BOUND
    assert measured[1] - measured[0] < 64


def test_rows_that_do_not_fit_in_memory_are_spilled(store: Store, tmp_path: Path) -> None:
    table = [row for step in range(20) for row in rows(step=step, seed=step)]
    np.random.default_rng(0).shuffle(table)  # type: ignore[arg-type]
    path = write(tmp_path / "x.csv", table)
    assert ingest(store, path, dataset="d", budget=0).written == 20
    assert there(store) == of(table)
    table.append(dict(table[0]))
    report = ingest(store, write(tmp_path / "y.csv", table), dataset="d", budget=0)
    assert "for the second time, after row 1 of" in next(iter(reasons(report).values()))
    assert report.skipped == 19


def test_batches_meet_slices_anywhere(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first bad row is named though others of its slice came before it and after it in other batches."""
    from trajstore.store.files import foreign_tables

    monkeypatch.setattr(foreign_tables, "BATCH", 2048)  # DuckDB's vectors are no shorter
    store.add_dataset("wide", ragged([3000]))
    table = [
        {"model": m, "step": 1, "context": 0, "position": p, "loss": p / 700}
        for p in range(1, 3000)
        for m in "ab"
    ]
    table[4001]["loss"] = table[5901]["loss"] = -1.0
    path = write(tmp_path / "x.parquet", table)
    report = ingest(store, path, dataset="wide")
    assert report.written == 1
    assert reasons(report) == {
        "b on wide at step 1": f"row 4002 of {path}: the loss at context 0, position 2001 is -1.0; {LOSS}; 1 more rows "
        "are wrong"
    }


def test_too_many_slices_are_a_mistake(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trajstore.importers import long_tables

    monkeypatch.setattr(long_tables, "_MOST_SLICES", 5)
    path = write(tmp_path / "x.csv", rows())
    report = ingest(store, path, dataset="d", columns={"step": "", "token": "step"})
    assert (
        "more than 5 different (model, step): does the column step hold steps?" in reasons(report)[str(path)]
    )


def test_progress_moves_over_bytes_and_slices(store: Store, tmp_path: Path) -> None:
    class Seen:
        def __init__(self) -> None:
            self.bars: list[list[int]] = []

        def start(self, label: str, total: int, unit: str) -> None:
            self.bars.append([total, 0])

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.bars[-1][1] += amount

        def stop(self) -> None: ...

        def say(self, message: str) -> None: ...

    seen = Seen()
    for name in ("x.parquet", "y.csv"):
        ingest(store, write(tmp_path / name, rows() + rows("n")), dataset="d", progress=seen)
    for total, done in seen.bars:
        assert 0.5 * total < done <= total
    assert [total for total, _ in seen.bars][1::2] == [2, 2]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=5),
    steps=st.lists(st.integers(0, 10**12), min_size=1, max_size=4, unique=True),
    kind=st.sampled_from(["csv", "parquet", "jsonl", "arrow"]),
    budget=st.sampled_from([0, 500, 1 << 20]),
    seed=st.integers(0, 2**16),
)
def test_long_to_slices_to_matrix_to_long(
    tmp_path_factory: pytest.TempPathFactory,
    new_store: NewStore,
    lengths: list[int],
    steps: list[int],
    kind: str,
    budget: int,
    seed: int,
) -> None:
    """Ragged datasets, rows in any order, losses of any magnitude: what goes in comes out, by every way."""
    folder, rng = tmp_path_factory.mktemp("x"), np.random.default_rng(seed)
    with new_store(folder / "store") as store:
        made = store.add_dataset("d", ragged(lengths, seed))
        ids = made.ids()
        table = [
            {
                "model": model,
                "step": step,
                "context": c,
                "position": p,
                "token": int(ids[c][p]),
                "loss": float(np.float32(10.0 ** rng.uniform(-9, 2))),
            }
            for model in ("x", "y")
            for step in steps
            for c, n in enumerate(lengths)
            for p in range(1, n)
        ]
        expected = of(table)
        rng.shuffle(table)  # type: ignore[arg-type]
        assert ingest(store, write(folder / f"x.{kind}", table), dataset="d", budget=budget).failures == []
        assert there(store) == expected
        save_matrix(store.matrix("d"), folder / "m.npy")
        store.drop(store.chosen_slices("x") + store.chosen_slices("y"))
        assert ingest(store, folder / "m.npy", dataset="d").written == 2 * len(steps)
        assert there(store) == expected
