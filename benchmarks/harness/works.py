"""Work with a large store, each piece to be done in a process of its own so that its memory is seen.

Answers are checked after the clock and the memory have been read. All models of such a store have equal losses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special  # noqa: F401  # a trajectory's first use of it would be on the clock

from benchmarks.harness.subprocesses import Cost, peak
from benchmarks.harness.synthetic import DATASET, MODEL
from benchmarks.harness.timing import WrongAnswer
from trajstore.pipelines.trajectories import trajectories
from trajstore.server.report.page import read_data
from trajstore.server.report.report import write_report
from trajstore.store import checks
from trajstore.store.matrix.selection import Selection
from trajstore.store.queries import query
from trajstore.store.quoting import quoted
from trajstore.store.store import Store


@dataclass(frozen=True)
class Target:
    """A store, and what must come out of it."""

    path: Path
    models: int
    npy: Path
    """The losses of one model, float32 (steps, columns)."""
    step: int
    """One of the steps, the last."""
    group: str
    group_columns: Path
    """Columns of the group, int64, ascending, as .npy."""

    @property
    def losses(self) -> np.ndarray:
        """Of one model, mapped."""
        matrix: np.ndarray = np.load(self.npy, mmap_mode="r")
        return matrix

    @property
    def in_group(self) -> np.ndarray:
        """Return the values of the group's columns, of one model."""
        columns: np.ndarray = self.losses[:, np.load(self.group_columns)]
        return columns

    @property
    def means(self) -> np.ndarray:
        """Of the group at each step of each model, in order of model and step."""
        return np.tile(self.in_group.mean(axis=1, dtype=np.float64), self.models)


@dataclass(frozen=True)
class Workload:
    """A piece of work."""

    name: str
    run: Callable[[Store, Target], Any]
    right: Callable[[Any, Target], bool]
    """Function that returns True if the answer is the expected one."""


def cost(number: int, target: Target) -> Cost:
    """Time of `WORKS[number]`, the store's opening included, and the highest memory of this whole process."""
    work = WORKS[number]
    start = time.perf_counter()
    with Store(target.path) as store:
        answer = work.run(store, target)
        measured = Cost(time.perf_counter() - start, peak())
    if not work.right(answer, target):
        raise WrongAnswer(f"{work.name}: the answer is not the expected one")
    return measured


def _one_slice(store: Store, target: Target) -> np.ndarray:
    where = f"model = {quoted(MODEL)} AND dataset = {quoted(DATASET)} AND step = {target.step}"
    frame, _ = query.frame(
        store, f"SELECT context, position, token, loss FROM losses WHERE {where} ORDER BY 1, 2"
    )
    return frame["loss"].to_numpy()


def _trajectory(store: Store, target: Target, models: list[str] | None) -> np.ndarray:
    return trajectories(store, [target.group], Selection([DATASET], models))["mean"].to_numpy()


def _macro(store: Store, target: Target) -> np.ndarray:
    frame, _ = query.frame(store, f"FROM trajectory({quoted(target.group)})")
    return frame.sort("model", "step")["mean"].to_numpy()


def _all_there(answer: Any, target: Target) -> bool:
    steps = len(target.losses)
    return len(answer) == target.models and all(len(entry.steps) == steps for entry in answer)


def _means_of_one(answer: np.ndarray, target: Target) -> bool:
    return bool(np.allclose(answer, target.means[: len(target.losses)], rtol=1e-6))


def _means_of_all(answer: np.ndarray, target: Target) -> bool:
    return answer.shape == target.means.shape and bool(np.allclose(answer, target.means, rtol=1e-6))


WORKS = [
    Workload("status", lambda store, _: store.coverage(), _all_there),
    Workload(
        "one slice, by SQL on losses",
        _one_slice,
        lambda answer, target: np.array_equal(answer, target.losses[-1]),
    ),
    Workload(
        "trajectory of a group, one model",
        lambda store, target: _trajectory(store, target, [MODEL]),
        _means_of_one,
    ),
    Workload(
        "trajectory of a group, all models",
        lambda store, target: _trajectory(store, target, None),
        _means_of_all,
    ),
    Workload("the same in SQL (trajectory macro)", _macro, _means_of_all),
    Workload(
        "matrix of one model",
        lambda store, _: store.matrix(DATASET, MODEL).values,
        lambda answer, target: np.array_equal(answer, target.losses),
    ),
    Workload(
        "matrix of a group, all models",
        lambda store, target: store.matrix(DATASET, group=target.group).values,
        lambda answer, target: np.array_equal(answer, np.tile(target.in_group, (target.models, 1))),
    ),
    Workload("check", lambda store, _: checks.check(store), lambda answer, _: answer == []),
    Workload(
        "report",
        lambda store, target: write_report(store, target.path.with_name("report.html")),
        lambda answer, target: f": {target.models:,} model" in read_data(answer)[0]["facts"]["lead"],
    ),
]
