"""Differences of losses as charts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from trajstore.errors import listed
from trajstore.view.figures.trajectories import trajectory_chart

if TYPE_CHECKING:
    from trajstore.pipelines.differences.result import Diff
    from trajstore.view.charts.chart import Chart


def charts_of_differences(diff: Diff) -> list[Chart]:
    """The chart of differences; raises `PlotError` where there are none."""
    how = diff.options.how
    return [difference_chart(diff.summary, relative=how.scale.relative, level=how.interval.level)]


def difference_chart(summary: pl.DataFrame, *, relative: bool, level: float) -> Chart:
    """The mean differences by step, `relative` or in nats, with intervals of a level.

    Raises `PlotError` for a summary without rows.
    """
    of_models = pl.col("model") != pl.col("minus_model")
    both = pl.format("{} − {}", "model", "minus_model")
    named = summary.with_columns(pl.when(of_models).then(both).otherwise("model").alias("model"))
    made = trajectory_chart(named, difference=True, level=level)
    earlier = summary.filter(pl.col("step") != pl.col("minus_step")).height > 0
    note = f"{made.note} Each step less the one before it among those drawn." if earlier else made.note
    if not relative:
        return replace(made, note=note)
    title = made.title.replace("Difference", "Relative difference", 1)
    return replace(made, title=title, note=note, y_label=f"difference / loss {_subtracted(summary)}")


def _subtracted(summary: pl.DataFrame) -> str:
    """Describe the losses that differences are divided by: before, of another model, or on another prompt."""
    if (summary["step"] != summary["minus_step"]).any():
        return "before"
    if (summary["model"] != summary["minus_model"]).any():
        return f"of {listed(summary['minus_model'].unique(maintain_order=True), 3)}"
    other = "minus_dataset" if "minus_dataset" in summary.columns else "dataset"
    # Of prompts, a dataset is called SECOND − FIRST.
    first = (label.rpartition(" − ")[2] for label in summary[other])
    return f"on {listed(dict.fromkeys(first), 3)}"
