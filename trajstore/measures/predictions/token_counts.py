"""Distributions of tokens from counts: of single tokens, and of tokens after a given one, with their smoothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trajstore.errors import BadMeasures
from trajstore.text import describe_file_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajstore.measures.streams import Ids

Table = str | Path | npt.ArrayLike
"""Counts or probabilities by token id, or a file of them as `numpy.save` writes one."""

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Unigram:
    """The distribution of single tokens."""

    probabilities: _Values
    """(vocabulary,), all above 0."""
    params: dict[str, Any]
    """Where it is from."""


def unigram(ids: Sequence[Ids], vocabulary: int, smoothing: float, table: Table | None = None) -> Unigram:
    """(count + smoothing) / Σ of each token: of these contexts, or of the counts in a table.

    Raises `BadMeasures` for a smoothing or a table that gives no distribution without zeros.
    """
    if table is None:
        counts = np.bincount(np.concatenate(list(ids)), minlength=vocabulary).astype(np.float64)
    else:
        counts = _read(table)
        if counts.shape != (vocabulary,):
            raise BadMeasures(f"The table of counts has the shape {counts.shape}; it takes ({vocabulary},).")
    smoothed = counts + smoothing
    if not (np.isfinite(smoothed).all() and (counts >= 0).all() and (smoothed > 0).all()):
        raise BadMeasures(
            f"Counts with smoothing={smoothing} leave tokens without probability: take a smoothing above 0, such as 1."
        )
    key, source = kept_table(None if table is None else counts)
    return Unigram(smoothed / smoothed.sum(), {key: source, "smoothing": smoothing})


def kept_table(table: Table | None) -> tuple[str, object]:
    """The key and value by which params say where counts are from; raises `BadMeasures` for an unreadable file."""
    if table is None:
        return "unigram", "contexts"
    return "unigram", "sha256:" + hashlib.sha256(_read(table).tobytes()).hexdigest()


def _read(table: Table) -> _Values:
    """A table's values, float64; raises `BadMeasures` for a file that cannot be read."""
    if not isinstance(table, str | Path):
        return np.asarray(table, np.float64)
    try:
        return np.asarray(np.load(table), np.float64)
    except (OSError, ValueError) as error:
        raise BadMeasures(
            f"The table of counts {table} cannot be read: {describe_file_error(error)}."
        ) from error


class Bigram:
    """The distributions of tokens after a given one, of which only pairs that occur are held.

    q(v|u) = (count(u, v) + smoothing · f(v)) / (count(u) + smoothing), where f is the distribution of single tokens.
    """

    def __init__(self, ids: Sequence[Ids], unigram: Unigram, smoothing: float) -> None:
        if not smoothing > 0:
            raise BadMeasures(f"A bigram takes a smoothing above 0, and not {smoothing}.")
        f, vocabulary = unigram.probabilities, len(unigram.probabilities)
        before = np.concatenate([np.asarray(context[:-1], np.int64) for context in ids])
        after = np.concatenate([np.asarray(context[1:], np.int64) for context in ids])
        pairs, counts = np.unique(before * vocabulary + after, return_counts=True)
        first, self.token = pairs // vocabulary, pairs % vocabulary
        totals = np.bincount(before, minlength=vocabulary).astype(np.float64)
        self.start = np.searchsorted(first, np.arange(vocabulary + 1))
        """Where the pairs of each first token begin."""
        self.share = counts / (totals[first] + smoothing)
        """count(u, v) / (count(u) + smoothing) of each pair."""
        self.rest = smoothing / (totals + smoothing)
        """Weight of f(v), after each token."""
        self.log_gain = np.log1p(counts / (smoothing * f[self.token]))
        """ln q(v|u) above ln(rest · f(v)), of each pair."""
        both = self.rest[first] * f[self.token] + self.share
        log_f = np.log(f)
        self.negative_entropy = self.rest * (f @ log_f) + np.log(self.rest)
        """Σ q ln q, after each token."""
        np.add.at(self.negative_entropy, first, self.share * log_f[self.token] + both * self.log_gain)

    def pairs_of(
        self, previous: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The pairs after each of some tokens: (number in `previous`, number of the pair), by the pair's token."""
        lengths = self.start[previous + 1] - self.start[previous]
        rows = np.repeat(np.arange(len(previous)), lengths)
        inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        pairs = np.repeat(self.start[previous], lengths) + inside
        order = np.argsort(self.token[pairs], kind="stable")
        return rows[order], pairs[order]
