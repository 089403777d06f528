"""Trains the model that sorts: one layer of attention with two heads and no MLP, on lists drawn anew at each step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trajstore.demo.sorting.lists import CONTEXT, FIRST_SORTED, VOCABULARY, draw_lists
from trajstore.demo.train_model import FACTS, one_thread, save_checkpoint, write_facts
from trajstore.demo.train_suite import clear_checkpoints

if TYPE_CHECKING:
    from transformers import OPTForCausalLM

MODEL = "sorting-1l"


@dataclass(frozen=True)
class SortingRecipe:
    """Everything that decides what the model becomes, besides the machine."""

    checkpoints: tuple[int, ...] = (0, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 400, 600, 800)
    """Steps to save at, rising; the last ends the training."""
    measured: tuple[int, ...] = (0, 30, 50, 100, 200, 400, 800)
    """Steps of which the learning coefficient is estimated."""
    width: int = 64
    heads: int = 2
    batch: int = 128
    """Lists a step."""
    rate: float = 3e-3
    """Of AdamW."""
    weight_decay: float = 0.005
    seed: int = 0


def train(recipe: SortingRecipe, folder: Path, report: Callable[[], None]) -> Path:
    """Train the model in this process and save its checkpoints below `folder`; what is there whole is taken.

    The loss is that of the numbers in order alone. `report` is called after each step and may raise to stop; then the
    next call trains anew.
    """
    import torch

    home = folder / MODEL
    facts = {"recipe": json.loads(json.dumps(asdict(recipe)))}
    if _facts(home) == facts:
        return home
    clear_checkpoints(home)
    rng = np.random.default_rng([recipe.seed, 1])
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = _new_model(recipe)
        optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.weight_decay)
        for step in range(recipe.checkpoints[-1] + 1):
            if step > 0:
                lists = torch.from_numpy(draw_lists(rng, recipe.batch))
                logits = model(lists, use_cache=False).logits[:, FIRST_SORTED - 1 : -1]
                targets = lists[:, FIRST_SORTED:].flatten()
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                report()
            if step in recipe.checkpoints:
                save_checkpoint(model, home, step)
    write_facts(home, facts)
    return home


def _facts(home: Path) -> object:
    """The facts of a training that ended, or None."""
    try:
        return json.loads((home / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _new_model(recipe: SortingRecipe) -> OPTForCausalLM:
    """The model at initialisation: OPT, whose positions are learned, with an MLP of no units and no biases."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        hidden_size=recipe.width,
        num_hidden_layers=1,
        num_attention_heads=recipe.heads,
        ffn_dim=0,
        enable_bias=False,
        tie_word_embeddings=False,
        dropout=0.0,
        attention_dropout=0.0,
        init_std=0.05,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        dtype="float32",
    )
    return OPTForCausalLM(config).train()
