"""Effective rank: the number of directions that a matrix of the weights uses about evenly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.spectra import effective_rank
from trajstore.measures.weights.matrices import singular_values, weights_of
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from trajstore.measures.definitions import MeasureInputs


def effective_ranks(inputs: MeasureInputs) -> list[Measure]:
    """The effective rank of each matrix by block and name, NaN for matrices of zeros."""
    assert inputs.model is not None
    rows = []
    for weights in weights_of(inputs.model):
        if weights.values.ndim == 2:
            value, params = effective_rank(singular_values(weights.values)), {"matrix": weights.name}
            rows.append(Measure("effective_rank", value, layer=weights.layer, params=params))
    return rows


DEFINITIONS = (
    MeasureDefinition(
        "effective_rank",
        formula="exp(−Σ p ln p), p = σ / Σσ, σ the singular values of a matrix",
        unit="1",
        compute=effective_ranks,
        needs=("model",),
        axes=("layer",),
        cost="weights",
        source="Roy and Vetterli 2007, The effective rank",
        meaning=(
            "n where n directions have the same weight, 1 for a matrix of rank one; directions of weight 0 count "
            "nothing. Matrices are those of the file: one that holds queries, keys and values together is one matrix."
        ),
    ),
)
