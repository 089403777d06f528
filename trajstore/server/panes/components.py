"""The pane of components: kept principal components and new ones, their scores, variance and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import polars as pl
from starlette.routing import BaseRoute

from trajstore.analysis.components.methods import Method
from trajstore.arguments.choices import ComponentsKind
from trajstore.pipelines.components.loadings import top_loadings
from trajstore.pipelines.components.pca import KIND, PrincipalComponents, pca
from trajstore.pipelines.token_context import with_context
from trajstore.server import signatures
from trajstore.server.cache import ByteCache
from trajstore.server.endpoints import Ask, frames

if TYPE_CHECKING:
    from trajstore.analysis.components.pca import PCAResult
    from trajstore.store.files.findings import Finding
    from trajstore.store.store import Store

TOKENS = 20
"""Of either end of a component that are shown."""
WIDTH = 10
"""Tokens on either side of them."""


@dataclass(frozen=True)
class _New:
    """Principal components that nothing keeps, which the cards of the pane share."""

    components: PrincipalComponents

    @property
    def nbytes(self) -> int:
        """Bytes of the largest parts."""
        result = self.components.result
        return int(result.loadings.nbytes + result.mean.nbytes + result.columns.estimated_size())


_NEW: ByteCache[_New] = ByteCache(96 << 20)


def routes() -> Sequence[BaseRoute]:
    """The endpoints of the pane: of the PCA finding `finding`, or without one of a new PCA of what is chosen."""
    return [
        frames("components", lambda ask: kept_components(ask.store)),
        frames("component-scores", lambda ask: wide_scores(_components(ask).table("scores"))),
        frames("component-variance", lambda ask: scree(_components(ask))),
        frames("component-tokens", _tokens),
    ]


def _components(ask: Ask) -> Finding | PrincipalComponents:
    chosen = ask.parameters
    if name := chosen.text("finding"):
        return ask.store.finding(KIND, name)
    kind = cast("ComponentsKind", chosen.choice("method", ("full", "sparse", "hybrid")))
    method = Method(kind, chosen.integer("components", 5, 1, 50))
    selection = chosen.selection()
    contents = signatures.selection_contents(ask.store, None, None)
    key = signatures.etag(str(ask.store.path), selection, method, contents)
    return _NEW.get(key, lambda: _New(pca(ask.store, selection, method, ask.progress))).components


def _tokens(ask: Ask) -> pl.DataFrame:
    component, n = ask.parameters.integer("component", 1, 1), ask.parameters.integer("n", TOKENS, 1, 500)
    return component_tokens(ask.store, _components(ask), component, n)


def kept_components(store: Store) -> pl.DataFrame:
    """The kept principal components: name, method, models, datasets, group, rows, columns, when they were made."""
    rows = [_facts(finding) for finding in store.findings(KIND)]
    texts = ("finding", "method", "models", "datasets", "group", "made")
    types = {**dict.fromkeys(texts, pl.String), "rows": pl.Int64, "columns": pl.Int64}
    return pl.DataFrame(rows, schema=types, orient="row")


def _facts(finding: Finding) -> tuple[object, ...]:
    subject, facts = finding.subject, finding.facts
    group = (facts.get("asked") or {}).get("group")
    who, on = ", ".join(subject.models), ", ".join(subject.datasets)
    method = facts.get("method")
    return finding.name, method, who, on, group, finding.made, facts.get("rows"), facts.get("columns")


def wide_scores(table: pl.DataFrame) -> pl.DataFrame:
    """Scores in nats by model and step with a column for each component, `component_1` and so on."""
    wide = table.with_columns(pl.format("component_{}", "component").alias("name")).pivot(
        "name", index=["model", "step"], values="score"
    )
    return wide.sort("model", "step")


def scree(components: Finding | PrincipalComponents) -> pl.DataFrame:
    """Each component's variance (nats²), its share of all, and the share of its loadings that are zero."""
    return components.table("components").sort("component")


def component_tokens(
    store: Store, components: Finding | PrincipalComponents, component: int, n: int = TOKENS
) -> pl.DataFrame:
    """The tokens that load highest and lowest on a component, in their contexts, by falling loading."""
    if not isinstance(components, PrincipalComponents):
        return top_loadings(store, components.name, [component], n, WIDTH).drop("finding")
    return top_tokens_in_context(store, components.result, [component], n)


def top_tokens_in_context(
    store: Store, result: PCAResult, numbers: Sequence[int], n: int = TOKENS
) -> pl.DataFrame:
    """The tokens that load highest and lowest on each of some components, in their contexts, by falling loading."""
    ends = result.top_tokens(n).filter(pl.col("component").is_in(list(numbers)))
    ends = ends.sort("component", "loading", descending=[False, True])
    rows = ends.select("dataset", "context", "position", "component", "loading")
    return with_context(store, rows, WIDTH)
