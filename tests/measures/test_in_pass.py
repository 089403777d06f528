"""Streams get the model's own hidden states, attention weights, head outputs and logits, each context once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import STRUCTURES, tiny
from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.forward.model_structure import find_attention, find_blocks
from trajstore.measures import (
    Batch,
    LogitTile,
    Measure,
    MeasureDefinition,
    PassFacts,
    Predictions,
    Stream,
    measure,
)
from trajstore.measures.definitions import REQUIRED, own

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONTEXTS = [np.random.default_rng(n).integers(0, 300, 3 + 5 * (n % 4)) for n in range(7)]
NEEDS = ("hidden", "normed", "attention", "head_outputs", "logits")


class Keeper(Stream):
    """Keeps all that it is handed, by what it is, layer and context."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, int, int], np.ndarray] = {}
        self.sums: dict[tuple[int, int], float] = {}

    def _keep(self, kind: str, layer: int, tensor: Any, batch: Batch) -> None:
        assert tensor.dtype == torch.float32
        assert torch.equal(batch.real(tensor.device).sum(1), torch.tensor(batch.lengths))
        for number, rows, length in zip(batch.numbers, tensor, batch.lengths, strict=True):
            assert (kind, layer, number) not in self.kept, "a context comes once"
            cut = rows[:, :length, :length] if kind == "attention" else rows[:length]
            self.kept[kind, layer, number] = cut.numpy().copy()

    def layer(self, layer: int, hidden: Any, batch: Batch) -> None:
        self._keep("hidden", layer, hidden, batch)

    def normed(self, hidden: Any, batch: Batch) -> None:
        self._keep("normed", 0, hidden, batch)

    def attention(self, block: int, weights: Any, batch: Batch) -> None:
        self._keep("attention", block, weights, batch)

    def head_outputs(self, block: int, outputs: Any, batch: Batch) -> None:
        self._keep("head_outputs", block, outputs, batch)

    def tile(self, tile: LogitTile, predictions: Predictions) -> None:
        assert torch.allclose(tile.shares.sum(1), torch.ones(len(predictions)))
        assert torch.allclose(tile.entropies, torch.special.entr(tile.shares).sum(1), atol=1e-5)
        logits = tile.log_shares + tile.log_sums[:, None]
        for row, context, position in zip(logits, predictions.context, predictions.position, strict=True):
            self.kept["logits", int(position), int(context)] = row.numpy().copy()

    def log_sums(self, log_sums: Any, predictions: Predictions) -> None:
        for at, value in enumerate(log_sums.tolist()):
            self.sums[int(predictions.context[at]), int(predictions.position[at])] = value

    def finish(self) -> list[Measure]:
        return [Measure("kept", float(len(self.kept)))]


def keeping(keeper: Stream, needs: tuple[str, ...] = NEEDS, name: str = "kept") -> MeasureDefinition:
    return MeasureDefinition(name, formula="all", unit="1", stream=lambda: keeper, needs=needs)


def own_tensors(model: PreTrainedModel, ids: np.ndarray) -> Any:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(
            torch.as_tensor(ids)[None], output_hidden_states=True, output_attentions=True, use_cache=False
        )


