"""Translational symmetry: whether a head's matrix is the same along its diagonals, or across them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.measures.context_means import context_measures
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import Stream
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from trajstore.measures.streams import Batch, PassFacts

MatrixOf = Literal["attention", "qk"]
MOST_TOKENS = 1024
"""Of a vocabulary whose QK matrices are made whole."""


def symmetry_sums(matrices: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Σ|M[i+1, j+1] − M[i, j]| (along) and Σ|M[i+1, j−1] − M[i, j]| (across) of matrices (…, n, n).

    `causal` takes only pairs of which both lie on the diagonal or below it.
    """
    along = (matrices[..., 1:, 1:] - matrices[..., :-1, :-1]).abs()
    across = (matrices[..., 1:, :-1] - matrices[..., :-1, 1:]).abs()
    if causal:
        along, across = along.tril(), across.tril(-1)
    return along.sum((-2, -1)), across.sum((-2, -1))


class Symmetry(Stream):
    """Both sums of every head: of its attention in every context, or of its QK matrix over the vocabulary."""

    def __init__(self, matrix: MatrixOf) -> None:
        if matrix not in get_args(MatrixOf):
            raise BadMeasures(f"The symmetry is of a matrix attention or qk, and not {matrix!r}.")
        self.matrix = matrix

    def begin(self, facts: PassFacts) -> None:
        """Make room, or compute the sums of QK matrices, which need no pass."""
        self.contexts = len(facts.ids)
        self.sums: dict[int, npt.NDArray[np.float64]] = {}
        if self.matrix == "qk":
            self.sums, self.needs_pass = _of_weights(facts), False

    def attention(self, block: int, weights: Tensor, batch: Batch) -> None:
        """Take the sums of a block's heads in a batch."""
        import torch

        heads = weights.shape[1]
        sums = self.sums.setdefault(block, np.full((2, heads, self.contexts), np.nan))
        for own, number, length in zip(weights, batch.numbers, batch.lengths, strict=True):
            both = symmetry_sums(own[:, :length, :length], causal=True)
            sums[:, :, number] = torch.stack(both).cpu().numpy()

    def rows(self, name: str, block: int, head: int, values: npt.NDArray[np.float64]) -> list[Measure]:
        """The measures of a head's values: one a context, or one of its weights."""
        params = {"matrix": self.matrix}
        if self.matrix == "attention":
            return context_measures(name, values, layer=block, head=head, params=params)
        return [Measure(name, float(values[0]), layer=block, head=head, params=params)]


class TranslationalSymmetry(Symmetry):
    """The sums themselves."""

    def finish(self) -> list[Measure]:
        """Both sums of each head."""
        return [
            row
            for block, sums in sorted(self.sums.items())
            for which, heads in zip(("along", "across"), sums, strict=True)
            for head, values in enumerate(heads)
            for row in self.rows(f"translational_symmetry_{which}", block, head, values)
        ]


class DiagonalScore(Symmetry):
    """The difference of the sums."""

    def finish(self) -> list[Measure]:
        """Across less along of each head."""
        return [
            row
            for block, (along, across) in sorted(self.sums.items())
            for head, values in enumerate(across - along)
            for row in self.rows("diagonal_score", block, head, values)
        ]


def _of_weights(facts: PassFacts) -> dict[int, npt.NDArray[np.float64]]:
    """The sums (2, heads, 1) of W_E W_Q W_Kᵀ W_Eᵀ, rows and columns in the order of the ids, by block."""
    import torch

    from trajstore.forward.model_structure import head_weights

    embedding = facts.model.get_input_embeddings().weight.detach().float()[: facts.vocabulary]
    if len(embedding) > MOST_TOKENS:
        raise NotMeasurable(
            f"A QK matrix of {len(embedding):,} tokens is not made: {MOST_TOKENS:,} are the most. Take "
            "matrix=attention."
        )
    sums = {}
    for block, weights in enumerate(head_weights(facts.model)):
        if weights is not None:
            queries = embedding @ weights.query
            keys = (embedding @ weights.key)[weights.group]
            both = torch.stack(symmetry_sums(queries @ keys.mT, causal=False))
            sums[block] = both.cpu().numpy().astype(np.float64)[..., None]
    return sums


_COMMON: dict[str, Any] = {
    "unit": "1",
    "needs": ("attention",),
    "axes": ("layer", "head", "context"),
    "parameters": {"matrix": "attention"},
    "cost": "probe",
    "source": (
        "trajstore's own sums, for what is seen in the QK circuits of Urdshals and Urdshals 2025, Structure "
        "development in list-sorting transformers"
    ),
}
DEFINITIONS = (
    MeasureDefinition(
        "translational_symmetry",
        formula="_along: Σ|M[i+1, j+1] − M[i, j]|, _across: Σ|M[i+1, j−1] − M[i, j]|",
        stream=TranslationalSymmetry,
        meaning=(
            "Along is 0 where a head's matrix depends on the distance i − j alone, across where on the sum i + j. The "
            "matrix is the attention of a context, of which only what tokens see counts, or with matrix=qk that of "
            "the products of all pairs of a small vocabulary's embeddings with the head's W_Q and W_K."
        ),
        **_COMMON,
    ),
    MeasureDefinition(
        "diagonal_score",
        formula="Σ|M[i+1, j−1] − M[i, j]| − Σ|M[i+1, j+1] − M[i, j]|",
        stream=DiagonalScore,
        meaning=(
            "Above 0 where a head's matrix changes less along its diagonals than across them: the sums are those of "
            "translational_symmetry, which says more."
        ),
        **_COMMON,
    ),
)
