"""Heads' matrices give what the model's own attention gets and gives, in every architecture."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.helpers.architectures import STRUCTURES, tiny
from trajstore.errors import UnknownStructure
from trajstore.forward.model_structure import find_attention, find_blocks, head_masks, head_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def randomised(kind: str) -> PreTrainedModel:
    """A tiny model in which no bias or scale is what it is initialised to."""
    model = tiny(kind)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model


class Seen:
    """Queries, keys and values of first tokens, as the attention function gets them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.parts: list[tuple[torch.Tensor, ...]] = []
        self.inputs: list[torch.Tensor] = []
        ALL_ATTENTION_FUNCTIONS.register("watched", self.attend)
        model.set_attn_implementation("watched")
        hooks = [
            find_attention(block).module.register_forward_pre_hook(self.keep, with_kwargs=True)
            for block in find_blocks(model)
        ]
        with torch.no_grad():
            # the first token is turned by no rotation
            model(torch.tensor([[7, 3], [5, 9], [250, 11]]), use_cache=False, attention_mask=None)
        for hook in hooks:
            hook.remove()

    def keep(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        self.inputs.append((args[0] if args else kwargs["hidden_states"])[:, 0])

    def attend(self, module: Any, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> Any:
        self.parts.append(tuple(part[:, :, 0] for part in (query, key, value)))
        groups = query.shape[1] // value.shape[1]
        return value.repeat_interleave(groups, 1).transpose(1, 2).contiguous(), None


def projected(hidden: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nw,hws->nhs", hidden, matrices)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_heads_read_and_write_what_the_model_does(kind: str) -> None:
    model = randomised(kind)
    weights = head_weights(model)
    assert len(weights) == 2
    seen = Seen(model)
    for number, (layer, hidden, parts) in enumerate(zip(weights, seen.inputs, seen.parts, strict=True)):
        assert layer is not None
        module: Any = find_attention(find_blocks(model)[number]).module
        own = [projected(hidden, each) for each in (layer.query, layer.key, layer.value)]
        # biases are the same in every context, and leave differences of contexts alone
        differences = [part - part[:1] for part in parts]
        mine = [part - part[:1] for part in own]
        assert torch.allclose(mine[2], differences[2], atol=1e-5)
        if kind == "olmo-2":  # what it norms is of all heads together
            mine = [
                norm(part.flatten(1)).view_as(part)
                for part, norm in zip(own[:2], (module.q_norm, module.k_norm), strict=True)
            ]
            differences = list(parts)
        assert torch.allclose(mine[0], differences[0], atol=1e-5)
        assert torch.allclose(mine[1], differences[1], atol=1e-5)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_shapes_and_groups(kind: str) -> None:
    model = tiny(kind)
    first = head_weights(model)[0]
    groups = {"llama": 2, "gemma-2": 2, "qwen2": 2, "phi-3": 2, "mistral": 1}.get(kind, 4)
    size = {"mistral": 16}.get(kind, 8)
    assert first.query.shape == (4, 32, size)
    assert first.key.shape == first.value.shape == (groups, 32, size)
    assert first.output.shape == (4, size, 32)
    assert first.group.tolist() == [head * groups // 4 for head in range(4)]


@pytest.mark.parametrize("kind", STRUCTURES)
def test_masks_of_a_head_hold_its_matrices_and_nothing_else(kind: str) -> None:
    """Changes under the mask change the head's own matrices everywhere, and no other head's own."""
    model = randomised(kind)
    before = head_weights(copy.deepcopy(model))[1]  # matrices may be views
    state = {name: each.clone() for name, each in model.state_dict().items()}
    masks = head_masks(model, 1, 2)
    with torch.no_grad():
        for parameter, mask in masks:
            assert set(mask.unique().tolist()) <= {0.0, 1.0}
            parameter += mask
    after = head_weights(model)[1]
    own, shared = torch.arange(4) == 2, torch.arange(len(before.key)) == before.group[2]
    for name, chosen in (
        ("query", own),
        ("key", shared),
        ("value", shared),
        ("output", own),
        ("value_bias", shared),
    ):
        moved = getattr(after, name) - getattr(before, name)
        assert torch.allclose(moved[~chosen], torch.zeros(()), atol=1e-6)
        if name != "value_bias":
            assert torch.allclose(moved[chosen], torch.ones(()), atol=1e-5)
    matrices = 3 * 32 * before.query.shape[2] + before.output[2].numel()
    biases = 3 * before.query.shape[2] if kind in ("gpt-neox", "gpt-2", "qwen2", "phi") else 0
    assert sum(int(mask.sum()) for _, mask in masks) == matrices + biases
    others = {id(parameter) for parameter, _ in masks}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in others) == (not torch.equal(parameter, state[name]))


def test_heads_that_there_are_not() -> None:
    for block, head in ((2, 0), (0, 4), (-1, 0)):
        with pytest.raises(UnknownStructure, match=f"There is no head {block}.{head} in 2 blocks of 4 heads"):
            head_masks(tiny("llama"), block, head)


def test_one_key_for_all_heads_in_a_fused_layer() -> None:
    torch.manual_seed(0)
    config = GPTBigCodeConfig(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=4, initializer_range=0.5
    )
    [layer] = head_weights(GPTBigCodeForCausalLM(config).eval())
    assert layer.query.shape == (4, 16, 4)
    assert layer.key.shape == (1, 16, 4)


def test_groups_beside_one_another_in_a_fused_layer() -> None:
    """As Falcon has them: the queries of a group, its key, its value, then the next group's."""
    torch.manual_seed(0)
    config = FalconConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_kv_heads=2,
        new_decoder_architecture=True,
    )
    model = FalconForCausalLM(config).eval()
    [layer] = head_weights(model)
    weight = model.transformer.h[0].self_attention.query_key_value.weight.detach()
    rows = weight.view(2, 4, 8, 32)
    for head in range(4):
        assert torch.equal(layer.query[head], rows[head // 2, head % 2].T)
        assert torch.equal(layer.key[head // 2], rows[head // 2, 2].T)
        assert torch.equal(layer.value[head // 2], rows[head // 2, 3].T)


def test_half_precision() -> None:
    model = tiny("gpt-neox").to(torch.bfloat16)
    exact = head_weights(model.float())[0]
    assert torch.equal(head_weights(model.to(torch.bfloat16))[0].query, exact.query)
    assert exact.query.dtype == torch.float32


def test_what_cannot_be_told() -> None:
    """Heads whose output is changed on its way, and blocks without attention."""
    model = tiny("llama")
    hook = find_attention(find_blocks(model)[1]).module.register_forward_hook(
        lambda _module, _args, output: (2 * output[0], *output[1:])
    )
    first, second = head_weights(model)
    assert first is not None
    assert second is None
    hook.remove()
    torch.manual_seed(0)
    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=50, hidden_size=16, state_size=4, num_hidden_layers=2, expand=2)
    ).eval()
    assert len(find_blocks(mamba)) == 2
    with pytest.raises(UnknownStructure, match="^The heads of MambaForCausalLM cannot be told"):
        head_weights(mamba)


def test_the_model_is_as_it_was() -> None:
    model = tiny("gpt-2")
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    head_weights(model)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
