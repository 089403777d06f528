"""A pass of its own for measures: runs a model over contexts and hands its insides to their streams.

For probes, and wherever no losses are kept; the scoring pass hands on the same things to the same streams.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from trajstore.errors import NotMeasurable, TrajstoreError, describe_error
from trajstore.forward.batching import in_batches
from trajstore.forward.device import exact_products
from trajstore.forward.logit_tile import LogitTile
from trajstore.forward.losses import check_contexts, evaluating, token_scores, vocabulary_rows
from trajstore.measures.definitions import MeasureInputs
from trajstore.measures.in_pass import NO_VALUE, Observer
from trajstore.measures.streams import PassFacts, Predictions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from transformers import PreTrainedModel

    from trajstore.measures.definitions import MeasureDefinition
    from trajstore.measures.streams import Ids
    from trajstore.store.files.measures import Measure

EAGER = "eager"
"""The attention kernel of transformers that gives its weights."""
MOST_LOGITS = 1 << 24
"""Logits that are made at a time: 64 MiB of float32."""


class PassValues(NamedTuple):
    """The values of a pass, and what has none."""

    measures: dict[str, list[Measure]]
    """By the name of the definition."""
    left_out: dict[str, str]
    """Why a definition has no values, by name: the model does not have it, or it failed."""


def measure(
    model: PreTrainedModel,
    contexts: Sequence[npt.ArrayLike],
    definitions: Iterable[MeasureDefinition],
    *,
    batch_tokens: int | None = None,
    vocabulary: int | None = None,
    previous: Sequence[Mapping[str, torch.Tensor]] = (),
) -> PassValues:
    """Measures of a model on contexts of token ids, each of 2 tokens or more.

    The softmax runs over the ids below `vocabulary`, by default over all that the model can predict; `previous` are the
    weights of one or two checkpoints before, as `MeasureInputs` has them. The model is the same afterwards. Raises
    `BadMeasures` for a parameter that has no value or a wrong one, `UnfitContext`, and `DeviceError` where there is no
    memory for one context.
    """
    ids = [np.asarray(context) for context in contexts]
    check_contexts(model, ids, vocabulary)
    definitions = list(definitions)
    for definition in definitions:
        definition.chosen_parameters()
    streams = [definition for definition in definitions if definition.stream is not None]
    measures, left_out = _streamed(model, ids, streams, batch_tokens, vocabulary) if streams else ({}, {})
    functions = [definition for definition in definitions if definition.compute is not None]
    for definition, inputs in _with_inputs(model, ids, functions, batch_tokens, vocabulary, previous):
        try:
            if values := definition.values(inputs):
                measures[definition.name] = values
            else:
                left_out[definition.name] = NO_VALUE
        except (NotMeasurable, TrajstoreError) as error:
            left_out[definition.name] = str(error)
        except Exception as error:  # whatever a package's function raises
            left_out[definition.name] = describe_error(error)
    return PassValues(measures, left_out)


def _streamed(
    model: PreTrainedModel,
    ids: Sequence[Ids],
    definitions: Sequence[MeasureDefinition],
    batch_tokens: int | None,
    vocabulary: int | None,
) -> PassValues:
    """The measures that need the insides of the model."""
    device: torch.device = next(model.parameters()).device
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(exact_products())
        stack.enter_context(evaluating(model))
        facts = PassFacts(model, ids, vocabulary or vocabulary_rows(model))
        observer = Observer(definitions, facts)
        if observer.needs("attention"):
            stack.enter_context(with_kernel(model, EAGER))
        stack.enter_context(observer.attached())
        stack.enter_context(_ended_by_attention(observer))

        def work(batch: list[int]) -> None:
            with observer.batch(batch):
                _run(model, [ids[number] for number in batch], batch, observer, device)

        if not observer.idle:
            in_batches([len(context) for context in ids], work, batch_tokens, device)
        return PassValues(observer.finish(), observer.left_out)


class _NothingMoreNeeded(Exception):
    """Ends a model's run, all of which that a measure takes has been handed on."""


@contextmanager
def _ended_by_attention(observer: Observer) -> Iterator[None]:
    """Inside the block the model's run ends with its last attention, if nothing that comes after it is needed."""
    if any(observer.needs(need) for need in ("hidden", "normed", "logits")) or observer.idle:
        yield
        return

    def end(*_: object) -> None:
        raise _NothingMoreNeeded

    # after the observer's own hooks, which were there first; a module that is used again would end too early
    modules = [attention.module for attention in observer.facts.attentions if attention is not None]
    handles = [modules[-1].register_forward_hook(end)] if modules.count(modules[-1]) == 1 else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(
    model: PreTrainedModel,
    contexts: Sequence[Ids],
    numbers: list[int],
    observer: Observer,
    device: torch.device,
) -> None:
    """Run the model over one batch, and hand on its logits where they are needed."""
    padded = np.zeros((len(contexts), max(map(len, contexts))), np.int64)
    for row, context in zip(padded, contexts, strict=True):
        row[: len(context)] = context
    inputs = torch.as_tensor(padded, device=device)
    if not observer.needs("logits"):
        with suppress(_NothingMoreNeeded):
            model.base_model(inputs, use_cache=False)
        return
    logits = model(inputs, use_cache=False).logits
    vocabulary = observer.facts.vocabulary
    step = max(1, MOST_LOGITS // vocabulary)
    for number, context, own in zip(numbers, contexts, logits, strict=True):
        predictions = Predictions.of([number], [context])
        for at in range(0, len(predictions), step):
            part = predictions[at : at + step]
            rows = own[at : at + len(part), :vocabulary].float()
            log_sums = rows.logsumexp(1)
            observer.tile(LogitTile(slice(0, vocabulary), rows - log_sums[:, None], log_sums), part)
            observer.log_sums(log_sums, part)


def _with_inputs(
    model: PreTrainedModel,
    ids: Sequence[Ids],
    definitions: Sequence[MeasureDefinition],
    batch_tokens: int | None,
    vocabulary: int | None,
    previous: Sequence[Mapping[str, torch.Tensor]],
) -> Iterator[tuple[MeasureDefinition, MeasureInputs]]:
    """The definitions that are functions, each with the inputs of all; losses only where one needs them."""
    needs = {need for definition in definitions for need in definition.needs}
    inputs = MeasureInputs(model, ids, previous=previous)
    if needs & {"losses", "rank", "entropy"}:
        columns = sorted(needs & {"rank", "entropy"})
        scores = token_scores(model, ids, columns=columns, batch_tokens=batch_tokens, vocabulary=vocabulary)
        inputs = replace(inputs, losses=scores.loss, rank=scores.rank, entropy=scores.entropy)
    for definition in definitions:
        yield definition, inputs


@contextmanager
def with_kernel(model: PreTrainedModel, kernel: str) -> Iterator[None]:
    """Inside the block the model's attention is of this kernel."""
    before = model.config._attn_implementation
    model.set_attn_implementation(kernel)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
