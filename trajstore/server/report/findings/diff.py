"""Differences on the page: means by group, and the largest of single tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.pipelines.token_context import with_context
from trajstore.server.report.findings.table import IN_CONTEXT, ROWS_SHOWN, PageTable, Tables
from trajstore.view.figures.differences import difference_chart

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart, Mark


def tables(store: Store, finding: Finding) -> Tables:
    """Return a sentence on the first group, and the largest differences of single tokens."""
    tokens = finding.table("tokens").sort(pl.col("difference").abs(), descending=True)
    largest = with_context(store, tokens.head(ROWS_SHOWN)).select(
        *("model", "step", "minus_model", "minus_step", "dataset", "context", "position"),
        *("minus_loss", "loss", "difference"),
        IN_CONTEXT,
    )
    groups = finding.table("groups")
    said = "" if groups.is_empty() else _difference_sentence(groups)
    return said, (PageTable.of("The largest differences of single tokens", largest),)


def _difference_sentence(groups: pl.DataFrame) -> str:
    """The mean difference of the first group at the last pair."""
    row = groups.filter(group_name=groups["group_name"][0]).row(-1, named=True)
    than = [f"on {row['minus_dataset']}"] if row["dataset"] != row["minus_dataset"] else []
    than += [row["minus_model"]] if row["model"] != row["minus_model"] else []
    than += [f"step {row['minus_step']}"] if row["step"] != row["minus_step"] else []
    unit = "of the loss subtracted" if row["mean_of"] == "relative" else "nats a token"
    mean, low, high = (
        "none" if row[column] is None else f"{row[column]:+.3g}" for column in ("mean", "low", "high")
    )
    interval = "" if row["low"] is None or row["high"] is None else f" ({low} to {high})"
    return (
        f"{row['group_name']} of {row['model']} on {row['dataset']} at step {row['step']} less {' '.join(than)}: "
        f"{mean}{interval} {unit}."
    )


def charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    """Yield the mean differences of groups by step."""
    del store, marks
    groups = finding.table("groups")
    relative = bool((groups["mean_of"] == "relative").any())
    level = finding.facts["asked"]["interval"]["level"]
    yield difference_chart(groups.rename({"group_name": "group"}), relative=relative, level=level)
