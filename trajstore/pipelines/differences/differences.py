"""Differences of losses from a store: gathered pair by pair, summed by group, and the largest of them in context.

Memory holds the two slices of a pair, sums, and the largest differences; a matrix of differences only where one is
asked for. What is less than the noise of the losses, where that was measured, is marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.differences import Extremes, Pair, Scale, difference, shares, sums_by_context
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import trajectories
from trajstore.arguments.choices import Missing
from trajstore.display import Brief
from trajstore.errors import MissingSlices, NothingChosen, listed
from trajstore.pipelines.slice_hashes import SLICES
from trajstore.pipelines.token_context import with_context
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.matrix.context_sums import ContextSums, Units
from trajstore.store.matrix.matrix import LossMatrix, Sites, SliceRead, each_slice, take_losses

if TYPE_CHECKING:
    from trajstore.store.store import Store

_PAIR = {"model": pl.String, "step": pl.Int64, "minus_model": pl.String, "minus_step": pl.Int64}


@dataclass(frozen=True)
class ComparedColumns:
    """Columns on which losses are compared: of one dataset, or of the same items in two."""

    label: str
    """The dataset's name, or of two SECOND − FIRST."""
    sites: Sites
    """Of the losses."""
    minus: Sites
    """Of the losses that are taken from them, in the same order."""
    pairs: Sequence[Pair]
    groups: Mapping[str, np.ndarray]
    """Numbers of the columns of each group that has any, int64."""
    units: Units
    """Of the dataset that `context` numbers."""
    context: np.ndarray
    """Of each column, int64, in the dataset whose units are the larger."""


@dataclass(frozen=True)
class DifferenceInputs:
    """The checkpoints and sites to compare."""

    parts: Sequence[ComparedColumns]
    columns: pl.DataFrame
    """Labels of all columns, part after part, as a matrix has them."""
    prompts: tuple[str, str] | None = None
    """The two datasets, (first, second), where they are compared and not checkpoints."""

    @property
    def models(self) -> list[str]:
        """All models whose losses are compared."""
        pairs = [pair for part in self.parts for pair in part.pairs]
        return list(dict.fromkeys(name for pair in pairs for name in (pair.model, pair.minus_model)))

    @property
    def groups(self) -> list[str]:
        """All groups that are summed up."""
        return list(dict.fromkeys(group for part in self.parts for group in part.groups))


@dataclass(frozen=True)
class DifferenceMethod:
    """The method of differences: their scale, groups and intervals."""

    scale: Scale = field(default_factory=Scale)
    top: int = 5
    """Largest differences at either end."""
    interval: Interval = field(default_factory=Interval)
    missing: Missing = "error"
    """Treatment of contexts that a partial slice lacks."""
    matrix: bool = False
    """True to compute all differences."""


@dataclass(frozen=True, repr=False)
class Differences(Brief):
    """Differences of losses."""

    summary: pl.DataFrame
    """By group and pair, the columns of `trajectories.SCHEMA` (mean, low, high of the differences) and minus_model,
    minus_step; noise (nats, null where it was not measured); fell, rose: the shares of tokens whose loss did by more
    than the noise, or by anything where there is none."""
    changes: pl.DataFrame
    """The largest: end (fell or rose), model, step, minus_model, minus_step, dataset, context, position, text, before,
    marked, after, minus_loss, loss, difference (nats), relative, noise (nats), in_noise (whether the difference is not
    above it; null where it was not measured)."""
    matrix: LossMatrix | None
    """Rows model, step, minus_model, minus_step (of prompts also dataset, minus_dataset); NaN where nothing is."""
    slices: pl.DataFrame
    """Slices that were read, with the columns of `slice_hashes.SLICES`."""


