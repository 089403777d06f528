"""Facts of a model, against counts by hand."""

from __future__ import annotations

import pytest
import torch
from transformers import BloomConfig, GPT2Config, GPTJConfig, LlamaConfig, OPTConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from tests.helpers.tiny_models import neox
from trajstore.scoring.model_facts import count_nonembedding, model_facts, position_embedding

SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}


def test_gpt_neox_by_hand() -> None:
    # a layer of width 16 and inner width 32: qkv, attention's output, two of the MLP, two norms; and the last norm
    layer = (16 * 48 + 48) + (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16) + 2 * 2 * 16
    body = 3 * layer + 2 * 16
    facts = model_facts(neox(layers=3), "run", repo="org/run", seed=4, tokens_per_step=10)
    assert (facts.n_nonembedding, facts.n_params) == (body, body + 2 * 64 * 16)
    assert (facts.model, facts.repo, facts.family, facts.n_layer) == ("run", "org/run", "gpt_neox", 3)
    assert (facts.position_embedding, facts.seed, facts.tokens_per_step) == ("rotary", 4, 10)


def test_gpt_2_by_hand() -> None:
    # tied head, learned positions
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=64, n_positions=32)
    model = AutoModelForCausalLM.from_config(config)
    layer = (16 * 48 + 48) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16) + 2 * 2 * 16
    facts = model_facts(model, "run")
    assert (facts.n_nonembedding, facts.n_params) == (2 * layer + 32, 2 * layer + 32 + 64 * 16 + 32 * 16)
    assert facts.position_embedding == "learned"


def test_a_tied_matrix_counts_once_and_half_precision_changes_nothing() -> None:
    tied, untied = neox(tie_word_embeddings=True), neox()
    assert count_nonembedding(tied) == count_nonembedding(untied)
    assert model_facts(untied, "a").n_params - model_facts(tied, "a").n_params == 64 * 16  # type: ignore[operator]
    assert model_facts(untied.to(torch.bfloat16), "a") == model_facts(neox(), "a")


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (LlamaConfig(**SIZE, intermediate_size=16), "rotary"),
        (GPTJConfig(n_embd=16, n_layer=1, n_head=2, rotary_dim=4, vocab_size=64, n_positions=32), "rotary"),
        (BloomConfig(**SIZE), "alibi"),
        (OPTConfig(**SIZE, ffn_dim=16, max_position_embeddings=32, word_embed_proj_dim=16), "learned"),
    ],
)
def test_kinds_of_positions(config: object, kind: str) -> None:
    assert position_embedding(AutoModelForCausalLM.from_config(config)) == kind
