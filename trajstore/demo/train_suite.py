"""Trains the demo's suite: what is missing of it, two models at a time, each in a process of its own.

A model that was trained before with the same recipe on the same corpus is taken as it is. A training that was
killed leaves no facts file and is done anew. Ctrl-C and a failure end all workers at once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from ctypes import c_bool
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.demo.corpus import corpus, train_tokenizer
from trajstore.demo.recipe import Recipe
from trajstore.demo.train_model import FACTS, TrainedModel, train_model, training_text
from trajstore.errors import TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from ctypes import Array, c_longlong
    from pathlib import Path

    from trajstore.demo.train_model import TrainingText
    from trajstore.progress import Progress

_WORKERS = 2


def train_models(folder: Path, recipes: Sequence[Recipe], progress: Progress) -> list[TrainedModel]:
    """These models under `folder` (as `folder/tiny-2l-seed0/step512`): reused if complete, else trained, two at a time.

    Raises `TrainingFailed`; then, as on Ctrl-C, no worker is left running, and what was interrupted is trained anew the
    next time.
    """
    models = {recipe.name: find_trained(folder, recipe) for recipe in recipes}
    missing = [recipe for recipe in recipes if models[recipe.name] is None]
    if missing:
        for recipe in missing:
            with _failures_name(recipe):
                clear_checkpoints(folder / recipe.name)
        tokenizer = train_tokenizer()
        text = training_text(tokenizer)
        for recipe in missing:
            with _failures_name(recipe):
                tokenizer.save_pretrained(str(folder / recipe.name))
        train = _train_here if len(missing) == 1 else _train_in_workers
        label = f"Training {missing[0].name}" if len(missing) == 1 else f"Training {len(missing)} models"
        progress.start(label, sum(recipe.steps for recipe in missing), "steps")
        try:
            models.update({model.name: model for model in train(missing, text, folder, progress)})
        finally:
            progress.stop()
            for recipe in missing:
                _remove(folder / recipe.name, r"\.step\d+\.partial")
    return [model for model in models.values() if model is not None]


def find_trained(folder: Path, recipe: Recipe) -> TrainedModel | None:
    """The model, if its folder holds all checkpoints of this recipe on this corpus; None otherwise.

    A longer run of the same recipe serves as well: its earlier steps are the same weights.
    """
    home = folder / recipe.name
    try:
        facts = json.loads((home / FACTS).read_text(encoding="utf-8"))
        # A field that came later had its default.
        have, wanted = {**Recipe().as_json(), **facts["recipe"]}, recipe.as_json()
        same = {**have, "checkpoints": None} == {**wanted, "checkpoints": None}
        enough = same and set(recipe.checkpoints) <= set(have["checkpoints"])
        seconds = float(facts["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not enough or facts.get("corpus") != corpus().sha256:
        return None
    if not all((home / f"step{step}" / "model.safetensors").is_file() for step in recipe.checkpoints):
        return None
    return TrainedModel(recipe.name, home, recipe, seconds, reused=True)


def clear_checkpoints(home: Path) -> None:
    """Make the model's folder, without checkpoints of another training; what else it holds stays."""
    home.mkdir(parents=True, exist_ok=True)
    (home / FACTS).unlink(missing_ok=True)
    _remove(home, r"step\d+|\.step\d+\.partial")


def _remove(home: Path, pattern: str) -> None:
    """Remove the folders in `home` whose whole name matches."""
    for path in list(home.glob("*")):
        if re.fullmatch(pattern, path.name):
            shutil.rmtree(path)


@contextmanager
def _failures_name(recipe: Recipe) -> Iterator[None]:
    """Turn any error within the block into `TrainingFailed`; Ctrl-C passes."""
    try:
        yield
    except BrokenProcessPool as error:
        reason = "a worker was killed, as the system does where memory runs out"
        raise TrainingFailed("the models", reason) from error
    except Exception as error:
        raise TrainingFailed(recipe.name, f"{type(error).__name__}: {error}".rstrip(".")) from error


def _train_here(
    recipes: Sequence[Recipe], text: TrainingText, folder: Path, progress: Progress
) -> list[TrainedModel]:
    """Train one after the other in this process, which spares a lone model the start of a worker."""
    models = []
    for recipe in recipes:
        with _failures_name(recipe):
            models.append(train_model(recipe, text, folder, lambda: progress.advance(1)))
    return models


def _train_in_workers(
    recipes: Sequence[Recipe], text: TrainingText, folder: Path, progress: Progress
) -> list[TrainedModel]:
    """Train in two processes; the first failure, or Ctrl-C, ends them all."""
    context = multiprocessing.get_context("spawn")
    wires = _Wires(context.RawArray("q", len(recipes)), context.RawValue(c_bool))
    models, shown = [], 0
    with ProcessPoolExecutor(_WORKERS, context, _start_worker, (wires,)) as pool:
        try:
            futures = {pool.submit(_train_in_worker, n, r, text, folder): r for n, r in enumerate(recipes)}
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
                updates = sum(wires.updates)
                progress.advance(updates - shown)
                shown = updates
                for future in done:
                    with _failures_name(futures[future]):
                        models.append(future.result())
        except BaseException:
            wires.stop.value = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return models


@dataclass(frozen=True)
class _Wires:
    """Messages between a worker and its parent; without locks, which a killed worker could leave held."""

    updates: Array[c_longlong]
    """Updates done of each model, by its number; one writer each."""
    stop: c_bool
    """Set by the parent when it waits for the workers no more."""


_wires: _Wires | None = None


def _start_worker(wires: _Wires) -> None:
    """Set up a worker: Ctrl-C is its parent's business, who then stops it."""
    global _wires
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _wires = wires
    threading.Thread(target=_leave_when_unwanted, args=(wires,), daemon=True).start()


def _leave_when_unwanted(wires: _Wires) -> None:
    """End this worker, whatever it is doing, once it is told to stop or its parent is gone."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive() and not wires.stop.value:
        time.sleep(0.1)
    os._exit(1)


def _train_in_worker(number: int, recipe: Recipe, text: TrainingText, folder: Path) -> TrainedModel:
    """`train_model` in a worker, its updates counted where the parent sees them."""
    wires = _wires
    assert wires is not None

    def report() -> None:
        wires.updates[number] += 1

    return train_model(recipe, text, folder, report)
