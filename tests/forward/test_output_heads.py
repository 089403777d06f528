"""Heads are told apart from models, with what their configurations say is done after them, and only where it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.architectures import KINDS, UNKNOWN, ragged, tiny
from trajstore.forward.output_heads import Head, find_head

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = torch.as_tensor(ragged()[1][:12], dtype=torch.long)[None]

CHANGES = {"gemma-2": (1.0, 2.0), "granite": (1 / 3, None), "cohere": (0.4, None)}


def found(model: Any) -> tuple[float, float | None] | None:
    with torch.no_grad():
        head = find_head(model, IDS)
    return None if head is None else (head.head.scale, head.head.cap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_change_after_the_head_is_read_from_the_configuration(kind: str, dtype: torch.dtype) -> None:
    assert found(tiny(kind).to(dtype)) == CHANGES.get(kind, (1.0, None))


def test_an_unknown_head_is_none() -> None:
    assert found(tiny(UNKNOWN)) is None


def test_a_head_that_is_no_linear_layer_is_none() -> None:
    model = tiny("llama")
    model.lm_head = torch.nn.Sequential(model.lm_head)
    assert found(model) is None


def test_a_field_that_the_model_does_not_use_is_passed_over() -> None:
    model = tiny("llama")
    model.config.logit_scale, model.config.final_logit_softcapping = 0.5, 2.0
    assert found(model) == (1.0, None)


def test_a_field_that_says_otherwise_than_the_model_does_is_not_believed() -> None:
    model = tiny("cohere")  # which keeps the scale that it was made with
    model.config.logit_scale = 0.41
    assert found(model) is None


def test_scale_and_cap_together() -> None:
    model = tiny("gemma-2")
    model.config.output_multiplier = 0.5
    plain = model.lm_head.forward
    assert found(model) == (1.0, 2.0)
    with torch.no_grad():
        body = model.model(IDS, use_cache=False).last_hidden_state
        linear = plain(body)[0]
    head = Head(model.lm_head.weight, None, 0.5, 2.0)
    wanted = 2 * torch.tanh(linear * 0.5 / 2)
    assert head.gives(linear, wanted)
    assert not head.gives(linear, wanted * 1.01)
    buffer = torch.empty(wanted.numel())
    with torch.no_grad():
        torch.testing.assert_close(head.logits(body[0], slice(0, 300), buffer), wanted)


def test_logits_that_are_not_numbers_are_none() -> None:
    model = tiny("gpt-neox")
    with torch.no_grad():
        model.lm_head.weight[7] = torch.nan
    assert found(model) is None


def test_rows_by_number_and_the_first_so_many() -> None:
    model = tiny("gpt-j")  # with a bias
    layer = model.get_output_embeddings()
    head, hidden = Head(layer.weight, layer.bias), torch.randn(4, 32)
    rows = torch.tensor([7, 0, 299, 7, 12])
    with torch.no_grad():
        all_logits = layer(hidden)
        torch.testing.assert_close(head.logits(hidden, rows, torch.empty(20)), all_logits[:, rows])
        first = head.first(40)
        assert len(first) == 40
        torch.testing.assert_close(first.logits(hidden, slice(30, 60), torch.empty(99)), all_logits[:, 30:40])
