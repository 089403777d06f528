"""Previous token: how much a head attends from each token to the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.heads.attention_scores import SOURCES, AttentionScore

if TYPE_CHECKING:
    from trajstore.measures.heads.attention_scores import Pairs
    from trajstore.measures.streams import Ids


class PreviousToken(AttentionScore):
    """The previous-token score of every head."""

    name = "previous_token"
    nothing = "these contexts have one token"

    def pairs_of(self, ids: Ids) -> Pairs:
        """Each token but the first with the one before it."""
        return np.arange(1, len(ids)), np.arange(len(ids) - 1)


DEFINITIONS = (
    MeasureDefinition(
        "previous_token",
        formula="mean over tokens i ≥ 1 of A[i, i − 1]",
        unit="1",
        stream=PreviousToken,
        needs=("attention",),
        axes=("layer", "head", "context"),
        cost="probe",
        source=SOURCES,
        meaning=(
            "1 for a head that attends to nothing but the token before. Induction heads of a later block can build on "
            "such a head."
        ),
    ),
)
