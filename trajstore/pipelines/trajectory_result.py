"""Trajectories of groups as one result: the numbers, what must be said beside them, and their chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.arguments.choices import X
from trajstore.display import Drawn, of_checkpoints, of_names
from trajstore.pipelines.caveats import caveats, chosen_by_losses
from trajstore.pipelines.training_progress import check_x, with_training
from trajstore.pipelines.trajectories import trajectories
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store


@dataclass(frozen=True, repr=False)
class Trajectory(Drawn):
    """Mean losses of groups by step, or differences of them, with their intervals."""

    drawn_by = "trajstore.view.figures.trajectories:charts_of_trajectory"

    frame: pl.DataFrame
    """The columns of `trajectories.trajectories`; along tokens or FLOPs with `tokens_seen` or `flops` after step."""
    caveats: tuple[str, ...]
    """Sentences on what the intervals are of, and on groups that the losses shown have chosen."""
    chosen: tuple[str, ...]
    """The caveats that stand under the chart's title."""
    x: X
    difference: bool
    level: float

    def brief(self) -> str:
        """Groups, datasets, models and steps."""
        of = of_names(self.frame["group"], "group"), of_names(self.frame["dataset"], "dataset")
        return ", ".join([*of, of_checkpoints(self.frame.select("model", "step").iter_rows())])

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The curves."""
        yield "curves", self.frame.drop("unit", "units", "interval", "skewness")


def trajectory(
    store: Store,
    groups: Sequence[str],
    selection: Selection | None = None,
    comparison: Comparison | None = None,
    interval: Interval | None = None,
    x: X = "step",
    progress: Progress = SILENT,
) -> Trajectory:
    """The trajectories of groups, or their differences; raises as `trajectories.trajectories` and `with_training`."""
    check_x(x)
    chosen, compared, how = selection or Selection(), comparison or Comparison(), interval or Interval()
    frame = trajectories(store, groups, chosen, progress, compared, how)
    frame = with_training(store, frame, x, chosen, compared)
    by_losses = tuple(chosen_by_losses(store, groups, chosen, compared))
    sentences = (*caveats(frame, how), *by_losses)
    return Trajectory(frame, sentences, by_losses, x, bool(compared.minus or compared.minus_model), how.level)
