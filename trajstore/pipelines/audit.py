"""An audit of a store: gathers what footers say, how far losses lie apart, and which checkpoints are known to be bad.

Losses are read slice by slice, and kept at no more than `SITES` sites a dataset, spread evenly over its contexts, while
the run that they belong to is summed up. A slice that cannot be read, or is of other tokens than the dataset's, is a
finding; a partial one has no losses to compare. Weights are compared over the whole store, whatever was asked for.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.audit.audit import ADVICE, DAMAGED, Anomaly
from trajstore.analysis.audit.audit import audit as judge
from trajstore.analysis.audit.misplaced import FEWEST
from trajstore.analysis.audit.step_summaries import RunSummary, summarise
from trajstore.checkpoints.revisions import parse_revision
from trajstore.checkpoints.suites import known_bad, run_named
from trajstore.display import Brief, count
from trajstore.errors import DamagedFile, UnknownName, listed
from trajstore.progress import SILENT, Progress, bar
from trajstore.store.files import coverage
from trajstore.store.loss_limits import guess_in_bits, hardly_nats
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.files.slices import SliceFacts
    from trajstore.store.store import Store

SITES = 1 << 14
_OCTAVES = 0.5
"""Octaves from a step to the next, in the later half of a run, above which another seed hides in what is learned."""


class Audit(Brief, list[Anomaly]):
    """The findings of an audit, by model."""

    def __init__(self, findings: Iterable[Anomaly], unseen: Iterable[str] = ()) -> None:
        super().__init__(findings)
        self.unseen = tuple(unseen)
        """Sentences on what an audit of these steps cannot see."""

    def brief(self) -> str:
        """Count the findings."""
        return count(len(self), "finding")

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The findings."""
        texts = dict.fromkeys(("finding", "model", "what", "advice"), pl.String())
        schema = {**texts, "datasets": pl.List(pl.String), "steps": pl.List(pl.Int64)}
        rows = [{**vars(one), "datasets": list(one.datasets), "steps": list(one.steps)} for one in self]
        yield "findings", pl.DataFrame(rows, schema=schema)


