"""Trains one of the demo's models: a GPT-NeoX by a `Recipe`, its checkpoints saved as Hugging Face folders.

It takes one thread, since the number of threads changes the last bits: on one machine a seed gives the same
weights each time. A checkpoint's folder appears whole or not at all, and the facts file (`training.json`) is
written last. Losses on held-out text are not computed here.

torch is imported inside functions, so that a worker is set up before the seconds which that takes.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajstore.demo.corpus import CONTEXT, KINDS, corpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

    from trajstore.demo.recipe import Mix, Recipe

FACTS = "training.json"
"""A model folder's last file: the recipe and corpus its checkpoints were made with."""

_TRAINING_STREAM = 0


@dataclass(frozen=True)
class TrainedModel:
    """One model of the suite, all its checkpoints there."""

    name: str
    """The model's name, as `tiny-2l-seed0`."""
    folder: Path
    """Holds `stepN` for each checkpoint, and the tokenizer."""
    recipe: Recipe
    """Recipe of its training; `recipe.checkpoints` are the requested steps (a reused folder may hold more)."""
    seconds: float
    """Wall time of its training, whenever that was."""
    reused: bool
    """True if the model was already in the folder."""


@dataclass(frozen=True)
class TrainingText:
    """The training side of the corpus as tokens."""

    ids: dict[str, np.ndarray]
    """kind → int32, all documents end to end."""
    starts: dict[str, np.ndarray]
    """kind → int32, where a context can start and still lie within one document."""
    corpus: str
    """The corpus's `sha256:…`."""


def training_text(tokenizer: PreTrainedTokenizerFast) -> TrainingText:
    """Tokenise the training side; documents shorter than a context are left out."""
    ids, starts = {}, {}
    for kind in KINDS:
        texts = [text for _, text in sorted(corpus().training[kind].items())]
        documents = [np.array(e, np.int32) for e in tokenizer(texts)["input_ids"] if len(e) >= CONTEXT]
        ids[kind] = np.concatenate(documents)
        ends = np.cumsum([len(document) for document in documents])
        within = [
            np.arange(end - len(d), end - CONTEXT + 1, dtype=np.int32)
            for d, end in zip(documents, ends, strict=True)
        ]
        starts[kind] = np.concatenate(within)
    return TrainingText(ids, starts, corpus().sha256)


def draw_sources(rng: np.random.Generator, mix: Mix, n_contexts: int) -> list[str]:
    """The source of each context of a batch, drawn independently by the shares."""
    shares = asdict(mix)
    return [str(name) for name in rng.choice(list(shares), n_contexts, p=list(shares.values()))]


def draw_context(rng: np.random.Generator, source: str, text: TrainingText, recipe: Recipe) -> np.ndarray:
    """One training context, `recipe.context` ids: random tokens repeated, or a slice of a document."""
    if source == "repeats":
        shortest, longest = recipe.period
        period = rng.integers(0, recipe.vocabulary, rng.integers(shortest, longest + 1))
        return np.resize(period, recipe.context)
    start = rng.choice(text.starts[source])
    return text.ids[source][start : start + recipe.context]


def train_model(recipe: Recipe, text: TrainingText, folder: Path, report: Callable[[], None]) -> TrainedModel:
    """Train one model in this process, on one thread, saving its checkpoints under `folder/NAME`.

    `report` is called after each update and may raise to stop. The facts file is written last.
    """
    import torch

    began, home = time.monotonic(), folder / recipe.name
    rng = np.random.default_rng([_TRAINING_STREAM, recipe.seed])
    with one_thread():
        model = _new_model(recipe)
        optimizers, schedules = _optimizers(model, recipe)
        for step in range(recipe.steps + 1):
            if step > 0:
                sources = draw_sources(rng, recipe.mix(step), recipe.batch)
                batch = np.stack([draw_context(rng, source, text, recipe) for source in sources])
                ids = torch.from_numpy(batch.astype(np.int64))
                model(ids, labels=ids, use_cache=False).loss.backward()
                for optimizer, schedule in zip(optimizers, schedules, strict=True):
                    optimizer.step()
                    optimizer.zero_grad()
                    schedule.step()
                report()
            if step in recipe.checkpoints:
                save_checkpoint(model, home, step)
    seconds = time.monotonic() - began
    write_facts(home, {"recipe": recipe.as_json(), "corpus": text.corpus, "seconds": round(seconds, 1)})
    return TrainedModel(recipe.name, home, recipe, seconds, reused=False)


def write_facts(home: Path, facts: Mapping[str, object]) -> None:
    """Write the file that says what a whole training was made with, whole or not at all."""
    part = home / f".{FACTS}.partial"
    part.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    part.replace(home / FACTS)


def _new_model(recipe: Recipe) -> PreTrainedModel:
    """The model at initialisation, float32; the caller's random numbers are left as they were."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(_config(recipe))
    model.loss_type = (
        "ForCausalLM"  # told by the name of most classes, but not by GPT-2's, which makes a warning
    )
    return model.train()


def _config(recipe: Recipe) -> PreTrainedConfig:
    """A GPT-NeoX where positions are rotary, a GPT-2 of the same shape where they are learned; no dropout."""
    from transformers import GPT2Config, GPTNeoXConfig

    alike = {
        "vocab_size": recipe.vocabulary,
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.n_layer,
        "num_attention_heads": recipe.heads,
        "max_position_embeddings": recipe.context,
        "initializer_range": recipe.initializer_range,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }
    if recipe.position_embedding == "rotary":
        return GPTNeoXConfig(**alike, intermediate_size=4 * recipe.width, rotary_pct=recipe.rotary_pct)
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2Config(**alike, **dropouts, n_inner=4 * recipe.width, activation_function="gelu")


def _optimizers(
    model: PreTrainedModel, recipe: Recipe
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LambdaLR]]:
    """Muon on the layers' matrices and AdamW on the rest, each with its linear warm-up."""
    import torch

    from trajstore.forward.model_structure import find_blocks

    matrices = [
        weights for block in find_blocks(model) for weights in block.parameters() if weights.ndim == 2
    ]
    of_blocks = set(map(id, matrices))
    rest = [weights for weights in model.parameters() if id(weights) not in of_blocks]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(
            matrices,
            lr=recipe.muon_lr,
            momentum=recipe.muon_momentum,
            weight_decay=recipe.muon_weight_decay,
        ),
        torch.optim.AdamW(rest, lr=recipe.adamw_lr, weight_decay=recipe.adamw_weight_decay),
    ]

    def rate(update: int) -> float:
        return min(1.0, (update + 1) / recipe.warmup_steps)

    return optimizers, [torch.optim.lr_scheduler.LambdaLR(o, rate) for o in optimizers]


def save_checkpoint(model: PreTrainedModel, home: Path, step: int) -> None:
    """Save the checkpoint under a temporary name, then give it its own."""
    from transformers.utils import logging

    part = home / f".step{step}.partial"
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(str(part))
        # Weights are written as private to their owner; colleagues may read what the umask lets them.
        (part / "model.safetensors").chmod((part / "config.json").stat().st_mode)
        part.rename(home / f"step{step}")
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
