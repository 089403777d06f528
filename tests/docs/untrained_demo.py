"""A folder as `make demo` leaves it, made in seconds: the demo's datasets, groups and steps, losses by a formula.

Fewer contexts, and nothing is trained: `demo/models/tiny-2l-seed0` holds a few checkpoints of random weights for what
scores or tokenises. Beside it lie the files that the pages of docs/ take to be yours.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.analysis.head_kinds import KINDS
from trajstore.datasets.build import build_dataset
from trajstore.demo.corpus import CONTEXT, train_tokenizer, write_heldout, write_repeats
from trajstore.demo.groups import GROUPS
from trajstore.demo.recipe import Recipe, suite_recipes
from trajstore.demo.train_model import _new_model, save_checkpoint
from trajstore.measures.probes import keep_repeats
from trajstore.store.files.measures import Measure
from trajstore.store.files.slices import Provenance
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.files.datasets import Dataset

CONTEXTS = 13
TOKENIZER = "demo/models/tiny-2l-seed0"
SAVED_STEPS = (0, 512, 1024, 1448)
"""Steps of tiny-2l-seed0 that have weights."""

_MODULES = {
    "arithmetic__add": "What is {a} + {b}?\n{sum}\n",
    "numbers__larger": "Which is larger, {a} or {b}?\n{larger}\n",
}


def make(folder: Path) -> None:
    """Make the demo's folder in `folder`, and your files."""
    models = folder / "demo" / "models"
    recipes = suite_recipes(quick=False)
    tokenizer = train_tokenizer()
    for recipe in recipes:
        (models / recipe.name).mkdir(parents=True)
        tokenizer.save_pretrained(str(models / recipe.name))
    for step in SAVED_STEPS:
        save_checkpoint(_new_model(Recipe(seed=step)), models / recipes[0].name, step)
    texts = folder / "demo" / "texts"
    sources = {**write_heldout(texts), "repeats": write_repeats(texts, CONTEXTS, seed=0)}
    with Store.create(folder / "demo" / "store") as store:
        for name, path in sources.items():
            new = build_dataset(str(path), str(folder / TOKENIZER), contexts=CONTEXTS, length=CONTEXT, seed=0)
            dataset = store.add_dataset(name, new)
            for recipe in recipes:
                append_course(store, recipe, dataset)
        for name, sql in GROUPS.items():
            store.groups.add(name, sql)
        your_files(folder, store)


