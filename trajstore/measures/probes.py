"""Probes: datasets of few, short contexts on which heads are looked at, made once and kept by the store.

`repeats` holds random tokens that repeat, of the tokenizer's plain ones; `natural` the beginnings of a dataset's
contexts. Both have 64 contexts of 100 tokens.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.datasets.build import from_ids
from trajstore.datasets.token_bytes import piece_texts
from trajstore.datasets.tokenizers import load_tokenizer
from trajstore.errors import BadDataset, DatasetExists
from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset

if TYPE_CHECKING:
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerBase

    from trajstore.store.files.datasets import Dataset, Source
    from trajstore.store.store import Store

CONTEXTS, PERIOD, TIMES = 64, 25, 4
LENGTH = PERIOD * TIMES
MOST_TOKENS = 2 * CONTEXTS * LENGTH
"""Of a dataset of whose contexts attention weights are made."""


def keep_repeats(store: Store, tokenizer: str) -> Dataset:
    """The store's probe `repeats` for the tokenizer of that name, made where it is not there.

    Raises `TokenizerNotFound`, and `BadDataset` for a tokenizer with too few plain tokens.
    """
    return _keep(store, "probe-repeats", repeats(load_tokenizer(tokenizer), tokenizer))


def keep_natural(store: Store, dataset: Dataset) -> Dataset:
    """The store's probe `natural` of a dataset, made where it is not there; raises `DamagedFile`."""
    return _keep(store, f"probe-natural-{dataset.name}", natural(dataset))


def repeats(tokenizer: PreTrainedTokenizerBase, name: str, seed: int = 0) -> NewDataset:
    """Contexts of 25 different random tokens, four times one after another; `name` is the tokenizer's."""
    plain = plain_tokens(tokenizer)
    if len(plain) < PERIOD:
        raise BadDataset(f"The tokenizer {name} has {len(plain)} plain tokens; repeats take {PERIOD}.")
    draw = np.random.default_rng(seed)
    source: Source = {
        "source": "probe",
        "probe": "repeats",
        "contexts": CONTEXTS,
        "period": PERIOD,
        "times": TIMES,
    }
    return from_ids(
        [np.tile(draw.choice(plain, PERIOD, replace=False), TIMES) for _ in range(CONTEXTS)],
        tokenizer,
        name,
        source={**source, "seed": seed},
    )


def natural(dataset: Dataset) -> NewDataset:
    """The first 100 tokens of a dataset's first 64 contexts that are so long; where they are too few, of others."""
    longest_first = np.argsort(-np.minimum(dataset.lengths, LENGTH), kind="stable")
    chosen = np.sort(longest_first[:CONTEXTS])
    ids, texts = dataset.ids(), dataset.frame(["text"])["text"]
    starts = dataset.offsets
    own = dataset.belonging[chosen]
    none = [name for name in CONTEXT_COLUMNS if name not in own.columns]
    return NewDataset(
        ids=[ids[number][:LENGTH] for number in chosen],
        texts=[
            texts[int(starts[number]) : int(min(starts[number] + LENGTH, starts[number + 1]))].to_list()
            for number in chosen
        ],
        contexts=own.with_columns(pl.lit(None, CONTEXT_COLUMNS[name]).alias(name) for name in none),
        tokenizer=dataset.tokenizer,
        source={
            "source": "probe",
            "probe": "natural",
            "dataset": dataset.name,
            "contexts": len(chosen),
            "length": LENGTH,
        },
    )


def plain_tokens(tokenizer: PreTrainedTokenizerBase) -> npt.NDArray[np.int64]:
    """Ids of whole characters that are neither special nor added, in order."""
    odd = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    ids = np.array(sorted(set(tokenizer.get_vocab().values()) - odd), np.int64)
    whole = ["<0x" not in text for text in piece_texts(tokenizer, ids)]
    plain: npt.NDArray[np.int64] = ids[np.array(whole, bool)]
    return plain


def check_few(dataset: Dataset, measure: str) -> None:
    """Raises `BadDataset` for a dataset that is too large for a measure of attention weights."""
    if dataset.n_tokens > MOST_TOKENS:
        raise BadDataset(
            f"{measure} takes attention weights, which are made of {MOST_TOKENS:,} tokens at most, and {dataset.name} "
            f"has {dataset.n_tokens:,}: take a probe, repeats or natural."
        )


def _keep(store: Store, name: str, new: NewDataset) -> Dataset:
    """The dataset of that name; one with a hash behind it where the name is that of other tokens."""
    vocabulary = new.tokenizer.vocabulary_sha256
    another = f"{name}-{hashlib.sha256((new.tokens_sha256 + vocabulary).encode()).hexdigest()[:8]}"
    try:
        dataset = store.add_dataset(name, new)
    except DatasetExists:
        return store.add_dataset(another, new)
    return dataset if dataset.tokenizer.vocabulary_sha256 == vocabulary else store.add_dataset(another, new)
