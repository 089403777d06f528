"""From results to charts: group trajectories with their intervals, and a PCA of checkpoints.

Frames in, charts out: nothing is computed that the frames do not hold, and nothing is drawn here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trajstore.errors import PlotError
from trajstore.view.charts import MOST_DISTINCT, Chart, Panel, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

    from trajstore.analysis.pca import PCAResult
    from trajstore.view.charts import Mark, Symbol

SCORES_SHOWN = 3
"""Components whose scores are drawn."""

_TRAJECTORY_COLUMNS = ("group", "model", "dataset", "step", "tokens", "contexts", "mean", "low", "high")
_SCORE = "score (nats)"
_WIDEST_GRID = 4


def trajectory_chart(frame: pl.DataFrame, marks: Iterable[Mark] = (), models: Sequence[str] = ()) -> Chart:
    """Mean loss (nats a token) by step with its interval.

    `frame` has the columns group, model, dataset, step, tokens, contexts, mean, low, high. With several models they
    are coloured, and each group on each dataset has a panel: groups down, datasets across. With one model and few
    groups, groups are coloured, and each dataset has a panel. `models` fixes the order of colours, for charts that
    stand together. Raises `PlotError` for a frame without rows.
    """
    missing = [name for name in _TRAJECTORY_COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"a frame of trajectories lacks the columns {', '.join(missing)}")
    if frame.is_empty():
        raise PlotError(
            "There is nothing to draw: no trajectory has a step. See what is scored: trajstore status"
        )
    groups, names, datasets = (_distinct(frame, column) for column in ("group", "model", "dataset"))
    by_model = len(names) > 1 or not 1 < len(groups) <= MOST_DISTINCT
    colored = "model" if by_model else "group"
    panels = []
    for group in groups if by_model else [None]:
        for dataset in datasets:
            part = frame.filter(dataset=dataset, **({"group": group} if group else {}))
            words = [group] * (by_model and len(groups) > 1) + [dataset] * (len(datasets) > 1)
            panels.append(Panel(" · ".join(map(str, words)), _trajectories(part, colored)))
    grid = by_model and len(groups) > 1 and 1 < len(datasets) <= _WIDEST_GRID
    return Chart(
        title=(f"Loss of {groups[0]} by step" if len(groups) == 1 else "Loss by step")
        + (f" on {datasets[0]}" if len(datasets) == 1 else ""),
        x_label="step",
        y_label="loss (nats a token)",
        panels=tuple(panels),
        marks=tuple(marks),
        note="Mean of the tokens; the band is the 95 % interval over contexts."
        + (f" Model: {names[0]}." if len(names) == 1 else ""),
        columns=len(datasets) if grid else 0,
        keys=tuple(models) if by_model else (),
    )


def _distinct(frame: pl.DataFrame, column: str) -> list[str]:
    """A column's values in order of appearance."""
    return list(dict.fromkeys(frame[column].to_list()))


def _trajectories(part: pl.DataFrame, colored: str) -> tuple[Series, ...]:
    """A series for each value of the column `colored`, by rising step; steps without a mean are left out."""
    series = []
    for name in _distinct(part, colored):
        mine = part.filter(part[colored] == name, part["mean"].is_finite()).sort("step")
        series.append(
            Series(
                name=name,
                x=_numbers(mine["step"]),
                y=_numbers(mine["mean"]),
                low=_numbers(mine["low"]),
                high=_numbers(mine["high"]),
                note=f"{_range(mine['tokens'])} tokens in {_range(mine['contexts'])} contexts",
            )
        )
    return tuple(series)


def _numbers(column: pl.Series) -> tuple[float, ...]:
    """A column as floats, NaN for null."""
    return tuple(math.nan if value is None else float(value) for value in column.to_list())


