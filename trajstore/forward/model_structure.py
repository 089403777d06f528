"""A model's parts, told by its structure: its blocks, their attention, and the matrices of every head.

Works for every decoder whose blocks are a list of `num_hidden_layers` modules. Attention is a module whose own linear
layers are named as projections to queries, keys, values (or all of them in one) and back; how one layer for all of them
is split into heads is tried, and taken where it gives the module's own output on contexts of one token, of which
attention is the token itself. What does not pass that test has no head matrices. Needs no store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from trajstore.errors import UnknownStructure
from trajstore.forward.losses import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAMES = {
    "query": ("q_proj", "query", "q_lin", "wq", "q"),
    "key": ("k_proj", "key", "k_lin", "wk", "k"),
    "value": ("v_proj", "value", "v_lin", "wv", "v"),
    "fused": ("query_key_value", "c_attn", "qkv_proj", "Wqkv", "qkv", "att_proj", "c_qkv"),
    "output": ("o_proj", "out_proj", "dense", "c_proj", "wo", "out_lin", "attn_out"),
}


@dataclass(frozen=True)
class Attention:
    """The attention of a block."""

    module: nn.Module
    inputs: tuple[nn.Module, ...]
    """Its linear layers from the residual stream: to queries, keys and values, or one to all of them."""
    output: nn.Module
    """Its linear layer from the heads, one after another, to the residual stream."""


@dataclass(frozen=True)
class HeadWeights:
    """The matrices of a block's heads, float32, views where the weights are; x @ matrix, as they act on rows."""

    query: Tensor
    """(heads, width, size)."""
    key: Tensor
    """(groups, width, size): head h reads keys and values of group h // (heads // groups)."""
    value: Tensor
    """As `key`."""
    output: Tensor
    """(heads, size, width)."""
    value_bias: Tensor
    """(groups, size)."""

    @property
    def group(self) -> Tensor:
        """The group of each head, int64 (heads,)."""
        heads, groups = len(self.query), len(self.key)
        return torch.arange(heads, device=self.query.device) // (heads // groups)


