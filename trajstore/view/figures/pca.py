"""A PCA of checkpoints as charts: scores by step, paths of models, and shares of variance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from trajstore.errors import PlotError, listed
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.figures.axes import ALONG, NAMED, X_COLUMNS, distinct, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

    from trajstore.arguments.choices import X
    from trajstore.pipelines.components.pca import PrincipalComponents
    from trajstore.view.charts.chart import Mark, Symbol

SCORES_SHOWN = 3
"""Components whose scores are drawn."""

_SCORE = "score (nats)"


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


def charts_of_components(components: PrincipalComponents) -> list[Chart]:
    """A PCA of a store's checkpoints as charts, along what it says."""
    from trajstore.pipelines.components.pca import subject

    return pca_charts(
        components.placed or components.result, x=components.x, subject=subject(components.facts)
    )


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
    along = scores if x == "step" else _by_model(result.scores, shown, X_COLUMNS[x][0])
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
    by_model: _Scores = {}
    for model in distinct(scores, "model"):
        parts = [scores.filter(model=model, component=c).sort("step") for c in range(1, count + 1)]
        by_model[model] = numbers(parts[0][x]), [numbers(part["score"]) for part in parts]
    return by_model


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
        title=f"Principal components by {ALONG[x]}",
        x_label=X_COLUMNS[x][1],
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
