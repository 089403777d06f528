"""The cost of a scoring job beside the pass itself: reading checkpoints, fingerprints, the slices' publication."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl

from benchmarks.folder import working_folder
from benchmarks.passes import ENTRIES, ModelShape, contexts
from benchmarks.timing import WrongAnswer
from trajstore.checkpoints.library_output import quiet
from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset, TokenizerFacts
from trajstore.store.store import Store

DATASET = "random"


@dataclass(frozen=True)
class JobTime:
    """The time of a job, seconds."""

    wall: float
    in_the_pass: float

    @property
    def overhead(self) -> float:
        """The share of everything but the pass."""
        return 1 - self.in_the_pass / self.wall


def job(shape: ModelShape, steps: int, n: int) -> JobTime:
    """A job over `steps` checkpoints on one dataset of `n` contexts, into a new store; one thread."""
    import torch

    torch.set_num_threads(1)
    with working_folder() as folder:
        with quiet():
            for step in range(steps):
                shape.model().save_pretrained(folder / "run" / f"step{step}")
        return _timed(folder / "store", folder / "run", steps, n)


def _timed(path: Path, run: Path, steps: int, n: int) -> JobTime:
    """The job alone; raises `WrongAnswer` where a slice is missing."""
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
    return JobTime(wall, sum(times))


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
