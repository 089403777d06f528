"""Principal components on the page: shares of variance, and the tokens that load most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from trajstore.pipelines.components import pca
from trajstore.pipelines.components.loadings import top_loadings
from trajstore.server.report.findings.table import IN_CONTEXT, PageTable, Tables
from trajstore.view.figures.pca import pca_charts

if TYPE_CHECKING:
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store
    from trajstore.view.charts.chart import Chart, Mark

_TOP_COMPONENTS = 3
_TOP_TOKENS = 5


@dataclass(frozen=True)
class _Components:
    """Principal components of a finding, as `pca_charts` takes them."""

    scores: pl.DataFrame
    variance: pl.DataFrame
    zeros: list[float]


def tables(store: Store, finding: Finding) -> Tables:
    """Shares of variance, and the tokens that load most."""
    shares = finding.table("components")
    held = shares["ratio"][: min(3, shares.height)].sum()
    said = (
        f"{shares.height} components of {finding.facts['rows']} checkpoints and {finding.facts['columns']:,} tokens; "
        f"the first {min(3, shares.height)} hold {100 * held:.3g} % of the variance."
    )
    top = top_loadings(store, finding.name, range(1, _TOP_COMPONENTS + 1), _TOP_TOKENS)
    top = top.select(
        *("component", "loading", "dataset", "context", "position"),
        IN_CONTEXT,
    )
    return said, (
        PageTable.of("Components", shares),
        PageTable.of("The tokens that load most on the first components", top),
    )


def charts(store: Store, finding: Finding, marks: Sequence[Mark]) -> Iterator[Chart]:
    """Yield scores, paths and shares of variance."""
    del store
    shares = finding.table("components")
    stored = _Components(finding.table("scores"), shares.drop("zeros"), shares["zeros"].to_list())
    yield from pca_charts(stored, marks, subject=pca.subject(finding.facts))
