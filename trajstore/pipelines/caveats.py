"""Caveats of trajectories: what their intervals are of, and whose losses chose the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.statistics.bootstrap import FEWEST, SKEWED, Interval
from trajstore.arguments.spelling import option
from trajstore.display import plural
from trajstore.errors import listed
from trajstore.store.groups.chosen_by_losses import selected_by

if TYPE_CHECKING:
    from trajstore.analysis.trajectories import Comparison
    from trajstore.store.matrix.selection import Selection
    from trajstore.store.store import Store


_METHODS = {
    "bootstrap": "percentiles of resampled means",
    "t": "Student's t",
    "studentised": "studentised resamples",
}


def caveats(frame: pl.DataFrame, interval: Interval) -> list[str]:
    """Sentences on the intervals of a frame of trajectories; none where no intervals were asked for."""
    if interval.kind == "none":
        return []
    sentences = []
    curves = frame.select("group", "dataset", "unit", "units", "interval").unique(maintain_order=True)
    if (sure := curves.filter(pl.col("interval") != "none")).height:
        how = " or ".join(_METHODS[kind] for kind in sure["interval"].unique(maintain_order=True))
        over = " or ".join(plural(unit) for unit in sure["unit"].unique(maintain_order=True))
        sentences.append(
            f"Intervals: {100 * interval.level:.3g} %, over {over}, by {how}. They cover the choice of text, not "
            "that of a training run's seed."
        )
    if (few := curves.filter(interval="t")).height:
        units = " or ".join(plural(unit) for unit in few["unit"].unique(maintain_order=True))
        sentences.append(
            f"Fewer than {FEWEST} {units} in a dataset, so by Student's t and not resampled, which may cover less "
            f"often than it says: {_where(few)}. Rare contexts that cost far more than the others may not be among so "
            "few, which no interval can tell."
        )
    sentences += _skewed(frame)
    if (single := curves.filter(interval="none")).height:
        sentences.append(f"Only one, so without an interval: {_where(single)}.")
    return sentences


def _skewed(frame: pl.DataFrame) -> list[str]:
    """A sentence on the curves whose means are so skewed that intervals cover less often than they say."""
    if "skewness" not in frame.columns:
        return []
    by_curve = frame.group_by("group", "dataset", "unit", "units", "interval", maintain_order=True)
    skewed = by_curve.agg(pl.col("skewness").abs().max()).filter(pl.col("skewness") > SKEWED)
    if skewed.is_empty():
        return []
    most = max(skewed["skewness"].to_list())
    where = f"{_where(skewed)}; skewness of the mean up to {most:.2g}."
    start = "A few units of text weigh far more than the others, so intervals cover less often than they say"
    if (skewed["interval"] == "studentised").all():
        return [f"{start}, studentised ones by little where there are 50 or more: {where}"]
    return [f"{start}: {where} {option('ci', 'studentised')} covers more; more contexts are better."]


def _where(curves: pl.DataFrame) -> str:
    return listed(
        (f"{group} on {dataset} ({units} {unit if units == 1 else plural(unit)})")
        for group, dataset, unit, units in curves.select("group", "dataset", "unit", "units").iter_rows()
    )


def chosen_by_losses(
    store: Store, groups: Sequence[str], selection: Selection, comparison: Comparison
) -> list[str]:
    """A sentence for each group that is defined by the losses of a model whose losses are shown."""
    shown = {*store.models(selection.models), *([comparison.minus_model] if comparison.minus_model else [])}
    named = dict.fromkeys([*groups, *([comparison.minus] if comparison.minus else [])])
    return [
        f"{group} was chosen by losses of {listed(both)}: part of what its curve shows there is the choice."
        for group in named
        if (both := sorted(shown & selected_by(store, group)))
    ]
