"""The benchmark of components at the smallest size: its table is whole, and its folder goes. Nothing asserts a time."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.test_benchmarks import run, table


def test_the_table_is_whole_and_the_folder_is_removed(tmp_path: Path) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "results.md"
    temporary.mkdir()
    done = run(temporary, "--quick", "--columns", "512", "--out", str(out), module="benchmarks.components")
    assert done.returncode == 0, done.stderr
    assert out.read_text(encoding="utf-8") == "# Benchmarks\n\n" + done.stdout
    assert list(temporary.iterdir()) == []
    rows = table(done.stdout)
    ours = [
        "trajstore, from the slices",
        "trajstore, from the slices, --precision single",
        "trajstore, matrix in memory",
        'trajstore, matrix in memory, precision="single"',
    ]
    ways = [*ours, *(f'scikit-learn, svd_solver="{way}"' for way in ("full", "randomized"))]
    assert [row["Way"] for row in rows] == ways
    assert {row["Rows × columns"] for row in rows} == {"60 × 512"}
    assert all(float(row["Peak memory"].split()[0]) > 50 for row in rows)
