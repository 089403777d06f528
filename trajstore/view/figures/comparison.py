"""Comparisons of models as charts: losses against each other, correlations by step, and the outliers since."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.errors import listed
from trajstore.pipelines.comparison.result import pairs_of
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.figures.axes import NAMED, numbers, panels
from trajstore.view.figures.trajectories import trajectory_chart

if TYPE_CHECKING:
    from trajstore.pipelines.comparison.result import Compared


def comparison_charts(compared: Compared) -> list[Chart]:
    """Losses of two models against each other, correlations by step, and what becomes of the outliers."""
    question = compared.question
    of = question.group or "all tokens"
    drawn = stored_comparison_charts(
        compared.models,
        of,
        compared.correlations,
        compared.followed,
        compared.against,
        [ground.step for ground in compared.grounds],
        question.interval.level,
    )
    if len(compared.models) > 2:
        return drawn
    on = listed((ground.dataset for ground in compared.grounds), NAMED)
    return [_scatter(compared, f"{of} on {on}"), *drawn]


def stored_comparison_charts(
    models: Sequence[str],
    of: str,
    correlations: pl.DataFrame,
    followed: pl.DataFrame,
    against: Sequence[tuple[str, int, str]],
    chosen_at: Sequence[int],
    level: float,
) -> list[Chart]:
    """Correlations by step, and what becomes of the outliers: the charts of what a finding's tables hold.

    `of` says which tokens are compared, `chosen_at` at which steps outliers were looked for; the frames and `against`
    are those of `Compared`.
    """
    datasets = list(dict.fromkeys(correlations["dataset"]))
    subject = f"{of} on {listed(datasets, NAMED)}"
    same = pairs_of(models, correlations)
    if len(models) > 2:
        return [_pairs_chart(models, datasets, same, subject)]
    drawn = [_by_step(models, datasets, correlations, same, against, subject)]
    if not followed.is_empty():
        drawn.append(_outlier_chart(models, followed, chosen_at, subject, level))
    return drawn


def _outlier_chart(
    models: Sequence[str], followed: pl.DataFrame, chosen_at: Sequence[int], of: str, level: float
) -> Chart:
    """The difference of two models on the outliers, by step."""
    a, b = models
    renamed = followed.rename({"winner": "group"}).with_columns(
        pl.concat_str(pl.col("group"), pl.lit(" wins")).alias("group"), pl.lit(f"{a} − {b}").alias("model")
    )
    made = trajectory_chart(renamed, difference=True, level=level)
    steps = listed(dict.fromkeys(chosen_at))
    chosen = f"Chosen at step {steps}, where the difference is as large as it is by the choice as well."
    winners = followed["winner"].unique().to_list()
    won = f"All are won by {winners[0]}. " if len(winners) == 1 else ""
    return dataclasses.replace(made, title=f"{a} − {b}: outliers of {of}", note=f"{won}{made.note} {chosen}")


def _scatter(compared: Compared, of: str) -> Chart:
    """Losses of two models against each other."""
    a, b = compared.models
    panels = []
    for ground, density in zip(compared.grounds, compared.densities, strict=True):
        ends = (density.x[0], density.x[-1])
        title = f"{ground.dataset}, step {ground.step}"
        panels.append(Panel(title, (Series("the same loss", ends, ends, mode="lines"),), density=density))
    at = (
        ""
        if len({ground.step for ground in compared.grounds}) > 1
        else f" at step {compared.grounds[0].step}"
    )
    return Chart(
        title=f"{a} and {b}{at}: {of}",
        x_label=f"loss of {a} (nats)",
        y_label=f"loss of {b} (nats)",
        panels=tuple(panels),
        step_axis=False,
        note=f"Below the line {b} wins, above it {a}.",
        share_y=False,
    )


def _by_step(
    models: Sequence[str],
    datasets: Sequence[str],
    correlations: pl.DataFrame,
    same: pl.DataFrame,
    against: Sequence[tuple[str, int, str]],
    of: str,
) -> Chart:
    """The correlations of two models by step, as letters, since names are long."""
    a, b = models

    def series(name: str) -> Iterator[Series]:
        here = correlations.filter(dataset=name)
        both = same.filter(dataset=name).sort("step")
        yield from (_line("A with B", both, "pearson"), _line("given frequency", both, "partial"))
        for model, step, dataset in against:
            if dataset == name:
                with_it = here.filter(model=a, other=model, other_step=step).unique("step").sort("step")
                letter = {a: "A", b: "B"}.get(model, model)
                yield _line(f"A with {letter} at {step}", with_it, "pearson")

    return Chart(
        title=f"Correlation of losses by step: {a} and {b}, {of}",
        x_label="step",
        y_label="correlation",
        panels=panels(datasets, series),
        note=f"A: {a}, B: {b}. Bands: intervals over contexts. Given frequency: A with B, the log of a token's share "
        "in the dataset taken out.",
    )


def _line(name: str, frame: pl.DataFrame, column: str) -> Series:
    """A correlation by step with its interval."""
    names = ("step", column, f"{column}_low", f"{column}_high")
    x, y, low, high = (numbers(frame[key]) for key in names)
    return Series(name, x, y, low, high)


def _pairs_chart(models: Sequence[str], datasets: Sequence[str], same: pl.DataFrame, of: str) -> Chart:
    """Correlations of each pair of several models by step."""

    def series(dataset: str) -> Iterator[Series]:
        for column, name in (("pearson", "correlation"), ("partial", "given frequency")):
            value = pl.col(column)
            ends = value.min().alias("y_low"), value.max().alias("y_high")
            by_step = same.filter(dataset=dataset).group_by("step").agg(value.mean().alias("y"), *ends)
            yield _line(name, by_step.sort("step"), "y")

    return Chart(
        title=f"Correlation of losses of {len(models)} models by step: {of}",
        x_label="step",
        y_label="correlation",
        panels=panels(datasets, series),
        note=f"Mean over pairs of {listed(models, 4)}; band: lowest to highest.",
    )
