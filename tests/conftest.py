"""Fixtures that tests share: a fresh store, a small dataset, and losses of known rank."""

from __future__ import annotations

import os

# Before numpy and torch start their threads: several processes of tests share the cores, and threads that wait for
# each other's turn take several times the work itself.
os.environ["OMP_NUM_THREADS"] = "1"

import functools
import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import typer.testing

from trajstore.checkpoints.weights import fingerprints
from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset, TokenizerFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from tests.helpers.loopback_hub import LoopbackHub

NewStore = Callable[[Path], Store]
"""Gives an empty store at a path."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is looked for while tests are collected, which took a third of that time."""
    gc.disable()
    collected = yield
    gc.enable()
    gc.collect()  # once, so that what was imported counts as old and is seldom looked through
    return collected


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in list(os.environ):
        if name.startswith("TRAJSTORE"):
            monkeypatch.delenv(name)
    kept = tmp_path_factory.getbasetemp() / "weights.jsonl"  # and not the user's own
    monkeypatch.setattr(fingerprints, "_place", lambda: kept)


@pytest.fixture(scope="session", autouse=True)
def _commands_built_once() -> Iterator[None]:
    """Commands are built from their functions once in a test run, which takes as long as most of them run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", functools.cache(typer.testing._get_command))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: tiny models are quicker so, and do not wait for other work on the machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def drawn_rho() -> Iterator[None]:
    """ρ of few checkpoints is drawn by the sample's size and the seed: refitting takes a second a model.

    It is tested in analysis/shapes.
    """
    from trajstore.analysis.shapes import shapes

    def drawn(_: object, sample: np.ndarray, seed: int) -> float:
        return float(np.random.default_rng([seed, len(sample)]).uniform(0.2, 0.4))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "refitted_rho", drawn)
        yield


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> NewStore:
    """Return what gives an empty store at a path by copying one, which is quicker than making it."""
    empty = tmp_path_factory.mktemp("empty") / "store"
    Store.create(empty).close()
    return lambda path: Store(shutil.copytree(empty, path))


@pytest.fixture
def store(store_path: Path, new_store: NewStore) -> Iterator[Store]:
    """A fresh, empty store."""
    with new_store(store_path) as fresh:
        yield fresh


@pytest.fixture
def unscored(store: Store) -> Store:
    """A store with the random datasets d and e (39 and 14 tokens)."""
    from tests.helpers.tiny_models import random_dataset

    store.add_dataset("d", random_dataset(seed=1))
    store.add_dataset("e", random_dataset((7, 7), seed=2))
    return store


def new_dataset(texts: Sequence[Sequence[str]], name: str = "tests") -> NewDataset:
    """A dataset of hand-written tokens; equal texts have equal ids."""
    vocabulary = {text: number for number, text in enumerate(dict.fromkeys(t for c in texts for t in c))}
    return NewDataset(
        ids=[np.array([vocabulary[text] for text in context], dtype=np.int32) for context in texts],
        texts=[list(context) for context in texts],
        contexts=pl.DataFrame(
            {column: [None] * len(texts) for column in CONTEXT_COLUMNS}, schema=CONTEXT_COLUMNS
        ),
        tokenizer=TokenizerFacts(name, "sha256:" + "0" * 64, len(vocabulary)),
        source={"source": "by hand"},
    )


def ragged(lengths: Sequence[int], seed: int = 0) -> NewDataset:
    """A dataset of random tokens with contexts of these lengths."""
    rng = np.random.default_rng(seed)
    return new_dataset([[f" w{token}" for token in rng.integers(0, 50, n)] for n in lengths])


PLANTED_LENGTHS = (9, 2, 30, 17, 5, 40)
PLANTED_STEPS = (0, 1, 2, 4, 8, 16, 32, 64)


@pytest.fixture(scope="session")
def planted_once(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted store for copies, which are quicker than planting; never changed."""
    with new_store(tmp_path_factory.mktemp("planted") / "store") as store:
        return plant(store).path


@pytest.fixture
def planted(store_path: Path, planted_once: Path) -> Iterator[Store]:
    """A store with models a and b on the datasets d and e, eight steps each, whose joint matrix has rank 2."""
    with Store(shutil.copytree(planted_once, store_path)) as store:
        yield store


def plant(store: Store, steps: Sequence[int] = PLANTED_STEPS) -> Store:
    """Give an empty store what `planted` has, at these steps."""
    rng = np.random.default_rng(5)
    for name, seed in (("d", 1), ("e", 2)):
        dataset = store.add_dataset(name, ragged(PLANTED_LENGTHS, seed))
        base, drop, bump = (rng.gamma(3, 0.5, dataset.n_losses) for _ in range(3))
        for model, speed in (("a", 1.0), ("b", 1.7)):
            for step in steps:
                learned = np.log1p(step * speed)
                losses = 9 + base - learned * drop / 5 + np.exp(-((learned - 2) ** 2)) * bump
                store.append(model=model, dataset=name, step=step, losses=losses.astype(np.float32))
    return store


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """An empty Hub on this machine, at which the Hub's client is pointed, and an empty cache in tmp_path/cache."""
    from tests.helpers.loopback_hub import running

    with running(monkeypatch, tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache in tmp_path/cache, and no Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"
