"""Two measures: the share of tokens that are the first guess, and the scatter of losses in a context."""

import numpy as np

from trajstore.measures import Measure, MeasureDefinition, MeasureInputs


def share_of_first_guesses(inputs: MeasureInputs) -> float:
    """A number for the whole dataset."""
    return float(np.mean(np.concatenate(inputs.rank) == 0))


def spread_in_contexts(inputs: MeasureInputs) -> list[Measure]:
    """A number for each context, and one for all of them."""
    spreads = [float(np.std(losses, dtype=np.float64)) for losses in inputs.losses]
    by_context = [Measure("loss_spread", value, context=number) for number, value in enumerate(spreads)]
    return [*by_context, Measure("loss_spread", float(np.mean(spreads)))]


top_one = MeasureDefinition(
    name="top_one",
    formula="share of tokens with rank 0",
    unit="1",
    needs=("rank",),
    compute=share_of_first_guesses,
)
loss_spread = MeasureDefinition(
    name="loss_spread",
    formula="standard deviation of the losses in a context; without a context their mean",
    unit="nats",
    needs=("losses",),
    axes=("context",),
    compute=spread_in_contexts,
)
