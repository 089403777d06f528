"""Models of a store compared token by token: how alike their losses are by step, where they differ, and which groups.

Of two models A and B a difference is A − B in nats: below 0, A wins, having the lower loss. Memory holds the slices
of the models at one step of one dataset, and two more for the checkpoints that every step is compared with.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.comparison import (
    Density,
    Similarity,
    compare_losses,
    log_frequency,
    outliers,
    ranked,
)
from trajstore.analysis.differences import pairs_of_models
from trajstore.analysis.statistics.bootstrap import Draws, Interval
from trajstore.analysis.statistics.enrichment import enrichment, holm
from trajstore.arguments.choices import Missing
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError, UnknownName, UnknownStep
from trajstore.pipelines.comparison.result import (
    CORRELATIONS,
    FOLLOWED,
    GROUPS,
    OUTLIERS,
    Compared,
    Ground,
    Question,
    facts_of,
    request,
)
from trajstore.pipelines.differences.checkpoint_pairs import EVERY, shared_steps
from trajstore.pipelines.differences.differences import (
    ComparedColumns,
    DifferenceInputs,
    DifferenceMethod,
    differences,
    read,
)
from trajstore.pipelines.groups.enrichment import Memberships, memberships
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.matrix.context_sums import Units
from trajstore.store.matrix.matrix import column_labels
from trajstore.store.matrix.selection import Selection, sites_by_dataset
from trajstore.store.matrix.steps import near

if TYPE_CHECKING:
    from trajstore.store.store import Store

CELLS = 90
"""Of a density, along either axis."""


def compare(
    store: Store,
    models: Sequence[str],
    question: Question | None = None,
    selection: Selection | None = None,
    progress: Progress = SILENT,
) -> Compared:
    """Models (names or globs, two at least) on the chosen datasets, at the chosen ones of the steps that all have.

    `selection.steps` are gone through; `selection.models` is not looked at. What not all have is said. Raises
    `UnknownName`, `UnknownStep`, `BadSteps`, `NothingChosen`, `BadOption`, `MissingSlices`, `DamagedFile`.
    """
    how, chosen = question or Question(), selection or Selection()
    if chosen.group is not None:
        (group,) = chosen.within([how.group] if how.group else [])
        how, chosen = replace(how, group=group), replace(chosen, group=None)
    names = named_models(store, models)
    grounds = _grounds(store, names, how, chosen, progress)
    ends_of = {ground.dataset: _against(store, names, how, ground) for ground in grounds}
    draws = Draws(how.interval)
    rows: list[tuple[object, ...]] = []
    of_grounds: list[pl.DataFrame] = []
    against: list[tuple[str, int, str]] = []
    densities: list[Density] = []
    with bar(progress, "correlations", sum(len(_all_steps(ground)) for ground in grounds), "steps"):
        for ground in grounds:
            ends = ends_of[ground.dataset]
            held = {end: _Losses.read(store, end, ground, how.missing) for end in ends}
            against += [(*end, ground.dataset) for end in ends]
            for step in _all_steps(ground):
                losses = {
                    (name, step): _Losses.read(store, (name, step), ground, how.missing) for name in names
                }
                for one, other in _pairs(list(losses), list(held)):
                    alike = _alike(ground, losses[one], (losses | held)[other], draws)
                    of = ground.dataset, alike.tokens, ground.units.kind, alike.units, alike.interval
                    values = np.stack([alike.values, alike.low, alike.high], axis=1).ravel().tolist()
                    rows.append((*one, *other, *of, alike.spearman, *values))
                if step == ground.step and len(names) == 2:
                    a, b = (slice_.values for slice_ in losses.values())
                    of_grounds.append(_outliers(ground, names, a, b, how.outliers))
                    densities.append(density(a, b))
                progress.advance(1, f"step {step} of {ground.dataset}")
    nan = pl.selectors.float().fill_nan(None)
    correlations = pl.DataFrame(rows, schema=CORRELATIONS, orient="row").with_columns(nan)
    apart = pl.concat(of_grounds) if of_grounds else pl.DataFrame(schema=OUTLIERS)
    enriched, followed = pl.DataFrame(schema=GROUPS), pl.DataFrame(schema=dict.fromkeys(FOLLOWED, pl.Null))
    if len(apart):
        followed = _followed(store, names, grounds, apart, how, progress)
        if how.groups:
            groups = memberships(store, [ground.sites for ground in grounds], names, chosen.align, progress)
            enriched = _enriched(grounds, names, apart, groups, how.interval)
    return Compared(
        how,
        names,
        grounds,
        correlations,
        apart,
        enriched,
        followed,
        tuple(against),
        densities,
        store=store,
        request=request(names, how, chosen),
        facts=facts_of(store, names, how, chosen, grounds, against),
    )


def named_models(store: Store, patterns: Sequence[str]) -> tuple[str, ...]:
    """Models by names in the order given, and by globs in theirs; raises `UnknownName` and `TrajstoreError`."""
    if checkpoints := [pattern for pattern in patterns if pattern.rpartition("@")[0] in store.model_names()]:
        raise _are_checkpoints(checkpoints)
    names = tuple(dict.fromkeys(name for pattern in patterns for name in store.models(pattern)))
    if len(names) < 2:
        raise TrajstoreError(
            f"A comparison takes two models at least; {', '.join(patterns)} is {', '.join(names)} alone. There are: "
            f"{', '.join(store.model_names())}"
        )
    return names


def _are_checkpoints(checkpoints: Sequence[str]) -> TrajstoreError:
    """Return the error that checkpoints stand in the place of models: what compares them."""
    models, steps = zip(*(checkpoint.rsplit("@", 1) for checkpoint in checkpoints), strict=True)
    at = ",".join(dict.fromkeys(steps)) if len(set(steps)) > 1 else "A,B"
    return TrajstoreError(
        f"Losses are compared of models, at steps that all have; a checkpoint such as {checkpoints[0]} is for "
        f"measures: trajstore compare {' '.join(checkpoints)} --measure NAME. One model at two steps: trajstore "
        f"diff steps -m {models[0]} --steps {at}. Two models at one step: {option('step', 'STEP')}"
    )


def _grounds(
    store: Store, models: Sequence[str], question: Question, chosen: Selection, progress: Progress
) -> list[Ground]:
    """Return the datasets and steps at which the models can be compared."""
    groups = EVERY if question.group is None else (question.group,)
    store.groups.check(*groups)
    grounds = []
    steps_of = shared_steps(store, models, chosen, progress)
    for name, sites_of in sites_by_dataset(store, chosen, steps_of, groups):
        shared = sorted(set.intersection(*(set(store.steps(model, name)) for model in models)))
        at = one_step("step", question.step, shared, f"{' and '.join(models)} on {name}")
        (sites,) = sites_of.values()
        units = Units.of(sites.dataset)
        frequency = log_frequency(sites.dataset.frame(["token"])["token"].to_numpy())[sites.tokens]
        grounds.append(Ground(sites, units, units.of_context[sites.contexts], frequency, at, steps_of[name]))
    return grounds


def _all_steps(ground: Ground) -> list[int]:
    return sorted({*ground.steps, ground.step})


def _against(
    store: Store, models: Sequence[str], question: Question, ground: Ground
) -> list[tuple[str, int]]:
    """The checkpoints (model, step) with which every step is compared on a dataset; none for more than two models."""
    if not question.against and len(models) > 2:
        return []
    ends = []
    for checkpoint in question.against or [f"{model}@last" for model in models]:
        name, at, step = checkpoint.rpartition("@")
        if not at or not name:
            raise BadOption("against", checkpoint, "MODEL@STEP, as tiny-2l-seed0@512 or tiny-2l-seed0@last")
        if name not in (known := store.model_names()):
            raise UnknownName("model", name, known)
        steps = store.steps(name, ground.dataset)
        ends.append((name, one_step("against", step, steps, f"{name} on {ground.dataset}")))
    return list(dict.fromkeys(ends))


def one_step(argument: str, chosen: str, steps: Sequence[int], where: str, model: str = "") -> int:
    """One of the steps that there are, given by an argument or as `model`@STEP.

    Raises `BadOption` and `UnknownStep`, which say how it was given.
    """
    if chosen == "last" and steps:
        return steps[-1]
    if chosen != "last" and not chosen.isdecimal():
        raise BadOption(argument, chosen, "one step, or last")
    if chosen == "last" or int(chosen) not in steps:
        close = [] if chosen == "last" else near(int(chosen), list(steps))
        raise UnknownStep(chosen, where, close, argument=argument, model=model)
    return int(chosen)


def _pairs(
    here: Sequence[tuple[str, int]], ends: Sequence[tuple[str, int]]
) -> list[tuple[tuple[str, int], tuple[str, int]]]:
    """Return the pairs of slices that are compared at a step: each two models, then each with each end, which it may be
    itself.
    """
    return list(dict.fromkeys([*itertools.combinations(here, 2), *itertools.product(here, ends)]))


@dataclass(frozen=True)
class _Losses:
    """The losses of one slice on a ground, float32 (tokens,), and their ranks."""

    values: np.ndarray
    ranks: np.ndarray

    @classmethod
    def read(cls, store: Store, checkpoint: tuple[str, int], ground: Ground, missing: Missing) -> _Losses:
        """Of a checkpoint."""
        values = read(store, checkpoint, ground.sites, missing)
        return cls(values, ranked(values))


def _alike(ground: Ground, losses: _Losses, other: _Losses, draws: Draws) -> Similarity:
    count, ranks = ground.units.count, (losses.ranks, other.ranks)
    where = (ground.unit, ground.dataset, count)
    return compare_losses(losses.values, other.values, ground.frequency, *where, draws, ranks)


def _outliers(
    ground: Ground, models: Sequence[str], a: np.ndarray, b: np.ndarray, share: float
) -> pl.DataFrame:
    """The tokens of a dataset on which two models differ most."""
    apart = a.astype(np.float64) - b
    at = outliers(apart, share)
    places = column_labels(ground.sites).select("dataset", "context", "position")[at]
    return places.select(
        pl.Series("winner", [models[int(value > 0)] for value in apart[at]], pl.String),
        "dataset",
        pl.lit(ground.step, pl.Int64).alias("step"),
        "context",
        "position",
        *(pl.Series(name, values[at], pl.Float64) for name, values in (("loss", a), ("other_loss", b))),
        pl.Series("difference", apart[at], pl.Float64),
    )


def density(x: np.ndarray, y: np.ndarray) -> Density:
    """Count tokens by their two losses, over a square grid from the lowest to the highest of both."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    low, high = min(x.min(initial=0), y.min(initial=0)), max(x.max(initial=1e-3), y.max(initial=1e-3))
    edges = np.linspace(low, high, CELLS + 1)
    counts, _, _ = np.histogram2d(y, x, bins=(edges, edges))
    at = tuple(edges.tolist())
    return Density(at, at, tuple(tuple(map(int, row)) for row in counts), "tokens in a cell")


