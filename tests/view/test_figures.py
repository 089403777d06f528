"""Figures: what stands in which panel, against frames written by hand and a PCA of planted losses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from trajstore.analysis.components.pca import PCAResult, pca
from trajstore.analysis.trajectories import group_trajectory
from trajstore.errors import PlotError
from trajstore.view import Mark, pca_charts, save_chart, trajectory_chart
from trajstore.view.charts import matplotlib, plotly
from trajstore.view.charts.colors import palette

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

STEPS = (0, 1, 2, 4, 8, 16)


def frame(groups: int, models: int, datasets: int) -> pl.DataFrame:
    rows = [
        {
            "group": f"g{g}",
            "model": f"m{m}",
            "dataset": f"d{d}",
            "step": step,
            "tokens": 1200,
            "contexts": 16,
            "unit": "context",
            "units": 16,
            "interval": "bootstrap",
            "mean": 9.0 - m - i / 10,
            "low": 8.0 - m - i / 10,
            "high": 10.0 - m - i / 10,
        }
        for g in range(groups)
        for m in range(models)
        for d in range(datasets)
        for i, step in enumerate(STEPS)
    ]
    return pl.DataFrame(rows)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("models", [1, 2, 4])
@pytest.mark.parametrize("datasets", [1, 2, 4])
def test_every_trajectory_is_drawn_once_and_readably(groups, models, datasets):
    chart = trajectory_chart(frame(groups, models, datasets), [Mark(8, "change")])
    assert sum(len(panel.series) for panel in chart.panels) == groups * models * datasets
    assert max(len(panel.series) for panel in chart.panels) <= 6
    assert chart.grid[1] <= 4
    titles = [panel.title for panel in chart.panels]
    assert len(set(titles)) == len(titles)
    assert chart.step_axis
    assert chart.marks == (Mark(8, "change"),)
    assert chart.y_label == "loss (nats a token)"


def test_several_models_are_coloured_and_each_group_on_each_dataset_has_a_panel():
    chart = trajectory_chart(frame(2, 2, 3), models=["m1", "m0"])
    assert [panel.title for panel in chart.panels] == [f"g{g} · d{d}" for g in range(2) for d in range(3)]
    assert chart.grid == (2, 3)
    assert chart.colors() == dict(zip(["m1", "m0"], palette(2), strict=True))
    first = chart.panels[0].series[0]
    assert (first.name, first.x) == ("m0", STEPS)
    assert first.y == pytest.approx([9.0, 8.9, 8.8, 8.7, 8.6, 8.5])
    assert (first.low[0], first.high[0]) == (8.0, 10.0)
    assert first.note == "1,200 tokens in 16 contexts"


def test_groups_of_one_model_are_coloured():
    chart = trajectory_chart(frame(3, 1, 2))
    assert [panel.title for panel in chart.panels] == ["d0", "d1"]
    assert [series.name for series in chart.panels[0].series] == ["g0", "g1", "g2"]
    assert chart.title == "Loss of g0, g1, g2 by step on d0, d1: m0"


def test_title_names_groups_datasets_and_models():
    assert trajectory_chart(frame(1, 2, 1)).title == "Loss of g0 by step on d0: m0, m1"
    assert trajectory_chart(frame(6, 1, 1)).title == "Loss of g0, g1, g2, g3 and 2 more by step on d0: m0"


def test_many_groups_of_one_model_have_panels_of_their_own():
    chart = trajectory_chart(frame(9, 1, 1))
    assert len(chart.panels) == 9


def test_steps_out_of_order_and_unknown_means_and_intervals():
    shuffled = frame(1, 1, 1).sample(fraction=1, shuffle=True, seed=1)
    shuffled = shuffled.with_columns(
        mean=pl.when(pl.col("step") == 4).then(None).otherwise(pl.col("mean")),
        low=pl.when(pl.col("step") == 2).then(None).otherwise(pl.col("low")),
    )
    (series,) = trajectory_chart(shuffled).panels[0].series
    assert series.x == (0, 1, 2, 8, 16)
    assert np.isnan(series.low[2])


def test_a_difference_has_its_axis_and_a_line_at_zero(tmp_path: Path):
    chart = trajectory_chart(frame(1, 2, 1), difference=True)
    assert (chart.zero, chart.y_label) == (True, "difference (nats a token)")
    assert chart.title == "Difference in loss of g0 by step on d0: m0, m1"
    assert not trajectory_chart(frame(1, 2, 1)).zero
    shown = plotly.figure(chart).layout.shapes
    assert [(line.y0, line.y1) for line in shown] == [(0, 0)]
    axes = matplotlib.figure([chart]).subfigs[0].axes[0]
    assert any(list(line.get_ydata()) == [0, 0] for line in axes.lines)


def test_along_tokens_and_flops_the_step_is_still_told():
    tokens = frame(1, 1, 1).with_columns(tokens_seen=pl.col("step") * 10**11)
    chart = trajectory_chart(tokens, [Mark(8, "change")], x="tokens")
    (series,) = chart.panels[0].series
    assert series.x == tuple(step * 1e11 for step in STEPS)
    assert series.steps == STEPS
    assert (chart.x_label, chart.marks) == ("tokens seen in training", ())
    assert {"100B", "1e12"} <= set(chart.axis().tick_labels)
    flops = trajectory_chart(frame(1, 1, 1).with_columns(flops=pl.col("step") * 1e20), x="flops")
    assert "6 · parameters outside embeddings · tokens seen" in flops.x_label


def test_the_note_says_what_the_band_is():
    made = frame(1, 2, 1)
    assert "95 % interval over contexts, for the choice of text, not of seed." in trajectory_chart(made).note
    categories = made.with_columns(unit=pl.lit("category"))
    assert "90 % interval over categories" in trajectory_chart(categories, level=0.9).note
    mixed = pl.concat([made, categories])
    assert "over units of text" in trajectory_chart(mixed).note
    without = made.with_columns(low=pl.lit(None, pl.Float64), high=pl.lit(None, pl.Float64))
    assert trajectory_chart(without, notes=["A.", "B."]).note == "Mean of the tokens. A. B."


def test_a_long_note_has_room_in_lines_of_its_own():
    notes = ["A group was chosen by losses of a model with a name."] * 4
    short, long = (trajectory_chart(frame(1, 1, 1), notes=each) for each in ([], notes))
    tops = [plotly.figure(chart).layout.margin.t for chart in (short, long)]
    assert tops[1] > tops[0]
    pictures = [matplotlib.figure([chart]) for chart in (short, long)]
    assert pictures[1].get_size_inches()[1] > pictures[0].get_size_inches()[1]
    words = [" ".join(text.get_text().split()) for text in pictures[1].subfigs[0].texts]
    assert long.note in words


def test_an_empty_frame_is_an_error():
    with pytest.raises(PlotError, match="nothing to draw"):
        trajectory_chart(frame(1, 1, 1).clear())
    with pytest.raises(ValueError, match="lacks the columns low, high"):
        trajectory_chart(frame(1, 1, 1).drop("low", "high"))


def test_trajectories_of_a_store_are_drawn(planted: Store, tmp_path: Path):
    parts = [
        group_trajectory(planted.matrix(["d", "e"], group=group)).select(
            pl.lit(group).alias("group"), pl.all()
        )
        for group in ("first_half", "second_half")
    ]
    chart = trajectory_chart(pl.concat(parts))
    assert chart.grid == (2, 2)
    expected = planted.matrix("d", "b", "second_half").values.mean(axis=1)
    panel = next(panel for panel in chart.panels if panel.title == "second_half · d")
    np.testing.assert_allclose(next(s.y for s in panel.series if s.name == "b"), expected, rtol=1e-5)
    save_chart(chart, tmp_path / "t.png")
    save_chart(chart, tmp_path / "t.html")


# principal components


def test_scores_paths_and_shares_of_a_pca(planted: Store, tmp_path: Path):
    fit = pca(planted.matrix(["d", "e"]))
    scores, paths, shares = charts = pca_charts(fit, [Mark(8, "change")], ["b", "a"])
    assert list(scores.colors()) == ["b", "a"]
    assert len(scores.panels) == 3
    of_b = fit.scores.filter(model="b", component=2).sort("step")
    drawn = next(series for series in scores.panels[1].series if series.name == "b")
    assert drawn.x == tuple(of_b["step"])
    assert drawn.y == pytest.approx(of_b["score"].to_list())
    assert scores.marks == (Mark(8, "change"),)
    path, start, end, change = (series for series in paths.panels[0].series if series.name == "b")
    assert not paths.step_axis
    assert path.y == drawn.y
    assert path.steps == (0, 1, 2, 4, 8, 16, 32, 64)
    assert (start.symbol, start.steps) == ("ring", (0,))
    assert (end.symbol, end.steps, end.x) == ("square", (64,), path.x[-1:])
    assert (change.symbol, change.steps) == ("diamond", (8,))
    bars = shares.panels[0].series[0]
    assert bars.y == pytest.approx((100 * fit.variance["ratio"]).to_list())
    assert paths.panels[1].x_label.startswith("component 2 (")
    save_chart(charts, tmp_path / "pca.png")
    save_chart(charts, tmp_path / "pca.html")


def hand_made(components: int) -> PCAResult:
    rows = [
        {"model": "m", "step": step, "component": c, "score": float(step * c)}
        for c in range(1, components + 1)
        for step in (0, 1)
    ]
    scores = pl.DataFrame(
        rows, schema={"model": pl.String, "step": pl.Int64, "component": pl.Int64, "score": pl.Float64}
    )
    numbers = np.arange(1, components + 1)
    variance = pl.DataFrame({"component": numbers, "variance": 1.0 / numbers, "ratio": 0.5 / numbers})
    loadings = np.ones((components, 4))
    loadings[1:, 1:] = 0
    return PCAResult(scores, variance, loadings, np.zeros(4), pl.DataFrame())


def test_one_component_has_no_paths(tmp_path: Path):
    charts = pca_charts(hand_made(1))
    assert [chart.title for chart in charts] == ["Principal components by step", "Share of variance"]
    save_chart(charts, tmp_path / "one.html")


def test_titles_of_a_pca_name_its_models_and_sparse_components_their_zeros():
    paths = pca_charts(hand_made(2), subject="all tokens of d, m")[1]
    assert paths.title == "Paths through training: all tokens of d, m"
    assert paths.panels[0].y_label == "component 2 (25 % of variance, 75 % zeros)"
    assert paths.panels[0].x_label == "component 1 (50 % of variance)"
    one = hand_made(1)
    two = replace(one, scores=pl.concat([one.scores, one.scores.with_columns(model=pl.lit("n"))]))
    assert {chart.title.partition(": ")[2] for chart in pca_charts(two, subject="g of d")} == {"g of d, m, n"}


def test_a_pca_without_scores_is_an_error():
    with pytest.raises(PlotError, match="no scores"):
        pca_charts(hand_made(0))


def test_a_group_that_lies_in_one_dataset_leaves_no_empty_panel():
    full = frame(2, 2, 2)
    made = trajectory_chart(full.filter((pl.col("group") == "g0") | (pl.col("dataset") == "d1")))
    assert [panel.title for panel in made.panels] == ["g0 · d0", "g0 · d1", "g1 · d1"]
    assert all(series.x for panel in made.panels for series in panel.series)
    axes = matplotlib.figure([made]).subfigs[0].axes
    assert [bool(each.lines) for each in axes if each.get_visible() and each.axison] == [True] * 3
    unknown = full.with_columns(mean=pl.when(pl.col("dataset") == "d0").then(None).otherwise("mean"))
    assert [panel.title for panel in trajectory_chart(unknown).panels] == ["g0 · d1", "g1 · d1"]
