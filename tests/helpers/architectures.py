"""Tiny random models of many architectures, contexts for them, and their losses by the definition in float64."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertDecoderConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PretrainedConfig, PreTrainedModel

KINDS = ["gpt-neox", "gpt-2", "llama", "olmo-2", "gpt-j", "gemma-2", "granite", "cohere"]
"""The architectures whose head runs in tiles."""

STRUCTURES = ["gpt-neox", "gpt-2", "llama", "olmo-2", "gemma-2", "mistral", "qwen2", "phi", "phi-3"]
"""The architectures whose blocks and heads tests look for."""

UNKNOWN = "modernbert-decoder"
"""One with a layer more before its head."""

_WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def _config(kind: str, vocabulary: int, positions: int) -> PretrainedConfig:
    common = {"vocab_size": vocabulary, "max_position_embeddings": positions, "initializer_range": 0.25}
    gpt = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": vocabulary, "n_positions": positions}
    match kind:
        case "gpt-neox":
            return GPTNeoXConfig(**_WIDTH, **common)
        case "gpt-2":
            return GPT2Config(**gpt, initializer_range=0.25)
        case "llama":
            return LlamaConfig(**_WIDTH, **common, num_key_value_heads=2, tie_word_embeddings=True)
        case "olmo-2":
            return Olmo2Config(**_WIDTH, **common)
        case "gpt-j":  # its head has a bias
            return GPTJConfig(**gpt, rotary_dim=4)
        case "gemma-2":  # its logits are soft-capped
            return Gemma2Config(
                **_WIDTH, **common, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0
            )
        case "granite":  # its logits are divided
            return GraniteConfig(**_WIDTH, **common, logits_scaling=3.0)
        case "cohere":  # its logits are multiplied
            return CohereConfig(**_WIDTH, **common, logit_scale=0.4)
        case "mistral":
            return MistralConfig(**_WIDTH, **common, num_key_value_heads=1, head_dim=16, sliding_window=None)
        case "qwen2":  # its queries, keys and values have biases
            return Qwen2Config(**_WIDTH, **common, num_key_value_heads=2)
        case "phi":  # its attention and its MLP read the same
            return PhiConfig(**_WIDTH, **common)
        case "phi-3":  # one layer for the queries of all heads, then the keys and values of groups
            return Phi3Config(**_WIDTH, **common, num_key_value_heads=2, pad_token_id=0, eos_token_id=1)
        case "modernbert-decoder":
            return ModernBertDecoderConfig(**_WIDTH, **common, pad_token_id=0)
    raise ValueError(kind)


def tiny(kind: str, vocabulary: int = 300, positions: int = 128, seed: int = 0) -> PreTrainedModel:
    """A model of two layers; biases of the head are not zero."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(kind, vocabulary, positions)).eval()
    bias = model.get_output_embeddings().bias
    if bias is not None:
        torch.nn.init.normal_(bias, std=1.0)
    return model


def ragged(
    vocabulary: int = 300, lengths: tuple[int, ...] = (5, 40, 2, 17, 40, 31, 3), seed: int = 1
) -> list[np.ndarray]:
    """Random contexts of these lengths."""
    draw = np.random.default_rng(seed)
    return [draw.integers(0, vocabulary, n).astype(np.int32) for n in lengths]


@dataclass
class Exact:
    """One context by the definition, written out in float64."""

    loss: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray


def by_definition(logits: np.ndarray, ids: np.ndarray) -> Exact:
    """From float64 logits (n, rows) of a context's n tokens."""
    assert logits.dtype == np.float64
    logits = logits[:-1]
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    own = logits[np.arange(len(logits)), ids[1:]]
    p = np.exp(log_p)
    return Exact(
        loss=-log_p[np.arange(len(logits)), ids[1:]],
        rank=(logits > own[:, None]).sum(1),
        entropy=-(p * np.where(p > 0, log_p, 0)).sum(1),
    )


def exact(model: PreTrainedModel, contexts: list[np.ndarray], vocabulary: int | None = None) -> list[Exact]:
    """Return the model's losses in float64, context by context; the softmax over the ids below `vocabulary`."""
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    found = []
    for ids in contexts:
        with torch.no_grad():
            logits = double(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0].numpy()
        found.append(by_definition(logits[:, :vocabulary], ids))
    return found


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns, in bytes of its own storage."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known, self.bytes = known, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


@contextmanager
def watched(model: PreTrainedModel) -> Iterator[Largest]:
    """The largest tensor made inside the block; the model's own are not counted."""
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    with Largest(weights) as seen:
        yield seen
