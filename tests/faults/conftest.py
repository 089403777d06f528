"""A run to score, a store that is ready for it, and what a store's folder holds."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import trajstore
from tests.helpers.tiny_models import random_dataset, save_run, save_tokenizer
from trajstore.errors import TrajstoreError
from trajstore.schema import is_stand_in
from trajstore.store import checks
from trajstore.store.files import group_tables
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[Path, Path], object]
    """Something done to a store (first path) with a source (second)."""

STEPS = range(5)


def contents(path: Path) -> dict[str, str]:
    """All that a store holds, by file: the hash of a slice's losses, of a dataset's tokens, other files as text."""
    found = {}
    with trajstore.open(path) as store:
        for file in path.glob("losses/*/*/*/slice.parquet"):
            if is_stand_in(file):
                continue
            model, dataset, step = (part.partition("=")[2] for part in file.parts[-4:-1])
            found[str(file.relative_to(path))] = store.slice_facts(model, dataset, int(step)).loss_sha256
        for name in store.dataset_names():
            found[f"tokens/{name}"] = store.dataset(name).tokens_sha256
        for file in [*path.glob("models/*"), *path.glob("groups/*.sql")]:
            found[str(file.relative_to(path))] = file.read_text()
        for file in path.glob("groups/*.parquet"):
            found[str(file.relative_to(path))] = group_tables.read_table(path, file.stem).sites_sha256
        views = store.sql("SELECT view_name FROM duckdb_views() WHERE schema_name = 'groups'").fetchall()
        found |= {f"view {name}": "" for (name,) in views}
    return found


def problems(path: Path) -> list[checks.StoreProblem]:
    with trajstore.open(path) as store:
        return checks.check(store, deep=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of checkpoints, losses of two models in two files, and a text with its tokenizer."""
    folder = tmp_path_factory.mktemp("source")
    save_run(folder / "run", STEPS)
    save_tokenizer(folder / "tokenizer", ["one", "two", "three"])
    (folder / "text.txt").write_text("one two three " * 500)
    ids = random_dataset(seed=1).ids
    rng = np.random.default_rng(0)
    frames = []
    for model in ("x", "y"):
        for step in STEPS:
            for context, tokens in enumerate(ids):
                n = len(tokens)
                frames.append(
                    pl.DataFrame({"context": [context] * (n - 1), "position": range(1, n)}).with_columns(
                        pl.lit(model).alias("model"),
                        pl.lit(step).alias("step"),
                        pl.Series("loss", rng.gamma(2, 1, n - 1).astype(np.float32)),
                    )
                )
    rows = pl.concat(frames).sample(fraction=1.0, shuffle=True, seed=0)
    rows[: len(rows) // 2].write_parquet(folder / "one.parquet")
    rows[len(rows) // 2 :].write_csv(folder / "two.csv")
    return folder


@pytest.fixture
def ready(unscored: Store) -> Path:
    """The path of a store with two datasets and no losses."""
    unscored.close()
    return unscored.path


def append(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened, contextlib.suppress(TrajstoreError):
        opened.append(model="m", dataset="d", step=3, losses=np.ones(opened.dataset("d").n_losses))


def add_group(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.groups.add("mine", "FROM groups.digits")
