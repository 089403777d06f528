"""A run of checkpoints on disk, and a store that its losses go into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import GPTNeoXForCausalLM

from tests.helpers.tiny_models import random_dataset, save_run

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.files.datasets import NewDataset
    from trajstore.store.store import Store

STEPS = [0, 1, 2, 4, 8]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with the run `run`: five checkpoints."""
    save_run(tmp_path / "runs" / "run", STEPS)
    return tmp_path / "runs"


@pytest.fixture
def scored(store: Store) -> Store:
    """A store with the datasets d and e."""
    store.add_dataset("d", random_dataset(seed=1))
    store.add_dataset("e", random_dataset((7, 7), seed=2))
    return store


def losses(store: Store, step: int, dataset: str = "d", model: str = "run") -> np.ndarray:
    return store.matrix(dataset, model, steps=step).values[0]


def files(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.path.rglob("*") if path.is_file()}


def damage(folder: Path) -> None:
    """Cut a checkpoint's weights in half."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def own_losses(folder: Path, data: NewDataset) -> np.ndarray:
    """Losses of a checkpoint's folder from transformers' own logits, in canonical order."""
    model = GPTNeoXForCausalLM.from_pretrained(folder)
    found = []
    for context in data.ids:
        ids = torch.as_tensor(context, dtype=torch.long)
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        found.append(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none").numpy())
    return np.concatenate(found)
