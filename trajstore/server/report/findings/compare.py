"""Comparisons of models on the page: correlations by step, and what becomes of the outliers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.pipelines.comparison.result import pairs_of
from trajstore.server.report.findings.table import PageTable, Tables
from trajstore.view.figures.axes import NAMED
from trajstore.view.figures.comparison import stored_comparison_charts

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart, Mark


def tables(store: Store, finding: Finding) -> Tables:
    """Return a sentence on correlations at the last step, and tables of these and of enriched groups."""
    del store
    pairs = pairs_of(finding.facts["models"], finding.table("correlations"))
    last = pairs.filter(pl.col("step") == pl.col("step").max().over("dataset"))
    said = "; ".join(
        f"{row['model']} and {row['other']} on {row['dataset']} correlate by {row['pearson']:.2f} at step {row['step']}"
        for row in last.head(NAMED).iter_rows(named=True)
        if row["pearson"] is not None
    )
    groups = finding.table("groups").filter(pl.col("p_adjusted") < 0.05).sort("p_adjusted")
    return f"{said or 'Their losses at the last step have no correlation'}.", (
        PageTable.of("Correlations of losses at the last step", last),
        PageTable.of("Groups over-represented among the largest differences", groups),
    )


def charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    """Yield correlations by step, and what becomes of the outliers."""
    del store, marks
    facts = finding.facts
    yield from stored_comparison_charts(
        facts["models"],
        facts["asked"]["group"] or "all tokens",
        finding.table("correlations"),
        finding.table("outlier_steps"),
        [(model, step, dataset) for model, step, dataset in facts["against"]],
        [of_dataset["step"] for of_dataset in facts["datasets"].values()],
        facts["asked"]["interval"]["level"],
    )
