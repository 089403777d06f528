"""Weight distance: how far the weights have moved since the checkpoint before, and whether in the same direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.errors import NotMeasurable
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import exact
from trajstore.measures.weights.matrices import weights_of
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from torch import Tensor

    from trajstore.measures.definitions import MeasureInputs


def weight_distance(inputs: MeasureInputs) -> list[Measure]:
    """The distance of each tensor from the checkpoint before, and the cosine of its last two updates.

    Raises `NotMeasurable` without the weights of the checkpoint before, or where their tensors are others.
    """
    assert inputs.model is not None
    before = list(inputs.previous or ())
    if not before:
        raise NotMeasurable("weight_distance takes the weights of the checkpoint before.")
    rows, totals = [], [0.0, 0.0, 0.0]
    for weights in weights_of(inputs.model):
        earlier = [state.get(weights.full_name) for state in before[:2]]
        if any(tensor is None or tensor.shape != weights.values.shape for tensor in earlier):
            raise NotMeasurable(
                f"weight_distance: the checkpoint before has no {weights.full_name} of the same shape."
            )
        sums = _sums(weights.values, *(tensor for tensor in earlier if tensor is not None))
        totals = [total + own for total, own in zip(totals, sums, strict=True)]
        rows += _rows(sums, len(before) > 1, weights.layer, weights.name)
    return [*rows, *_rows(tuple(totals), len(before) > 1, None, "all")]


def _sums(now: Tensor, last: Tensor, earlier: Tensor | None = None) -> tuple[float, float, float]:
    """Σu², Σv², Σuv of the last update u and the one before it, v."""
    update = exact(now) - exact(last.to(now.device))
    square = update.square().sum().item()
    if earlier is None:
        return square, 0.0, 0.0
    before = exact(last.to(now.device)) - exact(earlier.to(now.device))
    return square, before.square().sum().item(), (update * before).sum().item()


def _rows(sums: tuple[float, ...], cosine: bool, layer: int | None, name: str) -> list[Measure]:
    """The measures of a tensor; no cosine where an update is 0."""
    square, before, product = sums
    params = {"matrix": name}
    rows = [Measure("weight_distance", square**0.5, layer=layer, params=params)]
    if cosine and square > 0 and before > 0:
        value = product / (square * before) ** 0.5
        rows.append(Measure("weight_distance_cosine", value, layer=layer, params=params))
    return rows


DEFINITIONS = (
    MeasureDefinition(
        "weight_distance",
        formula="‖θₜ − θₜ₋₁‖; _cosine: that of θₜ − θₜ₋₁ and θₜ₋₁ − θₜ₋₂",
        unit="1",
        compute=weight_distance,
        needs=("model", "previous"),
        axes=("layer",),
        cost="weights",
        source="Singh et al. 2024, Hallmarks of optimization trajectories in neural networks",
        meaning=(
            "By tensor, and of all weights (matrix «all»). Distances between checkpoints grow with the steps between "
            "them, and a walk at random has updates of cosine 0."
        ),
    ),
)
