"""The cost of a scoring job beside the pass itself: its start, reading checkpoints, fingerprints, publishing slices."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl

from benchmarks.forward.passes import ENTRIES, ModelShape, contexts, word_tokenizer
from benchmarks.harness.command import say
from benchmarks.harness.folder import working_folder
from benchmarks.harness.timing import WrongAnswer
from trajstore.checkpoints.library_output import quiet
from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset, TokenizerFacts
from trajstore.store.store import Store

DATASET = "random"


@dataclass(frozen=True)
class JobTime:
    """The time of a job, seconds."""

    wall: float
    in_the_pass: float
    passes_alone: float
    """Of as many passes with nothing beside them."""

    @property
    def overhead(self) -> float:
        """The share of everything but the pass."""
        return 1 - self.in_the_pass / self.wall

    @property
    def ratio(self) -> float:
        """The whole job over its passes alone."""
        return self.wall / self.passes_alone


def job(shape: ModelShape, steps: int, n: int) -> JobTime:
    """A job over `steps` checkpoints on one dataset of `n` contexts, into a new store; one thread.

    Half of the passes alone run before it and half after it.
    """
    import torch

    torch.set_num_threads(1)
    with working_folder() as folder:
        _save_run(folder / "run", shape, steps)
        before = _passes_alone(shape, steps // 2, n)
        with _user_cache(folder / "cache"):
            wall, in_the_pass = _timed(folder / "store", folder / "run", steps, n)
        after = _passes_alone(shape, steps - steps // 2, n)
        return JobTime(wall, in_the_pass, before + after)


def _passes_alone(shape: ModelShape, passes: int, n: int) -> float:
    """Seconds of passes over `n` contexts."""
    from trajstore.scoring import token_scores

    model, ids = shape.model(), list(contexts(n))
    start = time.perf_counter()
    for _ in range(passes):
        token_scores(model, ids)
    return time.perf_counter() - start


def _save_run(run: Path, shape: ModelShape, steps: int) -> None:
    with quiet():
        for step in range(steps):
            shape.model().save_pretrained(run / f"step{step}")


def _timed(path: Path, run: Path, steps: int, n: int) -> tuple[float, float]:
    """The seconds of a job, and of its passes; raises `WrongAnswer` where a slice is missing."""
    from trajstore.scoring import score, token_scores

    times = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return token_scores(*args, **kwargs)
        finally:
            times.append(time.perf_counter() - start)

    with Store.create(path) as store:
        store.add_dataset(DATASET, random_dataset(n))
        with patch("trajstore.scoring.job.publish.token_scores", timed):
            start = time.perf_counter()
            report = score(store, str(run), [DATASET], device="cpu")
            wall = time.perf_counter() - start
    if report.written != steps or len(times) != steps:
        raise WrongAnswer(f"{report.written} of {steps} slices were written: {report.failures}")
    return wall, sum(times)


def reading_ratios(shape: ModelShape, steps: int, n: int, rounds: int) -> list[float]:
    """Seconds a checkpoint of jobs whose pass costs nothing, over those of hashing its files alone, by round."""
    import torch

    torch.set_num_threads(1)
    ratios = []
    with working_folder() as folder:
        _save_run(folder / "run", shape, steps)
        for number in range(rounds):
            hashing = _hashing_seconds(folder / "run") / steps
            with _user_cache(folder / f"cache-{number}"):  # an empty one, so that all weights are hashed
                ratios.append(_idle_seconds(folder / f"store-{number}", folder / "run", steps, n) / hashing)
    return ratios


def _hashing_seconds(run: Path) -> float:
    """Seconds of reading and hashing a run's weights."""
    start = time.perf_counter()
    for path in run.glob("*/*.safetensors"):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - start


@contextmanager
def _user_cache(folder: Path) -> Iterator[None]:
    """The user's cache folder is another one inside the block."""
    with patch.dict(os.environ, XDG_CACHE_HOME=str(folder)):
        yield


def _idle_seconds(path: Path, run: Path, steps: int, n: int) -> float:
    """Seconds from one pass to the next of a job whose passes cost nothing; raises `WrongAnswer`."""
    from trajstore.forward.losses import Scores
    from trajstore.scoring import score

    starts = []
    scores = Scores([np.ones(len(ids) - 1, np.float32) for ids in contexts(n)], None, None, 1, True)

    def idle(*_: Any, **__: Any) -> Scores:
        starts.append(time.perf_counter())
        return scores

    with Store.create(path) as store:
        store.add_dataset(DATASET, random_dataset(n))
        with patch("trajstore.scoring.job.publish.token_scores", idle):
            report = score(store, str(run), [DATASET], device="cpu")
    if report.written != steps:
        raise WrongAnswer(f"{report.written} of {steps} slices were written: {report.failures}")
    return (starts[-1] - starts[0]) / (steps - 1)


