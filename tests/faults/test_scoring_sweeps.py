"""Whole sweeps over a run: killed again and again, or split over machines, they leave the store of one calm job."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

import trajstore
from tests.helpers.forked import processes
from tests.helpers.tiny_models import random_dataset, save_run
from trajstore.store import checks

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from trajstore.store.store import Store

ORDERS = ("forward", "bisect")


def content(path: Path) -> tuple[int, str]:
    """The number of slices in a store, and a hash of all their keys and losses."""
    with trajstore.open(path) as store:
        slices = sorted(
            (model, dataset, step, store.slice_facts(model, dataset, step).loss_sha256)
            for model, datasets in store.scored().items()
            for dataset, steps in datasets.items()
            for step in steps
        )
        assert checks.check(store, deep=True) == []
    return len(slices), hashlib.sha256(repr(slices).encode()).hexdigest()


def sweep(store: Path, run: Path, order: str, shard: str | None, pipe: Connection) -> None:
    """A job; says when it begins to score, and how many slices it wrote in which time."""
    import torch

    from trajstore.scoring.plan import plan
    from trajstore.scoring.run import run as score

    torch.set_num_threads(1)
    with trajstore.open(store) as opened:
        todo = plan(opened, str(run), opened.dataset_names(), order=order, shard=shard)
        pipe.send(None)
        report = score(opened, todo)
    assert report.failures == []
    pipe.send((report.written, report.seconds))


def begin(store: Path, run: Path, order: str, shard: str | None) -> tuple[BaseProcess, Connection]:
    """Start a job in a process of its own; returns once it scores."""
    receiver, sender = processes.Pipe(duplex=False)
    worker = processes.Process(target=sweep, args=(store, run, order, shard, sender))
    worker.start()
    sender.close()
    assert receiver.poll(120), "the job began"
    receiver.recv()
    return worker, receiver


def finish(worker: BaseProcess, receiver: Connection) -> tuple[int, float]:
    """Wait for a job; (slices written, seconds)."""
    assert receiver.poll(600), "the job ended"
    done: tuple[int, float] = receiver.recv()
    worker.join()
    assert worker.exitcode == 0
    return done


def prepare(calm: Store, checkpoints: int, datasets: int) -> tuple[Path, Path]:
    """(a second store with the datasets that the first is given, a run of checkpoints)."""
    for number in range(datasets):
        calm.add_dataset(f"d{number}", random_dataset([20, 30, 7] * 4, seed=number))
    other = calm.path.parent / "other"
    shutil.copytree(calm.path, other)
    return other, save_run(calm.path.parent / "run", range(checkpoints))


@pytest.mark.parametrize(
    ("checkpoints", "datasets", "kills"),
    [(6, 2, 3), pytest.param(20, 4, 10, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_a_sweep_that_is_killed_again_and_again_ends_as_a_calm_one(
    store: Store, checkpoints: int, datasets: int, kills: int
) -> None:
    """Each attempt has an order, and now and then a shard, of its own."""
    rng = random.Random(kills)
    killed, run = prepare(store, checkpoints, datasets)
    calm = store.path
    written, seconds = finish(*begin(calm, run, "forward", None))
    assert written == checkpoints * datasets
    died = 0
    for _ in range(kills):
        shard = rng.choice([None, None, "0/2", "1/3"])
        worker, receiver = begin(killed, run, rng.choice(ORDERS), shard)
        time.sleep(rng.uniform(0, seconds / 2))
        worker.kill()
        worker.join()
        receiver.close()
        assert worker.exitcode in (0, -signal.SIGKILL)
        died += worker.exitcode != 0
        content(killed)
    assert died > kills / 2
    finish(*begin(killed, run, rng.choice(ORDERS), None))
    assert content(killed) == content(calm)
    assert content(calm)[0] == checkpoints * datasets


def test_three_shards_in_three_processes_are_one_job(store: Store) -> None:
    split, run = prepare(store, 7, 2)
    finish(*begin(store.path, run, "forward", None))
    workers = [begin(split, run, ORDERS[number % 2], f"{number}/3") for number in range(3)]
    written = [finish(*worker)[0] for worker in workers]
    assert sorted(written) == [4, 4, 6]
    assert content(split) == content(store.path)
