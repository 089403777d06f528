"""The benchmarks at the smallest size: every row is there and its ratio a positive number. Nothing asserts a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ROWS = {
    "Bytes a row of a slice": [".npy", "defaults, long format"],
    "Append one slice": ["a slice's encodings", "defaults"],
    "Matrix 4 × 186": ["np.load", "np.load", "pyarrow", "DuckDB", "DuckDB", "Polars lazy", "Polars scan"],
    "Matrix through a group": ["np.load", "np.load", "DuckDB", "DuckDB", "Polars"],
    "Trajectory of a group": ["DuckDB", "DuckDB", "DuckDB"],
    "Peak memory": ["own size"],
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The benchmarks, with `folder` for their temporary files."""
    command = [sys.executable, "-m", "benchmarks.run", *arguments]
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
    assert done.stdout == out.read_text(encoding="utf-8")
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
def test_wrong_arguments_are_refused_before_any_work(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
