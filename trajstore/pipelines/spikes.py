"""Spikes of a model from a store into a store: found, their tokens classed, kept as a finding and as groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.analysis.spikes.spikes import (
    CHANCE,
    ENOUGH,
    CurveNoise,
    Power,
    Spike,
    Window,
    find_spikes,
    heights,
    power,
)
from trajstore.analysis.spikes.tokens import CLASSES, Classes, Tolerance, classify, shares
from trajstore.analysis.statistics.bootstrap import Draws, Interval, Ratio, Stratum
from trajstore.analysis.statistics.enrichment import SCHEMA as GROUPS
from trajstore.analysis.statistics.enrichment import enrichment
from trajstore.arguments import defaults
from trajstore.display import Brief
from trajstore.errors import BadOption, UnknownStep
from trajstore.pipelines.finding_facts import (
    Request,
    Result,
    facts_of_sites,
    finding_name,
    group_hash,
    one_or_many,
    versions,
)
from trajstore.pipelines.groups.added_groups import (
    ADDED,
    NewGroup,
    add_groups,
    of_finding,
    require_groups_free,
    slug,
)
from trajstore.pipelines.groups.enrichment import Memberships, memberships, token_units
from trajstore.pipelines.token_context import with_context
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.matrix.context_sums import context_sums
from trajstore.store.matrix.matrix import column_labels
from trajstore.store.matrix.selection import Inputs, Selection, resolve

if TYPE_CHECKING:
    from trajstore.store.store import Store

KIND = "spikes"
"""Of the findings."""
PREFIX = defaults.SPIKE_PREFIX
"""Of the names of groups, before the step."""
BLOCK_BYTES = 1 << 27
"""Most memory of a block of losses; what is made of it takes a few times that."""

VERDICTS = ("found", "none", "cannot tell")
"""Of a search: cannot tell where none was found, and too few of those planted into the curve would have been."""

_SPIKES = {
    "before_step": pl.Int64,
    "at_step": pl.Int64,
    "after_step": pl.Int64,
    "height": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "chance": pl.Float64,
}


@dataclass(frozen=True)
class Search:
    """The settings of a search for spikes."""

    window: tuple[int, int, int] | None = None
    """Steps before, at and after a spike; None to look for spikes."""
    chance: float = CHANCE
    """Highest chance that noise alone makes such a spike in a curve."""
    tolerance: Tolerance = field(default_factory=Tolerance)
    interval: Interval = field(default_factory=Interval)
    """Its seed is that of the simulated noise too."""
    enrich: bool = True
    """True to look for every group of the store among the tokens that follow and the tokens that are inverse."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 < self.chance < 1:
            raise BadOption("chance", self.chance, "a share between 0 and 1, as 0.05")

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True, repr=False)
class ClassedSpike(Brief):
    """One spike."""

    steps: tuple[int, int, int]
    """Before, at and after it."""
    height: float
    """Nats, see `analysis.spikes.spikes.heights`."""
    low: float | None
    high: float | None
    chance: float | None
    """None where the window was given."""
    classes: Classes
    shares: pl.DataFrame
    """spike, before_step, at_step, after_step (Int64), window_kind (the kind of `tokens.SHARES`), token_class
    (String), share, low, high (Float64)."""
    groups: pl.DataFrame
    """token_class, group_name (String) and the other columns of `enrichment.SCHEMA`."""


