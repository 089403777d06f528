"""The pass on many architectures of transformers, each against its own logits: alone, padded, with rank and entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from tests.helpers.architectures import by_definition, ragged
from trajstore.forward.device_queue import unpacked
from trajstore.scoring import token_losses, token_scores

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # imports and builds thirty models

_COMMON = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
_GPT = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
_STATE = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
_MAMBA = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8}
_EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 2}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}

SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("qwen2", "phi", "phi3", "starcoder2", "stablelm", "olmo", "smollm3", "nemotron"), _COMMON
    ),
    "gpt_bigcode": _GPT,
    "codegen": {**_GPT, "rotary_dim": 4},
    "opt": {**_COMMON, "ffn_dim": 64, "word_embed_proj_dim": 16},
    "bloom": {"vocab_size": 300, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "gpt_neo": {**_COMMON, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "mpt": {"vocab_size": 300, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128},
    "falcon": {**_COMMON, "alibi": True},
    "mamba": _STATE,
    "mamba2": {**_STATE, "num_heads": 4, "head_dim": 16, "n_groups": 1},
    "rwkv": {**_STATE, "attention_hidden_size": 32, "context_length": 128},
    "qwen3": {**_COMMON, "head_dim": 8},
    "mistral": {**_COMMON, "sliding_window": 8},
    "olmo3": {**_COMMON, "sliding_window": 8},
    "gemma3_text": {**_COMMON, "head_dim": 8, "sliding_window": 8, "final_logit_softcapping": 5.0},
    "recurrent_gemma": {**_COMMON, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 8},
    "cohere2": {**_COMMON, "sliding_window": 8, "logit_scale": 0.3},
    "granitemoe": {**_COMMON, "num_local_experts": 4, "logits_scaling": 7.0},
    "hyperclovax": {**_COMMON, "logits_scaling": 0.3},
    "falcon_h1": {**_COMMON, **_MAMBA, "lm_head_multiplier": 0.6},
    "nanochat": _COMMON,
    "mixtral": {**_COMMON, "num_local_experts": 4},
    "olmoe": {**_COMMON, "num_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v3": {**_COMMON, **_LATENT, **_EXPERTS, "topk_group": 1},
    "minicpm3": {**_COMMON, **_LATENT, "dim_model_base": 16},
}


def random_model(kind: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SETTINGS[kind])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)  # so that losses differ from token to token
    return model


@pytest.mark.parametrize("kind", SETTINGS)
def test_its_head_runs_in_tiles_and_gives_its_own_losses(kind: str) -> None:
    model = random_model(kind)
    contexts = ragged(300)
    found = token_scores(model, contexts, columns=["rank", "entropy"])
    assert found.tiled
    assert np.concatenate(found.loss).std() > 0.02
    assert found.rank is not None
    assert found.entropy is not None
    for ids, loss, rank, entropy in zip(contexts, found.loss, found.rank, found.entropy, strict=True):
        with torch.no_grad():
            logits = model(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0].double().numpy()
        wanted = by_definition(logits, ids)
        np.testing.assert_allclose(loss, wanted.loss, rtol=0, atol=1e-5)
        np.testing.assert_allclose(entropy, wanted.entropy, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(rank, wanted.rank)


@pytest.mark.parametrize("kind", SETTINGS)
def test_without_a_look_for_packed_contexts_it_gives_the_same(kind: str) -> None:
    """As a GPU runs it."""
    model, contexts = random_model(kind), ragged(300)
    with_look = np.concatenate(token_losses(model, contexts))
    with unpacked():
        np.testing.assert_array_equal(np.concatenate(token_losses(model, contexts)), with_look)


@pytest.mark.parametrize("kind", SETTINGS)
def test_so_it_does_in_half_precision(kind: str) -> None:
    """As far as the model's own logits, which are rounded, can tell."""
    model, contexts = random_model(kind).to(torch.bfloat16), ragged(300)
    found = token_scores(model, contexts)
    assert found.tiled
    for ids, loss in zip(contexts, found.loss, strict=True):
        with torch.no_grad():
            logits = model(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0].double().numpy()
        rounding = 2**-7 * np.abs(logits).max() + 0.02  # and that of a batch of another size
        np.testing.assert_allclose(loss, by_definition(logits, ids).loss, rtol=0, atol=rounding)