def find_blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks of a model in order; raises `UnknownStructure` where it has no list of them."""
    number = text_config(model).num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return list(module)
    raise UnknownStructure(f"{type(model).__name__} has no list of {number} blocks.")


def find_attention(block: nn.Module) -> Attention | None:
    """The attention of a block; None where it has none that can be told."""
    for module in block.modules():
        linear = {name: child for name, child in module.named_children() if _is_linear(child)}
        parts = {
            part: next((linear[name] for name in names if name in linear), None)
            for part, names in _NAMES.items()
        }
        output, fused = parts["output"], parts["fused"]
        if output is None:
            continue
        if fused is not None:
            return Attention(module, (fused,), output)
        separate = [parts[name] for name in ("query", "key", "value")]
        if all(part is not None for part in separate):
            return Attention(module, tuple(part for part in separate if part is not None), output)
    return None


def attentions(model: PreTrainedModel) -> list[Attention | None]:
    """The attention of every block, as `find_attention`; raises as `find_blocks`."""
    return [find_attention(block) for block in find_blocks(model)]


def number_of_heads(model: PreTrainedModel) -> int:
    """Heads of each block."""
    return int(text_config(model).num_attention_heads)


def text_config(model: PreTrainedModel) -> Any:
    """The configuration of the language model, which in models of several kinds of input is a part."""
    return model.config.get_text_config(decoder=True)


def head_weights(model: PreTrainedModel) -> list[HeadWeights | None]:
    """The matrices of the heads of each block; None for blocks whose heads cannot be told.

    Raises `UnknownStructure` where that is every block.
    """
    blocks = attentions(model)
    samples = _one_token_samples(model, blocks)
    weights = [
        None if attention is None else _weights_of(attention, number_of_heads(model), sample)
        for attention, sample in zip(blocks, samples, strict=True)
    ]
    if all(block_weights is None for block_weights in weights):
        raise UnknownStructure(f"The heads of {type(model).__name__} cannot be told from its weights.")
    return weights


def head_masks(model: PreTrainedModel, block: int, head: int) -> list[tuple[nn.Parameter, Tensor]]:
    """The parameters of one head, each with a mask that is 1 at the head's entries and 0 at others.

    Keys and values that heads share are of each of them; the bias of the output is of none. Raises `UnknownStructure`.
    """
    blocks, heads = attentions(model), number_of_heads(model)
    if not (0 <= block < len(blocks) and 0 <= head < heads):
        raise UnknownStructure(
            f"There is no head {block}.{head} in {len(blocks)} blocks of {heads} heads, from 0."
        )
    attention, sample = blocks[block], _one_token_samples(model, blocks)[block]
    split = None if attention is None else _split_of(attention, heads, sample)
    if attention is None or split is None:
        raise UnknownStructure(f"The heads of block {block} cannot be told from its weights.")
    layers = [*attention.inputs, attention.output]
    masks = {
        id(parameter): (parameter, torch.zeros_like(parameter, requires_grad=False))
        for layer in layers
        for parameter in (layer.weight, layer.bias)
        if isinstance(parameter, nn.Parameter)
    }

    def mark(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
        for parameter, places in ((layer.weight, weight), (layer.bias, bias)):
            if isinstance(parameter, nn.Parameter) and places is not None:
                masks[id(parameter)][1].view(-1)[places.flatten().long()] = 1

    numbered = [
        (_numbered(layer), torch.arange(matrix(layer).shape[1]).double()) for layer in attention.inputs
    ]
    size = len(matrix(attention.output)) // heads
    parts = list(_splits(attention, heads, size, numbered))[split]
    for number, (weights, biases) in enumerate(parts):
        own = head if number == 0 else head // (heads // len(weights))
        mark(attention.inputs[number % len(attention.inputs)], weights[own], biases[own])
    mark(attention.output, _numbered(attention.output)[head * size : (head + 1) * size], None)
    return [(parameter, mask) for parameter, mask in masks.values() if mask.any()]


def _numbered(layer: nn.Module) -> Tensor:
    """The matrix (in, out) of a linear layer with the place of each entry in the layer's weight, float64."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    places = torch.arange(weight.numel(), dtype=torch.float64).view(weight.shape)
    return places if isinstance(layer, Conv1D) else places.T