def _won(ground: Ground, apart: pl.DataFrame, winner: str) -> np.ndarray:
    """Numbers of a ground's tokens that are outliers which this model wins, int64, ascending."""
    mine = apart.filter(winner=winner, dataset=ground.dataset)
    rows = ground.sites.dataset.tokens_at(mine["context"].to_numpy(), mine["position"].to_numpy())
    numbers: np.ndarray = np.searchsorted(ground.sites.tokens, np.sort(rows))
    return numbers


def _enriched(
    grounds: Sequence[Ground],
    models: Sequence[str],
    apart: pl.DataFrame,
    groups: Memberships,
    interval: Interval,
) -> pl.DataFrame:
    """The groups among the outliers that either model wins."""
    frames = []
    for winner in (model for model in models if model in apart["winner"]):
        marks = []
        for ground in grounds:
            mark = np.zeros(len(ground.sites.tokens), dtype=bool)
            mark[_won(ground, apart, winner)] = True
            marks.append(mark)
        enriched = enrichment(groups, np.concatenate(marks), groups.units, interval)
        frames.append(enriched.select(pl.lit(winner).alias("winner"), pl.all()))
    both = pl.concat(frames)
    return both.with_columns(p_adjusted=pl.Series(holm(both["p"]), dtype=pl.Float64).fill_nan(None))


def _followed(
    store: Store,
    models: Sequence[str],
    grounds: Sequence[Ground],
    apart: pl.DataFrame,
    question: Question,
    progress: Progress,
) -> pl.DataFrame:
    """A − B at every step, of the outliers that either model wins."""
    a, b = models
    parts = []
    for ground in grounds:
        won = {winner: _won(ground, apart, winner) for winner in models}
        parts.append(
            ComparedColumns(
                ground.dataset,
                ground.sites,
                ground.sites,
                pairs_of_models(_all_steps(ground), b, a),
                {winner: rows for winner, rows in won.items() if len(rows)},
                ground.units,
                ground.sites.contexts,
            )
        )
    columns = pl.concat(column_labels(part.sites) for part in parts)
    by_step = differences(
        store,
        DifferenceInputs(parts, columns),
        DifferenceMethod(top=0, interval=question.interval, missing=question.missing),
        progress,
    )
    return by_step.summary.rename({"group": "winner"}).select(FOLLOWED)
