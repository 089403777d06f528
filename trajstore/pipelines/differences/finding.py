"""Differences of losses as they were asked for, and kept in the store as a finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from trajstore.pipelines.differences import checkpoint_pairs
from trajstore.pipelines.differences.differences import Chosen, Differences, How
from trajstore.pipelines.finding_facts import (
    Request,
    finding_name,
    group_hashes,
    name_part,
    one_or_many,
    versions,
)
from trajstore.pipelines.trajectories import Selection
from trajstore.progress import SILENT, Progress
from trajstore.store.files.findings import Replace

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "diff"
"""Of the findings."""
KEPT = 1000
"""Largest differences at either end that a finding has, at least."""


@dataclass(frozen=True)
class Asked:
    """Which differences are asked for."""

    kind: Literal["steps", "models", "prompts"]
    between: tuple[str, ...] = ()
    """Two models or two datasets; the second minus the first."""
    groups: tuple[str, ...] = ()
    """Every token if empty."""
    selection: Selection = field(default_factory=Selection)
    """Of models its models are not looked at; of prompts its models and steps alone."""
    how: How = field(default_factory=How)
    all_items: bool = False
    """Of prompts: whether items with the same tokens before them in both datasets are in."""

    def chosen(self, store: Store, progress: Progress = SILENT) -> Chosen:
        """What that comes to; raises as `pairs.of_steps`, `of_models` and `of_prompts`."""
        groups: Sequence[str] = self.groups or checkpoint_pairs.EVERY
        if self.kind == "steps":
            return checkpoint_pairs.of_steps(store, groups, self.selection)
        first, second = self.between
        if self.kind == "models":
            return checkpoint_pairs.of_models(store, first, second, groups, self.selection, progress)
        selection = self.selection
        return checkpoint_pairs.of_prompts(
            store, first, second, groups, selection.models, selection.steps, self.all_items, progress
        )

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        how = asdict(self.how)
        del how["matrix"]
        selection = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.selection).items()
        }
        of = {"kind": self.kind, "between": list(self.between), "groups": list(self.groups)}
        items = {"all_items": self.all_items} if self.kind == "prompts" else {}
        return {**of, **selection, **how, **items}


def request(asked: Asked, chosen: Chosen) -> Request:
    """The finding of differences; its default name has the kind, the two or the models, the steps, and the groups."""
    who = "-vs-".join(asked.between) or one_or_many(chosen.models, "models")
    through = [one_or_many(asked.groups, "groups")] if asked.groups else []
    parts = [asked.kind, who, asked.selection.steps, *through]
    name = finding_name(filter(None, map(name_part, parts)), asked.facts)
    return Request(KIND, name, {"asked": asked.facts})


def keep(
    store: Store, name: str, asked: Asked, chosen: Chosen, found: Differences, *, replace: Replace = False
) -> None:
    """Put differences into the store as a finding; raises `FindingExists` unless `replace`."""
    of = "relative" if asked.how.scale.relative else "difference"
    nan = pl.selectors.float().fill_nan(None)
    groups = found.summary.rename({"group": "group_name"}).with_columns(nan, mean_of=pl.lit(of))
    tokens = found.changes.rename({"end": "change"})
    with store.add_finding(KIND, name, _facts(store, asked, chosen, found), replace=replace) as writer:
        writer.add("groups", _with_datasets(groups, chosen))
        writer.add("tokens", _with_datasets(tokens, chosen))
        writer.add("slices", found.slices)


def _with_datasets(rows: pl.DataFrame, chosen: Chosen) -> pl.DataFrame:
    """The rows with the names of both datasets, which are the same but of prompts."""
    if chosen.prompts is None:
        return rows.with_columns(minus_dataset="dataset")
    first, second = map(pl.lit, chosen.prompts)
    return rows.with_columns(dataset=second, minus_dataset=first)


def _facts(store: Store, asked: Asked, chosen: Chosen, found: Differences) -> dict[str, Any]:
    """What differences are made of and how."""
    sites = [each for part in chosen.parts for each in (part.sites, part.minus)]
    return {
        **request(asked, chosen).facts,
        "models": chosen.models,
        "pairs": len({pair for part in chosen.parts for pair in part.pairs}),
        "slices": found.slices.height,
        "datasets": {
            each.dataset.name: {"tokens_sha256": each.dataset.tokens_sha256, "columns": len(each.tokens)}
            for each in sites
        },
        "groups_sha256": group_hashes(store, chosen.groups),
        "versions": versions("numpy"),
    }
