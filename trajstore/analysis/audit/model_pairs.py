"""Pairs of models that share what they should not: the same weights, or losses that hardly differ.

Runs that begin with the same weights do so by design, so that step 0 of both is passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trajstore.analysis.audit.step_summaries import RunSummary
    from trajstore.store.files.slices import SliceFacts

Shared = dict[tuple[str, str], tuple[tuple[str, ...], list[tuple[int, int]]]]
"""By (model, other model): datasets, and the pairs of their steps."""

_NEAR = 0.05
"""Share of the distance to the nearest step of its own run below which another run's step is near."""


def shared_weights(slices: Sequence[SliceFacts], others: Sequence[SliceFacts]) -> Shared:
    """Fingerprints of weights under two models, of which the first is among the models of `slices`."""
    by_weights: dict[str, dict[tuple[str, int], set[str]]] = defaultdict(lambda: defaultdict(set))
    for slice_ in (*slices, *others):
        if slice_.provenance.weights is not None:
            by_weights[slice_.provenance.weights][slice_.model, slice_.step].add(slice_.dataset)
    chosen = {slice_.model for slice_ in slices}
    shared: dict[tuple[str, str], tuple[set[str], set[tuple[int, int]]]] = {}
    for holders in by_weights.values():
        for (model, step), (other, at) in combinations(sorted(holders), 2):
            if model == other or (step == 0 and at == 0):
                continue
            own, theirs = ((model, step), (other, at))
            if model not in chosen:
                own, theirs = theirs, own
            if own[0] in chosen:
                names, pairs = shared.setdefault((own[0], theirs[0]), (set(), set()))
                names |= holders[own]
                pairs.add((own[1], theirs[1]))
    return {key: (tuple(sorted(names)), sorted(pairs)) for key, (names, pairs) in sorted(shared.items())}


def shared_losses(summaries: Mapping[tuple[str, str], RunSummary]) -> Shared:
    """Steps of two models whose losses on a dataset are far nearer than those of any two steps of either."""
    by_dataset: dict[str, list[str]] = defaultdict(list)
    for model, dataset in sorted(summaries):
        by_dataset[dataset].append(model)
    shared: dict[tuple[str, str], tuple[list[str], set[tuple[int, int]]]] = {}
    for dataset, models in by_dataset.items():
        for model, other in combinations(models, 2):
            pairs = _near(summaries[model, dataset], summaries[other, dataset])
            if pairs:
                names, all_pairs = shared.setdefault((model, other), ([], set()))
                names.append(dataset)
                all_pairs.update(pairs)
    return {key: (tuple(names), sorted(pairs)) for key, (names, pairs) in shared.items()}


def _near(one: RunSummary, other: RunSummary) -> list[tuple[int, int]]:
    """The pairs of steps of two runs that are nearly equal."""
    if len(one.steps) < 2 or len(other.steps) < 2:
        return []
    a, b = one.sketch.astype(np.float64), other.sketch.astype(np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    apart = np.sqrt(np.maximum(squares, 0) / a.shape[1])
    nearest = np.minimum.outer(_own(one), _own(other))
    close = apart < _NEAR * nearest
    return [
        (one.steps[row], other.steps[column])
        for row, column in np.argwhere(close).tolist()
        if one.steps[row] or other.steps[column]
    ]


def _own(summary: RunSummary) -> np.ndarray:
    """Distance of each step from the nearest other of its run that is no copy of it, (steps,)."""
    apart = summary.apart + np.diag(np.full(len(summary.steps), np.inf))
    pace = float(np.quantile(np.diag(summary.apart, 1), 0.75))
    nearest: np.ndarray = np.where(apart < _NEAR * pace, np.inf, apart).min(axis=1)
    return np.where(np.isfinite(nearest), nearest, pace)
