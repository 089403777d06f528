"""Measures of heads beside the scoring pass: on the store's probe of repeats, while the checkpoint is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.errors import describe_error
from trajstore.measures.probes import keep_repeats
from trajstore.measures.run import measure
from trajstore.scoring.measuring.plan import check_parameters, missing_measures, tokenizer_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.losses import Ids
    from trajstore.measures.definitions import MeasureDefinition
    from trajstore.scoring.plan import Plan
    from trajstore.scoring.settings import PassSettings
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.files.measures import Measure
    from trajstore.store.store import Store


@dataclass(frozen=True)
class Probe:
    """The probe of one model's checkpoints, and what is measured on it."""

    store: Store
    model: str
    dataset: Dataset
    ids: Sequence[Ids]
    definitions: tuple[MeasureDefinition, ...]

    def measures(
        self, model: PreTrainedModel, step: int, settings: PassSettings
    ) -> tuple[dict[str, list[Measure]], list[str]]:
        """The values by name that the store lacks of a checkpoint, and why others could not be measured."""
        missing = missing_measures(self.store, self.model, step, self.dataset, self.definitions)
        if not missing:
            return {}, []
        try:
            values, left_out = measure(
                model,
                self.ids,
                missing,
                batch_tokens=settings.batch_tokens,
                vocabulary=settings.vocabulary(self.dataset.tokenizer.size),
            )
        except Exception as error:  # as of a model that sees fewer tokens
            values, left_out = {}, {definition.name: describe_error(error) for definition in missing}
        return values, [
            f"the measure {name} on {self.dataset.name} could not be computed: {reason}"
            for name, reason in left_out.items()
        ]


def probe_of(
    store: Store,
    plan: Plan,
    definitions: tuple[MeasureDefinition, ...],
    parameters: Mapping[str, object],
    tokenizer: str | None,
) -> Probe | None:
    """The probe of a plan's model, kept by the store; None without measures. `tokenizer` is the one beside the weights.

    Raises `TokenizerNotFound`, `BadDataset` for a tokenizer with too few plain tokens, and `BadMeasures` where measures
    are there with other values of their parameters.
    """
    if not definitions:
        return None
    dataset = keep_repeats(store, tokenizer_name(store, plan.model, plan.datasets, tokenizer))
    checkpoints = [pending.checkpoint for pending in plan.pending]
    check_parameters(store, plan.model, definitions, [dataset], checkpoints, parameters)
    return Probe(store, plan.model, dataset, dataset.ids(), definitions)