@pytest.mark.parametrize("kind", STRUCTURES)
def test_the_tensors_of_transformers(kind: str) -> None:
    model = tiny(kind)
    kernel = model.config._attn_implementation
    keeper = Keeper()
    values, left_out = measure(model, CONTEXTS, [keeping(keeper)], batch_tokens=40)
    assert not left_out
    assert values == {"kept": [Measure("kept", float(len(keeper.kept)))]}
    assert model.config._attn_implementation == kernel
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    near = {"rtol": 1e-4, "atol": 1e-4}
    for number, ids in enumerate(CONTEXTS):
        theirs = own_tensors(model, ids)
        states = [states[0].numpy() for states in theirs.hidden_states]
        # transformers gives the last one after the final norm
        for layer, state in enumerate(states[:-1]):
            assert np.allclose(keeper.kept["hidden", layer, number], state, **near)
        assert np.allclose(keeper.kept["normed", 0, number], states[-1], **near)
        assert not np.allclose(keeper.kept["hidden", 2, number], states[-1], rtol=1e-2, atol=1e-2)
        for block, weights in enumerate(theirs.attentions):
            assert np.allclose(keeper.kept["attention", block, number], weights[0].numpy(), **near)
        log_p = theirs.logits[0].double().log_softmax(1)
        for position in range(1, len(ids)):
            row = keeper.kept["logits", position, number].astype(np.float64)
            row -= keeper.sums[number, position]
            assert np.allclose(row, log_p[position - 1].numpy(), **near)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_the_last_layer_is_what_the_final_norm_reads(kind: str) -> None:
    model = tiny(kind)
    keeper = Keeper()
    measure(model, CONTEXTS, [keeping(keeper, ("hidden", "normed"))])
    norm = [module for name, module in model.base_model.named_children() if "norm" in name or name == "ln_f"][
        -1
    ]
    for number in range(len(CONTEXTS)):
        with torch.no_grad():
            normed = norm(torch.from_numpy(keeper.kept["hidden", 2, number])).numpy()
        assert np.allclose(normed, keeper.kept["normed", 0, number], atol=1e-5)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_heads_times_their_output_matrices_are_the_attentions_output(kind: str) -> None:
    model = tiny(kind)
    keeper = Keeper()
    measure(model, CONTEXTS[:1], [keeping(keeper, ("head_outputs",))])
    for block, module in enumerate(find_blocks(model)):
        attention = find_attention(module)
        outputs = []
        hook = attention.module.register_forward_hook(
            lambda _m, _a, output, kept=outputs: kept.append(output[0])
        )
        with torch.no_grad():
            model(torch.as_tensor(CONTEXTS[0])[None])
        hook.remove()
        heads = keeper.kept["head_outputs", block, 0]
        assert heads.shape[:2] == (len(CONTEXTS[0]), 4)
        with torch.no_grad():
            mine = attention.output(torch.from_numpy(heads).flatten(1))
        assert torch.allclose(mine, outputs[0].view_as(mine), atol=1e-5)


def test_a_batch_that_ran_out_of_memory_comes_again_in_parts() -> None:
    """The keeper asserts that no context comes twice; another measure gets the memory that the first one wants."""

    class Greedy(Stream):
        def __init__(self) -> None:
            self.numbers: list[int] = []

        def layer(self, layer: int, hidden: Any, batch: Batch) -> None:
            if layer == 1:
                if len(batch.numbers) > 1:
                    raise torch.OutOfMemoryError
                self.numbers += batch.numbers

        def finish(self) -> list[Measure]:
            return [Measure("greedy", float(sum(self.numbers)))]

    keeper, greedy = Keeper(), Greedy()
    definitions = [keeping(keeper), keeping(greedy, ("hidden",), "greedy")]
    _, left_out = measure(tiny("llama"), CONTEXTS, definitions, batch_tokens=60)
    assert not left_out
    assert sorted(greedy.numbers) == list(range(7))
    hidden = {key for key in keeper.kept if key[0] == "hidden"}
    assert hidden == {("hidden", layer, number) for layer in range(3) for number in range(7)}
    whole = Keeper()
    measure(tiny("llama"), CONTEXTS, [keeping(whole)], batch_tokens=1)
    assert keeper.kept.keys() == whole.kept.keys()
    for key, tensor in whole.kept.items():
        assert np.allclose(tensor, keeper.kept[key], rtol=1e-4, atol=1e-4), key


