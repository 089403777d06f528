"""Losses against transformers' own loss, against float64, and against other tiles and batches."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Olmo2Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from trajstore.errors import UnfitContext
from trajstore.scoring import losses
from trajstore.scoring.losses import Tile, token_losses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PretrainedConfig, PreTrainedModel

WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def config(kind: str, vocabulary: int = 300, positions: int = 128) -> PretrainedConfig:
    common = {"vocab_size": vocabulary, "max_position_embeddings": positions, "initializer_range": 0.25}
    match kind:
        case "gpt-neox":
            return GPTNeoXConfig(**WIDTH, **common)
        case "gpt-2":
            return GPT2Config(
                n_embd=32,
                n_layer=2,
                n_head=4,
                vocab_size=vocabulary,
                n_positions=positions,
                initializer_range=0.25,
            )
        case "llama":
            return LlamaConfig(**WIDTH, **common, num_key_value_heads=2, tie_word_embeddings=True)
        case "olmo-2":
            return Olmo2Config(**WIDTH, **common)
        case "gpt-j":  # its head has a bias
            return GPTJConfig(
                n_embd=32, n_layer=2, n_head=4, rotary_dim=4, vocab_size=vocabulary, n_positions=positions
            )
        case "gemma-2":  # its logits are soft-capped
            return Gemma2Config(
                **WIDTH, **common, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0
            )
    raise ValueError(kind)


def tiny(kind: str, vocabulary: int = 300, positions: int = 128, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(kind, vocabulary, positions)).eval()
    bias = model.get_output_embeddings().bias
    if bias is not None:
        torch.nn.init.normal_(bias, std=1.0)
    return model


def ragged(
    vocabulary: int = 300, lengths: tuple[int, ...] = (5, 40, 2, 17, 40, 31, 3), seed: int = 1
) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, vocabulary, n).astype(np.int32) for n in lengths]


def exact(model: PreTrainedModel, contexts: list[np.ndarray]) -> list[np.ndarray]:
    """The definition, written out in float64."""
    double = type(model)(model.config).double().eval()
    double.load_state_dict(model.state_dict())
    found = []
    for ids in contexts:
        with torch.no_grad():
            logits = double(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0].numpy()
        assert logits.dtype == np.float64
        top = logits.max(1, keepdims=True)
        normaliser = top[:, 0] + np.log(np.exp(logits - top).sum(1))
        found.append(np.array([normaliser[p - 1] - logits[p - 1, ids[p]] for p in range(1, len(ids))]))
    return found


KINDS = ["gpt-neox", "gpt-2", "llama", "olmo-2", "gpt-j", "gemma-2"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", [300, 5000])
def test_agrees_with_the_models_own_loss_and_with_float64(kind: str, vocabulary: int) -> None:
    model, contexts = tiny(kind, vocabulary), ragged(vocabulary)
    found = token_losses(model, contexts)
    assert [len(loss) for loss in found] == [len(ids) - 1 for ids in contexts]
    assert all(loss.dtype == np.float32 for loss in found)
    assert np.concatenate(found).std() > 0.3  # otherwise the comparison would say little
    for ids, loss, reference in zip(contexts, found, exact(model, contexts), strict=True):
        np.testing.assert_allclose(loss, reference, rtol=0, atol=1e-5)
        labels = torch.as_tensor(ids, dtype=torch.long)[None]
        with torch.no_grad():
            own = model(labels, labels=labels).loss.item()
        assert loss.mean() == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 16, 90, 4096])
def test_any_batch_size_gives_what_one_context_at_a_time_gives(kind: str, batch_tokens: int) -> None:
    model, contexts = tiny(kind), ragged()
    batched = token_losses(model, contexts, batch_tokens=batch_tokens)
    for loss, ids in zip(batched, contexts, strict=True):
        np.testing.assert_allclose(loss, token_losses(model, [ids])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("tile", [Tile(1, 30), Tile(7, 64), Tile(16, 299), Tile(1000, 1000)])
def test_tiles_of_any_shape_give_the_same(tile: Tile) -> None:
    model, contexts = tiny("gpt-j"), ragged()
    whole, tiled = token_losses(model, contexts), token_losses(model, contexts, tile=tile)
    np.testing.assert_allclose(np.concatenate(tiled), np.concatenate(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_head_that_is_a_plain_linear_layer_is_tiled(kind: str) -> None:
    with torch.inference_mode():
        assert losses.head_is_linear(tiny(kind), ragged()[1], Tile()) == (kind != "gemma-2")


def test_a_scale_behind_the_head_is_noticed() -> None:
    model = tiny("llama")
    head = model.lm_head.forward
    model.lm_head.forward = lambda hidden: head(hidden)
    plain = model.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        output = plain(*args, **kwargs)
        output.logits = output.logits * 1.01
        return output

    model.forward = scaled
    ids = ragged()[1]
    logits = model(torch.as_tensor(ids, dtype=torch.long)[None]).logits[0, :-1].double()
    expected = torch.nn.functional.cross_entropy(
        logits, torch.as_tensor(ids[1:], dtype=torch.long), reduction="none"
    )
    np.testing.assert_allclose(token_losses(model, [ids])[0], expected.detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_get_float32_losses(dtype: torch.dtype) -> None:
    model, contexts = tiny("gpt-neox"), ragged()
    reference = np.concatenate(token_losses(model, contexts))
    half = np.concatenate(token_losses(model.to(dtype), contexts))
    with torch.inference_mode():
        assert losses.head_is_linear(model, contexts[1], Tile())
    assert half.dtype == np.float32
    assert 0 < np.abs(half - reference).max() < 0.5
    assert half.min() > -1e-5  # logits are float32, so that no loss sinks below zero


def test_known_logits_give_known_losses() -> None:
    """Logits 0, ln 3, 0 at every position: probabilities 1/5, 3/5, 1/5."""
    model = tiny("gpt-neox", vocabulary=3)
    with torch.no_grad():
        norm = model.gpt_neox.final_layer_norm
        norm.weight.zero_()
        norm.bias.zero_()
        norm.bias[0] = 1.0
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, 0] = torch.tensor([0.0, math.log(3.0), 0.0])
    (loss,) = token_losses(model, [np.array([0, 1, 2, 1])])
    np.testing.assert_allclose(loss, [math.log(5 / 3), math.log(5), math.log(5 / 3)], atol=1e-6)


def test_huge_logits_do_not_overflow() -> None:
    model = tiny("gpt-2")
    with torch.no_grad():
        model.lm_head.weight.mul_(1000)
    found, reference = token_losses(model, ragged(), tile=Tile(8, 32)), exact(model, ragged())
    assert np.isfinite(np.concatenate(found)).all()
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(reference), rtol=1e-5, atol=0.1)


def test_a_nan_stays_a_nan() -> None:
    model = tiny("gpt-neox")
    with torch.no_grad():
        model.lm_head.weight[7] = torch.nan
    assert np.isnan(np.concatenate(token_losses(model, ragged()))).all()


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns, in elements of its own storage."""

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
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    with Largest(weights) as seen:
        yield seen


