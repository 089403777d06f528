"""Many processes on one store: writers race for the same slices while readers look on."""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest

import trajstore
from tests.conftest import ragged
from tests.helpers.forked import processes
from trajstore.errors import MissingSlices, QueryError, SliceExists
from trajstore.store.queries import query
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from multiprocessing.queues import Queue
    from pathlib import Path

LENGTHS = (40, 2, 130, 64)
MODELS = ("a", "b")
DATASETS = ("d", "e")
N_LOSSES = sum(LENGTHS) - len(LENGTHS)

Key = tuple[str, str, int]


def losses_of(key: Key) -> np.ndarray:
    """The losses of a slice: the same whoever computes them, and no other slice's."""
    model, dataset, step = key
    seed = [ord(model), ord(dataset), step]
    return np.random.default_rng(seed).gamma(2, 1.5, N_LOSSES).astype(np.float32)


def keys(steps: int) -> list[Key]:
    return [(model, dataset, step) for model in MODELS for dataset in DATASETS for step in range(steps)]


def append(store: Store, key: Key) -> None:
    model, dataset, step = key
    store.append(model=model, dataset=dataset, step=step, losses=losses_of(key))


def hashes(path: Path) -> dict[Key, str]:
    """Content of all slices: the hash of each one's losses, by key."""
    with trajstore.open(path) as store:
        return {
            (model, dataset, step): store.slice_facts(model, dataset, step).loss_sha256
            for model in MODELS
            for dataset in DATASETS
            for step in store.steps(model, dataset)
        }


def write_slices(path: Path, steps: int, seed: int, written: Queue[list[Key]]) -> None:
    """Append every slice, in an order of one's own; report which were ours."""
    ours, order = [], keys(steps)
    random.Random(seed).shuffle(order)
    with trajstore.open(path) as store:
        for key in order:
            try:
                append(store, key)
            except SliceExists:
                continue
            ours.append(key)
    written.put(ours)


def watch_by_sql(path: Path, seen: Callable[[int], None]) -> None:
    """Every slice that a query sees is whole and has its own losses."""
    with trajstore.open(path) as store:
        rows = store.sql(
            "SELECT model, dataset, step, count(*), sum(loss::DOUBLE), min(position), max(position) "
            "FROM losses GROUP BY model, dataset, step"
        ).fetchall()
        for model, dataset, step, n, total, first, last in rows:
            assert (n, first, last) == (N_LOSSES, 1, max(LENGTHS) - 1), (model, dataset, step)
            assert total == pytest.approx(losses_of((model, dataset, step)).sum(dtype=np.float64), rel=1e-12)
        footers = store.sql("SELECT model, dataset, step, facts ->> '$.rows' FROM slice_footers").fetchall()
        assert len(footers) >= len(rows)
        assert {int(n) for *_, n in footers} <= {N_LOSSES}
        seen(len(rows))


def watch_by_matrix(path: Path, seen: Callable[[int], None]) -> None:
    """Every row of a matrix has its own slice's losses, every one."""
    with trajstore.open(path) as store:
        models = [model for model in MODELS if store.steps(model, "d")]
        if models:
            matrix = store.matrix("d", models)
            for (model, step), row in zip(matrix.rows.iter_rows(), matrix.values, strict=True):
                np.testing.assert_array_equal(row, losses_of((model, "d", step)))
            seen(matrix.rows.height)


def watch(path: Path, how: Callable[..., None], stop: threading.Event, looks: Queue[list[int]]) -> None:
    """Look at the store until told to stop; report how many slices each look saw."""
    counts: list[int] = []
    while not stop.is_set():
        how(path, counts.append)
    how(path, counts.append)
    looks.put(counts)


def join(workers: list[BaseProcess]) -> None:
    for worker in workers:
        worker.join(150)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


@pytest.fixture
def empty(store: Store) -> Path:
    """The path of a store with two datasets and no losses."""
    for dataset in DATASETS:
        store.add_dataset(dataset, ragged(LENGTHS, seed=ord(dataset)))
    store.close()
    return store.path