@dataclass(frozen=True, repr=False)
class Spikes(Result):
    """The spikes of a model's training."""

    drawn_by = "trajstore.view.figures.spikes:spike_charts"
    summaries = ("spikes", "shares", "groups")

    model: str
    inputs: Inputs
    steps: np.ndarray
    """int64 (checkpoints,)."""
    means: np.ndarray
    """Mean loss of all tokens by checkpoint, float64 (checkpoints,), nats."""
    noise: CurveNoise | None
    """Of the means, outside of spikes; None where the window was given."""
    power: Power | None
    """Power of the means to show spikes; None where one was found or the window was given."""
    spikes: tuple[ClassedSpike, ...]

    @property
    def verdict(self) -> str:
        """As in `VERDICTS`."""
        if self.spikes:
            return VERDICTS[0]
        return VERDICTS[1] if self.power is not None and self.power.enough else VERDICTS[2]

    @property
    def columns(self) -> pl.DataFrame:
        """dataset, context, position of the tokens, in the order of `Classes`."""
        return pl.concat([column_labels(sites) for sites in self.inputs.sites]).drop("token", "text")

    def heads(self) -> pl.DataFrame:
        """before_step, at_step, after_step, height, low, high, chance of each spike."""
        heads = [(*spike.steps, spike.height, spike.low, spike.high, spike.chance) for spike in self.spikes]
        return pl.DataFrame(heads, schema=_SPIKES, orient="row")

    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of one of its tables, spike by spike."""
        model = pl.lit(self.model).alias("model")
        if table == "spikes":
            yield self.heads().with_columns(model)
            return
        for spike in self.spikes:
            step = pl.lit(spike.steps[1], pl.Int64).alias("spike")
            rows = self._tokens(spike) if table == "tokens" else getattr(spike, table)
            yield rows.with_columns(model, step)

    def _tokens(self, spike: ClassedSpike) -> pl.DataFrame:
        """The class, change and τ of each token at a spike."""
        numbers = np.select([spike.classes.mask(name) for name in CLASSES], [0, 1, 2])
        return self.columns.with_columns(
            token_class=pl.Series(np.array(CLASSES)[numbers]),
            change=pl.Series(spike.classes.change),
            tau=pl.Series(spike.classes.tau),
        )


def spikes(
    store: Store,
    selection: Selection | None = None,
    search: Search | None = None,
    progress: Progress = SILENT,
    limit: int = BLOCK_BYTES,
) -> Spikes:
    """The spikes of one model over datasets, by default all it has losses on; nothing is written.

    Tokens of all datasets are pooled.
    Memory holds one block of at most `limit` bytes with what is made of it, and a few numbers a token. Raises as
    `Store.matrix`, `BadOption` for several models, `UnknownStep` for a window of steps that are not there, and
    `TrajstoreError` for too few checkpoints.
    """
    how = search or Search()
    chosen = selection or Selection()
    models = store.models(chosen.models)
    if len(models) != 1:
        raise BadOption("model", ", ".join(models), "one model, as a spike is one of its training")
    inputs = resolve(store, chosen)
    inputs = replace(inputs, sites=[sites for sites in inputs.sites if len(sites.tokens)])
    steps = np.array([step for _, step in inputs.checkpoints], dtype=np.int64)
    strata = _strata(store, inputs, progress)
    ratios = [stratum.ratios[0] for stratum in strata]
    means = np.asarray(
        sum(ratio.sums.sum(axis=1) for ratio in ratios) / sum(ratio.tokens.sum() for ratio in ratios)
    )
    draws = Draws(how.interval)
    if how.window is None:
        in_means, noise = find_spikes(means, how.chance, how.interval.seed)
    else:
        in_means, noise = [Spike(_given(how.window, steps, models[0]), None)], None
    tall = heights(strata, [spike.window for spike in in_means], draws)
    if how.window is None:
        # A rise that other texts might not show is none of the model's.
        pairs = [(one, height) for one, height in zip(in_means, tall, strict=True) if not height[1] <= 0]
        in_means, tall = [one for one, _ in pairs], [height for _, height in pairs]
    seen = None
    if noise is not None and not in_means:
        seen = power(means, noise, how.chance, how.interval.seed)
    units, by_dataset = token_units(inputs.sites)
    classed: list[Classes] = []
    if in_means:
        blocks = inputs.blocks(store, False, progress, limit)
        with bar(progress, "tokens", blocks.reads, "slices"):
            classed = classify(blocks, units, [spike.window for spike in in_means], how.tolerance)
    members = None
    if in_means and how.enrich:
        members = memberships(store, inputs.sites, models, inputs.selection.align, progress)
    classed_spikes = []
    for spike, (height, low, high), classes in zip(in_means, tall, classed, strict=True):
        before, at, after = steps[[spike.window.before, spike.window.at, spike.window.after]].tolist()
        table = _shares(classes, by_dataset, steps, draws)
        groups = _enriched(members, classes, how.interval)
        ends = (None, None) if np.isnan(low) else (low, high)
        place = (before, at, after)
        classed_spikes.append(
            ClassedSpike(place, height, ends[0], ends[1], spike.chance, classes, table, groups)
        )
    facts = {**_facts(store, inputs, how, noise), "power": None if seen is None else asdict(seen)}
    return Spikes(
        models[0],
        inputs,
        steps,
        means,
        noise,
        seen,
        tuple(classed_spikes),
        store=store,
        request=request(inputs.selection, how),
        facts=facts,
    )


def not_found(facts: Mapping[str, Any]) -> str:
    """A sentence, from a finding's facts, that no spike was found, and how far that says that there is none."""
    on, noise = f"the mean loss of {facts['model']}", facts["noise"]
    if "power" not in facts:
        return f"No spike of {on} was found; whether one would have been was not yet looked at."
    if facts["power"] is None:
        return f"Cannot tell whether {on} has a spike: its noise between checkpoints cannot be measured."
    seen = Power(**facts["power"])
    beside = f"the noise of {noise:.2g} nats between checkpoints"
    height = f"a spike of ten times that, {seen.height:.2g} nats, would have been found at {seen.share:.0%} of them"
    if seen.enough:
        return f"There is none: no short rise and fall of {on} stands out from {beside}; {height}."
    least = f"one of {seen.least:.2g} nats" if seen.least is not None else "none of any height"
    unsure = f"Cannot tell whether {on} has a spike: none stands out from {beside}"
    return f"{unsure}, but {height}, {least} at {ENOUGH:.0%}."


def request(selection: Selection, search: Search) -> Request:
    """The finding of spikes; its default name has the model, the dataset or how many, and the group."""
    models = selection.models or ("model",)
    group = [selection.group] if selection.group else []
    parts = [models[0], one_or_many(selection.datasets or (), "datasets"), *group]
    facts = {**search.facts, "asked": selection.matrix_facts}
    return Request(KIND, finding_name(parts, [selection.matrix_facts, search.facts]), facts)


