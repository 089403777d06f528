"""The slice family that the benchmarks run on: one model and one dataset, made from a seed.

Losses (nats, float32) are smooth along steps with noise on top, see `HOW`; their low bits are random, so that files
are no smaller than those of real losses. Token ids follow Zipf's law. Knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset, TokenizerFacts
from trajstore.store.store import Store

MODEL, DATASET = "synthetic", "zipf"
SEED = 0
VOCABULARY = 50304

HOW = (
    f"float32 losses from seed {SEED}: each token starts near ln({VOCABULARY}) nats and falls along a sigmoid in log "
    "step, its middle and width its own, to a gamma-distributed floor, with log-normal noise of 2 to 12 % at each step"
)
"""Description of how the losses are made."""

# Pythia's 154 labels: 0, the powers of two up to 512, then every thousandth.
SUITE = [0, *(1 << power for power in range(10)), *range(1000, 143001, 1000)]


@dataclass(frozen=True)
class Size:
    """The size of a slice family."""

    steps: int
    """Checkpoints, at most those of `SUITE`."""
    contexts: int
    tokens: int
    """Tokens a context; position 0 has no loss."""

    @property
    def columns(self) -> int:
        """Losses of one slice."""
        return self.contexts * (self.tokens - 1)

    @property
    def rows(self) -> int:
        """Losses of all slices."""
        return self.steps * self.columns

    @property
    def labels(self) -> list[int]:
        """Step labels, spread evenly over those of the suite."""
        return [SUITE[place] for place in np.linspace(0, len(SUITE) - 1, self.steps).round().astype(int)]


@dataclass(frozen=True)
class TokenGroup:
    """A group of tokens, which the store has under this name."""

    name: str
    condition: str
    """Condition that its tokens meet, in SQL over `tokens`."""
    members: np.ndarray
    """Its columns, int64, ascending."""
    share: float
    """Of the losses."""


@dataclass(frozen=True)
class Family:
    """A slice family in a temporary folder, in the forms that the peers read."""

    size: Size
    folder: Path
    store: Store
    losses: np.ndarray
    """float32 (steps, columns): what every matrix must equal."""
    ids: np.ndarray
    """Token of each column, int32 (columns,)."""
    token: int
    """The token whose share of the losses is nearest to 1 %."""
    small: TokenGroup
    """That token."""
    large: TokenGroup
    """The rarest tokens, 30 % of the losses as nearly as whole tokens can be."""
    whole: TokenGroup
    """All tokens."""

    @property
    def npy(self) -> Path:
        """The matrix as one .npy file."""
        return self.folder / "matrix.npy"

    @property
    def slices(self) -> list[Path]:
        """The store's slices, in order of step."""
        root = self.store.path / "losses" / f"model={MODEL}" / f"dataset={DATASET}"
        return [root / f"step={step}" / "slice.parquet" for step in self.size.labels]


def make_family(size: Size, folder: Path) -> Family:
    """Make the store with its dataset, slices and group, and the matrix beside it."""
    rng = np.random.default_rng(SEED)
    ids = _zipf_tokens(rng, size.contexts * size.tokens).reshape(size.contexts, size.tokens)
    losses = _losses(rng, size)
    np.save(folder / "matrix.npy", losses)
    store = Store.create(folder / "store")
    store.add_dataset(DATASET, dataset_of(ids))
    for step, row in zip(size.labels, losses, strict=True):
        store.append(model=MODEL, dataset=DATASET, step=step, losses=row)
    with_loss = ids[:, 1:].ravel()
    token, rare = _tokens_of_share(with_loss)
    small = _group(store, "one_percent", f"token = {token}", with_loss == token)
    large = _group(store, "thirty_percent", f"token >= {rare}", with_loss >= rare)
    whole = TokenGroup("every_token", "true", np.arange(size.columns), 1.0)
    return Family(size, folder, store, losses, with_loss, token, small, large, whole)


def _group(store: Store, name: str, condition: str, inside: np.ndarray) -> TokenGroup:
    """Add a group; `inside` says of each column whether it is in it."""
    store.groups.add(name, f"SELECT dataset, context, position FROM tokens WHERE {condition}")
    return TokenGroup(name, condition, np.flatnonzero(inside), float(inside.mean()))


def _losses(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Losses of all checkpoints, float32 (steps, columns), nats."""
    n = size.columns
    floor = rng.gamma(1.2, 2.0, n)
    middle, width = rng.normal(np.log(500), 1.5, n), rng.uniform(0.5, 1.5, n)
    out = np.empty((size.steps, n), dtype=np.float32)
    for row, step in enumerate(size.labels):
        out[row] = _at_step(rng, float(np.log1p(step)), floor, middle, width)
    return out


def losses_of(rng: np.random.Generator, size: Size, models: int) -> Iterator[np.ndarray]:
    """Losses of several models on the same tokens, as `_losses`: each begins to fall earlier than the one before."""
    n = size.columns
    floor, middle, width = rng.gamma(1.2, 2.0, n), rng.normal(np.log(500), 1.5, n), rng.uniform(0.5, 1.5, n)
    for number in range(models):
        out = np.empty((size.steps, n), dtype=np.float32)
        for row, step in enumerate(size.labels):
            out[row] = _at_step(rng, np.log1p(step) + 0.3 * number, floor, middle, width)
        yield out


def _at_step(
    rng: np.random.Generator, log_step: float, floor: np.ndarray, middle: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Losses of one checkpoint (columns,), nats."""
    learned = 1 / (1 + np.exp((middle - log_step) / width))
    noise = np.exp((0.02 + 0.1 * learned) * rng.standard_normal(len(floor)))
    losses: np.ndarray = (np.log(VOCABULARY) * (1 - learned) + floor * learned) * noise
    return losses


def _zipf_tokens(rng: np.random.Generator, n: int) -> np.ndarray:
    """Token ids drawn with a probability that falls as 1/(id + 1), int32 (n,)."""
    weights = 1 / np.arange(1, VOCABULARY + 1)
    return rng.choice(VOCABULARY, n, p=weights / weights.sum()).astype(np.int32)


def _tokens_of_share(ids: np.ndarray) -> tuple[int, int]:
    """The token nearest to one in a hundred of the ids, and the one from which on they are nearest to thirty."""
    present, counts = np.unique(ids, return_counts=True)
    shares = counts / len(ids)
    from_here = np.cumsum(shares[::-1])[::-1]
    return int(present[np.abs(shares - 0.01).argmin()]), int(present[np.abs(from_here - 0.3).argmin()])


def dataset_of(ids: np.ndarray) -> NewDataset:
    """A dataset of these tokens, int32 (contexts, tokens)."""
    n = len(ids)
    return NewDataset(
        ids=list(ids),
        texts=[[f" w{token}" for token in context] for context in ids],
        contexts=pl.DataFrame({name: [None] * n for name in CONTEXT_COLUMNS}, schema=CONTEXT_COLUMNS),
        tokenizer=TokenizerFacts("synthetic", "sha256:" + "0" * 64, VOCABULARY),
        source={"source": "synthetic", "seed": SEED},
    )