@pytest.mark.parametrize(
    "steps", [15, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_eight_writers_race_while_two_readers_look(empty: Path, tmp_path: Path, steps: int) -> None:
    written, looks = processes.Queue(), processes.Queue()
    stop = processes.Event()
    readers = [
        processes.Process(target=watch, args=(empty, how, stop, looks))
        for how in (watch_by_sql, watch_by_matrix)
    ]
    writers = [
        processes.Process(target=write_slices, args=(empty, steps, seed, written)) for seed in range(8)
    ]
    for worker in [*readers, *writers]:
        worker.start()
    ours = [key for _ in writers for key in written.get(timeout=500)]
    stop.set()
    counts = [looks.get(timeout=100) for _ in readers]
    join([*readers, *writers])

    assert sorted(ours) == sorted(keys(steps)), "each slice was written once, by one of them"
    assert all(before <= after for each in counts for before, after in itertools.pairwise(each))
    assert all(each and each[-1] in (len(keys(steps)), len(keys(steps)) // 2) for each in counts)
    alone = tmp_path / "alone"
    with Store.create(alone) as store:
        for dataset in DATASETS:
            store.add_dataset(dataset, ragged(LENGTHS, seed=ord(dataset)))
        for key in keys(steps):
            append(store, key)
    assert hashes(empty) == hashes(alone)
    assert list((empty / "tmp").iterdir()) == []


def replace_slices(path: Path, steps: int, stop: threading.Event) -> None:
    """Overwrite every slice again and again, each time with one number throughout."""
    number = 0.0
    with trajstore.open(path) as store:
        while not stop.is_set():
            number = (number + 1) % 50
            for step in range(steps):
                store.append(
                    model="a", dataset="d", step=step, losses=np.full(N_LOSSES, number), replace=True
                )


def drop_slices(path: Path, steps: int, stop: threading.Event) -> None:
    """Remove every slice again and again, and put it back."""
    with trajstore.open(path) as store:
        while not stop.is_set():
            for step in range(steps):
                store.drop([("a", "d", step)])
                append(store, ("a", "d", step))


@pytest.fixture
def busy(empty: Path) -> Path:
    """A store with ten slices."""
    with trajstore.open(empty) as store:
        for step in range(10):
            store.append(model="a", dataset="d", step=step, losses=np.zeros(N_LOSSES))
    return empty


def test_a_slice_that_is_replaced_is_one_or_the_other(busy: Path) -> None:
    stop = processes.Event()
    worker = processes.Process(target=replace_slices, args=(busy, 10, stop))
    worker.start()
    try:
        with trajstore.open(busy) as store:
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                rows = store.sql(
                    "SELECT count(*), min(loss), max(loss) FROM raw_losses GROUP BY step"
                ).fetchall()
                assert [n for n, _, _ in rows] == [N_LOSSES] * 10
                assert all(low == high for _, low, high in rows)
                values = store.matrix("d").values
                assert (values.min(axis=1) == values.max(axis=1)).all()
    finally:
        stop.set()
        join([worker])


def test_slices_that_are_dropped_meanwhile_are_named(busy: Path) -> None:
    """A reader that meets the gap is told so; it never takes fewer losses for all of them."""
    stop = processes.Event()
    worker = processes.Process(target=drop_slices, args=(busy, 10, stop))
    worker.start()
    said: list[tuple[str, str]] = []
    try:
        with trajstore.open(busy) as store:
            end = time.monotonic() + 20.0
            while time.monotonic() < end and len({kind for kind, _ in said}) < 2:
                try:
                    frame, _ = query.frame(store, "SELECT step, count(*) AS n FROM raw_losses GROUP BY step")
                    assert set(frame["n"]) <= {N_LOSSES}
                except QueryError as error:
                    said.append(("sql", str(error)))
                try:
                    assert store.matrix("d", steps="0:").values.shape[1] == N_LOSSES
                except MissingSlices as error:
                    said.append(("matrix", str(error)))
    finally:
        stop.set()
        join([worker])
    for kind, text in said:
        assert (
            "was removed while the query read it. Ask again." if kind == "sql" else "a on d at step"
        ) in text


def test_a_catalog_held_open_in_this_process_is_waited_for(store: Store) -> None:
    """A notebook's own connection to the catalog; no lock of the file tells of it."""
    held = duckdb.connect(store.path / "catalog.duckdb")
    timer = threading.Timer(0.5, held.close)
    timer.start()
    try:
        with trajstore.open(store.path) as again:
            assert again.model_names() == []
    finally:
        timer.join()