def differences(
    store: Store, chosen: DifferenceInputs, how: DifferenceMethod | None = None, progress: Progress = SILENT
) -> Differences:
    """All that was chosen, each slice read once.

    Raises `NothingChosen` where there is no pair, `MissingSlices` (unless `missing` is "nan") for partial slices and,
    where a matrix is wanted, for a pair that one dataset lacks; `DamagedFile`.
    """
    method = how or DifferenceMethod()
    if not any(part.pairs for part in chosen.parts):
        raise NothingChosen(
            "There are no two checkpoints to compare here. See what is there: trajstore status"
        )
    noise = _noise(store, chosen)
    rows = list(dict.fromkeys(pair for part in chosen.parts for pair in part.pairs))
    matrix = _empty(chosen, rows, method) if method.matrix else None
    extremes, frames, hashes = Extremes(method.top), [], _Hashes()
    with bar(progress, "differences", sum(len(part.pairs) for part in chosen.parts), "pairs"):
        for number, part in enumerate(chosen.parts):
            first = sum(len(before.sites.tokens) for before in chosen.parts[:number])
            summed = _Summed(part)
            for pair, losses, minus in _read(store, part, method.missing, hashes):
                values = difference(losses, minus, method.scale)
                plain = values if not method.scale.relative else difference(losses, minus)
                extremes.add(pair, number, values, losses, minus)
                summed.add(pair, values, plain, noise.get((part.label, pair)))
                if matrix is not None:
                    matrix.values[rows.index(pair), first : first + len(values)] = values
                progress.advance(1, f"{pair.model} at step {pair.step}")
            frames.append(summed.frame(method.interval, progress))
    changes = _changes(store, chosen, extremes, noise, method.scale)
    read_slices = pl.DataFrame(
        [(*key, digest) for key, digest in hashes.items()], schema=SLICES, orient="row"
    )
    return Differences(pl.concat(frames), changes, matrix, read_slices.sort("dataset", "model", "step"))


_Hashes = dict[tuple[str, int, str], str]
"""By model, step and dataset: the hash of the losses of a slice that was read."""


def noise_of_slices(store: Store, models: Sequence[str]) -> dict[tuple[str, int, str], float]:
    """The noise_p99 (nats) of the slices of models (model, step, dataset) for which it was measured."""
    measured: dict[tuple[str, int, str], float] = {}
    frame = store.measures(models, "noise_p99").select("model", "step", "dataset", "value")
    for model, step, dataset, value in frame.iter_rows():
        measured[model, step, dataset] = max(value, measured.get((model, step, dataset), 0.0))
    return measured


_Noise = Mapping[tuple[str, Pair], float]
"""By part and pair, nats."""


def _noise(store: Store, chosen: DifferenceInputs) -> _Noise:
    """The larger noise_p99 of the two slices of each pair, where either was measured."""
    measured = noise_of_slices(store, sorted(chosen.models))
    of_pairs = {}
    for part in chosen.parts:
        for pair in part.pairs:
            both = (
                (pair.model, pair.step, part.sites.dataset.name),
                (pair.minus_model, pair.minus_step, part.minus.dataset.name),
            )
            if values := [measured[slice_] for slice_ in both if slice_ in measured]:
                of_pairs[part.label, pair] = max(values)
    return of_pairs


def _read(
    store: Store, part: ComparedColumns, missing: Missing, hashes: _Hashes
) -> Iterator[tuple[Pair, np.ndarray, np.ndarray]]:
    """The losses of each pair at the part's columns, float32; a slice that two pairs share is read once."""
    held: dict[tuple[str, int, str], np.ndarray] = {}
    for pair in part.pairs:
        both = ((pair.model, pair.step, part.sites), (pair.minus_model, pair.minus_step, part.minus))
        held = {
            (model, step, sites.dataset.name): held[model, step, sites.dataset.name]
            if (model, step, sites.dataset.name) in held
            else read(store, (model, step), sites, missing, hashes)
            for model, step, sites in both
        }
        losses, minus = (held[model, step, sites.dataset.name] for model, step, sites in both)
        yield pair, losses, minus


def read(
    store: Store,
    checkpoint: tuple[str, int],
    sites: Sites,
    missing: Missing = "error",
    hashes: _Hashes | None = None,
) -> np.ndarray:
    """The losses of one slice at these sites, float32 (tokens,); raises as `matrix.pull`.

    `hashes` takes up the hash of its losses.
    """
    losses = np.full(len(sites.tokens), np.nan, dtype=np.float32)

    def fill(job: SliceRead) -> bool:
        facts = take_losses(job, losses)
        if hashes is not None:
            hashes[facts.model, facts.step, facts.dataset] = facts.loss_sha256
        return facts.partial

    each_slice(store.path, [checkpoint], [sites], fill, missing, threads=1)
    return losses


