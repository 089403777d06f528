"""The scoring benchmark: its ways compute the same losses, and its page has a row for each. Nothing asserts a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.forward import passes
from benchmarks.forward.jobs import COMMAND, IMPORT, LOAD, job, reading_ratios, start_seconds
from benchmarks.forward.passes import HARNESS, ModelShape, by_definition, contexts, scorer
from benchmarks.harness import page
from benchmarks.scoring import JobFigure, jobs_table

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ModelShape("tiny", 16, 1, 2, side_by_side=2)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(passes, "LENGTH", 24)
    return contexts(3)


def test_the_ways_give_the_losses_of_the_definition(short: np.ndarray) -> None:
    wanted = by_definition(TINY, short)
    assert short.shape == (3, 24)
    for path in (passes.OURS, passes.PLAIN, passes.BATCHED):
        for mine, exact in zip(scorer(path, TINY)(short), wanted, strict=True):
            np.testing.assert_allclose(mine, exact, rtol=0, atol=1e-5)


@pytest.mark.slow  # its import takes seconds
def test_the_harness_scores_the_same_tokens(short: np.ndarray) -> None:
    pytest.importorskip("lm_eval")
    wanted = [each.sum() for each in by_definition(TINY, short)]
    np.testing.assert_allclose(scorer(HARNESS, TINY)(short), wanted, rtol=1e-5)


def test_a_job_is_split_into_the_pass_and_the_rest(short: np.ndarray) -> None:
    found = job(TINY, steps=2, n=3)
    assert 0 < found.in_the_pass < found.wall
    assert found.overhead == pytest.approx(1 - found.in_the_pass / found.wall)
    assert found.passes_alone > 0
    assert found.ratio == pytest.approx(found.wall / found.passes_alone)


def test_a_job_whose_pass_costs_nothing_is_set_over_hashing_alone(
    short: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = reading_ratios(TINY, steps=3, n=2, rounds=2)
    assert len(ratios) == 2
    assert min(ratios) > 0


@pytest.mark.slow  # six processes import torch
def test_starts_are_measured_in_turn() -> None:
    seconds = start_seconds(TINY, rounds=1)
    assert {name: len(every) for name, every in seconds.items()} == {IMPORT: 1, LOAD: 1, COMMAND: 1}
    assert min(every[0] for every in seconds.values()) > 0


def test_figures_of_jobs_have_their_bars_beside_them() -> None:
    table = jobs_table([JobFigure("this", [1.0, 2.0, 4.0], 1.5), JobFigure("that", [3.0], None)])
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.strip().splitlines()[2:]] == [
        ["this", "2.00", "1.00 to 4.00", "1.5"],
        ["that", "3.00", "3.00 to 3.00", ""],
    ]


def test_a_section_is_written_into_the_page_beside_the_others(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    page.put(file, f"## {page.SCORING}\n\nold\n")
    page.put(file, f"## {page.PEERS}\n\npeers\n")
    page.put(file, f"## {page.SCORING}\n\nnew\n")
    text = file.read_text(encoding="utf-8")
    assert text.index("peers") < text.index("new")
    assert "old" not in text


@pytest.mark.slow  # five processes that load torch, and a model of 14 million parameters
@pytest.mark.timeout(600)
def test_the_table_has_a_row_for_each_way(tmp_path: Path) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "results.md"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scoring", "--quick", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []
    for way in passes.paths():
        assert f"| 14m | {way}" in done.stdout
    assert "outside the pass" in done.stdout
    assert f"## {page.SCORING}" in out.read_text(encoding="utf-8")
