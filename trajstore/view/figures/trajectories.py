"""From results to charts: group trajectories with their intervals, and a PCA of checkpoints.

Frames in, charts out: nothing is computed that the frames do not hold, and nothing is drawn here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Protocol

from trajstore.errors import PlotError, listed
from trajstore.view.charts.chart import MOST_DISTINCT, Chart, Panel, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

    from trajstore.view.charts.chart import Mark, Symbol

X = Literal["step", "tokens", "flops"]

SCORES_SHOWN = 3
"""Components whose scores are drawn."""

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
_X = {
    "step": ("step", "step"),
    "tokens": ("tokens_seen", "tokens seen in training"),
    "flops": ("flops", "FLOPs (6 · parameters outside embeddings · tokens seen)"),
}
"""Column and axis title by what x is."""
_ALONG = {"step": "step", "tokens": "tokens seen", "flops": "FLOPs"}
_SCORE = "score (nats)"
_WIDEST_GRID = 4
NAMED = 4
"""Models, datasets or groups that a title names, before it counts the rest."""


def trajectory_chart(
    frame: pl.DataFrame,
    marks: Iterable[Mark] = (),
    models: Sequence[str] = (),
    *,
    x: X = "step",
    difference: bool = False,
    level: float = 0.95,
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
    column, x_label = _X[x]
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
    return f"{'Difference in loss' if difference else 'Loss'} of {of} by {_ALONG[x]} on {on}: {who}"


def _how_to_read(frame: pl.DataFrame, level: float) -> str:
    """What the curve and its band are."""
    if frame["low"].null_count() == frame.height:
        return "Mean of the tokens."
    units = _distinct(frame.filter(frame["low"].is_not_null()), "unit")
    over = plural(units[0] if len(units) == 1 else "unit")
    return f"Mean of the tokens; band: {100 * level:.3g} % interval over {over}, for the choice of text, not of seed."


def plural(unit: str) -> str:
    """Several of what is resampled: contexts, documents, categories; of several kinds, units of text."""
    return {"category": "categories", "unit": "units of text"}.get(unit, f"{unit}s")


def _distinct(frame: pl.DataFrame, column: str) -> list[str]:
    """A column's values in order of appearance."""
    return list(dict.fromkeys(frame[column].to_list()))


def _trajectories(part: pl.DataFrame, colored: str, x: str) -> tuple[Series, ...]:
    """A series for each value of the column `colored`, by rising step; steps without a mean are left out.

    `x` is the column of its x values.
    """
    series = []
    for name in _distinct(part, colored):
        mine = part.filter(part[colored] == name, part["mean"].is_finite()).sort("step")
        series.append(
            Series(
                name=name,
                x=_numbers(mine[x]),
                y=_numbers(mine["mean"]),
                low=_numbers(mine["low"]),
                high=_numbers(mine["high"]),
                steps=_numbers(mine["step"]) if x != "step" else (),
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


class Components(Protocol):
    """Principal components as charts need them: a `PCAResult`, or those of a finding."""

    @property
    def scores(self) -> pl.DataFrame:
        """model, step, component, score."""

    @property
    def variance(self) -> pl.DataFrame:
        """component, variance, ratio."""

    @property
    def zeros(self) -> Sequence[float]:
        """Share of each component's loadings that are exactly zero."""


def pca_charts(
    result: Components,
    marks: Iterable[Mark] = (),
    models: Sequence[str] = (),
    *,
    x: X = "step",
    subject: str = "",
) -> list[Chart]:
    """A PCA of checkpoints as charts: scores by step, pairs of components as paths, shares of variance.

    Scores are drawn for the first three components. A path joins a model's checkpoints in order of step, from a
    ring at the first to a square at the last, with a diamond at the first checkpoint at or after a mark.
    `models` fixes the order of colours. For another `x` than the step, the scores have a column tokens_seen or flops,
    and no marks are drawn over it. `subject` says for the titles what was fitted, to which they add the models where
    there are several. Raises `PlotError` where there are no scores.
    """
    if result.scores.is_empty():
        raise PlotError("There is nothing to draw: the PCA has no scores.")
    shares = {
        int(component): 100 * float(ratio)
        for component, ratio in result.variance.sort("component").select("component", "ratio").iter_rows()
    }
    shown = min(SCORES_SHOWN, len(shares))
    zeros = result.zeros
    labels = [_named(c + 1, shares[c + 1], zeros[c]) for c in range(shown)]
    scores = _by_model(result.scores, shown)
    along = scores if x == "step" else _by_model(result.scores, shown, _X[x][0])
    charts = [_scores_chart(along, labels, tuple(marks) if x == "step" else (), tuple(models), x)]
    if len(shares) > 1:
        charts.append(_paths_chart(scores, labels, tuple(marks), tuple(models)))
    of = f": {subject}" if subject else ""
    if subject and len(scores) > 1:
        of += f", {listed(scores, NAMED)}"
    return [replace(chart, title=f"{chart.title}{of}") for chart in [*charts, _variance_chart(shares)]]


_Scores = dict[str, tuple[tuple[float, ...], list[tuple[float, ...]]]]
"""By model: its steps in order (or tokens seen, or FLOPs), and the scores there by component."""


def _by_model(scores: pl.DataFrame, count: int, x: str = "step") -> _Scores:
    found: _Scores = {}
    for model in _distinct(scores, "model"):
        parts = [scores.filter(model=model, component=c).sort("step") for c in range(1, count + 1)]
        found[model] = _numbers(parts[0][x]), [_numbers(part["score"]) for part in parts]
    return found


def _named(component: int, share: float, zeros: float) -> str:
    sparse = f", {100 * zeros:.3g} % zeros" if zeros > 0 else ""
    return f"component {component} ({share:.3g} % of variance{sparse})"


def _count(scores: _Scores) -> int:
    return len(next(iter(scores.values()))[1])


def _scores_chart(
    scores: _Scores, labels: Sequence[str], marks: tuple[Mark, ...], models: tuple[str, ...], x: X
) -> Chart:
    panels = []
    for c in range(_count(scores)):
        series = tuple(Series(model, steps, values[c]) for model, (steps, values) in scores.items())
        panels.append(Panel(labels[c], series))
    return Chart(
        title=f"Principal components by {_ALONG[x]}",
        x_label=_X[x][1],
        y_label=_SCORE,
        panels=tuple(panels),
        marks=marks,
        note="Where each checkpoint lies along a component, whose sign is such that its largest loading is positive.",
        share_y=False,
        keys=models,
    )


def _paths_chart(
    scores: _Scores, labels: Sequence[str], marks: tuple[Mark, ...], models: tuple[str, ...]
) -> Chart:
    panels = []
    for c in range(_count(scores) - 1):
        series: list[Series] = []
        for model, (steps, values) in scores.items():
            series += _path(model, steps, values[c], values[c + 1], marks)
        panels.append(Panel(f"components {c + 1} and {c + 2}", tuple(series), labels[c], labels[c + 1]))
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
