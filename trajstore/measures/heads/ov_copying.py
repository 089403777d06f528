"""OV copying: whether what a head reads of a token makes the same token likelier, from its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.errors import NotMeasurable
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import exact
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from trajstore.measures.definitions import MeasureInputs


def ov_copying(inputs: MeasureInputs) -> list[Measure]:
    """The score of each head whose matrices can be told; raises `NotMeasurable`, `UnknownStructure`."""
    import torch

    from trajstore.forward.model_structure import head_weights

    assert inputs.model is not None
    through = embedding_through_head(inputs.model)
    rows = []
    for block, weights in enumerate(head_weights(inputs.model)):
        if weights is None:
            continue
        # eigenvalues of W_E (W_V W_O) W_U other than 0 are those of W_O (W_U W_E) W_V, as small as a head
        cores = weights.output @ through @ weights.value[weights.group]
        eigenvalues = torch.linalg.eigvals(exact(cores).cpu())
        scores = eigenvalues.sum(-1).real / eigenvalues.abs().sum(-1)
        rows += [
            Measure("ov_copying", score, layer=block, head=head) for head, score in enumerate(scores.tolist())
        ]
    return rows


def embedding_through_head(model: PreTrainedModel) -> Tensor:
    """W_U W_E, (width, width) in float32: what comes back from all tokens of the vocabulary."""
    head = getattr(model.get_output_embeddings(), "weight", None)
    embedding = model.get_input_embeddings().weight
    if head is None or head.shape[1] != embedding.shape[1]:
        raise NotMeasurable(
            f"ov_copying: {type(model).__name__} has no embedding and output head of one width."
        )
    tokens = min(len(head), len(embedding))
    product: Tensor = head.detach()[:tokens].float().T @ embedding.detach()[:tokens].float()
    return product


DEFINITIONS = (
    MeasureDefinition(
        "ov_copying",
        formula="Σλ / Σ|λ|, λ the eigenvalues of W_E W_V W_O W_U",
        unit="1",
        compute=ov_copying,
        needs=("model",),
        axes=("layer", "head"),
        cost="weights",
        source="Elhage et al. 2021, A mathematical framework for transformer circuits",
        meaning=(
            "1 for a head that makes each token it attends to likelier, −1 for one that makes it less likely. Of the "
            "matrices alone: the scales of norms on the way are left aside, and so is what other blocks do."
        ),
    ),
)
