"""Group trajectories with their intervals as charts.

Frames in, charts out: nothing is computed that the frames do not hold, and nothing is drawn here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.arguments import defaults
from trajstore.display import plural
from trajstore.errors import PlotError, listed
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.charts.colors import MOST_DISTINCT
from trajstore.view.figures.axes import ALONG, NAMED, X_COLUMNS, distinct, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

    from trajstore.arguments.choices import X
    from trajstore.pipelines.trajectory_result import Trajectory
    from trajstore.view.charts.chart import Mark

_TRAJECTORY_COLUMNS = (
    "group",
    "model",
    "dataset",
    "step",
    "tokens",
    "contexts",
    "unit",
    "mean",
    "low",
    "high",
)
_WIDEST_GRID = 4


def charts_of_trajectory(trajectory: Trajectory) -> list[Chart]:
    """The chart of a trajectory; raises `PlotError` where there is nothing to draw."""
    return [
        trajectory_chart(
            trajectory.frame,
            x=trajectory.x,
            difference=trajectory.difference,
            level=trajectory.level,
            notes=trajectory.chosen,
        )
    ]


def trajectory_chart(
    frame: pl.DataFrame,
    marks: Iterable[Mark] = (),
    models: Sequence[str] = (),
    *,
    x: X = "step",
    difference: bool = False,
    level: float = defaults.LEVEL,
    notes: Sequence[str] = (),
) -> Chart:
    """Mean loss, or with `difference` a difference of means (nats a token), by step with its interval.

    `frame` has the columns group and those of `analysis.trajectories.SCHEMA`; for another `x` than the step,
    tokens_seen or flops as well, and then no marks are drawn. With several models they are coloured, and each group on
    each dataset has a panel: groups down, datasets across. With one model and few groups, groups are coloured, and each
    dataset has a panel. A group without losses on a dataset has no panel there. `models` fixes the order of colours,
    for charts that stand together; `level` is that of the intervals, and `notes` are sentences for under the title.
    Raises `PlotError` for a frame without rows.
    """
    column, x_label = X_COLUMNS[x]
    missing = [name for name in _TRAJECTORY_COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"a frame of trajectories lacks the columns {', '.join(missing)}")
    if frame.is_empty():
        raise PlotError(
            "There is nothing to draw: no trajectory has a step. See what is scored: trajstore status"
        )
    groups, names, datasets = (distinct(frame, column) for column in ("group", "model", "dataset"))
    by_model = len(names) > 1 or not 1 < len(groups) <= MOST_DISTINCT
    colored = "model" if by_model else "group"
    panels = []
    for group in groups if by_model else [None]:
        for dataset in datasets:
            part = frame.filter(dataset=dataset, **({"group": group} if group else {}))
            words = [group] * (by_model and len(groups) > 1) + [dataset] * (len(datasets) > 1)
            panels.append(Panel(" · ".join(map(str, words)), _trajectories(part, colored, column)))
    drawn = [panel for panel in panels if any(series.x for series in panel.series)] or panels
    # Groups down and datasets across has a place for each of both: it would leave holes.
    whole = len(drawn) == len(panels)
    grid = by_model and len(groups) > 1 and 1 < len(datasets) <= _WIDEST_GRID and whole
    return Chart(
        title=_title(groups, datasets, names, x, difference),
        x_label=x_label,
        y_label="difference (nats a token)" if difference else "loss (nats a token)",
        panels=tuple(drawn),
        marks=tuple(marks) if x == "step" else (),
        note=" ".join([_how_to_read(frame, level), *notes]),
        columns=len(datasets) if grid else 0,
        keys=tuple(models) if by_model else (),
        zero=difference,
    )


def _title(
    groups: Sequence[str], datasets: Sequence[str], models: Sequence[str], x: X, difference: bool
) -> str:
    of, on, who = (listed(names, NAMED) for names in (groups, datasets, models))
    return f"{'Difference in loss' if difference else 'Loss'} of {of} by {ALONG[x]} on {on}: {who}"


def _how_to_read(frame: pl.DataFrame, level: float) -> str:
    """Explain the curve and its band."""
    if frame["low"].null_count() == frame.height:
        return "Mean of the tokens."
    units = distinct(frame.filter(frame["low"].is_not_null()), "unit")
    over = plural(units[0] if len(units) == 1 else "unit")
    return f"Mean of the tokens; band: {100 * level:.3g} % interval over {over}, for the choice of text, not of seed."


def _trajectories(part: pl.DataFrame, colored: str, x: str) -> tuple[Series, ...]:
    """A series for each value of the column `colored`, by rising step; steps without a mean are left out.

    `x` is the column of its x values.
    """
    series = []
    for name in distinct(part, colored):
        mine = part.filter(part[colored] == name, part["mean"].is_finite()).sort("step")
        series.append(
            Series(
                name=name,
                x=numbers(mine[x]),
                y=numbers(mine["mean"]),
                low=numbers(mine["low"]),
                high=numbers(mine["high"]),
                steps=numbers(mine["step"]) if x != "step" else (),
                note=f"{_range(mine['tokens'])} tokens in {_range(mine['contexts'])} contexts",
            )
        )
    return tuple(series)


def _range(column: pl.Series) -> str:
    """The one number in a column, or its smallest and largest."""
    values = sorted({int(value) for value in column.drop_nulls().to_list()}) or [0]
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"
