"""Runs the demo of sorting: trains, scores, measures, and says what was measured and where it differs from published.

Published are the findings of Urdshals and Urdshals, Structure Development in List-Sorting Transformers (2025).
"""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from trajstore.checkpoints.loading import load
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.datasets.build import build_dataset
from trajstore.datasets.vocabularies import NO_TOKENIZER
from trajstore.demo.sorting.lists import CONTEXT, FIRST_SORTED, NUMBERS, write_lists
from trajstore.demo.sorting.sentences import sentences
from trajstore.demo.sorting.train import MODEL, SortingRecipe, train
from trajstore.demo.sorting.vocabulary_share import VOCABULARY_SHARE, heads_apart, stretches
from trajstore.measures.run import measure as measure_model
from trajstore.pipelines import trajectories as gather
from trajstore.progress import bar
from trajstore.scoring.measuring.run import measure
from trajstore.scoring.plan import plan
from trajstore.scoring.run import run
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

if TYPE_CHECKING:
    from trajstore.progress import Progress

DATASET, GROUP = "lists", "in_order"
_LISTS = 256
LLC = {
    "nbeta": 300.0,
    "step_size": 3e-5,
    "gamma": 1000.0,
    "chains": 4,
    "draws": 200,
    "burn_in": 100,
    "batch": 24,
    "first": FIRST_SORTED,
}
"""Settings of the learning coefficient, with which chains of this model agree (R̂)."""


@dataclass(frozen=True)
class SortingDemo:
    """The results of a run of the demo."""

    sentences: list[str]
    """The sentences on what was measured, and where it differs from what was published."""
    by_step: pl.DataFrame
    """A row a step: loss, llc, llc_stderr, r_hat, apart, stretches, and the diagonal score of each head."""
    seconds: float
    store: Path


def run_sorting(
    folder: Path, progress: Progress, recipe: SortingRecipe | None = None, lists: int = _LISTS
) -> SortingDemo:
    """Run the demo in a folder, which then holds lists, model and store; what is there already is used again."""
    # not only within a block: checkpoints are loaded by threads, which share the filters
    warnings.filterwarnings("ignore", "Initializing zero-element tensors")
    began, recipe = time.monotonic(), recipe or SortingRecipe()
    source, vocabulary = write_lists(folder, lists, seed=0)
    with bar(progress, f"Training {MODEL}", recipe.checkpoints[-1], "steps"):
        home = train(recipe, folder / "models", lambda: progress.advance(1))
    with Store.create(folder / "store") as store:
        if DATASET not in store.dataset_names():
            new = build_dataset(str(source), NO_TOKENIZER, vocabulary=str(vocabulary), progress=progress)
            store.add_dataset(DATASET, new)
        todo = plan(
            store, str(home), [DATASET], steps=recipe.checkpoints, tokens_per_step=recipe.batch * CONTEXT
        )
        run(store, todo, progress=progress, threads=1)
        store.groups.add(
            GROUP,
            "-- The numbers in order, which are known from the list.\n"
            f"SELECT dataset, context, position FROM tokens WHERE position >= {FIRST_SORTED}",
        )
        steps = ",".join(map(str, recipe.measured))
        measure(store, str(home), "diagonal_score", DATASET, parameters={"matrix": "qk"}, progress=progress)
        measure(store, str(home), "llc", DATASET, steps=steps, parameters=LLC, progress=progress, threads=1)
        _measure_shares(store, home)
        by_step = _by_step(store)
        return SortingDemo(sentences(by_step, recipe), by_step, time.monotonic() - began, store.path)


def _measure_shares(store: Store, home: Path) -> None:
    """Keep what is missing of the heads' shares of the vocabulary: a measure of the demo's own."""
    present = set(store.measures(MODEL, VOCABULARY_SHARE.name)["step"])
    ids = store.dataset(DATASET).ids()
    for checkpoint in find_checkpoints(str(home)).checkpoints:
        if checkpoint.step not in present:
            loaded = load(checkpoint, "cpu", torch.float32)
            values = measure_model(loaded.model, ids, [VOCABULARY_SHARE]).measures[VOCABULARY_SHARE.name]
            store.add_measures(
                VOCABULARY_SHARE.name,
                values,
                model=MODEL,
                step=checkpoint.step,
                dataset=DATASET,
                provenance={"weights": loaded.weights},
            )


def _by_step(store: Store) -> pl.DataFrame:
    """A row a step of what was measured."""
    losses = gather.trajectories(store, [GROUP], Selection([DATASET], [MODEL]))
    frame = losses.select("step", loss="mean").sort("step")
    rows = store.measures(MODEL, dataset=DATASET)
    whole = rows.filter(pl.col("context").is_null())
    llc = whole.filter(name="llc").select("step", llc="value", llc_stderr="stderr")
    r_hat = whole.filter(name="llc_r_hat").select("step", r_hat="value")
    shares = rows.filter(name=VOCABULARY_SHARE.name)
    apart = [
        {"step": step, "apart": heads_apart(both), "stretches": stretches(both)}
        for (step,), part in shares.group_by("step")
        for both in [_shares(part)]
    ]
    diagonal = whole.filter(name="diagonal_score").pivot("head", index="step", values="value")
    diagonal = diagonal.rename({name: f"diagonal_{name}" for name in diagonal.columns if name != "step"})
    for table in (llc, r_hat, pl.DataFrame(apart), diagonal):
        frame = frame.join(table, on="step", how="left")
    return frame.sort("step")


def _shares(rows: pl.DataFrame) -> np.ndarray:
    """The shares of a step's measures, (heads, numbers)."""
    shares = np.zeros((1 + max(rows["head"]), NUMBERS))
    for head, value, params in rows.select("head", "value", "params").iter_rows():
        shares[head, json.loads(params)["number"]] = value
    return shares
