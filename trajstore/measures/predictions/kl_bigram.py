"""KL to the bigram distribution: how far predictions are from what follows the token before."""

from __future__ import annotations

from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.predictions.divergences import BigramDivergence
from trajstore.measures.predictions.token_counts import kept_table

DEFINITIONS = (
    MeasureDefinition(
        "kl_bigram",
        formula="as kl_unigram, to q(v|u) = (count(u, v) + smoothing · f(v)) / (count(u) + smoothing)",
        unit="nats",
        stream=BigramDivergence,
        needs=("logits",),
        axes=("context",),
        parameters={"smoothing": 1.0, "table": None},
        kept_as={"table": kept_table},
        source="Chang and Bergen 2022, Word acquisition in neural language models",
        meaning=(
            "0 for a model that predicts what follows the token before and looks no further back. Pairs are counted "
            "in the contexts themselves: in few contexts most pairs occur once, and the distribution is close to the "
            "tokens that did follow."
        ),
    ),
)
