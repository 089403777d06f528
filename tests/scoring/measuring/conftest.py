"""A run of three checkpoints, and a store with its losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.architectures import tiny
from tests.helpers.tiny_models import random_dataset, save_tokenizer
from trajstore.scoring.run import score
from trajstore.store.store import Store

STEPS = (0, 4, 8)
NAMES = ["interaction_energy", "rankme", "kl_unigram"]
WORDS = [f"word{number}" for number in range(64)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a tokenizer and room for a probe."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    for step in STEPS:
        tiny("gpt-neox", vocabulary=64, positions=128, seed=step).save_pretrained(folder / f"step{step}")
    save_tokenizer(folder, WORDS)
    return folder


@pytest.fixture
def scored(store: Store, run: Path) -> Store:
    """Its losses at two of three steps, on a dataset of the same tokenizer."""
    from trajstore.datasets.tokenizers import load_tokenizer, tokenizer_facts

    facts = tokenizer_facts(load_tokenizer(str(run)), str(run))
    new = random_dataset((12, 5, 9, 20), sha256=facts.vocabulary_sha256.removeprefix("sha256:"))
    store.add_dataset("d", new)
    score(store, str(run), ["d"], device="cpu", steps="0,8")
    return store


def other_run(tmp_path: Path, run: Path) -> Path:
    folder = tmp_path / "elsewhere" / "run"
    for step in STEPS:
        tiny("gpt-neox", vocabulary=64, positions=128, seed=step + 1).save_pretrained(folder / f"step{step}")
    return folder