def test_one_that_fails_keeps_no_other() -> None:
    class Failing(Stream):
        def layer(self, layer: int, hidden: Any, batch: Batch) -> None:
            raise ZeroDivisionError("by zero")

    class Unfit(Stream):
        def begin(self, facts: PassFacts) -> None:
            raise NotMeasurable(f"{facts.heads} heads are too few")

    class Wrong(Keeper):
        def finish(self) -> list[Measure]:
            return [Measure("wrong", 1.0, layer=3)]

    definitions = [
        keeping(Failing(), ("hidden",), "failing"),
        keeping(Unfit(), ("hidden",), "unfit"),
        keeping(Wrong(), ("hidden",), "wrong"),
        keeping(Keeper()),
    ]
    values, left_out = measure(tiny("gpt-neox"), CONTEXTS, definitions)
    assert list(values) == ["kept"]
    assert left_out == {
        "failing": "ZeroDivisionError: by zero",
        "unfit": "4 heads are too few",
        "wrong": "wrong: a value has a layer, which is not among its axes.",
    }


def test_what_has_no_value_is_said() -> None:
    """Attention that gives no weights, whatever kernel it is asked for, and measures without any value."""

    class Empty(Keeper):
        def finish(self) -> list[Measure]:
            return []

    nothing = MeasureDefinition("nothing", "none", "1", compute=lambda _: [], needs=("ids",))
    model = tiny("llama")
    for block in find_blocks(model):
        find_attention(block).module.register_forward_hook(lambda _module, _args, output: (output[0], None))
    definitions = [keeping(Keeper(), ("attention",)), keeping(Empty(), ("hidden",), "empty"), nothing]
    values, left_out = measure(model, CONTEXTS, definitions)
    assert values == {}
    no_value = "It has no value for this model and these contexts."
    assert left_out == {
        "kept": "The attention of LlamaForCausalLM gives no weights.",
        "empty": no_value,
        "nothing": no_value,
    }


def test_half_precision_and_the_mode_of_the_model() -> None:
    model = tiny("gpt-neox").to(torch.bfloat16)
    model.train()
    keeper = Keeper()
    assert not measure(model, CONTEXTS, [keeping(keeper)]).left_out
    assert model.training
    assert np.isfinite(np.concatenate([each.ravel() for each in keeper.kept.values()])).all()


def test_functions_and_streams_in_one_call() -> None:
    top = MeasureDefinition(
        "top",
        "share",
        "1",
        compute=lambda inputs: float(np.mean(np.concatenate(inputs.rank) == 0)),
        needs=("rank",),
    )
    energy = next(each for each in own() if each.name == "interaction_energy")
    values, left_out = measure(tiny("gpt-2"), CONTEXTS, [top, energy])
    assert not left_out
    assert set(values) == {"top", "interaction_energy"}
    rows = values["interaction_energy"]
    assert {(row.name, row.layer) for row in rows} == {
        *(("interaction_energy", layer) for layer in range(3)),
        ("interaction_energy_normed", 2),
    }
    for layer in range(3):
        own_rows = [row for row in rows if row.layer == layer and row.name == "interaction_energy"]
        by_context = np.array([row.value for row in own_rows if row.context is not None])
        [mean] = [row for row in own_rows if row.context is None]
        assert len(by_context) == len(CONTEXTS)
        assert mean.value == pytest.approx(by_context.mean())
        assert mean.stderr == pytest.approx(by_context.std(ddof=1) / len(CONTEXTS) ** 0.5)


def test_parameters() -> None:
    definition = MeasureDefinition(
        "scaled",
        "a·b",
        "1",
        compute=lambda inputs, a, b: a * b,
        needs=("model",),
        parameters={"a": REQUIRED, "b": 2.0},
    )
    model = tiny("gpt-2")
    with pytest.raises(BadMeasures, match=r"^scaled needs a value for a: there is no default\.$"):
        measure(model, CONTEXTS, [definition])
    assert measure(model, CONTEXTS, [definition.with_parameters(a=3.0)]).measures["scaled"][0].value == 6
    with pytest.raises(BadMeasures, match="has no parameter c; it has: a, b"):
        definition.with_parameters(c=1)
    with pytest.raises(BadMeasures, match="needs are among"):
        replace(definition, needs=("hidden",))
