"""LLC: the local learning coefficient of a checkpoint on contexts, by Langevin dynamics around its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from trajstore.errors import BadMeasures
from trajstore.measures.definitions import REQUIRED, MeasureDefinition
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trajstore.measures.definitions import MeasureInputs
    from trajstore.measures.llc.estimate import LearningCoefficient
    from trajstore.measures.llc.sampler import Method

Each = Literal["each"]


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
    layer: int | Each | None,
    head: int | Each | None,
    first: int | None,
    folder: str | Path | None,
) -> list[Measure]:
    """The estimate with and without burn-in, that of each context, R̂ and the effective number of draws.

    Of all weights, of those of a block or head, or of «each» of them; of all tokens, or those from the position `first`
    on. Raises `ChainDiverged`, `NotMeasurable`, and
    `BadMeasures` for parameters that draw nothing.
    """
    from trajstore.forward.losses import evaluating
    from trajstore.measures.llc.estimate import estimate
    from trajstore.measures.llc.model_loss import ModelLoss
    from trajstore.measures.llc.sampler import Sampling

    assert inputs.model is not None
    assert inputs.ids is not None
    sampling = Sampling(nbeta, step_size, gamma, method, chains, draws, burn_in, batch, seed)
    kept = None if folder is None else Path(folder)
    rows: list[Measure] = []
    with evaluating(inputs.model):
        for layer_, head_ in parts_of(inputs.model, layer, head):
            objective = ModelLoss(inputs.model, inputs.ids, layer=layer_, head=head_, first=first or 1)
            subject = "" if kept is None else f"{objective.subject()} {layer_} {head_}"
            rows += measures_of(estimate(objective, sampling, kept, subject), layer_, head_, first or 1)
    chosen = {"layer": layer, "head": head} | ({} if first is None else {"first": first})
    return [replace(row, params={**row.params, **chosen}) for row in rows]


def parts_of(
    model: PreTrainedModel, layer: int | Each | None, head: int | Each | None
) -> list[tuple[int | None, int | None]]:
    """The blocks and heads whose weights are drawn; None for all. Raises `BadMeasures`, `UnknownStructure`."""
    from trajstore.forward.model_structure import find_blocks, number_of_heads

    for name, value in (("layer", layer), ("head", head)):
        if not (value is None or value in get_args(Each) or isinstance(value, int)):
            raise BadMeasures(f"llc: {name} is a number or each, and not {value!r}.")
    layers = range(len(find_blocks(model))) if isinstance(layer, str) else [layer]
    heads = range(number_of_heads(model)) if isinstance(head, str) else [head]
    return [(own, part) for own in layers for part in heads]


def measures_of(
    estimate: LearningCoefficient, layer: int | None = None, head: int | None = None, first: int = 1
) -> list[Measure]:
    """An estimate as measures, of all contexts and of each; diagnostics that are not defined are left out.

    Sites of a context are its positions from `first` on.
    """
    params = estimate.sampling.params
    ends = np.cumsum(estimate.lengths)[:-1]
    nowhere = (None,) * first
    tokens = [
        [(*nowhere, *part.tolist()) for part in np.split(values, ends)]
        for values in (estimate.site_means(), estimate.site_variances())
    ]
    values = {
        "llc_with_burn_in": estimate.with_burn_in,
        "llc_r_hat": estimate.r_hat,
        "llc_effective_draws": estimate.effective_draws,
    }
    contexts = [
        Measure(
            "llc",
            float(value),
            layer=layer,
            head=head,
            context=number,
            params=params,
            token_means=means,
            token_variances=variances,
        )
        for number, (value, means, variances) in enumerate(
            zip(estimate.context_values(), *tokens, strict=True)
        )
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
            "first": None,
            "folder": None,
        },
        kept_as={"first": lambda first: ("first", first)},
        cost="gradients",
        source="Lau et al. 2023, The local learning coefficient; refined to a block or head: Wang et al. 2024",
        meaning=(
            "Half the number of directions in which the loss rises as a parabola, less where it is flatter: the "
            "lower, the more degenerate the minimum. It depends on nβ, step size and γ, so compare values with the "
            "same ones, and look at R̂ (near 1) and the number of effective draws first. A checkpoint in the middle "
            "of training is no minimum, and values below 0 say so. With layer only the weights of one block are "
            "drawn, with first only losses from that position on count."
        ),
    ),
)
