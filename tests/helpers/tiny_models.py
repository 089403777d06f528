"""Tiny random models, on disk as runs of checkpoints, as a Hub cache, and with a tokenizer of their own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset, TokenizerFacts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

VOCABULARY = 64


def neox(
    seed: int = 0, layers: int = 1, vocabulary: int = VOCABULARY, **settings: object
) -> GPTNeoXForCausalLM:
    """A GPT-NeoX whose losses vary from token to token."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        vocab_size=vocabulary,
        max_position_embeddings=32,
        initializer_range=0.5,
        **settings,
    )
    return GPTNeoXForCausalLM(config).eval()


def save_run(
    folder: Path, steps: Sequence[int], name: str = "step{}", seed: int = 0, **settings: object
) -> Path:
    """A folder with one checkpoint a step, each with weights of its own."""
    for step in steps:
        neox(1000 * seed + step, **settings).save_pretrained(folder / name.format(step))
    return folder


def cache_run(cache: Path, repo: str, models: dict[str, PreTrainedModel]) -> dict[str, str]:
    """A Hub cache with these revisions of a repository, laid out as the Hub's client does; gives their commits."""
    root = cache / ("models--" + repo.replace("/", "--"))
    commits = {}
    for revision, model in models.items():
        commit = hashlib.sha1(revision.encode()).hexdigest()
        staging = cache / "staging"
        model.save_pretrained(staging)
        snapshot = root / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (root / "blobs").mkdir(exist_ok=True)
        for file in sorted(staging.iterdir()):
            data = file.read_bytes()
            # large files are named by their sha256, small ones by git's hash
            name = (
                hashlib.sha256(data).hexdigest() if "model" in file.name else hashlib.sha1(data).hexdigest()
            )
            (root / "blobs" / name).write_bytes(data)
            (snapshot / file.name).symlink_to(root / "blobs" / name)
            file.unlink()
        ref = root / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
        commits[revision] = commit
    return commits


def random_dataset(
    lengths: Sequence[int] = (12, 5, 2, 20),
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    sha256: str = "0" * 64,
) -> NewDataset:
    """Random ids in contexts of these lengths, under a tokenizer that has only a name and a hash."""
    draw = np.random.default_rng(seed)
    ids = [draw.integers(0, vocabulary, n).astype(np.int32) for n in lengths]
    return NewDataset(
        ids=ids,
        texts=[[f" t{token}" for token in context] for context in ids],
        contexts=pl.DataFrame(
            {column: [None] * len(ids) for column in CONTEXT_COLUMNS}, schema=CONTEXT_COLUMNS
        ),
        tokenizer=TokenizerFacts("tests", f"sha256:{sha256}", vocabulary),
        source={"source": "random"},
    )


def save_tokenizer(folder: Path, words: Sequence[str]) -> None:
    """A word-level tokenizer of these words, as transformers saves one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[0]))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(folder)
