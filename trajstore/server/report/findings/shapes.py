"""Shapes on the page: shares by model, and examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trajstore.pipelines import shapes
from trajstore.server.report.findings.table import PageTable, Tables
from trajstore.view.figures.shapes import shape_charts

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart, Mark


def tables(store: Store, finding: Finding) -> Tables:
    """Return the undecided shares, and the share of each shape by model."""
    shares = shapes.shares(
        store, finding.name, finding.facts["asked"]["groups"], finding.facts["asked"]["align"]
    )
    undecided = ", ".join(
        f"{model} {share:.0%}" for model, share in shares.select("model", "undecided").rows()
    )
    return f"Undecided: {undecided}.", (PageTable.of("Share of each shape", shares),)


def charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    """Yield examples of shapes, and shares by model."""
    del marks
    question = shapes.ShapeOptions.read(finding.facts)
    shares = shapes.shares(store, finding.name, question.groups, question.align)
    yield from shape_charts(store, finding.name, question, shapes.parts(store, question), shares)