def append_course(store: Store, recipe: Recipe, dataset: Dataset) -> None:
    """Append a slice a step: sigmoids in log step of each token's own height and time, and noise.

    In models of two layers the second half of repeats falls between steps 362 and 431.
    """
    text = np.random.default_rng(len(dataset.name))
    start, end = text.normal(6.3, 0.2, dataset.n_losses), text.gamma(2, 0.7, dataset.n_losses)
    middle = text.uniform(4, 9, dataset.n_losses)
    own = np.random.default_rng([recipe.seed, recipe.n_layer, len(dataset.name), len(recipe.name)])
    middle += own.normal(0, 0.3, dataset.n_losses)
    start += own.normal(0, 0.2, dataset.n_losses)
    if dataset.name == "repeats":
        position = np.concatenate([np.arange(1, length) for length in dataset.lengths])
        copies = (position > CONTEXT // 2) & (recipe.n_layer > 1)
        end, middle = np.where(copies, 0.4, start), np.where(copies, np.log2(390), middle)
    sharpness = 20 if dataset.name == "repeats" else 2
    for step in recipe.checkpoints:
        learned = 1 / (1 + np.exp(-sharpness * (np.log2(step + 1) - middle)))
        noise = own.normal(0, 0.05, dataset.n_losses)
        losses = np.maximum(start + (end - start) * learned + noise, 0.001).astype(np.float32)
        provenance = Provenance(
            revision=f"step{step}", tokens_seen=step * recipe.tokens_per_step, tokens_exact=True
        )
        store.append(model=recipe.name, dataset=dataset.name, step=step, losses=losses, provenance=provenance)


def append_measures(store: Store, folder: Path) -> None:
    """Add what the demo measures by step: scores of heads, of which one copies, RankMe and the learning coefficient."""
    probe = keep_repeats(store, str(folder / TOKENIZER)).name
    for recipe in suite_recipes(quick=False):
        for step in recipe.checkpoints:
            learned = 1 / (1 + np.exp(-20 * (np.log2(step + 1) - np.log2(390))))
            for kind in KINDS:
                heads = [
                    Measure(kind, learned if copies else 0.03, layer=layer, head=head)
                    for layer in range(recipe.n_layer)
                    for head in range(recipe.heads)
                    for copies in [kind == "prefix_matching" and layer == 1 and head == 0]
                ]
                store.add_measures(kind, heads, model=recipe.name, step=step, dataset=probe)
            ranks = [Measure("rankme", 40 - 10 * learned, layer=layer) for layer in range(1 + recipe.n_layer)]
            store.add_measures("rankme", ranks, model=recipe.name, step=step, dataset="docs")
            energies = [
                Measure("interaction_energy", 2.5 - learned, layer=layer)
                for layer in range(1 + recipe.n_layer)
            ]
            store.add_measures("interaction_energy", energies, model=recipe.name, step=step, dataset="docs")
            kl = [Measure("kl_unigram", 1 + 2 * learned, params={"direction": "model||counts"})]
            store.add_measures("kl_unigram", kl, model=recipe.name, step=step, dataset="docs")
            llc = [Measure("llc", 5 + 90 * learned)]
            store.add_measures("llc", llc, model=recipe.name, step=step, dataset="repeats")


def your_files(folder: Path, store: Store) -> None:
    """Write what the pages read from the working folder: texts, problems, losses, a query, a list of tokens."""
    rng = np.random.default_rng(0)
    pl.DataFrame({"input_ids": rng.integers(0, 512, (4, 32)).tolist()}).write_parquet(
        folder / "contexts.parquet"
    )
    problems = folder / "mathematics_dataset-v1.0" / "interpolate"
    problems.mkdir(parents=True)
    for name, form in _MODULES.items():
        pairs = rng.integers(0, 100, (30, 2)).tolist()
        (problems / f"{name}.txt").write_text(
            "".join(form.format(a=a, b=b, sum=a + b, larger=max(a, b)) for a, b in pairs)
        )
    (folder / "lists.jsonl").write_text('{"input_ids": [7, 3, 5, 10, 3, 5, 7]}\n')
    with (folder / "quiz.jsonl").open("w") as file:
        for number in range(6):
            row = {"category": "sums", "question": f"{number} + {number}?", "answer": str(2 * number)}
            file.write(json.dumps(row) + "\n")
    (folder / "question.sql").write_text(
        "SELECT step, avg(loss) AS mean FROM losses WHERE model = $model AND step IN (SELECT unnest($steps))\n"
        "GROUP BY step ORDER BY step\n"
    )
    with (folder / "chosen.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["dataset", "context", "position"], ["code", 0, 5], ["docs", 3, 100]])
    _your_losses(folder, store, rng)


def _your_losses(folder: Path, store: Store, rng: np.random.Generator) -> None:
    """Write losses on code as tables in nats and in bits, as a matrix, and with tokens of their own."""
    tokens = store.sql(
        "SELECT context, position, token FROM tokens WHERE dataset = 'code' AND position > 0"
    ).pl()
    long = tokens.with_columns(step=pl.lit(512), loss=pl.Series(rng.gamma(3, 1, tokens.height)))
    long.rename({"loss": "nll", "context": "seq"}).write_parquet(folder / "pythia-70m.parquet")
    (folder / "shards").mkdir()
    for number, part in enumerate((long[:1000], long[1000:])):
        bits = part.with_columns(loss=pl.col("loss") / np.log(2), model=pl.lit("in-bits"))
        bits.write_csv(folder / "shards" / f"{number}.csv")
    np.save(folder / "losses.npy", rng.gamma(3, 1, (4, tokens.height)).astype(np.float32))
    first = store.sql(
        "SELECT context, position, token FROM tokens WHERE dataset = 'code' AND position = 0"
    ).pl()
    both = pl.concat([long, first.with_columns(step=pl.lit(512), loss=None)], how="diagonal_relaxed")
    both.with_columns(model=pl.lit("elsewhere")).sort("context", "position").write_parquet(
        folder / "all.parquet"
    )