def tokens_in_context(
    store: Store, result: Spikes, spike: ClassedSpike, name: str, top: int = 10
) -> pl.DataFrame:
    """The tokens of a class that changed most, by times their τ, with `text`, `before`, `marked` and `after`."""
    at = np.flatnonzero(spike.classes.mask(name))
    times = np.abs(spike.classes.change[at]) / spike.classes.tau[at]
    most = at[np.argsort(-times, kind="stable")[:top]]
    sites = result.columns[most].with_columns(
        change=pl.Series(spike.classes.change[most]), tau=pl.Series(spike.classes.tau[most])
    )
    return with_context(store, sites)


def group_names(step: int, prefix: str = PREFIX) -> tuple[str, str]:
    """Return the names of a spike's groups: of tokens that follow, and of inverse tokens."""
    return f"{prefix}_{step}_follow", f"{prefix}_{step}_inverse"


def check_groups_free(
    store: Store, finding: str, model: str, steps: Iterable[int], prefix: str = PREFIX
) -> None:
    """Raise `GroupError` where a group of the name of a spike at one of these steps is there, not of this finding."""
    names = [name for step in steps for name in group_names(step, prefix)]
    require_groups_free(store, names, f"{prefix}_{slug(model)}", KIND, finding)


def keep_groups(
    store: Store, finding: str, result: Spikes, prefix: str = PREFIX, *, replace: bool = False
) -> list[str]:
    """Add the tokens that follow each spike, and those that are inverse, as groups; returns those that were.

    A class without tokens gives none. Raises `GroupError` where one is there with other tokens, unless `replace`; then
    nothing is added.
    """
    new = []
    for spike in result.spikes:
        before, at, after = spike.steps
        for side, name in zip(CLASSES[:2], group_names(at, prefix), strict=True):
            sites = result.columns.filter(spike.classes.mask(side))
            what = "above both" if side == "follow" else "below both"
            description = (
                f"Tokens whose loss in {result.model} at step {at} is more than τ {what} those at steps {before} and "
                f"{after} {of_finding(KIND, finding)}. {ADDED}"
            )
            if not sites.is_empty():
                new.append(NewGroup(name, sites, description))
    add_groups(store, new, replace=replace)
    return [group.name for group in new]


def _strata(store: Store, inputs: Inputs, progress: Progress) -> list[Stratum]:
    """Sums of losses by checkpoint and unit, of each dataset."""
    strata = []
    with bar(progress, "mean losses", len(inputs.checkpoints) * len(inputs.sites), "slices"):
        for chosen in inputs.sites:
            sums = context_sums(store.path, inputs.checkpoints, {"": chosen}, progress=progress)[""]
            units, tokens, by_unit = sums.by_unit(sums.contexts)
            strata.append(Stratum(chosen.dataset.name, sums.units.count, units, (Ratio(tokens, by_unit),)))
    return strata


def _given(window: tuple[int, int, int], steps: np.ndarray, model: str) -> Window:
    """A window by its steps; raises `UnknownStep` and `BadOption`."""
    for step in window:
        if step not in steps:
            close = sorted(steps[np.argsort(np.abs(steps - step))[:3]].tolist())
            raise UnknownStep(str(step), model, close, argument="window", among=True)
    if not window[0] < window[1] < window[2]:
        raise BadOption("window", ":".join(map(str, window)), "three rising steps BEFORE:AT:AFTER")
    return Window(*(int(np.searchsorted(steps, step)) for step in window))


def _enriched(members: Memberships | None, classes: Classes, interval: Interval) -> pl.DataFrame:
    """Every group among the tokens that follow, and among the inverse."""
    frames = [pl.DataFrame(schema={"token_class": pl.String, **GROUPS})]
    for side in CLASSES[:2]:
        if members is None:
            break
        enriched = enrichment(members, classes.mask(side), members.units, interval)
        frames.append(enriched.select(pl.lit(side).alias("token_class"), pl.all()))
    return pl.concat(frames).rename({"group": "group_name"})


def _shares(
    classes: Classes, by_dataset: Sequence[tuple[str, np.ndarray]], steps: np.ndarray, draws: Draws
) -> pl.DataFrame:
    """The shares in a window and its placebos, by steps."""
    places = ("before", "at", "after")
    names = {"kind": "window_kind", "class": "token_class", **{name: f"{name}_step" for name in places}}
    numbered = shares(classes, by_dataset, draws)
    return numbered.with_columns(pl.Series(name, steps[numbered[name].to_numpy()]) for name in places).rename(
        names
    )


def _facts(store: Store, inputs: Inputs, how: Search, noise: CurveNoise | None) -> dict[str, Any]:
    """Return the facts of a finding: its inputs and method."""
    return {
        **request(inputs.selection, how).facts,
        "model": inputs.checkpoints[0][0],
        "steps": [step for _, step in inputs.checkpoints],
        "noise": None if noise is None or not np.isfinite(noise.size) else noise.size,
        "datasets": facts_of_sites(inputs.sites),
        "group_sha256": group_hash(store, inputs.selection.group),
        "versions": versions("numpy", "scipy"),
    }
