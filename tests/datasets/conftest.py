"""A byte-level tokenizer, and texts to draw from."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from trajstore.store.files.datasets import NewDataset

TEXT = topics["integers"] + topics["strings"] + topics["numbers"]
"""About 14 thousand bytes of Python's own documentation."""


@cache
def byte_level(trim_offsets: bool = False, nfc: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with 512 entries; characters beyond Latin stay in pieces."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=512, initial_alphabet=alphabet, show_progress=False)
    )
    backend.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    if nfc:
        backend.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", model_max_length=16)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level().save_pretrained(folder)
    return str(folder)


def tokens_of(text: str) -> list[int]:
    ids: list[int] = byte_level()(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return str(path)


def lists(new: NewDataset) -> list[list[int]]:
    return [ids.tolist() for ids in new.ids]


def sentences(count: int) -> list[str]:
    """Different short documents of at least 2 tokens."""
    return [f"Sentence number {n} of {count}. " * (1 + n % 3) for n in range(count)]