def measuring_seconds(
    shape: ModelShape, n: int, rounds: int, ways: dict[str, tuple[str, ...]]
) -> dict[str, list[float]]:
    """CPU seconds of jobs over one checkpoint on `n` contexts with these measures, by way and round, in turn."""
    import torch

    from trajstore.datasets.build import from_ids

    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with working_folder() as folder, _user_cache(folder / "cache"):
        _save_run(folder / "run", shape, 1)
        tokenizer = word_tokenizer()
        tokenizer.save_pretrained(folder / "tokenizer")
        dataset = from_ids(list(contexts(n)), tokenizer, str(folder / "tokenizer"))
        for number in range(rounds):
            for place, (name, measures) in enumerate(ways.items()):
                path = folder / f"store-{number}-{place}"
                seconds[name].append(_measuring_seconds(path, folder / "run", dataset, measures))
                say(f"jobs: round {number + 1} of {rounds}, {name}: {seconds[name][-1]:.1f} s")
    return seconds


def _measuring_seconds(path: Path, run: Path, dataset: NewDataset, measures: tuple[str, ...]) -> float:
    """The CPU seconds of one job; raises `WrongAnswer` where a measure is missing."""
    from trajstore.measures.definitions import SETS
    from trajstore.scoring import score

    with Store.create(path) as store:
        store.add_dataset(DATASET, dataset)
        start = time.process_time()
        report = score(store, str(run), [DATASET], device="cpu", measures=measures)
        seconds = time.process_time() - start
        wanted = {member for name in measures for member in SETS.get(name, (name,))}
        if report.written != 1 or not wanted <= set(store.measures()["name"]):
            raise WrongAnswer(
                f"{report.written} slices, {report.failures}; {store.measures()['name'].unique()}"
            )
    return seconds


IMPORT, LOAD, COMMAND = "import torch, transformers", "load a model", "trajstore score"
"""The processes whose starts are compared."""
_PROGRAMS = {
    IMPORT: "import torch, transformers",
    LOAD: "import sys, torch; from transformers import AutoModelForCausalLM as M; M.from_pretrained(sys.argv[1])",
    COMMAND: "import os; from trajstore.cli import main; from trajstore.lazy_imports import without_collection\n"
    "with without_collection(): from trajstore.scoring.job import publish\n"  # as the command itself imports it
    "publish.token_scores = lambda *a, **k: os._exit(0)\n"
    "main(); os._exit(1)",
}


def start_seconds(shape: ModelShape, rounds: int) -> dict[str, list[float]]:
    """Seconds of processes that import, load a checkpoint, and come to the first pass of a job, by round, in turn."""
    with working_folder() as folder:
        _save_run(folder / "run", shape, 1)
        with Store.create(folder / "store") as store:
            store.add_dataset(DATASET, random_dataset(1))
        arguments = ["score", str(folder / "run"), "-d", DATASET, "--store", str(folder / "store")]
        # Bytecode is kept, as that of an installed package is.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        given = {LOAD: [str(folder / "run" / "step0")], COMMAND: arguments}
        seconds: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
        environment["XDG_CACHE_HOME"] = str(folder / "cache")
        for _ in range(rounds + 1):
            for name, program in _PROGRAMS.items():
                start = time.perf_counter()
                command = [sys.executable, "-c", program, *given.get(name, [])]
                subprocess.run(command, check=True, capture_output=True, env=environment)
                seconds[name].append(time.perf_counter() - start)
    return {
        name: every[1:] for name, every in seconds.items()
    }  # the first round fills the system's file cache


def random_dataset(n: int, seed: int = 0) -> NewDataset:
    """A dataset of random contexts."""
    ids = contexts(n, seed)
    return NewDataset(
        ids=list(ids),
        texts=[[f" w{token}" for token in context] for context in ids],
        contexts=pl.DataFrame({name: [None] * n for name in CONTEXT_COLUMNS}, schema=CONTEXT_COLUMNS),
        tokenizer=TokenizerFacts("random", "sha256:" + "0" * 64, ENTRIES),
        source={"source": "random"},
    )