def matrix(layer: nn.Module) -> Tensor:
    """The matrix (in, out) of a linear layer, in its own dtype."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach() if isinstance(layer, Conv1D) else weight.detach().T


def _is_linear(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return (
        isinstance(module, nn.Linear | Conv1D)
        and isinstance(weight, Tensor)
        and weight.ndim == 2
        and weight.is_floating_point()
    )


def _bias(layer: nn.Module, size: int) -> Tensor:
    """The bias of a linear layer, float32; zeros where it has none."""
    bias: Any = getattr(layer, "bias", None)
    weight: Any = layer.weight
    return torch.zeros(size, device=weight.device) if bias is None else bias.detach().float()


def _one_token_samples(
    model: PreTrainedModel, blocks: Sequence[Attention | None]
) -> list[tuple[Tensor, Tensor] | None]:
    """Return each attention's input and output, (n, width) both, float32, in n contexts of one token."""
    samples: list[tuple[Tensor, Tensor] | None] = [None] * len(blocks)
    rows = len(model.get_input_embeddings().weight)
    device = next(model.parameters()).device
    ids = torch.tensor(sorted({1 % rows, rows // 3, rows // 2, rows - 1}), device=device)[:, None]

    def keep(number: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            hidden = args[0] if args else kwargs.get("hidden_states")
            if isinstance(hidden, Tensor):
                samples[number] = hidden[:, 0].float(), first_tensor(output)[:, 0].float()

        return hook

    autocast = torch.autocast(device.type, enabled=False)
    with ExitStack() as stack, torch.no_grad(), autocast, evaluating(model):
        for number, attention in enumerate(blocks):
            if attention is not None:
                handle = attention.module.register_forward_hook(keep(number), with_kwargs=True)
                stack.callback(handle.remove)
        model.base_model(ids, use_cache=False)
    return samples


def first_tensor(output: Any) -> Tensor:
    """A module's output: itself, or the first of several."""
    first = output if isinstance(output, Tensor) else output[0]
    assert isinstance(first, Tensor)
    return first


def _weights_of(attention: Attention, heads: int, sample: tuple[Tensor, Tensor] | None) -> HeadWeights | None:
    """The matrices that give the module's output on a sample; None where none does."""
    split = _split_of(attention, heads, sample)
    return None if split is None else _candidates(attention, heads)[split]


def _split_of(attention: Attention, heads: int, sample: tuple[Tensor, Tensor] | None) -> int | None:
    """The number of the way to split the input layers that gives the module's output on a sample; None for none."""
    if sample is None:
        return None
    output_bias = _bias(attention.output, matrix(attention.output).shape[1])
    for number, weights in enumerate(_candidates(attention, heads)):
        if _gives(weights, output_bias, attention.output, *sample):
            return number
    return None


def _candidates(attention: Attention, heads: int) -> list[HeadWeights]:
    """The matrices of the heads, for each way that the input layers may be split."""
    if len(matrix(attention.output)) % heads:
        return []
    size = len(matrix(attention.output)) // heads
    output = torch.unflatten(matrix(attention.output).float(), 0, (heads, size))
    layers = [(matrix(layer).float(), _bias(layer, matrix(layer).shape[1])) for layer in attention.inputs]
    return [
        HeadWeights(query[0], key[0], value[0], output, value[1])
        for query, key, value in _splits(attention, heads, size, layers)
    ]


def _gives(
    weights: HeadWeights, output_bias: Tensor, layer: nn.Module, hidden: Tensor, output: Tensor
) -> bool:
    """Return whether values times output matrices are the attention's output of single tokens, up to rounding."""
    if hidden.shape[-1] != weights.value.shape[1]:
        return False
    values = torch.einsum("nw,gws->ngs", hidden, weights.value) + weights.value_bias
    product = torch.einsum("nhs,hsw->nw", values[:, weights.group], weights.output) + output_bias
    dtype: Any = layer.weight
    noise = 32 * torch.finfo(dtype.dtype).eps * max(output.abs().max().item(), 1e-6)
    return bool((product - output).abs().max() <= noise)


_Part = tuple[Tensor, Tensor]
"""Of queries, keys or values: matrices (groups, width, size) and biases (groups, size)."""


def _splits(
    attention: Attention, heads: int, size: int, layers: Sequence[_Part]
) -> Iterator[tuple[_Part, _Part, _Part]]:
    """The ways in which matrices and biases of the input layers may be those of heads, the more usual first."""
    if len(layers) == 3:
        if all(weight.shape[1] % size == 0 for weight, _ in layers):
            query, key, value = (_split(weight, bias, size) for weight, bias in layers)
            if len(query[0]) == heads and len(key[0]) == len(value[0]) and heads % len(key[0]) == 0:
                yield query, key, value
        return
    weight, bias = layers[0]
    groups = (weight.shape[1] // size - heads) // 2
    if weight.shape[1] != (heads + 2 * groups) * size or groups < 1 or heads % groups:
        return
    ends = [heads * size, (heads + groups) * size]
    parts = [
        _split(part, shift, size)
        for part, shift in zip(weight.tensor_split(ends, 1), bias.tensor_split(ends), strict=True)
    ]
    together = parts[0], parts[1], parts[2]
    per_group = heads // groups
    rows = _split(weight, bias, size)
    matrices, shifts = (torch.unflatten(part, 0, (groups, per_group + 2)) for part in rows)
    by_group = (
        (matrices[:, :per_group].flatten(0, 1), shifts[:, :per_group].flatten(0, 1)),
        (matrices[:, -2], shifts[:, -2]),
        (matrices[:, -1], shifts[:, -1]),
    )
    # GPT-2's layer holds all queries, then all keys, all values; GPT-NeoX's those of a head beside one another
    yield from (together, by_group) if isinstance(attention.inputs[0], Conv1D) else (by_group, together)


def _split(weight: Tensor, bias: Tensor, size: int) -> _Part:
    """A matrix (width, groups · size) as those of its groups, with their biases."""
    return torch.unflatten(weight, 1, (-1, size)).movedim(1, 0), torch.unflatten(bias, 0, (-1, size))
