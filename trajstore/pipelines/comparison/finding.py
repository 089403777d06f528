"""A comparison of models kept in the store: as a finding, its outliers as groups; and drawn."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.errors import GroupError, listed
from trajstore.pipelines.comparison.comparison import pairs_of
from trajstore.pipelines.finding_names import (
    ADDED,
    NewGroup,
    add_groups,
    finding_name,
    of_finding,
    require_groups_free,
    slug,
)
from trajstore.store.files.findings import Replace
from trajstore.store.groups.dependencies import Foundations
from trajstore.view.charts.chart import Chart, Panel, Series
from trajstore.view.figures.trajectories import NAMED, trajectory_chart

if TYPE_CHECKING:
    from trajstore.pipelines.comparison.comparison import Compared, Question
    from trajstore.pipelines.trajectories import Selection
    from trajstore.store.store import Store

KIND = "compare"
"""Of the findings."""


def default_name(models: Sequence[str], question: Question, selection: Selection) -> str:
    """A finding's name where none is given: the two models or how many, the step, the group, and six digits of a hash
    of all that was asked for.
    """
    who = "-vs-".join(models) if len(models) == 2 else f"{len(models)}-models"
    parts = [who, question.step, *([question.group] if question.group else [])]
    clean = [re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-") for part in parts]
    return finding_name(clean, [list(models), asked_facts(question, selection)])


def asked_facts(question: Question, selection: Selection) -> dict[str, Any]:
    """What was asked for, as JSON."""
    return {
        **dataclasses.asdict(question),
        "against": list(question.against),
        "datasets": None if selection.datasets is None else list(selection.datasets),
        "steps": selection.steps,
        "contexts": selection.contexts,
        "align": selection.align,
    }


def keep(
    store: Store,
    name: str,
    found: Compared,
    question: Question,
    selection: Selection,
    *,
    replace: Replace = False,
) -> None:
    """Put a comparison into the store as a finding; raises `FindingExists` unless `replace`."""
    facts = _facts(store, found, question, selection)
    with store.add_finding(KIND, name, facts, replace=replace) as writer:
        writer.add("correlations", found.correlations)
        writer.add("outliers", found.outliers)
        writer.add("groups", found.enriched.rename({"group": "group_name"}))
        writer.add("outlier_steps", found.followed)


def _facts(store: Store, found: Compared, question: Question, selection: Selection) -> dict[str, Any]:
    """What a comparison is made of and how."""
    import scipy

    slices = {
        ground.dataset: {
            model: store.slice_facts(model, ground.dataset, ground.step).loss_sha256 for model in found.models
        }
        for ground in found.grounds
    }
    group = question.group
    of_group = group if group in store.groups.names() else None
    return {
        "asked": asked_facts(question, selection),
        "models": list(found.models),
        "datasets": {
            ground.dataset: {
                "tokens_sha256": ground.sites.dataset.tokens_sha256,
                "tokens": len(ground.sites.tokens),
                "step": ground.step,
                "steps": list(map(int, ground.steps)),
                "loss_sha256": slices[ground.dataset],
            }
            for ground in found.grounds
        },
        "group_sha256": None if of_group is None else Foundations.of(store.path).sha256(of_group),
        "against": [list(each) for each in found.against],
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
    }


def group_names(models: Sequence[str], question: Question, prefix: str | None = None) -> dict[str, str]:
    """The name of the group that each of two models wins: PREFIX_A_wins, by default compare_A_B_STEP_A_wins."""
    stem = prefix or _stem(models, question)
    return {model: f"{stem}_{slug(model)}_wins" for model in models}


def _stem(models: Sequence[str], question: Question) -> str:
    return "_".join(["compare", *map(slug, models), question.step])


def check_groups_free(
    store: Store,
    models: Sequence[str],
    question: Question,
    selection: Selection,
    prefix: str | None,
    finding: str,
) -> None:
    """Raise `GroupError` where a group of such a name is there that is not of this finding."""
    of = question.group or "_".join(selection.datasets or ["all"])
    other = f"{prefix or _stem(models, question)}_{slug(of)}"
    require_groups_free(store, group_names(models, question, prefix).values(), other, KIND, finding)


def keep_groups(
    store: Store,
    finding: str,
    found: Compared,
    question: Question,
    prefix: str | None = None,
    *,
    replace: bool = False,
) -> dict[str, int]:
    """Add the outliers as groups of a finding; returns their sizes by name. One without any is not added.

    Raises `GroupError` where a name is taken by other tokens, unless `replace`; then nothing is added.
    """
    names = group_names(found.models, question, prefix)
    if len(set(names.values())) < len(names):
        raise GroupError(f"{listed(found.models)} differ in signs only, so their groups would have one name.")
    a, b = found.models
    at = listed(f"{ground.step} on {ground.dataset}" for ground in found.grounds)
    of = f" of {question.group}" if question.group else ""
    new = []
    for winner, name in names.items():
        sites = found.outliers.filter(winner=winner).select("dataset", "context", "position")
        described = (
            f"Tokens{of} that {winner} wins among the outliers of {a} and {b} at step {at}: of the "
            f"{question.outliers:.3g} of tokens with the largest differences, those on which its loss is lower "
            f"{of_finding(KIND, finding)}. {ADDED}"
        )
        if sites.height:
            new.append(NewGroup(name, sites, described))
    add_groups(store, new, replace=replace)
    return {group.name: group.sites.height for group in new}


def charts(found: Compared, question: Question) -> list[Chart]:
    """Losses of two models against each other, correlations by step, and what becomes of the outliers."""
    of = question.group or "all tokens"
    drawn = stored_charts(
        found.models,
        of,
        found.correlations,
        found.followed,
        found.against,
        [ground.step for ground in found.grounds],
        question.interval.level,
    )
    if len(found.models) > 2:
        return drawn
    on = listed((ground.dataset for ground in found.grounds), NAMED)
    return [_scatter(found, f"{of} on {on}"), *drawn]


def stored_charts(
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
        pl.concat_str(pl.col("group"), pl.lit(" wins")).alias("group"),
        pl.lit(f"{a} − {b}").alias("model"),
    )
    made = trajectory_chart(renamed, difference=True, level=level)
    steps = listed(dict.fromkeys(chosen_at))
    chosen = f"Chosen at step {steps}, where the difference is as large as it is by the choice as well."
    winners = followed["winner"].unique().to_list()
    won = f"All are won by {winners[0]}. " if len(winners) == 1 else ""
    return dataclasses.replace(made, title=f"{a} − {b}: outliers of {of}", note=f"{won}{made.note} {chosen}")


def _scatter(found: Compared, of: str) -> Chart:
    """Losses of two models against each other."""
    a, b = found.models
    panels = []
    for ground, density in zip(found.grounds, found.densities, strict=True):
        ends = (density.x[0], density.x[-1])
        title = f"{ground.dataset}, step {ground.step}"
        panels.append(Panel(title, (Series("the same loss", ends, ends, mode="lines"),), density=density))
    at = "" if len({ground.step for ground in found.grounds}) > 1 else f" at step {found.grounds[0].step}"
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
    panels = []
    for name in datasets:
        here = correlations.filter(dataset=name)
        both = same.filter(dataset=name).sort("step")
        series = [_line("A with B", both, "pearson"), _line("given frequency", both, "partial")]
        for model, step, dataset in against:
            if dataset == name:
                with_it = here.filter(model=a, other=model, other_step=step).unique("step").sort("step")
                letter = {a: "A", b: "B"}.get(model, model)
                series.append(_line(f"A with {letter} at {step}", with_it, "pearson"))
        panels.append(Panel(name if len(datasets) > 1 else "", tuple(series)))
    return Chart(
        title=f"Correlation of losses by step: {a} and {b}, {of}",
        x_label="step",
        y_label="correlation",
        panels=tuple(panels),
        note=f"A: {a}, B: {b}. Bands: intervals over contexts. Given frequency: A with B, the log of a token's share "
        "in the dataset taken out.",
    )


def _line(name: str, frame: pl.DataFrame, column: str) -> Series:
    """A correlation by step with its interval."""
    x = tuple(map(float, frame["step"]))
    y, low, high = (
        tuple(float("nan") if value is None else float(value) for value in frame[f"{column}{end}"])
        for end in ("", "_low", "_high")
    )
    return Series(name, x, y, low, high)


def _pairs_chart(models: Sequence[str], datasets: Sequence[str], same: pl.DataFrame, of: str) -> Chart:
    """Correlations of each two of several models by step."""
    panels = []
    for dataset in datasets:
        here = same.filter(dataset=dataset).group_by("step")
        series = []
        for column, name in (("pearson", "correlation"), ("partial", "given frequency")):
            by_step = here.agg(
                pl.col(column).mean().alias("y"),
                pl.col(column).min().alias("y_low"),
                pl.col(column).max().alias("y_high"),
            ).sort("step")
            series.append(_line(name, by_step, "y"))
        panels.append(Panel(dataset if len(datasets) > 1 else "", tuple(series)))
    return Chart(
        title=f"Correlation of losses of {len(models)} models by step: {of}",
        x_label="step",
        y_label="correlation",
        panels=tuple(panels),
        note=f"Mean of each two of {listed(models, 4)}; band: lowest to highest.",
    )
