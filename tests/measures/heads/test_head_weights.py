"""Copying scores and compositions are those of whole matrices in float64, and of planted ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.architectures import tiny
from trajstore.forward.model_structure import head_weights
from trajstore.measures import measure
from trajstore.measures.definitions import own

if TYPE_CHECKING:
    from trajstore.measures import Measure, MeasureDefinition

CONTEXTS = [np.arange(6)]


def named(name: str) -> MeasureDefinition:
    [definition] = [each for each in own() if each.name == name]
    return definition


def measured(model: Any, name: str) -> list[Measure]:
    measures, left_out = measure(model, CONTEXTS, [named(name)])
    assert not left_out
    return measures[name]


def exact_heads(model: Any) -> list[list[tuple[np.ndarray, ...]]]:
    """(W_Q, W_K, W_V, W_O) of each head of each block, float64."""
    return [
        [
            (
                layer.query[head].double().numpy(),
                layer.key[layer.group[head]].double().numpy(),
                layer.value[layer.group[head]].double().numpy(),
                layer.output[head].double().numpy(),
            )
            for head in range(len(layer.query))
        ]
        for layer in head_weights(model)
        if layer is not None
    ]


@pytest.mark.parametrize("kind", ["gpt-2", "gpt-neox", "llama"])
def test_copying_is_that_of_the_whole_matrix(kind: str) -> None:
    """Of all its eigenvalues, as many as there are tokens."""
    model = tiny(kind)
    rows = {(row.layer, row.head): row.value for row in measured(model, "ov_copying")}
    embedding = model.get_input_embeddings().weight.detach().double().numpy()
    head = model.get_output_embeddings().weight.detach().double().numpy()
    for block, heads in enumerate(exact_heads(model)):
        for number, (_, _, value, output) in enumerate(heads):
            eigenvalues = np.linalg.eigvals(embedding @ value @ output @ head.T)
            exact = eigenvalues.sum().real / np.abs(eigenvalues).sum()
            assert rows[block, number] == pytest.approx(exact, abs=1e-4)
    assert len(rows) == 8


@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_that_copies_or_suppresses(sign: int) -> None:
    """One head as wide as the model, of which W_V W_O is the identity or its negative; embeddings are tied."""
    model = tiny("llama")
    config = model.config
    config.num_attention_heads = config.num_key_value_heads = 1
    config.head_dim = 32
    planted = type(model)(config).eval()
    attention = planted.model.layers[0].self_attn
    with torch.no_grad():
        attention.v_proj.weight.copy_(torch.eye(32))
        attention.o_proj.weight.copy_(sign * torch.eye(32))
    [row] = [row for row in measured(planted, "ov_copying") if row.layer == 0]
    assert row.value == pytest.approx(sign, abs=1e-6)


@pytest.mark.parametrize("kind", ["gpt-2", "llama"])
def test_compositions_of_whole_matrices(kind: str) -> None:
    model = tiny(kind)
    rows = measured(model, "composition")
    assert len(rows) == 3 * 16
    first, second = exact_heads(model)
    for row in rows:
        assert row.layer == 1
        assert row.params["from_layer"] == 0
        _, _, value, output = first[int(str(row.params["from_head"]))]
        query, key, own_value, own_output = second[row.head or 0]
        read = {"Q": query @ key.T, "K": key @ query.T, "V": own_value @ own_output}[str(row.params["kind"])]
        written = value @ output
        exact = np.linalg.norm(written @ read) / (np.linalg.norm(written) * np.linalg.norm(read))
        assert row.value == pytest.approx(exact, rel=1e-5)


def test_heads_that_do_not_meet() -> None:
    """Where one writes into other directions than another reads, they compose not at all; else wholly."""
    model = tiny("gpt-2")
    size = 8
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight.zero_()
        early, late = (block.attn for block in model.transformer.h)
        early.c_attn.weight[:size, 64 : 64 + size] = torch.eye(size)  # values of head 0
        early.c_proj.weight.zero_()
        early.c_proj.weight[:size, 16 : 16 + size] = torch.eye(size)
        late.c_attn.weight[16 : 16 + size, :size] = torch.eye(size)  # queries of head 0 read there
        late.c_attn.weight[:size, 32 : 32 + size] = torch.eye(size)  # keys do not
    rows = {
        str(row.params["kind"]): row.value
        for row in measured(model, "composition")
        if row.head == 0 and row.params["from_head"] == 0
    }
    assert rows == {"Q": pytest.approx(1 / size**0.5), "K": 0}  # ‖I‖ / (‖I‖ ‖I‖); nothing is read as value
