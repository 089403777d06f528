"""Models that read in both directions are refused by every door to the pass; causal ones of many kinds are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, T5Config, T5ForConditionalGeneration
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from typer.testing import CliRunner

from tests.helpers.architectures import KINDS, UNKNOWN, ragged, tiny
from tests.helpers.tiny_models import neox, random_dataset
from trajstore.cli import app
from trajstore.errors import NotCausal
from trajstore.scoring import score, token_losses, token_scores
from trajstore.scoring.executors.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

_COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
BOTH_WAYS: dict[str, dict[str, Any]] = {
    "bert": _COMMON,
    "roberta": _COMMON,
    "xlnet": {"vocab_size": 64, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    "electra": {**_COMMON, "embedding_size": 32},
    "rembert": {**_COMMON, "bos_token_id": 1, "eos_token_id": 2},
    "roformer": _COMMON,
}


def model_of(kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **BOTH_WAYS[kind], **more)).eval()


def saved(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder / "step1")
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", BOTH_WAYS)
def test_a_model_that_reads_ahead_is_refused(kind: str, dtype: torch.dtype) -> None:
    """At initialisation already, where it hardly does."""
    with pytest.raises(
        NotCausal, match=r"is not a causal language model: .* losses before them move by up to"
    ):
        token_losses(model_of(kind).to(dtype), ragged(64))


@pytest.mark.parametrize("length", [2, 3])
def test_contexts_of_two_or_three_tokens_are_enough(length: int) -> None:
    with pytest.raises(NotCausal):
        token_losses(model_of("xlnet"), ragged(64, (length,)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
def test_causal_models_are_scored(kind: str, dtype: torch.dtype) -> None:
    assert len(token_losses(tiny(kind).to(dtype), ragged())) == len(ragged())


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_as_decoders_the_same_kinds_are_causal(kind: str) -> None:
    assert token_losses(model_of(kind, is_decoder=True), ragged(64))


def test_the_least_look_ahead_is_found() -> None:
    """One token, by a hundredth of what it is."""
    model = neox()
    plain = model.gpt_neox.forward

    def ahead(ids: torch.Tensor, **options: Any) -> Any:
        found = plain(ids, **options)
        following = model.gpt_neox.embed_in(ids[:, 1:])
        found.last_hidden_state[:, :-1] += following / 100
        return found

    model.gpt_neox.forward = ahead
    with pytest.raises(NotCausal):
        token_losses(model, ragged(64, (20, 9)))


def test_a_model_whose_predictions_depend_on_the_length_is_refused() -> None:
    model = neox()
    plain = model.gpt_neox.forward

    def long(ids: torch.Tensor, **options: Any) -> Any:
        found = plain(ids, **options)
        found.last_hidden_state *= ids.shape[1] / 8
        return found

    model.gpt_neox.forward = long
    with pytest.raises(NotCausal, match="depend on padding behind a context"):
        token_losses(model, ragged(64, (20, 9)))


def test_a_model_is_checked_once_and_again_after_it_was_changed() -> None:
    model, calls = neox(), []
    model.gpt_neox.register_forward_hook(lambda *_: calls.append(1))
    token_losses(model, ragged(64, (20,)))
    first, calls[:] = len(calls), []
    token_losses(model, ragged(64, (20,)))
    assert len(calls) == 1 < first
    model.to(torch.float64)
    token_losses(model, ragged(64, (20,)))
    assert len(calls) == 1 + first


def test_a_softmax_over_part_of_the_ids_and_columns_go_with_the_check() -> None:
    contexts = [ids % 30 for ids in ragged()]
    found = token_scores(tiny("llama"), contexts, vocabulary=30, columns=["rank", "entropy"])
    plain = token_scores(tiny("llama"), contexts, vocabulary=30)
    np.testing.assert_array_equal(np.concatenate(found.loss), np.concatenate(plain.loss))


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlnet", "electra"])
def test_score_refuses_it_with_a_sentence_and_writes_nothing(kind: str, store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    run = saved(tmp_path / "run", model_of(kind))
    result = CliRunner().invoke(app, ["score", str(run), "-d", "d", "-s", str(store.path)])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert "is not a causal language model" in last
    assert store.steps("run", "d") == []
    assert store.model("run") is None


def test_a_worker_says_it_in_words(store: Store, tmp_path: Path) -> None:
    from trajstore.arguments.spelling import Spelling
    from trajstore.scoring.options import ScoringOptions
    from trajstore.scoring.plan import plan
    from trajstore.scoring.plan_check import Tokenizers

    store.add_dataset("d", random_dataset())
    todo = plan(store, str(saved(tmp_path / "run", model_of("xlnet"))), ["d"])
    worker = Worker(
        str(store.path), todo, Tokenizers(None, True, {}), None, 1, ScoringOptions(device="cpu"), Spelling()
    )
    assert worker.start() is None
    outcome = worker.score(todo.pending[0], None)
    assert outcome.not_causal is not None
    assert "is not a causal language model" in outcome.not_causal
    worker.job.close()


def test_an_encoder_with_a_decoder_is_told_in_a_sentence(store: Store, tmp_path: Path) -> None:
    store.add_dataset("d", random_dataset())
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    run = saved(tmp_path / "run", T5ForConditionalGeneration(config))
    with pytest.raises(NotCausal, match="is of the type t5, of which transformers has no causal") as raised:
        score(store, str(run), ["d"])
    assert len(str(raised.value)) < 300
