"""Differences of losses between steps, models or prompts, as a result that can be kept as a finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from trajstore.errors import TrajstoreError
from trajstore.pipelines.differences import checkpoint_pairs
from trajstore.pipelines.differences.differences import (
    DifferenceInputs,
    DifferenceMethod,
    Differences,
    differences,
)
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    finding_name,
    group_hashes,
    name_part,
    one_or_many,
    versions,
)
from trajstore.progress import SILENT, Progress
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "diff"
"""Of the findings."""
KEPT = 1000
"""Largest differences at either end that a finding has, at least."""


@dataclass(frozen=True)
class DiffOptions:
    """The request for differences."""

    kind: Literal["steps", "models", "prompts"]
    between: tuple[str, ...] = ()
    """Two models or two datasets; the second minus the first."""
    groups: tuple[str, ...] = ()
    """Every token if empty."""
    selection: Selection = field(default_factory=Selection)
    """Of models its models are not looked at; of prompts its models and steps alone."""
    how: DifferenceMethod = field(default_factory=DifferenceMethod)
    all_items: bool = False
    """Of prompts: whether items with the same tokens before them in both datasets are in."""

    def chosen(self, store: Store, progress: Progress = SILENT) -> DifferenceInputs:
        """Resolve it to checkpoints and sites; raises as `of_steps`, `of_models` and `of_prompts`."""
        groups: Sequence[str] = self.groups or checkpoint_pairs.EVERY
        if self.kind == "steps":
            return checkpoint_pairs.of_steps(store, groups, self.selection)
        first, second = self.between
        if self.kind == "models":
            return checkpoint_pairs.of_models(store, first, second, groups, self.selection, progress)
        selection = self.selection
        return checkpoint_pairs.of_prompts(
            store,
            first,
            second,
            selection.within(groups),
            selection.models,
            selection.steps,
            self.all_items,
            progress,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        how = asdict(self.how)
        del how["matrix"]
        of = {"kind": self.kind, "between": list(self.between), "groups": list(self.groups)}
        items = {"all_items": self.all_items} if self.kind == "prompts" else {}
        return {**of, **self.selection.facts, **how, **items}


def request(options: DiffOptions, chosen: DifferenceInputs) -> Request:
    """The finding of differences; its default name has the kind, the two or the models, the steps, and the groups."""
    who = "-vs-".join(options.between) or one_or_many(chosen.models, "models")
    through = [one_or_many(options.groups, "groups")] if options.groups else []
    parts = [options.kind, who, options.selection.steps, *through]
    name = finding_name(filter(None, map(name_part, parts)), options.facts)
    return Request(KIND, name, {"asked": options.facts})


@dataclass(frozen=True, repr=False)
class Diff(Result):
    """Differences of losses between steps, models or prompts."""

    drawn_by = "trajstore.view.figures.differences:charts_of_differences"
    summaries = ("groups", "tokens")

    options: DiffOptions = field(repr=False)
    chosen: DifferenceInputs = field(repr=False)
    differences: Differences

    @property
    def summary(self) -> pl.DataFrame:
        """Means by group and pair, see `Differences.summary`."""
        return self.differences.summary

    @property
    def changes(self) -> pl.DataFrame:
        """The largest differences in context, see `Differences.changes`."""
        return self.differences.changes

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of one of its tables."""
        if table == "slices":
            yield self.differences.slices
        elif table == "tokens":
            yield _with_datasets(self.changes.rename({"end": "change"}), self.chosen)
        else:
            of = "relative" if self.options.how.scale.relative else "difference"
            groups = self.summary.rename({"group": "group_name"})
            groups = groups.with_columns(pl.selectors.float().fill_nan(None), mean_of=pl.lit(of))
            yield _with_datasets(groups, self.chosen)


def diff(
    store: Store,
    selection: Selection | None = None,
    groups: str | Sequence[str] = (),
    *,
    models: tuple[str, str] | None = None,
    prompts: tuple[str, str] | None = None,
    how: DifferenceMethod | None = None,
    all_items: bool = False,
    progress: Progress = SILENT,
) -> Diff:
    """Differences of losses between steps, or between two models or two prompts: the second minus the first.

    Nothing is written. Raises as `checkpoint_pairs.of_steps`, `of_models` and `of_prompts`, and as `differences`.
    """
    if models and prompts:
        raise TrajstoreError(
            "Differences are between two models or between two prompts, and not of both at once."
        )
    options = DiffOptions(
        "models" if models else "prompts" if prompts else "steps",
        models or prompts or (),
        (groups,) if isinstance(groups, str) else tuple(groups),
        selection or Selection(),
        how or DifferenceMethod(top=KEPT),
        all_items,
    )
    return diff_of(store, options, options.chosen(store, progress), progress)


def diff_of(
    store: Store, options: DiffOptions, chosen: DifferenceInputs, progress: Progress = SILENT
) -> Diff:
    """The differences that were asked for, of what that came to; raises as `differences`."""
    result = differences(store, chosen, options.how, progress)
    facts = _facts(store, options, chosen, result)
    return Diff(options, chosen, result, store=store, request=request(options, chosen), facts=facts)


def _with_datasets(rows: pl.DataFrame, chosen: DifferenceInputs) -> pl.DataFrame:
    """The rows with the names of both datasets, which are the same but of prompts."""
    if chosen.prompts is None:
        return rows.with_columns(minus_dataset="dataset")
    first, second = map(pl.lit, chosen.prompts)
    return rows.with_columns(dataset=second, minus_dataset=first)


def _facts(
    store: Store, options: DiffOptions, chosen: DifferenceInputs, result: Differences
) -> dict[str, Any]:
    """Return the facts of differences: their inputs and method."""
    sites = [side for part in chosen.parts for side in (part.sites, part.minus)]
    return {
        **request(options, chosen).facts,
        "models": chosen.models,
        "pairs": len({pair for part in chosen.parts for pair in part.pairs}),
        "slices": result.slices.height,
        "datasets": {
            side.dataset.name: {"tokens_sha256": side.dataset.tokens_sha256, "columns": len(side.tokens)}
            for side in sites
        },
        "groups_sha256": group_hashes(store, chosen.groups),
        "versions": versions("numpy"),
    }
