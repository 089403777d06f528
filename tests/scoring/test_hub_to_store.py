"""Published models from a Hub on this machine to slices in a store, by the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import Olmo2Config, Olmo2ForCausalLM
from typer.testing import CliRunner, Result

from tests.helpers.tiny_models import neox, random_dataset
from trajstore.cli import app
from trajstore.errors import ModelMismatch
from trajstore.scoring import score

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.loopback_hub import LoopbackHub
    from trajstore.store.store import Store

PYTHIA, OLMO = "EleutherAI/pythia-14m", "allenai/OLMo-2-1124-7B"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pythia(loopback: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    """Three steps of pythia-14m, of its vocabulary and nothing else."""
    for step in (0, 1, 512):
        loopback.add_model(PYTHIA, f"step{step}", neox(step, vocabulary=50_304), tmp_path / "made")
    return loopback


@pytest.fixture
def docs(store: Store) -> Store:
    store.add_dataset("d", random_dataset())
    return store


def run_score(store: Store, *words: str) -> Result:
    return CliRunner().invoke(app, ["score", *words, "-d", "d", "-s", str(store.path), "--device", "cpu"])


def test_a_published_model_is_scored_through_faults(pythia: LoopbackHub, docs: Store) -> None:
    pythia.fail("/refs", status=503)
    pythia.fail("stored/.*safetensors", keep=0.7)
    pythia.fail("/revision/step512", status=500, times=2)
    result = run_score(docs, "pythia-14m")
    assert result.exit_code == 0, result.output
    assert "step 1 is known to be bad: the weights of step 0" in result.stderr
    assert docs.steps("pythia-14m", "d") == [0, 1, 512]
    commits = pythia.repos[PYTHIA].branches
    for step in (0, 1, 512):
        provenance = docs.slice_facts("pythia-14m", "d", step).provenance
        assert (provenance.revision, provenance.commit) == (f"step{step}", commits[f"step{step}"])
        assert (provenance.tokens_seen, provenance.tokens_exact) == (step * 1024 * 2048, True)
        assert bool(provenance.known_bad) == (step == 1)
    facts = docs.model("pythia-14m")
    assert facts is not None
    assert (facts.repo, facts.size, facts.parent) == (PYTHIA, "14m", None)


def test_what_cannot_be_had_is_told_and_had_the_next_time(pythia: LoopbackHub, docs: Store) -> None:
    weights = pythia.repos[PYTHIA].commits[pythia.repos[PYTHIA].branches["step1"]].pop("model.safetensors")
    pythia.fail("/revision/step512", status=500, times=10**6)
    result = run_score(docs, "pythia-14m")
    assert result.exit_code == 1
    assert "step1 of EleutherAI/pythia-14m holds no weights" in result.stderr
    assert "step512 of EleutherAI/pythia-14m is not in the cache and cannot be downloaded" in result.stderr
    assert docs.steps("pythia-14m", "d") == [0]
    pythia.repos[PYTHIA].commits[pythia.repos[PYTHIA].branches["step1"]]["model.safetensors"] = weights
    pythia.faults.clear()
    assert run_score(docs, "pythia-14m").exit_code == 0
    assert docs.steps("pythia-14m", "d") == [0, 1, 512]


def test_known_bad_checkpoints_can_be_left_out(pythia: LoopbackHub, docs: Store) -> None:
    assert run_score(docs, "pythia-14m", "--skip-known-bad").exit_code == 0
    assert docs.steps("pythia-14m", "d") == [0, 512]


def test_a_later_stage_is_a_model_with_a_parent(loopback: LoopbackHub, docs: Store, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Olmo2ForCausalLM(
        Olmo2Config(
            vocab_size=100_352,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            tie_word_embeddings=True,
        )
    )
    for name in ("stage1-step928646-tokens3896B", "stage2-ingredient1-step1000-tokens5B"):
        loopback.add_model(OLMO, name, model, tmp_path / "made")
    for name in ("olmo-2-7b", "olmo-2-7b.stage2-ingredient1"):
        result = run_score(docs, name)
        assert result.exit_code == 0, result.output
    later = docs.model("olmo-2-7b.stage2-ingredient1")
    assert later is not None
    assert (later.repo, later.parent) == (OLMO, "olmo-2-7b")
    seen = docs.slice_facts("olmo-2-7b.stage2-ingredient1", "d", 1000).provenance
    assert (seen.tokens_seen, seen.tokens_exact) == ((928_646 + 1000) * 1024 * 4096, True)
    with pytest.raises(ModelMismatch, match="another stage of training.*name=NAME"):
        score(docs, "olmo-2-7b.stage2-ingredient1", ["d"], name="olmo-2-7b")
