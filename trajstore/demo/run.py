"""The demo: trains a tiny suite, scores it on held-out text, makes groups, and says what it found.

Everything is done through the same functions as for models of any size. What is there already is used again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from trajstore.analysis.components.pca import PCAResult
from trajstore.analysis.trajectories import Comparison
from trajstore.datasets.build import build_dataset
from trajstore.demo.analyses import analyse
from trajstore.demo.corpus import CONTEXT, DATASETS, write_heldout, write_repeats
from trajstore.demo.groups import CURVES, GROUPS
from trajstore.demo.measured import TEXT, measure_suite, with_scoring
from trajstore.demo.recipe import Recipe, suite_recipes
from trajstore.demo.sentences import changed_most, repeats_learned
from trajstore.demo.train_model import TrainedModel
from trajstore.demo.train_suite import train_models
from trajstore.pipelines import trajectories as gather
from trajstore.pipelines.components.pca import pca
from trajstore.progress import Progress
from trajstore.scoring.plan import plan
from trajstore.scoring.run import run
from trajstore.server.report.report import write_report
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store
from trajstore.view.charts.chart import Chart, Mark
from trajstore.view.charts.save import save_chart
from trajstore.view.figures.pca import pca_charts
from trajstore.view.figures.trajectories import trajectory_chart

_CONTEXTS = 64


@dataclass(frozen=True)
class Demo:
    """The results of a run of the demo."""

    sentences: list[str]
    """The training data and the findings, in sentences."""
    measures: list[str]
    """A heading, and a line on each measure that no sentence is about."""
    curves: Chart
    """Trajectories of `CURVES` in the first model, each over all datasets."""
    seconds: dict[str, float]
    """Wall time of each part."""
    store: Path
    report: Path


def run_demo(folder: Path, *, quick: bool, progress: Progress) -> Demo:
    """Run the demo in a folder, which then holds models, texts, store, report.html and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    clock: dict[str, float] = {}
    with _timed(clock, "training"):
        models = train_models(folder / "models", suite_recipes(quick=quick), progress)
    with Store.create(folder / "store") as store:
        with _timed(clock, "datasets"):
            _add_datasets(store, folder / "texts", models[0].folder, progress)
        with _timed(clock, "scoring"):
            for model in models:
                _score(store, model, with_scoring(first=model is models[0]), progress)
        with _timed(clock, "measures"):
            measure_suite(store, models, progress, llc=not quick)
        for name, sql in GROUPS.items():
            store.groups.add(name, sql)
        names = [model.name for model in models]
        recipe = models[0].recipe
        seeds = [model.name for model in models if replace(model.recipe, seed=recipe.seed) == recipe]
        marks = (Mark(recipe.mix_change_step, "training mix changes"),)
        with _timed(clock, "analysis"):
            trajectories = gather.trajectories(
                store, store.groups.names(), Selection(DATASETS, names), progress
            )
            fit = pca(store, Selection(DATASETS, names)).result
            sentences = _findings(trajectories, fit, names, recipe)
            curves = _curves(store, names[0], marks)
            of_analyses, lines = analyse(store, names, seeds, CURVES, recipe.mix_change_step, progress)
            sentences += of_analyses
            halves = trajectories.filter(pl.col("group").is_in(["fresh_half", "repeated_half"]))
            save_chart(trajectory_chart(halves, marks), folder / "trajectories.png")
            save_chart(curves, folder / "groups.png")
            save_chart(pca_charts(fit, marks), folder / "pca.png")
        with _timed(clock, "report"):
            report = write_report(
                store,
                folder / "report.html",
                models=names,
                title="A tiny suite, trained in the demo",
                marks=marks,
                findings=sentences,
                progress=progress,
            )
        return Demo(sentences, lines, curves, clock, store.path, report)


@contextmanager
def _timed(clock: dict[str, float], part: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    clock[part] = time.monotonic() - start


def _add_datasets(store: Store, texts: Path, tokenizer: Path, progress: Progress) -> None:
    """docs, code and arithmetic from text that no model was trained on, and repeats."""
    sources = {**write_heldout(texts), "repeats": write_repeats(texts, _CONTEXTS, seed=0)}
    for name, path in sources.items():
        if name not in store.dataset_names():
            new = build_dataset(
                str(path), str(tokenizer), contexts=_CONTEXTS, length=CONTEXT, seed=0, progress=progress
            )
            store.add_dataset(name, new)


def _score(store: Store, model: TrainedModel, on_text: Sequence[str], progress: Progress) -> None:
    """Score what is missing of one model on every dataset, and measure it in the pass over `TEXT`.

    On one thread, as it was trained: models of this size gain nothing from more, and lose a lot where others work too.
    """
    others = [name for name in DATASETS if name != TEXT]
    for datasets, measures in (([TEXT], on_text), (others, ())):
        todo = plan(
            store,
            str(model.folder),
            datasets,
            steps=model.recipe.checkpoints,
            tokens_per_step=model.recipe.tokens_per_step,
        )
        run(store, todo, progress=progress, threads=1, measures=measures)


def _curves(store: Store, model: str, marks: Sequence[Mark]) -> Chart:
    """Trajectories of a few groups in one model, each with the tokens of all datasets pooled, and their intervals."""
    frame = gather.trajectories(store, CURVES, Selection(models=[model]), comparison=Comparison(by="model"))
    # One name for the datasets that each group lies in, so that the curves share a panel.
    return trajectory_chart(frame.with_columns(dataset=pl.lit("all datasets")), marks)


def _findings(trajectories: pl.DataFrame, fit: PCAResult, models: list[str], recipe: Recipe) -> list[str]:
    """Return the demo's sentences; first what the models were trained on."""
    before, after = recipe.mix_before, recipe.mix_after
    change = recipe.mix_change_step
    training = (
        f"Training data: {before.repeats:.0%} random tokens repeated up to step {change}, {after.repeats:.0%} after "
        "it; the rest a third each help topics, Python sources and arithmetic. Repetition is trained for directly, "
        "so this shows what learning it looks like in losses, not how it comes about in text. The scored texts are "
        "held out."
    )
    sentences = [training]
    for name in models:
        mine = trajectories.filter(model=name)
        repeated, fresh = (mine.filter(group=f"{half}_half") for half in ("repeated", "fresh"))
        sentences.append(repeats_learned(repeated, fresh, change))
    sentences.append(changed_most(trajectories.filter(model=models[0]), change))
    shares = fit.variance["ratio"].to_list()
    sentences.append(
        f"PCA of {fit.scores.filter(component=1).height} checkpoints of {len(models)} "
        f"{'models' if len(models) > 1 else 'model'} on {fit.columns.height:,} tokens: the first component holds "
        f"{shares[0]:.0%} of the variance, the first three {sum(shares[:3]):.0%}."
    )
    return sentences
