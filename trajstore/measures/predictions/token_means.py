"""Means over the predictions of a context: their entropy, the rank of the token, and the share of first guesses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from trajstore.measures.context_means import context_measures
from trajstore.measures.definitions import MeasureDefinition, MeasureInputs
from trajstore.store.files.measures import Measure


def mean_entropy(inputs: MeasureInputs) -> list[Measure]:
    """The mean entropy of each context's predictions."""
    assert inputs.entropy is not None
    return context_measures("entropy", _means(inputs.entropy))


def mean_rank(inputs: MeasureInputs) -> list[Measure]:
    """The mean rank of each context's tokens."""
    assert inputs.rank is not None
    return context_measures("rank", _means(inputs.rank))


def share_of_first_guesses(inputs: MeasureInputs) -> list[Measure]:
    """The share of each context's tokens that have the rank 0."""
    assert inputs.rank is not None
    return context_measures("top_1", _means(ranks == 0 for ranks in inputs.rank))


def _means(contexts: Iterable[npt.ArrayLike]) -> list[float]:
    return [float(np.asarray(values, np.float64).mean()) for values in contexts]


DEFINITIONS = (
    MeasureDefinition(
        "entropy",
        formula="mean of −Σ p ln p over the predictions of a context",
        unit="nats",
        compute=mean_entropy,
        needs=("entropy",),
        axes=("context",),
        source="Shannon 1948, A mathematical theory of communication",
        meaning="How unsure the predictions are, whether they are right or not.",
    ),
    MeasureDefinition(
        "rank",
        formula="mean number of tokens of the vocabulary with a higher logit than the one that comes",
        unit="1",
        compute=mean_rank,
        needs=("rank",),
        axes=("context",),
        source="by definition",
        meaning="0 where every token is the first guess. A few tokens of very high rank carry most of the mean.",
    ),
    MeasureDefinition(
        "top_1",
        formula="share of tokens that no token of the vocabulary has a higher logit than",
        unit="1",
        compute=share_of_first_guesses,
        needs=("rank",),
        axes=("context",),
        source="by definition",
        meaning="How often the first guess is right.",
    ),
)
