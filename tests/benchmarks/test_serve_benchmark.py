"""The benchmark of the page at the smallest size: every row is there, in the browser where there is one."""

from pathlib import Path

from benchmarks.harness.chromium import CHROMIUM, DRIVER
from benchmarks.serve import BARS, GROUPS
from tests.benchmarks.test_benchmarks import run, table


def test_the_page_is_measured_and_its_store_removed(tmp_path: Path) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "results.md"
    temporary.mkdir()
    done = run(temporary, "--tiny", "--out", str(out), module="benchmarks.serve")
    assert done.returncode == 0, done.stderr
    assert "# Benchmarks\n\n" + done.stdout == out.read_text(encoding="utf-8")
    assert list(temporary.iterdir()) == []
    rows = {row["What"]: row for row in table(done.stdout)}
    there = bool(CHROMIUM and DRIVER)
    assert list(rows) == [bar.name for bar in BARS if bar is not GROUPS and (there or not bar.in_browser)]
    assert rows["16 clients: errors"]["0.0101 M losses"] == "0"
    assert rows["Page, gzipped"]["0.0101 M losses"].strip("*").endswith(" KB")
