"""Kinds of attention heads: heads whose measures take the same course are a cluster, named by the nearest ideal head.

The whole course says which heads are one cluster; its end, the last checkpoint, says which ideal is nearest, since a
head that formed late would be of no kind by the mean of its course. `since` says from when on a head is of its kind.
The ideal of a kind has the value 1 of its measure and 0 of the others, that of no kind 0 of all; a head is nearest to
the ideal of its largest measure where that is above one half, and else to none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KINDS = ("prefix_matching", "previous_token", "duplicate_token", "bos_attractor")
"""Each is the measure that tells it."""
NONE = "none"
"""The kind of a head whose ideal is 0 of every measure."""

Numbers = npt.NDArray[np.int64]
Courses = npt.NDArray[np.float64]
"""(heads or clusters, checkpoints, measures)."""


@dataclass(frozen=True)
class HeadClusters:
    """Clusters of heads, numbered from 1, the largest first."""

    of_head: Numbers
    """(heads,): the number of its cluster."""
    means: Courses
    """The mean course of each cluster."""
    kinds: tuple[str, ...]
    """Of each cluster: the ideal that is nearest to its mean at the last checkpoint."""
    distances: npt.NDArray[np.float64]
    """(clusters,): of these means from these ideals."""
    nearest: tuple[str, ...]
    """Of each head: the ideal that is nearest at the last checkpoint."""
    since: Numbers
    """(heads,): the number, from 0, of the checkpoint from which on that ideal is always the nearest."""


def cluster_heads(courses: Courses, kinds: Sequence[str], apart: float) -> HeadClusters:
    """Clusters of heads, none of which has two heads further apart than `apart` (complete linkage).

    The distance of two heads is Euclidean over the measures, and the root mean square of that over the checkpoints.
    """
    of_head = _numbered(_linked(courses.reshape(len(courses), -1) / courses.shape[1] ** 0.5, apart))
    means = np.stack([courses[of_head == number].mean(0) for number in range(1, of_head.max() + 1)])
    nearest = distances_from_ideals(courses).argmin(-1)
    changes = np.arange(1, courses.shape[1] + 1) * (nearest != nearest[:, -1:])
    return HeadClusters(
        of_head,
        means,
        nearest_kinds(means[:, -1], kinds),
        distances_from_ideals(means[:, -1]).min(1),
        nearest_kinds(courses[:, -1], kinds),
        changes.max(1),
    )


def nearest_kinds(values: npt.NDArray[np.float64], kinds: Sequence[str]) -> tuple[str, ...]:
    """The ideal that is nearest to each row of (heads, measures)."""
    names = (NONE, *kinds)
    return tuple(names[number] for number in distances_from_ideals(values).argmin(1))


def distances_from_ideals(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distances of (…, measures) from the ideal of no kind and from that of each measure, (…, 1 + measures)."""
    measures = values.shape[-1]
    ideals = np.vstack([np.zeros(measures), np.eye(measures)])
    distances: npt.NDArray[np.float64] = np.linalg.norm(values[..., None, :] - ideals, axis=-1)
    return distances


def _linked(points: npt.NDArray[np.float64], apart: float) -> Numbers:
    """The cluster of each point, in any order."""
    from scipy.cluster.hierarchy import fcluster, linkage  # half a second, which other analyses need not wait

    if len(points) == 1:
        return np.zeros(1, np.int64)
    return np.asarray(fcluster(linkage(points, "complete"), apart, "distance"), np.int64)


def _numbered(clusters: Numbers) -> Numbers:
    """Clusters by numbers from 1: the largest first, of equal ones that of the first head."""
    _, first, of_head, sizes = np.unique(clusters, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(1, len(sizes) + 1)
    numbers: Numbers = rank[of_head]
    return numbers
