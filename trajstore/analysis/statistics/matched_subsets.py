"""Matched subsets of two sets of tokens: the same number of either in each cell of position and frequency.

A difference of means between two groups may be one of places and of rare words and nothing else; between matched
subsets it is not. Arrays in, arrays out; one dataset at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trajstore.analysis.arrays import Whole
from trajstore.errors import BadOption

FEATURES = ("position", "frequency")
"""Features that tokens can be matched on."""


@dataclass(frozen=True)
class Matched:
    """Matched subsets of two sets of one dataset's tokens; rows are those of the dataset's tokens."""

    kept: tuple[np.ndarray, np.ndarray]
    """Rows of either subset, int64, ascending; equally many."""
    shared: int
    """Tokens in both sets, which are in neither subset."""


def check_features(on: Sequence[str]) -> None:
    """Raise `BadOption` unless these are some of `FEATURES`, each once."""
    if not on or len(set(on)) < len(on) or not set(on) <= set(FEATURES):
        raise BadOption("on", ",".join(on), f"{' or '.join(FEATURES)}, or both joined by a comma")


def cells(
    position: np.ndarray, token: np.ndarray, on: Sequence[str], position_bins: int | None = None
) -> np.ndarray:
    """The cell of each token of a dataset, int64 (tokens,): equal where all that is matched on is equal.

    `position` and `token` are those of all tokens of the dataset, (tokens,). Positions are exact, or in `position_bins`
    ranges of equal width up to the longest context's end. The frequency of a token is how often its type occurs in the
    dataset, position 0 included, in bins that double: 1, 2–3, 4–7, ….
    """
    check_features(on)
    if position_bins is not None and position_bins < 1:
        raise BadOption("position_bins", position_bins, "a number of bins, 1 at least")
    columns = []
    if "position" in on:
        wide = position.astype(np.int64)
        columns.append(wide if position_bins is None else wide * position_bins // (wide.max() + 1))
    if "frequency" in on:
        _, kind, occurrences = np.unique(token, return_inverse=True, return_counts=True)
        # frexp gives the exponent exactly, where a rounded log2 may miss a power of two
        columns.append(np.frexp(occurrences)[1].astype(np.int64)[kind])
    numbers = np.zeros(len(position), dtype=np.int64)
    for column in columns:
        numbers = numbers * (column.max() + 1) + column
    return numbers


def match(
    first: np.ndarray, second: np.ndarray, of_tokens: np.ndarray, draws: tuple[Sequence[int], Sequence[int]]
) -> Matched:
    """Matched subsets of two sets of rows (int64, ascending), as large as can be.

    `of_tokens` is the cell of each of the dataset's tokens. Each subset has in each cell as many tokens as the smaller
    of the two sets has there, drawn at random by the seeds `draws`. Tokens in both sets are in neither: they would
    make any difference smaller.
    """
    shared = np.intersect1d(first, second, assume_unique=True)
    alone = [np.setdiff1d(rows, shared, assume_unique=True) for rows in (first, second)]
    _, numbers = np.unique(np.concatenate([of_tokens[rows] for rows in alone]), return_inverse=True)
    sides = np.split(numbers, [len(alone[0])])
    n = int(numbers.max(initial=-1)) + 1
    least = np.minimum(*(np.bincount(side, minlength=n) for side in sides))
    kept = [
        np.sort(rows[_drawn(side, least, np.random.default_rng(seed))])
        for rows, side, seed in zip(alone, sides, draws, strict=True)
    ]
    return Matched((kept[0], kept[1]), len(shared))


def _drawn(numbers: Whole, least: Whole, rng: np.random.Generator) -> Whole:
    """`least[n]` of the places with the number n, for each n, at random."""
    shuffled = rng.permutation(len(numbers))
    grouped = shuffled[np.argsort(numbers[shuffled], kind="stable")]
    ordered = numbers[grouped]
    begins = np.searchsorted(ordered, np.arange(len(least)))
    return grouped[np.arange(len(ordered)) - begins[ordered] < least[ordered]]
