"""The benchmarks at the smallest size: every row is there and its figures are positive. Nothing asserts a time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import benchmarks.run
from benchmarks.harness import page
from benchmarks.harness.bulk import copy_model, copy_names
from benchmarks.harness.page import Grown, StoreShape
from benchmarks.harness.subprocesses import Cost
from benchmarks.harness.synthetic import DATASET, MODEL, Size, make_family
from benchmarks.harness.works import WORKS
from trajstore.store import checks

ROOT = Path(__file__).parent.parent.parent

ROWS = {
    "Bytes a row of a slice": [".npy", "defaults, long format"],
    "Append one slice": ["DELTA_BINARY_PACKED", "a slice's encodings", "defaults"],
    "Matrix 4 × 186": ["np.load"] * 2
    + ["zarr"] * 2
    + ["pyarrow"]
    + ["DuckDB"] * 2
    + ["Polars lazy", "Polars scan"],
    "Matrix through a group": ["all columns"] * 2 + ["np.load"] * 2 + ["DuckDB"] * 2 + ["Polars"],
    "Trajectory of a group": ["DuckDB"] * 5 + ["pandas", "Polars lazy"] * 2,
    "Mean by step of one token": ["DuckDB"],
    "Open a store of 40 slices": ["DuckDB"],
    "One slice of 40 slices": ["DuckDB", "pyarrow.dataset", "pyarrow.dataset"],
    "Peak memory": ["own size", "DuckDB, COPY", "DuckDB, COPY"],
    "SELECT * FROM losses": ["DuckDB, COPY"] * 2,
}


def run(folder: Path, *arguments: str, module: str = "benchmarks.run") -> subprocess.CompletedProcess[str]:
    """The benchmarks, with `folder` for their temporary files."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def table(text: str) -> list[dict[str, str]]:
    """The rows of the page's one table, by its header."""
    header, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_the_table_is_whole_and_the_folder_is_removed(tmp_path: Path) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "results.md"
    temporary.mkdir()
    done = run(temporary, "--quick", "--size", "4x6x32", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "# Benchmarks\n\n" + done.stdout == out.read_text(encoding="utf-8")
    assert list(temporary.iterdir()) == []
    rows = table(done.stdout)
    for what, peers in ROWS.items():
        found = [row["Peer"] for row in rows if row["What"].startswith(what)]
        assert len(found) == len(peers), what
        assert all(part in peer for part, peer in zip(peers, found, strict=True)), (what, found)
    assert len(rows) == sum(map(len, ROWS.values()))
    for row in rows:
        low, _, high = row["Spread"].partition(" to ")
        assert 0 < float(low) <= float(row["Ratio"]) <= float(high), row
        assert int(row["Runs"]) > 0
    for fact in (
        "Date",
        "duckdb",
        "polars",
        "pyarrow",
        "numpy",
        "trajstore 0",
        "cores",
        "Command: `python -m",
    ):
        assert fact in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "4x6"], "STEPSxCONTEXTSxTOKENS"),
        (["--size", "155x6x32"], "1 to 154 steps"),
        (["--quick", "--out", "results.txt"], ".md"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        code: int | str | None = benchmarks.run.main(arguments)
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert code != 0
    assert said in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_growing_store_is_measured_and_removed(tmp_path: Path) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "results.md"
    temporary.mkdir()
    out.write_text("# Benchmarks\n\n## Beside its peers\n\nkept\n\n## Scale\n\nold\n", encoding="utf-8")
    done = run(temporary, "--quick", "--rows", "2e3", "--out", str(out), module="benchmarks.scale")
    assert done.returncode == 0, done.stderr
    assert out.read_text(encoding="utf-8") == "# Benchmarks\n\n## Beside its peers\n\nkept\n\n" + done.stdout
    assert list(temporary.iterdir()) == []
    rows = table(done.stdout)
    assert [row["Work"] for row in rows] == [work.name for work in WORKS]
    for row in rows:
        seconds, memory = row["0.00202 M rows"].split(", ")
        assert float(seconds.split()[0]) > 0
        assert 20 < float(memory.removesuffix(" MB")) < 4000


def test_growth_is_that_of_the_two_largest() -> None:
    grown = [
        Grown(StoreShape(1, Size(steps, 16, 64)), [Cost(steps / 10, 50_000_000 * steps)] * len(WORKS))
        for steps in (1, 2, 6)
    ]
    text = page.scale_section(grown, 1, "python", pinned=False)
    (growth,) = {row["From 0.00202 M to 0.00605 M: rows × 3"] for row in table(text)}
    assert growth == "time × 3, memory × 3"


@pytest.mark.parametrize(
    ("rows", "models", "steps"), [(10**7, 1, 39), (10**8, 3, 128), (10**9, 25, 153), (1, 1, 1)]
)
def test_a_shape_has_at_least_the_rows_asked_for(rows: int, models: int, steps: int) -> None:
    shape = StoreShape.of(rows, 512, 512)
    assert (shape.models, shape.size.steps) == (models, steps)
    assert rows <= shape.rows < rows + models * 261632


def test_copies_of_a_model_are_sound(tmp_path: Path) -> None:
    family = make_family(Size(3, 4, 8), tmp_path)
    with family.store as store:
        copy_model(store, family.size.labels, copy_names(2))
        assert checks.check(store, deep=True) == []
        assert store.model_names() == ["copy00000", "copy00001", MODEL]
        np.testing.assert_array_equal(store.matrix(DATASET).values, np.tile(family.losses, (3, 1)))