class _Summed:
    """Sums of the differences of a part, by group."""

    def __init__(self, part: ComparedColumns) -> None:
        self._part = part
        self._pairs: list[Pair] = []
        self._sums: dict[str, list[np.ndarray]] = {group: [] for group in part.groups}
        self._contexts = {group: np.unique(part.context[rows]) for group, rows in part.groups.items()}
        self._shares: list[tuple[str, str, int, str, int, float | None, float, float]] = []

    def add(self, pair: Pair, values: np.ndarray, plain: np.ndarray, noise: float | None) -> None:
        """Take up a pair; `plain` are its differences in nats, beside which the noise is."""
        self._pairs.append(pair)
        for group, rows in self._part.groups.items():
            sums = sums_by_context(values[rows], self._part.context[rows], self._contexts[group])
            self._sums[group].append(sums)
            fell, rose = shares(plain[rows], noise or 0.0)
            self._shares.append((group, *astuple(pair), noise, fell, rose))

    def frame(self, interval: Interval, progress: Progress) -> pl.DataFrame:
        """The summary of the part."""
        labels = [(pair.model, pair.step) for pair in self._pairs]
        rows = pl.DataFrame(labels, schema={"model": pl.String, "step": pl.Int64}, orient="row")
        part, sums = self._part, {}
        for group, columns in part.groups.items():
            contexts = self._contexts[group]
            tokens = np.bincount(part.context[columns])[contexts]
            sums[group, part.label] = ContextSums(
                part.label, part.units, rows, contexts, tokens, np.array(self._sums[group])
            )
        means = trajectories(sums, list(part.groups), interval=interval, progress=progress)
        kinds = {"group": pl.String, **_PAIR, **dict.fromkeys(["noise", "fell", "rose"], pl.Float64)}
        beside = pl.DataFrame(self._shares, schema=kinds, orient="row")
        joined = means.join(beside, on=["group", "model", "step"], how="left", maintain_order="left")
        if lost := sorted(set(labels) - set(means.select("model", "step").iter_rows())):
            slices = (f"{model} at step {step}" for model, step in lost)
            progress.say(f"Without a mean on {part.label}, as contexts are missing: {listed(slices, 6)}.")
        return joined


def _empty(chosen: DifferenceInputs, rows: Sequence[Pair], how: DifferenceMethod) -> LossMatrix:
    """The matrix before it is filled; raises `MissingSlices` where it would have holes and may not."""
    lacking = [
        (pair.model, part.label, pair.step)
        for part in chosen.parts
        for pair in rows
        if pair not in part.pairs
    ]
    if lacking and how.missing == "error":
        raise MissingSlices(lacking)
    labels = pl.DataFrame(list(map(astuple, rows)), schema=_PAIR, orient="row")
    if chosen.prompts is not None:
        first, second = map(pl.lit, chosen.prompts)
        labels = labels.with_columns(second.alias("dataset"), first.alias("minus_dataset"))
    values = np.full((len(rows), chosen.columns.height), np.nan, dtype=np.float32)
    return LossMatrix(values, labels, chosen.columns)


def _changes(
    store: Store, chosen: DifferenceInputs, extremes: Extremes, noise: _Noise, scale: Scale
) -> pl.DataFrame:
    """The largest differences, in context; of prompts in that of the second."""
    rows = []
    for end, ranked in (("fell", extremes.fell()), ("rose", extremes.rose())):
        for extreme in ranked:
            part, pair = chosen.parts[extreme.part], extreme.pair
            token = part.sites.tokens[extreme.column]
            dataset = part.sites.dataset
            changed = extreme.loss - extreme.minus_loss
            floor = noise.get((part.label, pair))
            beyond = None if floor is None else bool(abs(changed) <= floor)
            place = (dataset.name, *dataset.site_of(token))
            share = changed / max(extreme.minus_loss, scale.least)
            rows.append(
                (end, *astuple(pair), *place, extreme.minus_loss, extreme.loss, changed, share, floor, beyond)
            )
    kinds = {
        "end": pl.String,
        **_PAIR,
        "dataset": pl.String,
        "context": pl.Int32,
        "position": pl.Int32,
        **dict.fromkeys(["minus_loss", "loss", "difference", "relative", "noise"], pl.Float64),
        "in_noise": pl.Boolean,
    }
    return with_context(store, pl.DataFrame(rows, schema=kinds, orient="row"))
