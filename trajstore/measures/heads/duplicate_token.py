"""Duplicate token: how much a head attends from a token to earlier occurrences of the same token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.heads.attention_scores import AttentionScore, earlier_occurrences

if TYPE_CHECKING:
    from trajstore.measures.heads.attention_scores import Pairs
    from trajstore.measures.streams import Ids


class DuplicateToken(AttentionScore):
    """The duplicate-token score of every head."""

    name = "duplicate_token"
    nothing = "no token of these contexts occurs twice; take contexts with repeats"

    def pairs_of(self, ids: Ids) -> Pairs:
        """A token with each earlier position of the same token."""
        return earlier_occurrences(ids)


DEFINITIONS = (
    MeasureDefinition(
        "duplicate_token",
        formula="mean over tokens i of Σⱼ A[i, j], j the earlier positions of the same token",
        unit="1",
        stream=DuplicateToken,
        needs=("attention",),
        axes=("layer", "head", "context"),
        cost="probe",
        source="Wang et al. 2022, Interpretability in the wild (duplicate token heads)",
        meaning=(
            "1 for a head that attends to nothing but the same token where it stood before; over tokens that have "
            "occurred before."
        ),
    ),
)