def _range(column: pl.Series) -> str:
    """The one number in a column, or its smallest and largest."""
    values = sorted({int(value) for value in column.drop_nulls().to_list()}) or [0]
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def pca_charts(result: PCAResult, marks: Iterable[Mark] = (), models: Sequence[str] = ()) -> list[Chart]:
    """A PCA of checkpoints as charts: scores by step, pairs of components as paths, shares of variance.

    Scores are drawn for the first three components. A path joins a model's checkpoints in order of step, from a
    ring at the first to a square at the last, with a diamond at the first checkpoint at or after a mark.
    `models` fixes the order of colours. Raises `PlotError` where there are no scores.
    """
    if result.scores.is_empty():
        raise PlotError("There is nothing to draw: the PCA has no scores.")
    shares = {
        int(component): 100 * float(ratio)
        for component, ratio in result.variance.sort("component").select("component", "ratio").iter_rows()
    }
    scores = _by_model(result.scores, min(SCORES_SHOWN, len(shares)))
    charts = [_scores_chart(scores, shares, tuple(marks), tuple(models))]
    if len(shares) > 1:
        charts.append(_paths_chart(scores, shares, tuple(marks), tuple(models)))
    return [*charts, _variance_chart(shares)]


_Scores = dict[str, tuple[tuple[float, ...], list[tuple[float, ...]]]]
"""By model: its steps in order, and the scores there by component."""


def _by_model(scores: pl.DataFrame, count: int) -> _Scores:
    found: _Scores = {}
    for model in _distinct(scores, "model"):
        parts = [scores.filter(model=model, component=c).sort("step") for c in range(1, count + 1)]
        found[model] = _numbers(parts[0]["step"]), [_numbers(part["score"]) for part in parts]
    return found


def _named(component: int, shares: dict[int, float]) -> str:
    return f"component {component} ({shares[component]:.3g} % of variance)"


def _count(scores: _Scores) -> int:
    return len(next(iter(scores.values()))[1])


def _scores_chart(
    scores: _Scores, shares: dict[int, float], marks: tuple[Mark, ...], models: tuple[str, ...]
) -> Chart:
    panels = []
    for c in range(_count(scores)):
        series = tuple(Series(model, steps, values[c]) for model, (steps, values) in scores.items())
        panels.append(Panel(_named(c + 1, shares), series))
    return Chart(
        title="Principal components by step",
        x_label="step",
        y_label=_SCORE,
        panels=tuple(panels),
        marks=marks,
        note="Where each checkpoint lies along the directions in which losses differ most; their signs are arbitrary.",
        share_y=False,
        keys=models,
    )


def _paths_chart(
    scores: _Scores, shares: dict[int, float], marks: tuple[Mark, ...], models: tuple[str, ...]
) -> Chart:
    panels = []
    for c in range(_count(scores) - 1):
        series: list[Series] = []
        for model, (steps, values) in scores.items():
            series += _path(model, steps, values[c], values[c + 1], marks)
        labels = _named(c + 1, shares), _named(c + 2, shares)
        panels.append(Panel(f"components {c + 1} and {c + 2}", tuple(series), *labels))
    changes = "".join(f" Diamond: {mark.label} (step {mark.step:.15g})." for mark in marks)
    return Chart(
        title="Paths through training",
        x_label=_SCORE,
        y_label=_SCORE,
        panels=tuple(panels),
        step_axis=False,
        note=f"Scores in nats, joined in order of step. Ring: first step. Square: last step.{changes}",
        share_y=False,
        keys=models,
    )


def _path(
    model: str, steps: tuple[float, ...], x: tuple[float, ...], y: tuple[float, ...], marks: tuple[Mark, ...]
) -> list[Series]:
    """A model's path, its ends, and its first checkpoint at or after each mark."""
    places: list[tuple[Symbol, int]] = [("ring", 0), ("square", len(steps) - 1)]
    for mark in marks:
        after = [i for i, step in enumerate(steps) if step >= mark.step]
        places += [("diamond", after[0])] if after else []
    path = [Series(model, x, y, steps=steps)]
    for symbol, i in places:
        one = slice(i, i + 1)
        path.append(
            Series(model, x[one], y[one], mode="markers", symbol=symbol, steps=steps[one], in_legend=False)
        )
    return path


def _variance_chart(shares: dict[int, float]) -> Chart:
    bars = Series("share of variance", tuple(map(float, shares)), tuple(shares.values()), mode="bars")
    return Chart(
        title="Share of variance",
        x_label="component",
        y_label="share of variance (%)",
        panels=(Panel("", (bars,)),),
        step_axis=False,
    )
