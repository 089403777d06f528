"""Anomalies along one run on one dataset, each step for the plainest reason only.

Steps that share their losses and losses in another unit or order are set aside first, since they would disturb what is
looked for in the rest: steps out of place, of the end, off the path of their neighbours, and breaks. Of fewer than
`FEWEST` steps only copies are named. Rows in, steps out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trajstore.analysis.audit import continuity, units
from trajstore.analysis.audit.misplaced import FEWEST, Misplaced, out_of_place, repeats
from trajstore.analysis.audit.step_summaries import RunSummary

_RAISED = 0.25
_SPIKE = 0.35
"""`Misplaced.ratio` below which a step with a raised mean, which a loss spike may be as well, is out of place."""


@dataclass(frozen=True)
class Oddities:
    """Steps, ascending, by what is odd about them."""

    copies: tuple[tuple[int, ...], ...] = ()
    """Sets of steps with nearly the same losses, beyond those that are known to share them."""
    bits: tuple[int, ...] = ()
    perplexities: tuple[int, ...] = ()
    shuffled: tuple[int, ...] = ()
    of_the_end: tuple[int, ...] = ()
    placed: tuple[Misplaced, ...] = ()
    """Out of place, among them steps that share their losses with another."""
    unlike: tuple[int, ...] = ()
    breaks: tuple[int, ...] = ()
    """Steps from which on the run is elsewhere."""


def oddities(summary: RunSummary, twins: Sequence[Sequence[int]]) -> Oddities:
    """Return the anomalies of a run; `twins` are sets of steps that are known to be one checkpoint."""
    steps = summary.steps
    place = {step: row for row, step in enumerate(steps)}
    near = [tuple(steps[row] for row in rows) for rows in continuity.near_copies(summary.apart)]
    copies = [group for group in near if not any(set(group) <= set(twin) for twin in twins)]
    if len(steps) < FEWEST:
        return Oddities(tuple(copies))
    groups = joined([*twins, *copies], steps)
    shuffled = set(continuity.shuffled(summary))
    logarithms = set(continuity.perplexities(summary)) - shuffled
    bits = set(units.in_bits(summary)) - shuffled - logarithms
    copied = {place[step] for group in groups for step in group}
    bits -= copied
    logarithms -= copied
    aside = shuffled | logarithms | bits
    rows = [row for row in range(len(steps)) if row not in aside]
    placed = _placed(summary, rows, groups)
    rows = [row for row in rows if row not in {place[misplaced.step] for misplaced in placed}]
    end = _taken(rows, continuity.of_the_end(_part(summary, rows)))
    repeated = repeats(sorted(place[step] for step in group) for group in groups)
    rows = [row for row in rows if row not in end and row not in repeated]
    unlike = _taken(rows, continuity.unlike_neighbours(*_path(summary, rows)))
    rows = [row for row in rows if row not in unlike]
    breaks = continuity.breaks(*_path(summary, rows))

    def named(anomalous: Iterable[int]) -> tuple[int, ...]:
        return tuple(steps[row] for row in sorted(anomalous))

    return Oddities(
        tuple(copies),
        named(bits),
        named(logarithms),
        named(shuffled),
        named(end),
        tuple(placed),
        named(unlike),
        named(rows[at] for at in breaks),
    )


def joined(groups: Iterable[Sequence[int]], steps: Sequence[int]) -> list[list[int]]:
    """The groups within these steps; those that share a step are one."""
    sets: list[set[int]] = []
    for group in groups:
        new = set(group).intersection(steps)
        for other in [other_set for other_set in sets if other_set & new]:
            sets.remove(other)
            new |= other
        sets.append(new)
    return [sorted(group) for group in sets if len(group) > 1]


def _part(summary: RunSummary, rows: Sequence[int]) -> np.ndarray:
    """The distances of these rows."""
    return summary.apart[np.ix_(rows, rows)]


def _path(summary: RunSummary, rows: Sequence[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Steps, distances and means of these rows."""
    return [summary.steps[row] for row in rows], _part(summary, rows), summary.means[rows]


def _taken(rows: Sequence[int], places: Iterable[int]) -> set[int]:
    return {rows[at] for at in places}


def _placed(summary: RunSummary, rows: Sequence[int], groups: Sequence[Sequence[int]]) -> list[Misplaced]:
    """Steps that are out of place; one that a loss spike may have raised is only if it is very near a far one."""
    steps, means = [summary.steps[row] for row in rows], summary.means[rows]
    placed = []
    for misplaced in out_of_place(steps, _part(summary, rows), groups):
        at = steps.index(misplaced.step)
        beside = [means[s] for s in (at - 1, at + 1) if 0 <= s < len(steps)]
        raised = means[at] - max(beside) > _RAISED * misplaced.near
        if not raised or misplaced.ratio < _SPIKE:
            placed.append(misplaced)
    return placed
