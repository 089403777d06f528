"""Quantised losses of a report, their largest error, and the steps that it keeps."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import PLANTED_LENGTHS, PLANTED_STEPS, new_dataset
from tests.server.report.test_report import ReportFile
from trajstore.errors import PlotError
from trajstore.server.report.container import Parts
from trajstore.server.report.kept_steps import spread
from trajstore.server.report.page import STATIC
from trajstore.server.report.quantised_losses import MISSING, quantise
from trajstore.server.report.report import write_report
from trajstore.view.charts.chart import step_axis

if TYPE_CHECKING:
    from trajstore.store.store import Store


def test_losses_survive_quantisation_within_the_error_that_is_told():
    rng = np.random.default_rng(0)
    losses = rng.gamma(2, 2, (5, 40)).astype(np.float32)
    losses[0, :3] = [-0.2, 0, 60]
    losses[1, 1] = np.nan
    quantised = quantise(losses)
    codes = np.frombuffer(quantised.codes, "<u2").reshape(5, 40)
    assert (codes == MISSING).sum() == 1 == (codes[1, 1] == MISSING)
    apart = np.abs(np.where(codes == MISSING, np.nan, quantised.low + codes * quantised.unit) - losses)
    assert np.nanmax(apart) == quantised.error <= 60.2 / 131_068 * (1 + 1e-9)
    same = quantise(np.full((2, 3), 1.5, dtype=np.float32))
    assert (same.low, same.error) == (1.5, 0.0)
    assert quantise(np.full((1, 2), np.nan)).codes == b"\xff" * 4


def test_fifty_contexts_at_twenty_steps_of_three_models_are_at_most_ten_megabytes():
    """Of 1024 tokens each; the losses, which are nearly all of it, as they stand in the file."""
    losses = np.random.default_rng(0).gamma(2, 2, (60, 1023)).astype(np.float32)
    parts = Parts()
    parts.add(quantise(losses).codes)
    page = sum(path.stat().st_size for path in (STATIC / "report.js", STATIC / "report.css"))
    assert page + 50 * len(base64.b64encode(parts.packed({}))) < 9_000_000


def test_the_report_of_fifty_contexts_is_small_and_its_largest_error_is_the_one_that_is_told(
    store: Store, tmp_path: Path
):
    """Of 512 tokens each, at twenty steps of three models, and losses that nothing makes smaller."""
    rng = np.random.default_rng(0)
    words = np.array([f" word{number}" for number in range(4000)])
    dataset = store.add_dataset("d", new_dataset(words[rng.zipf(1.3, (50, 512)) % 4000].tolist()))
    losses = {
        (model, step): rng.gamma(2, 2, dataset.n_losses).astype(np.float32)
        for model in ("a", "b", "c")
        for step in (0, *(2**power for power in range(19)))
    }
    for (model, step), values in losses.items():
        store.append(model=model, dataset="d", step=step, losses=values)
    out = write_report(store, tmp_path / "r.html", contexts=50)
    assert out.stat().st_size < 10_000_000
    held = ReportFile(out)
    of_model = [
        np.stack([values for (name, _), values in losses.items() if name == model]) for model in "abc"
    ]
    apart = [
        np.abs(held.losses("d", number, model).astype(np.float32) - of_context.astype(np.float64)).max()
        for model, values in zip("abc", of_model, strict=True)
        for number, of_context in enumerate(np.split(values, 50, axis=1))
    ]
    assert max(apart) <= held.error <= 1.1 * max(apart) + 1e-6


def test_steps_are_spread_over_the_axis_with_both_ends():
    steps = [0, *(2**i for i in range(10)), *range(1000, 144_000, 1000)]
    axis = step_axis(steps)
    kept = [steps[i] for i in spread(steps, 12, axis)]
    assert (kept[0], kept[-1]) == (0, 143_000)
    assert len(kept) <= 12
    gaps = np.diff([axis.position(step) for step in kept])
    assert gaps.max() < 1.0
    assert spread([1, 2, 3], 3, step_axis([1, 2, 3])) == [0, 1, 2]


def test_partial_slices_are_counted_and_not_drawn(planted: Store, tmp_path: Path) -> None:
    first = [1.0] * (PLANTED_LENGTHS[0] - 1)
    for model, dataset, step in (("a", "d", 3), ("a", "d", 5), ("c", "d", 7), ("c", "e", 7)):
        planted.append(model=model, dataset=dataset, step=step, losses=first, contexts=[0])
    held = ReportFile(write_report(planted, tmp_path / "r.html", groups=["every_token"]))
    cells = held.table("coverage").group_by("model", "dataset", "state").len().rows()
    assert {("a", "d", "there", 8), ("a", "d", "partial", 2), ("a", "e", "missing", 2)} < set(cells)
    assert {("c", "d", "partial", 1), ("c", "e", "partial", 1)} < set(cells)
    for facts in held.header["losses"].values():
        assert [of["name"] for of in facts["models"]] == ["a", "b"]
        assert all(of["steps"] == list(PLANTED_STEPS) for of in facts["models"])
    assert "16 checkpoints of a, b" in held.notes("component-scores/new/d")[0]
    with pytest.raises(PlotError, match="There are no complete losses of these models"):
        write_report(planted, tmp_path / "r.html", models="c")
