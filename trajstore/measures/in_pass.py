"""Hands the insides of a model during a pass to the streams of measures.

An `Observer` hooks onto the model's modules by structure, turns all numbers into float32, hands each context to each
stream once even where a batch that ran out of memory runs again, and keeps going without a stream that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.errors import NotMeasurable, UnknownStructure, describe_error
from trajstore.measures.streams import Batch

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

    from trajstore.forward.logit_tile import LogitTile
    from trajstore.forward.model_structure import Attention
    from trajstore.measures.definitions import MeasureDefinition
    from trajstore.measures.streams import PassFacts, Predictions, Stream
    from trajstore.store.files.measures import Measure


NO_VALUE = "It has no value for this model and these contexts."


@dataclass
class _Stream:
    """A stream at work, with the contexts that it was handed of each tensor."""

    definition: MeasureDefinition
    stream: Stream
    taken: dict[tuple[str, int], npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def needs(self) -> Sequence[str]:
        """Return the names of what it takes of the pass."""
        return self.definition.needs if self.stream.needs_pass else ()


class Observer:
    """Hands the insides of one model during one pass over contexts to the streams of measures."""

    def __init__(self, definitions: Iterable[MeasureDefinition], facts: PassFacts) -> None:
        self.facts = facts
        self.left_out: dict[str, str] = {}
        """Why measures have no values, by name."""
        self._streams: dict[str, _Stream] = {}
        self._batch: Batch | None = None
        for definition in definitions:
            stream = definition.make_stream()
            self._streams[definition.name] = _Stream(definition, stream)
            self._guarded(definition.name, partial(stream.begin, facts))

    def needs(self, name: str) -> bool:
        """Return whether a measure that is still at work needs this."""
        return any(name in measure.needs for measure in self._streams.values())

    @property
    def idle(self) -> bool:
        """Return whether no measure needs anything of the pass."""
        return not any(measure.needs for measure in self._streams.values())

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the block the model's modules hand on what they make, while a batch is under way."""
        with ExitStack() as stack:
            for need, register in (
                ("hidden", self._hook_layers),
                ("normed", self._hook_normed),
                ("attention", self._hook_attention),
                ("head_outputs", self._hook_heads),
            ):
                if not self.needs(need):
                    continue
                try:
                    for handle in register():
                        stack.callback(handle.remove)
                except UnknownStructure as error:
                    self._drop(need, error)
            yield

    @contextmanager
    def batch(self, numbers: Sequence[int]) -> Iterator[None]:
        """Inside the block the model runs over these contexts, padded to the right, and over nothing else."""
        self._batch = Batch(list(numbers), [self.facts.ids[number] for number in numbers])
        try:
            yield
        finally:
            self._batch = None

    def tile(self, tile: LogitTile, predictions: Predictions) -> None:
        """Hand on a tile of logits, as `Stream.tile` takes it."""
        for name, measure in list(self._streams.items()):
            if "logits" in measure.needs:
                self._guarded(name, partial(measure.stream.tile, tile, predictions))

    def log_sums(self, log_sums: Tensor, predictions: Predictions) -> None:
        """Hand on the ends of tiles, as `Stream.log_sums` takes them."""
        for name, measure in list(self._streams.items()):
            if "logits" in measure.needs:
                self._guarded(name, partial(measure.stream.log_sums, log_sums, predictions))

    def finish(self) -> dict[str, list[Measure]]:
        """The values of each measure that has some, by name; nothing that the streams held is kept."""
        values: dict[str, list[Measure]] = {}

        def keep(name: str, measure: _Stream) -> None:
            if "attention" in measure.needs and not any(need == "attention" for need, _ in measure.taken):
                kind = type(self.facts.model).__name__
                raise NotMeasurable(f"The attention of {kind} gives no weights.")
            values[name] = measure.definition.checked(measure.stream.finish())
            if not values[name]:
                raise NotMeasurable(NO_VALUE)

        for name, measure in list(self._streams.items()):
            self._guarded(name, partial(keep, name, measure))
        self._streams.clear()
        self.facts.last_states.clear()
        return {name: rows for name, rows in values.items() if rows}

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        """Do a stream's work; one that fails is left out with its reason, and the others go on.

        Raises what says that memory ran out, since the pass then runs the batch again in parts.
        """
        from trajstore.forward.batching import ran_out_of_memory

        try:
            work()
        except (NotMeasurable, UnknownStructure) as error:
            self._leave_out(name, str(error))
        except Exception as error:
            if ran_out_of_memory(error) and self._batch is not None:
                raise
            self._leave_out(name, describe_error(error))

    def _leave_out(self, name: str, reason: str) -> None:
        self.left_out[name] = reason
        del self._streams[name]

    def _drop(self, need: str, error: Exception) -> None:
        """Leave out the measures that need what the model does not have."""
        for name, measure in list(self._streams.items()):
            if need in measure.needs:
                self._leave_out(name, str(error))

    def _hand_on(self, need: str, layer: int, tensor: Tensor) -> None:
        """Give a tensor (contexts, …) of the batch under way to the streams that need it."""
        batch = self._batch
        if batch is None or len(tensor) != len(batch.numbers):
            return
        tensor = tensor.detach().float()
        for name, measure in list(self._streams.items()):
            if need in measure.needs:
                self._guarded(name, partial(self._give, measure, need, layer, tensor, batch))

    def _give(self, measure: _Stream, need: str, layer: int, tensor: Tensor, batch: Batch) -> None:
        """Give a stream the contexts that it does not have yet: others were in a batch that ran out of memory."""
        nothing = np.zeros(len(self.facts.ids), bool)
        taken = measure.taken.setdefault((need, layer), nothing)
        fresh = [place for place, number in enumerate(batch.numbers) if not taken[number]]
        if not fresh:
            return
        if len(fresh) < len(batch.numbers):
            batch = Batch([batch.numbers[place] for place in fresh], [batch.ids[place] for place in fresh])
            longest = max(batch.lengths)
            tensor = (
                tensor[fresh][..., :longest, :longest] if need == "attention" else tensor[fresh, :longest]
            )
        stream = measure.stream
        match need:
            case "hidden":
                stream.layer(layer, tensor, batch)
            case "normed":
                stream.normed(tensor, batch)
            case "attention":
                stream.attention(layer, tensor, batch)
            case "head_outputs":
                stream.head_outputs(layer, tensor, batch)
        taken[batch.numbers] = True

    def _hook_layers(self) -> Iterator[Any]:
        """Hook onto what enters the first block and what leaves every block."""
        from trajstore.forward.model_structure import first_tensor

        blocks = self.facts.blocks

        def entering(_: nn.Module, args: Any, kwargs: Any) -> None:
            self._hand_on("hidden", 0, args[0] if args else kwargs["hidden_states"])

        def leaving(layer: int) -> Callable[..., None]:
            return lambda _module, _args, output: self._hand_on("hidden", layer, first_tensor(output))

        yield blocks[0].register_forward_pre_hook(entering, with_kwargs=True)
        for number, block in enumerate(blocks):
            yield block.register_forward_hook(leaving(number + 1))

    def _hook_normed(self) -> Iterator[Any]:
        """Hook onto the last hidden states, which the output head reads."""
        from trajstore.forward.model_structure import first_tensor

        def leaving(_module: nn.Module, _args: Any, output: Any) -> None:
            self._hand_on("normed", len(self.facts.blocks), first_tensor(output))

        yield self.facts.model.base_model.register_forward_hook(leaving)

    def _hook_attention(self) -> Iterator[Any]:
        """Hook onto the attention weights of every block that has some."""

        def leaving(block: int) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                heads = self.facts.heads
                parts = output if isinstance(output, tuple) else ()
                for part in parts:
                    if getattr(part, "ndim", 0) == 4 and part.shape[1] == heads:
                        self._hand_on("attention", block, part)
                        return

            return hook

        yield from self._on_attention(
            lambda attention, block: attention.module.register_forward_hook(leaving(block))
        )

    def _hook_heads(self) -> Iterator[Any]:
        """Hook onto what enters the output projection of every block's attention."""

        def entering(block: int) -> Callable[..., None]:
            def hook(_module: nn.Module, args: Any) -> None:
                self._hand_on("head_outputs", block, args[0].unflatten(-1, (self.facts.heads, -1)))

            return hook

        yield from self._on_attention(
            lambda attention, block: attention.output.register_forward_pre_hook(entering(block))
        )

    def _on_attention(self, register: Callable[[Attention, int], Any]) -> Iterator[Any]:
        """Hook onto the attention of every block that has one; raises `UnknownStructure` where none has."""
        attentions = self.facts.attentions
        if not any(attentions):
            raise UnknownStructure(f"The attention of {type(self.facts.model).__name__} cannot be told.")
        for block, attention in enumerate(attentions):
            if attention is not None:
                yield register(attention, block)
