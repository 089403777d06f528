"""Weight norm: the size of every tensor of the weights, and of all together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.weights.matrices import squared_sum, weights_of
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from trajstore.measures.definitions import MeasureInputs


def weight_norm(inputs: MeasureInputs) -> list[Measure]:
    """The norm of each tensor by block and name, and that of all weights."""
    assert inputs.model is not None
    squares = [(weights, squared_sum(weights.values)) for weights in weights_of(inputs.model)]
    rows = [
        Measure("weight_norm", square**0.5, layer=weights.layer, params={"matrix": weights.name})
        for weights, square in squares
    ]
    return [
        *rows,
        Measure("weight_norm", sum(square for _, square in squares) ** 0.5, params={"matrix": "all"}),
    ]


DEFINITIONS = (
    MeasureDefinition(
        "weight_norm",
        formula="√Σ w² over the entries of a tensor; with matrix «all» over all weights",
        unit="1",
        compute=weight_norm,
        needs=("model",),
        axes=("layer",),
        cost="weights",
        source="Merrill et al. 2021, Effects of parameter norm growth during transformer training",
        meaning=(
            "The Frobenius norm of matrices. Where a norm follows a matrix, its size changes nothing that the model "
            "predicts, but how fast it learns."
        ),
    ),
)
