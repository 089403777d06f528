"""LLC: the local learning coefficient of a checkpoint on contexts, by Langevin dynamics around its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.measures.definitions import REQUIRED, MeasureDefinition
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from trajstore.measures.definitions import MeasureInputs
    from trajstore.measures.llc.estimate import Estimate
    from trajstore.measures.llc.sampler import Method


def llc(
    inputs: MeasureInputs,
    nbeta: float,
    step_size: float,
    gamma: float,
    method: Method,
    chains: int,
    draws: int,
    burn_in: int,
    batch: int,
    seed: int,
    layer: int | None,
    head: int | None,
    folder: str | Path | None,
) -> list[Measure]:
    """The estimate with and without burn-in, that of each context, R̂ and the effective number of draws.

    Raises `ChainDiverged`, `BadMeasures` for parameters that draw nothing, and `NotMeasurable`.
    """
    from trajstore.measures.llc.estimate import estimate
    from trajstore.measures.llc.model_loss import ModelLoss
    from trajstore.measures.llc.sampler import Sampling
    from trajstore.measures.run import evaluating

    assert inputs.model is not None
    assert inputs.ids is not None
    sampling = Sampling(nbeta, step_size, gamma, method, chains, draws, burn_in, batch, seed)
    with evaluating(inputs.model):
        objective = ModelLoss(inputs.model, inputs.ids, layer=layer, head=head)
        kept = None if folder is None else Path(folder)
        subject = "" if kept is None else f"{objective.subject()} {layer} {head}"
        return measures_of(estimate(objective, sampling, kept, subject), layer, head)


def measures_of(estimate: Estimate, layer: int | None = None, head: int | None = None) -> list[Measure]:
    """An estimate as measures, of all contexts and of each; diagnostics that are not defined are left out."""
    params = estimate.sampling.params
    values = {
        "llc_with_burn_in": estimate.with_burn_in,
        "llc_r_hat": estimate.r_hat,
        "llc_effective_draws": estimate.effective_draws,
    }
    contexts = [
        Measure("llc", float(value), layer=layer, head=head, context=number, params=params)
        for number, value in enumerate(estimate.context_values())
        if value == value
    ]
    return [
        *contexts,
        Measure("llc", estimate.value, layer=layer, head=head, stderr=estimate.stderr, params=params),
        *(
            Measure(name, value, layer=layer, head=head, params=params)
            for name, value in values.items()
            if value == value
        ),
    ]


DEFINITIONS = (
    MeasureDefinition(
        "llc",
        formula="λ̂ = nβ (E[L(w)] − L(w₀)), w drawn around the checkpoint's weights w₀ by SGLD or RMSprop-SGLD",
        unit="1",
        compute=llc,
        needs=("model", "ids"),
        axes=("layer", "head", "context"),
        parameters={
            "nbeta": REQUIRED,
            "step_size": REQUIRED,
            "gamma": REQUIRED,
            "method": "sgld",
            "chains": 4,
            "draws": 200,
            "burn_in": 50,
            "batch": 32,
            "seed": 0,
            "layer": None,
            "head": None,
            "folder": None,
        },
        cost="gradients",
        source="Lau et al. 2023, The local learning coefficient; refined to a block or head: Wang et al. 2024",
        meaning=(
            "Half the number of directions in which the loss rises as a parabola, less where it is flatter: the "
            "lower, the more degenerate the minimum. It depends on nβ, step size and γ, so compare values with the "
            "same ones, and look at R̂ (near 1) and the number of effective draws first. A checkpoint in the middle "
            "of training is no minimum, and values below 0 say so. With layer only the weights of one block are "
            "drawn."
        ),
    ),
)
