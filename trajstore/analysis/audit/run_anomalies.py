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
from trajstore.analysis.audit.misplaced import Misplaced, out_of_place
from trajstore.analysis.audit.step_summaries import Course

_RAISED = 0.25
_SPIKE = 0.35
"""How near a far place must be for a step with a raised mean, which a loss spike may be as well."""


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


def oddities(course: Course, twins: Sequence[Sequence[int]]) -> Oddities:
    """Return the anomalies of a run; `twins` are sets of steps that are known to be one checkpoint."""
    steps = course.steps
    place = {step: row for row, step in enumerate(steps)}
    near = [tuple(steps[row] for row in rows) for rows in continuity.near_copies(course.apart)]
    copies = [group for group in near if not any(set(group) <= set(each) for each in twins)]
    if len(steps) < continuity.FEWEST:
        return Oddities(tuple(copies))
    groups = joined([*twins, *copies], steps)
    shuffled = set(continuity.shuffled(course))
    logarithms = set(continuity.perplexities(course)) - shuffled
    bits = set(units.in_bits(course)) - shuffled - logarithms
    copied = {place[step] for group in groups for step in group}
    bits -= copied
    logarithms -= copied
    aside = shuffled | logarithms | bits
    rows = [row for row in range(len(steps)) if row not in aside]
    placed = _placed(course, rows, groups)
    rows = [row for row in rows if row not in {place[each.step] for each in placed}]
    end = _taken(rows, continuity.of_the_end(_part(course, rows)))
    rows = [row for row in rows if row not in end and row not in _second(groups, place)]
    unlike = _taken(rows, continuity.unlike_neighbours(*_path(course, rows)))
    rows = [row for row in rows if row not in unlike]
    breaks = continuity.breaks(*_path(course, rows))

    def named(found: Iterable[int]) -> tuple[int, ...]:
        return tuple(steps[row] for row in sorted(found))

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
    found: list[set[int]] = []
    for group in groups:
        new = set(group).intersection(steps)
        for other in [each for each in found if each & new]:
            found.remove(other)
            new |= other
        found.append(new)
    return [sorted(group) for group in found if len(group) > 1]


def _part(course: Course, rows: Sequence[int]) -> np.ndarray:
    """The distances of these rows."""
    return course.apart[np.ix_(rows, rows)]


def _path(course: Course, rows: Sequence[int]) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Steps, distances and means of these rows."""
    return [course.steps[row] for row in rows], _part(course, rows), course.means[rows]


def _taken(rows: Sequence[int], found: Iterable[int]) -> set[int]:
    return {rows[at] for at in found}


def _second(groups: Sequence[Sequence[int]], place: dict[int, int]) -> set[int]:
    """Rows of steps that share their losses: all but the first of those that follow each other, else all."""
    found: set[int] = set()
    for group in groups:
        rows = sorted(place[step] for step in group)
        follow = rows[-1] - rows[0] == len(rows) - 1
        found.update(rows[1:] if follow else rows)
    return found


def _placed(course: Course, rows: Sequence[int], groups: Sequence[Sequence[int]]) -> list[Misplaced]:
    """Steps that are out of place; one that a loss spike may have raised is only if it is very near a far one."""
    steps, means = [course.steps[row] for row in rows], course.means[rows]
    found = []
    for each in out_of_place(steps, _part(course, rows), groups):
        at = steps.index(each.step)
        beside = [means[s] for s in (at - 1, at + 1) if 0 <= s < len(steps)]
        raised = means[at] - max(beside) > _RAISED * each.near
        if not raised or each.ratio < _SPIKE:
            found.append(each)
    return found