def audit(
    store: Store,
    models: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Audit:
    """The findings on these models (names or globs) and datasets, all by default; raises `UnknownName`."""
    broken = list(_broken_parts(store, models, datasets))
    bad = {name for anomaly in broken for name in anomaly.datasets}
    names = Selection(datasets, models).datasets
    chosen = [
        store.dataset(name)
        for name in (store.dataset_names() if names is None else dict.fromkeys(names))
        if name not in bad
    ]
    scored = {
        (model, dataset.name): steps
        for model in coverage.match(models, coverage.model_names(store.path), "model")
        for dataset in chosen
        if (steps := store.steps(model, dataset.name))
    }
    read = []
    with bar(progress, "reading", sum(map(len, scored.values())), "slices"):
        for (model, name), steps in scored.items():
            dataset = next(one for one in chosen if one.name == name)
            read.append(_read(store, model, dataset, steps, progress))
    repos = {model: _repo(store, model) for model, _ in scored}
    anomalies = judge(
        [slice_ for run in read for slice_ in run.slices],
        {(run.model, run.dataset): run.summary for run in read},
        lambda slice_: _known_bad(slice_, repos[slice_.model]),
        _others(store, {model for model, _ in scored}),
        {(run.model, run.dataset): run.large for run in read},
    )
    damaged = (one for run in read for one in run.damaged())
    findings = sorted([*broken, *anomalies, *damaged], key=lambda one: one.model)
    return Audit(findings, unseen(store, models, datasets))


def unseen(
    store: Store, models: str | Sequence[str] | None = None, datasets: str | Sequence[str] | None = None
) -> list[str]:
    """Sentences on what an audit of these models' steps cannot see, so few or so far apart as they are."""
    few, apart = set(), set()
    names = store.dataset_names()
    for model in coverage.match(models, coverage.model_names(store.path), "model"):
        for name in coverage.match(datasets, names, "dataset") if names else []:
            if steps := sorted(store.steps(model, name)):
                later = [math.log2(b / a) for a, b in pairwise(steps) if a > 0]
                if len(steps) < FEWEST:
                    few.add(model)
                elif median(later[len(later) // 2 :]) > _OCTAVES:
                    apart.add(model)
    sentences = []
    if few:
        sentences.append(f"With fewer than {FEWEST} steps only copies are looked for: {listed(sorted(few))}.")
    if apart:
        sentences.append(
            "Between steps so far apart another seed's weights, at one step or from one on, are mostly not seen: "
            f"{listed(sorted(apart))}."
        )
    return sentences


def _broken_parts(
    store: Store, models: str | Sequence[str] | None, datasets: str | Sequence[str] | None
) -> Iterable[Anomaly]:
    """Datasets and facts of models that cannot be read, without which the audit of the rest goes on."""
    names = store.dataset_names()
    for name in coverage.match(datasets, names, "dataset") if names else []:
        try:
            _ = store.dataset(name).lengths
        except DamagedFile as error:
            yield Anomaly(
                DAMAGED, "", (name,), (), f"{error.path.name} of the dataset: {error.reason}", ADVICE[DAMAGED]
            )
    for model in coverage.match(models, coverage.model_names(store.path), "model"):
        try:
            store.model(model)
        except DamagedFile as error:
            yield Anomaly(
                DAMAGED,
                model,
                (),
                (),
                f"its facts, models/{error.path.name}: {error.reason}",
                ADVICE[DAMAGED],
            )


@dataclass(frozen=True)
class _RunSlices:
    """The slices of a model on a dataset."""

    model: str
    dataset: str
    slices: list[SliceFacts]
    summary: RunSummary
    reasons: dict[str, list[int]]
    """Steps whose slice cannot be read, by what is wrong with it."""
    large: dict[int, str]
    """Reasons why losses are too large to be nats, by step."""

    def damaged(self) -> Iterable[Anomaly]:
        """The slices that cannot be read."""
        for reason, steps in self.reasons.items():
            yield Anomaly(DAMAGED, self.model, (self.dataset,), tuple(steps), reason, ADVICE[DAMAGED])


def _read(store: Store, model: str, dataset: Dataset, steps: Iterable[int], progress: Progress) -> _RunSlices:
    """Read the footers of a model's slices on a dataset, and summarise those with losses at all sites."""
    sites = np.unique(np.linspace(0, dataset.n_losses - 1, SITES).astype(np.int64))
    slices, compared, rows = [], [], []
    reasons: dict[str, list[int]] = defaultdict(list)
    large = {}
    for step in steps:
        try:
            slices.append(store.slice_facts(model, dataset.name, step))
            everywhere = store.slice_losses(model, dataset.name, step)
            size = dataset.tokenizer.size
            if (reason := hardly_nats(everywhere, size) or guess_in_bits(everywhere, size)) is not None:
                large[step] = reason
            losses = everywhere[sites]
            if not np.isnan(losses).any():
                compared.append(step)
                rows.append(losses)
        except DamagedFile as error:
            reasons[error.reason].append(step)
        except UnknownName:
            continue  # it was dropped meanwhile
        finally:
            progress.advance(1, f"{model}/{dataset.name}/{step}")
    values = np.array(rows, dtype=np.float32).reshape(len(rows), len(sites))
    return _RunSlices(model, dataset.name, slices, summarise(tuple(compared), values), dict(reasons), large)


def _others(store: Store, models: set[str]) -> list[SliceFacts]:
    """The footers of all other models' slices that can be read."""
    others = []
    for model in set(coverage.model_names(store.path)) - models:
        for dataset in store.dataset_names():
            for step in store.steps(model, dataset):
                with contextlib.suppress(DamagedFile, UnknownName):
                    others.append(store.slice_facts(model, dataset, step))
    return others


def _repo(store: Store, model: str) -> str | None:
    """The repository of a model's checkpoints: as its facts say, else, without any, of the run that bears its name."""
    with contextlib.suppress(DamagedFile):  # named by itself
        if (facts := store.model(model)) is not None:
            return facts.repo
    run = run_named(model)
    return None if run is None else run.repo


def _known_bad(slice_: SliceFacts, repo: str | None) -> str | None:
    """Return why a checkpoint is known to be bad: by its footer, as scoring wrote it, else by the suites known here."""
    origin = slice_.provenance
    named = parse_revision(origin.revision) if origin.revision else None
    stage = "" if named is None else named.stage
    return origin.known_bad or (known_bad(repo, slice_.step, stage) if repo else None)
