"""Comparisons of models as results: what was asked, on which grounds, and the tables that a finding of them has."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.comparison import STATISTICS, Density, check_share
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.statistics.enrichment import SCHEMA as ENRICHMENT
from trajstore.arguments import defaults
from trajstore.arguments.choices import Missing
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    finding_name,
    group_hash,
    name_part,
    versions,
)
from trajstore.store.matrix.context_sums import Units
from trajstore.store.matrix.matrix import Sites
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "compare"
"""Of the findings."""

CORRELATIONS = {
    "model": pl.String,
    "step": pl.Int64,
    "other": pl.String,
    "other_step": pl.Int64,
    "dataset": pl.String,
    "tokens": pl.Int64,
    "unit": pl.String,
    "units": pl.Int64,
    "interval": pl.String,
    "spearman": pl.Float64,
    **{f"{name}{end}": pl.Float64 for name in STATISTICS for end in ("", "_low", "_high")},
}
"""Columns of a frame of correlations, a row for each two slices: see `analysis.comparison.STATISTICS`; differences are
the model's loss minus the other's."""

OUTLIERS = {
    "winner": pl.String,
    "dataset": pl.String,
    "step": pl.Int64,
    "context": pl.Int32,
    "position": pl.Int32,
    "loss": pl.Float64,
    "other_loss": pl.Float64,
    "difference": pl.Float64,
}
"""Columns of a frame of outliers: loss is A's, other_loss B's, difference A − B, all in nats."""

GROUPS = {"winner": pl.String, **ENRICHMENT}
"""Columns of a frame of groups among outliers."""

FOLLOWED = [
    *("winner", "dataset", "step", "tokens", "contexts", "unit", "units", "interval"),
    *("mean", "low", "high"),
]
"""Columns of a frame of outliers by step: mean is that of A − B, in nats."""


@dataclass(frozen=True)
class Question:
    """The question asked of two models or more."""

    step: str = "last"
    """At which outliers are looked for: one of those that all have on a dataset, or last."""
    group: str | None = None
    """Only this group's tokens."""
    against: Sequence[str] = ()
    """Checkpoints MODEL@STEP with which two models are compared at every step; by default both at their last."""
    outliers: float = defaults.OUTLIERS
    """Share of the tokens with the largest differences."""
    groups: bool = True
    """True to look for groups that are enriched among them."""
    missing: Missing = "error"
    """Treatment of contexts that a partial slice lacks; nan leaves out what either of two lacks."""
    interval: Interval = field(default_factory=Interval)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check_share(self.outliers)


@dataclass(frozen=True)
class Ground:
    """The tokens of a dataset on which models are compared, and the steps that all of them have."""

    sites: Sites
    units: Units
    unit: np.ndarray
    """Of each token, int64 (tokens,)."""
    frequency: np.ndarray
    """Log of each token's share in the dataset, float64 (tokens,)."""
    step: int
    """At which outliers are looked for."""
    steps: Sequence[int]
    """Chosen steps that all models have."""

    @property
    def dataset(self) -> str:
        """Its name."""
        return self.sites.dataset.name


@dataclass(frozen=True, repr=False)
class Compared(Result):
    """Models compared."""

    drawn_by = "trajstore.view.figures.comparison:comparison_charts"
    summaries = ("correlations", "outliers", "groups", "outlier_steps")

    question: Question
    models: tuple[str, ...]
    """A, B, and where more are compared the others."""
    grounds: Sequence[Ground]
    correlations: pl.DataFrame
    """Columns of `CORRELATIONS`: each two models at each step; of two, also each at each step with `against`."""
    outliers: pl.DataFrame
    """Columns of `OUTLIERS`, by falling |difference|; none where more than two are compared."""
    enriched: pl.DataFrame
    """Columns of `GROUPS`; `p_adjusted` counts the tests of both winners."""
    followed: pl.DataFrame
    """Columns of `FOLLOWED`: what becomes of the outliers at the other steps."""
    against: tuple[tuple[str, int, str], ...]
    """(model, step, dataset) of the checkpoints that every step was compared with."""
    densities: Sequence[Density]
    """Of two models: A's losses (x) and B's (y) on each ground at its step, in nats."""

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of one of its tables."""
        tables = {
            "correlations": self.correlations,
            "outliers": self.outliers,
            "groups": self.enriched.rename({"group": "group_name"}),
            "outlier_steps": self.followed,
        }
        yield tables[table]

    def at_step(self) -> pl.DataFrame:
        """The correlations at the step at which outliers were looked for."""
        at = pl.DataFrame(
            [(ground.dataset, ground.step) for ground in self.grounds], ["dataset", "step"], orient="row"
        )
        return self.of_pairs().join(at, on=["dataset", "step"], how="semi", maintain_order="left")

    def of_pairs(self) -> pl.DataFrame:
        """The correlations of different models at the same step, in the order of the models."""
        return pairs_of(self.models, self.correlations)


def pairs_of(models: Sequence[str], correlations: pl.DataFrame) -> pl.DataFrame:
    """The rows of `Compared.correlations` of different models at the same step, in the order of the models."""
    pairs = pl.DataFrame(list(itertools.combinations(models, 2)), ["model", "other"], orient="row")
    same = correlations.filter(pl.col("step") == pl.col("other_step"))
    return same.join(pairs, on=["model", "other"], how="semi", maintain_order="left")


def request(models: Sequence[str], question: Question, selection: Selection) -> Request:
    """The finding of a comparison; its default name has the two models or how many, the step, and the group."""
    who = "-vs-".join(models) if len(models) == 2 else f"{len(models)}-models"
    parts = [who, question.step, *([question.group] if question.group else [])]
    options = {
        **dataclasses.asdict(question),
        "against": list(question.against),
        "datasets": None if selection.datasets is None else list(selection.datasets),
        "steps": selection.steps,
        "contexts": selection.contexts,
        "align": selection.align,
    }
    name = finding_name([name_part(part, None) for part in parts], [list(models), options])
    return Request(KIND, name, {"asked": options, "models": list(models)})


def facts_of(
    store: Store,
    models: Sequence[str],
    question: Question,
    selection: Selection,
    grounds: Sequence[Ground],
    against: Sequence[tuple[str, int, str]],
) -> dict[str, Any]:
    """Return the facts of a comparison: its inputs and method."""
    slices = {
        ground.dataset: {
            model: store.slice_facts(model, ground.dataset, ground.step).loss_sha256 for model in models
        }
        for ground in grounds
    }
    return {
        **request(models, question, selection).facts,
        "datasets": {
            ground.dataset: {
                "tokens_sha256": ground.sites.dataset.tokens_sha256,
                "tokens": len(ground.sites.tokens),
                "step": ground.step,
                "steps": list(map(int, ground.steps)),
                "loss_sha256": slices[ground.dataset],
            }
            for ground in grounds
        },
        "group_sha256": group_hash(store, question.group),
        "against": [list(checkpoint) for checkpoint in against],
        "versions": versions("numpy", "scipy"),
    }
