"""KL to the unigram distribution: how far predictions are from the frequencies of tokens."""

from __future__ import annotations

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.predictions.divergences import UnigramDivergence
from trajstore.measures.predictions.token_counts import kept_table

DEFINITIONS = (
    MeasureDefinition(
        "kl_unigram",
        formula="Σ p ln(p/f) (model||counts) and Σ f ln(f/p) (counts||model), f ∝ count + smoothing",
        unit="nats",
        stream=UnigramDivergence,
        needs=("logits",),
        axes=("context",),
        parameters={"smoothing": 1.0, "table": None},
        kept_as={"table": kept_table},
        source="Chang and Bergen 2022, Word acquisition in neural language models",
        meaning=(
            "0 for a model that predicts how frequent tokens are and nothing else, as language models do early in "
            "training. Texts differ in the direction, so both are kept, told apart by params. Counts are of the "
            "contexts themselves, or of a table by token id; what was never counted has the weight of the smoothing, "
            "on which model||counts depends."
        ),
    ),
)
