"""BOS attractor: how much a head attends to the first token, where attention goes that has nothing else to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.heads.attention_scores import AttentionScore

if TYPE_CHECKING:
    from trajstore.measures.heads.attention_scores import Pairs
    from trajstore.measures.streams import Ids, PassFacts


class BosAttractor(AttentionScore):
    """The attention of every head to the first token."""

    name = "bos_attractor"
    nothing = "these contexts have one token"

    def begin(self, facts: PassFacts) -> None:
        """Find out which token is first, and how far the model sees."""
        from trajstore.forward.model_structure import text_config

        config = text_config(facts.model)
        bos = config.bos_token_id
        begins = bos is not None and all(ids[0] in np.atleast_1d(bos) for ids in facts.ids)
        self.target = "bos" if begins else "first"
        self.window = getattr(config, "sliding_window", None)
        super().begin(facts)

    def params(self) -> dict[str, Any]:
        """Return the target, which says whether the first token is the one that begins texts."""
        return {"target": self.target}

    def pairs_of(self, ids: Ids) -> Pairs:
        """Each later token that sees the first one, with it."""
        rows = np.arange(1, min(len(ids), self.window or len(ids)))
        return rows, np.zeros_like(rows)


DEFINITIONS = (
    MeasureDefinition(
        "bos_attractor",
        formula="mean over tokens i ≥ 1 of A[i, 0]",
        unit="1",
        stream=BosAttractor,
        needs=("attention",),
        axes=("layer", "head", "context"),
        cost="probe",
        source="Xiao et al. 2023, Efficient streaming language models with attention sinks",
        meaning=(
            "1 for a head that rests on the first token. params say whether that is the token which begins texts "
            "(bos), as where every context begins with it, or only the first of a slice of text (first)."
        ),
    ),
)
