"""Losses that depend on the attention kernel are told, once a run; those that differ by rounding are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import FalconConfig, FalconForCausalLM
from typer.testing import CliRunner

from tests.helpers.architectures import KINDS, ragged, tiny
from tests.helpers.tiny_models import random_dataset
from trajstore.cli import app
from trajstore.forward.attention_kernels import _twin, kernel_warning
from trajstore.forward.losses import token_losses

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


def falcon(*, alibi: bool, kernel: str = "sdpa", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = FalconConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        alibi=alibi,
        initializer_range=0.3,
        attn_implementation=kernel,
    )
    return FalconForCausalLM(config).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_falcon_with_alibi_is_told_with_the_size_of_the_difference(dtype: torch.dtype) -> None:
    contexts = ragged(64, (60, 9))
    said = kernel_warning(falcon(alibi=True).to(dtype), contexts)
    assert said is not None
    assert (
        "FalconForCausalLM depend on the attention kernel: with sdpa, which is used, and with eager" in said
    )
    models = (falcon(alibi=True, kernel=kernel).to(dtype) for kernel in ("sdpa", "eager"))
    one, other = (token_losses(model, contexts[:1])[0] for model in models)
    assert f"by up to {np.abs(one - other).max():.2g} nats" in said


def test_with_the_plain_kernel_or_other_positions_nothing_is_said() -> None:
    assert kernel_warning(falcon(alibi=True, kernel="eager"), ragged(64)) is None
    assert kernel_warning(falcon(alibi=False), ragged(64)) is None
    assert kernel_warning(falcon(alibi=True), []) is None
    broken = falcon(alibi=True)
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(float("nan"))
    assert kernel_warning(broken, ragged(64)) is None, "the losses themselves are refused"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_no_difference(kind: str, dtype: torch.dtype) -> None:
    assert kernel_warning(tiny(kind).to(dtype), ragged()) is None


def test_the_twin_shares_the_weights_and_leaves_the_model_as_it_is() -> None:
    model = tiny("llama")
    before, config = token_losses(model, ragged()), repr(model.config)
    twin = _twin(model, "eager")
    assert twin.config._attn_implementation == "eager"
    own = {each.data_ptr() for each in model.parameters()}
    assert {each.data_ptr() for each in twin.parameters()} == own
    assert repr(model.config) == config
    for one, other in zip(before, token_losses(model, ragged()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_score_says_it_once_and_keeps_the_losses(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    store.add_dataset("e", random_dataset(seed=1))
    for step in (1, 2):
        falcon(alibi=True, seed=step).save_pretrained(tmp_path / "run" / f"step{step}")
    words = ["score", str(tmp_path / "run"), "-d", "d", "-d", "e", "-s", str(store.path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert result.stderr.count("Warning: The losses of FalconForCausalLM depend on the attention kernel") == 1
    assert store.steps("run", "d") == store.steps("run", "e") == [1, 2]
