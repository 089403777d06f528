"""The benchmark of a GPU with a tiny model on the CPU: its rows as they come, within its time. Asserts no rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from benchmarks import gpu_job
from benchmarks.forward import gpu_trials, passes
from benchmarks.forward.passes import contexts
from benchmarks.gpu_job import TINY, Bench, Sheet
from benchmarks.harness import page
from trajstore.forward.losses import token_losses

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "LENGTH", 24)


@pytest.mark.usefixtures("_short")
@pytest.mark.timeout(400)
def test_the_whole_table_in_a_tiny_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_job.main(["--tiny", "--out", str(tmp_path / "page.md")]) == 0
    printed = capsys.readouterr().out
    table, _, section = printed.partition(f"## {page.GPU}")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert rows[0] == list(Sheet.HEADER)
    figures = {(row[0], row[1]): row[2] for row in rows}
    for work in ("pass, tiny, float32", "pass, tiny, bfloat16"):
        measured = {name for owner, name in figures if owner == work}
        assert {
            "tokens/s",
            "share of the product's rate",
            "× the plain loop",
            "cost of mixed lengths",
        } <= measured
    assert float(figures["pass, tiny, float32", "largest difference"]) < 1e-5
    assert ("job, tiny, float32, 2 checkpoints × 2 datasets", "rate over the pass's") in figures
    assert "failed" not in table
    for trial in gpu_trials.trials("cpu"):
        assert float(figures[f"trial on the pass, tiny, float32: {trial.name}", "largest difference"]) < 1e-5
    assert all("|".join(row) in section.replace(" | ", "|") for row in rows[2:])
    assert f"## {page.GPU}" in (tmp_path / "page.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("_short")
def test_work_for_which_no_time_is_left_is_named_and_not_begun(capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet(time.monotonic() - 1)
    Bench(TINY, sheet).all()
    printed = capsys.readouterr().out
    assert [row[1] for row in sheet.rows[1:]] == ["left out"] * (len(sheet.rows) - 1)
    assert "| job, tiny, float32, 2 checkpoints × 2 datasets | left out | no time |" in printed
    assert len(sheet.rows) == 1 + len(TINY.passes) * (1 + len(gpu_trials.trials("cpu"))) + len(TINY.jobs)


@pytest.mark.usefixtures("_short")
def test_work_that_fails_is_a_row_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no\nkernel")

    monkeypatch.setattr(Bench, "job", broken)
    monkeypatch.setattr(gpu_trials, "trials", lambda device: [])
    assert gpu_job.main(["--tiny"]) == 1
    printed = capsys.readouterr().out
    assert "| job, tiny, float32, 2 checkpoints × 2 datasets | failed | RuntimeError: no kernel |" in printed
    assert "| pass, tiny, bfloat16 | tokens/s |" in printed


def test_a_bar_is_met_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    sheet = Sheet(time.monotonic())
    sheet.least("pass", "share", 0.26, 0.25, ".0%")
    sheet.least("pass", "share", 0.24, 0.25, ".0%")
    sheet.least("pass", "share", 0.24, None, ".0%")
    assert capsys.readouterr().out.splitlines() == [
        "| pass | share | 26% | ≥ 25% | yes |",
        "| pass | share | 24% | ≥ 25% | no |",
        "| pass | share | 24% |  |  |",
    ]


@pytest.mark.usefixtures("_short")
def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_job.main([]) == 1
    assert "no CUDA device" in capsys.readouterr().err


def test_packed_rows_hold_every_context_once_and_are_nearly_full() -> None:
    lengths = np.clip(np.random.default_rng(0).exponential(190, 512).astype(int), 2, 512).tolist()
    rows = gpu_trials.packed(lengths)
    assert sorted(number for row in rows for number in row) == list(range(512))
    assert max(sum(lengths[number] for number in row) for row in rows) <= max(lengths)
    assert len(rows) * max(lengths) < 1.03 * sum(lengths)


@pytest.mark.usefixtures("_short")
def test_a_trial_leaves_the_model_as_it_was() -> None:
    model, ids = TINY.passes[0].shape.model(), contexts(3)
    before = np.concatenate(token_losses(model, list(ids)))
    for trial in gpu_trials.trials("cpu"):
        trial.scorer(model)(ids)
        np.testing.assert_array_equal(np.concatenate(token_losses(model, list(ids))), before)
