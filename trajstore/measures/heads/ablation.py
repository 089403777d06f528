"""Ablation: what the loss on repeated tokens gains when one head's output is set to its mean."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.measures.context_means import context_measures
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import Stream, exact
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from trajstore.measures.definitions import MeasureInputs
    from trajstore.measures.streams import Batch, Ids, PassFacts


class HeadMeans(Stream):
    """The mean output of each head over all tokens, (heads, size) a block."""

    def begin(self, facts: PassFacts) -> None:
        """Make room."""
        self.tokens = sum(map(len, facts.ids))
        self.sums: dict[int, Tensor] = {}

    def head_outputs(self, block: int, outputs: Tensor, batch: Batch) -> None:
        """Add the tokens of a batch."""
        self.sums[block] = self.sums.get(block, 0) + exact(outputs[batch.real(outputs.device)]).sum(0)

    def finish(self) -> list[Measure]:
        """A value, which a stream has."""
        return [Measure("means", float(self.tokens))]

    def means(self) -> dict[int, Tensor]:
        """The means by block."""
        return {block: sums / self.tokens for block, sums in sorted(self.sums.items())}


class Ablated:
    """A model of which one head at a time gives its mean output."""

    def __init__(self, model: PreTrainedModel, means: dict[int, Tensor]) -> None:
        self.model, self.means = model, means
        self.head: tuple[int, int] | None = None
        """Block and head; None for the model as it is."""

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the block the model's attentions obey."""
        from trajstore.forward.model_structure import attentions

        with ExitStack() as stack:
            for block, attention in enumerate(attentions(self.model)):
                if attention is not None and block in self.means:
                    handle = attention.output.register_forward_pre_hook(self._hook(block))
                    stack.callback(handle.remove)
            yield

    def _hook(self, block: int) -> Any:
        def replace(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if self.head is None or self.head[0] != block:
                return None
            mean = self.means[block][self.head[1]]
            changed = args[0].clone()
            start = self.head[1] * len(mean)
            changed[..., start : start + len(mean)] = mean.to(changed.dtype)
            return (changed, *args[1:])

        return replace


def ablation(inputs: MeasureInputs, contexts: int) -> list[Measure]:
    """The gain of each head in each context, and beside it the mean gain of the other heads of its block.

    Raises `NotMeasurable` where nothing is repeated, `UnknownStructure`, and as `token_scores`.
    """
    from trajstore.measures.run import measure

    assert inputs.model is not None
    assert inputs.ids is not None
    if contexts < 1:
        raise BadMeasures(f"ablation takes 1 context or more, and not {contexts}.")
    ids = list(inputs.ids[:contexts])
    repeated = [repeated_positions(context) for context in ids]
    if not any(len(positions) for positions in repeated):
        raise NotMeasurable(
            "ablation: no pair of tokens occurs twice in a context; take contexts with repeats."
        )
    keeper = HeadMeans()
    means = MeasureDefinition("means", "means", "1", stream=lambda: keeper, needs=("head_outputs",))
    if problems := measure(inputs.model, ids, [means]).left_out:
        raise NotMeasurable(problems["means"])
    gains = _gains(Ablated(inputs.model, keeper.means()), ids, repeated)
    params = {"contexts": len(ids), "replaced_by": "mean"}
    rows: list[Measure] = []
    for block, heads in gains.items():
        for head, values in enumerate(heads):
            rows += context_measures("ablation", values, layer=block, head=head, params=params)
            if len(heads) > 1:
                others = np.delete(heads, head, 0).mean(0)
                rows += context_measures("ablation_others", others, layer=block, head=head, params=params)
    return rows


def repeated_positions(ids: Ids) -> npt.NDArray[np.int64]:
    """The positions whose token followed the same token earlier in the context."""
    seen: set[tuple[int, int]] = set()
    positions = []
    for position, pair in enumerate(zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True), 1):
        if pair in seen:
            positions.append(position)
        seen.add(pair)
    return np.array(positions, np.int64)


def _gains(
    ablated: Ablated, ids: Sequence[Ids], repeated: Sequence[npt.NDArray[np.int64]]
) -> dict[int, npt.NDArray[np.float64]]:
    """Return the gain of the mean loss at the repeated positions of each context, (heads, contexts) a block."""
    from trajstore.forward.losses import token_losses

    def losses() -> npt.NDArray[np.float64]:
        both = zip(token_losses(ablated.model, ids), repeated, strict=True)
        chosen = [own[positions - 1].astype(np.float64) for own, positions in both]
        return np.array([own.mean() if len(own) else np.nan for own in chosen])

    with ablated.attached():
        plain = losses()
        gains = {}
        for block, means in ablated.means.items():
            heads = []
            for head in range(len(means)):
                ablated.head = block, head
                heads.append(losses() - plain)
            gains[block] = np.stack(heads)
    return gains


DEFINITIONS = (
    MeasureDefinition(
        "ablation",
        formula="mean loss with a head's output set to its mean, less that without, where a pair of tokens is repeated",
        unit="nats",
        compute=ablation,
        needs=("model", "ids"),
        axes=("layer", "head", "context"),
        parameters={"contexts": 16},
        cost="passes",
        source=(
            "Michel et al. 2019, Are sixteen heads really better than one? (with 0 in the place of the mean); "
            "Wang et al. 2022, Interpretability in the wild (the mean)"
        ),
        meaning=(
            "What a head does for the prediction of repeated tokens, other heads left as they are. ablation_others is "
            "the mean of the same over the other heads of its block: a head that matters stands out from it. Heads "
            "that can stand in for each other show no gain one by one. Patterns of attention suggest what a head "
            "does; this is about what it causes."
        ),
    ),
)