def test_no_tensor_is_larger_than_a_tile() -> None:
    model, contexts = tiny("gpt-neox", vocabulary=5000, positions=600), ragged(5000, (600, 590, 31))
    with watched(model) as seen:
        token_losses(model, contexts)
    assert 0 < seen.bytes <= 4 * Tile().elements
    with watched(model) as seen, torch.inference_mode():
        model(torch.as_tensor(contexts[0], dtype=torch.long)[None])
    assert seen.bytes == 4 * 600 * 5000  # what the watcher would have seen


def test_the_mode_of_the_model_comes_back_and_dropout_is_off() -> None:
    model = tiny("gpt-2").train()
    assert np.array_equal(token_losses(model, ragged())[1], token_losses(model, ragged())[1])
    assert model.training
    assert token_losses(model, []) == []


def test_progress_counts_tokens() -> None:
    class Counter:
        total = 0

        def advance(self, amount: int = 1, note: str = "") -> None:
            self.total += amount

    counter = Counter()
    token_losses(tiny("gpt-2"), ragged(), batch_tokens=50, progress=counter)  # type: ignore[arg-type]
    assert counter.total == 138


@pytest.mark.parametrize("kind", ["gpt-2", "gemma-2"])
def test_a_context_that_does_not_fit_is_refused_before_anything_runs(kind: str) -> None:
    model = tiny(kind)
    for bad, message in [
        (np.arange(129), "129 tokens, but the model has positions for 128"),
        (np.array([1, 300]), "token id 300, but the model's vocabulary has the ids 0 to 299"),
        (np.array([-1, 3]), "token id -1"),
        (np.array([4]), "a row of 2 tokens"),
        (np.zeros((2, 2), int), "shape"),
    ]:
        with pytest.raises(UnfitContext, match=message) as caught:
            token_losses(model, [np.array([1, 2]), bad])
        assert "Context 1 " in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1])
def test_no_positive_number_of_positions_is_no_limit(limit: int) -> None:
    model = tiny("gemma-2")
    model.config.max_position_embeddings = limit
    losses.check_contexts(model, [np.zeros(129, int)])


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_what_the_cpu_gives(kind: str) -> None:
    model, contexts = tiny(kind, 5000), ragged(5000)
    on_cpu = np.concatenate(token_losses(model, contexts))
    on_gpu = np.concatenate(token_losses(model.to("cuda"), contexts))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=1e-4)


def test_a_context_may_fill_every_position() -> None:
    model, contexts = tiny("gpt-2"), ragged(lengths=(128, 2))
    for loss, reference in zip(token_losses(model, contexts), exact(model, contexts), strict=True):
        np.testing.assert_allclose(loss, reference, rtol=0, atol=1e-5)
