"""Killed, out of disk, or not allowed to write: a store is as before or as after, and the same command goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import trajstore
from tests.conftest import ragged
from tests.faults.conftest import add_group, append, contents, problems
from tests.helpers import killed
from tests.helpers.forked import processes
from trajstore.errors import UnknownName
from trajstore.store import lifecycle
from trajstore.store.disk import temporaries
from trajstore.store.files.group_files import Definition
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    Work = Callable[[Path, Path], object]
    """Something done to a store (first path) with a source (second)."""


# kill -9 at random moments


def score(store: Path, source: Path) -> None:
    import torch

    from trajstore.scoring import score

    torch.set_num_threads(1)
    with trajstore.open(store) as opened:
        report = score(opened, str(source / "run"), ["d", "e"])
    assert report.failures == []


def ingest(store: Path, source: Path) -> None:
    from trajstore.importers.ingest import ingest as take

    with trajstore.open(store) as opened:
        report = take(opened, [source / "one.parquet", source / "two.csv"], dataset="d")
    assert report.failures == []


def group(store: Path, _: Path) -> None:
    """The catalog is written again and again."""
    with trajstore.open(store) as opened:
        for name in ("kept", "kept_too"):
            opened.groups.add(name, "FROM groups.digits", "of digits")
        for _ in range(2):
            opened.groups.add("passing", "FROM groups.digits")
            opened.groups.drop("passing")


PASSING = {
    "view passing": "",
    "groups/passing.sql": Definition("passing", "FROM groups.digits", "").file.decode(),
}
WORK: dict[str, Work] = {"score": score, "ingest": ingest, "group": group}


def _timed(work: Work, store: Path, source: Path, pipe: Connection) -> None:
    """Say when the work begins, and how long it took."""
    pipe.send("begun")
    began = time.monotonic()
    work(store, source)
    pipe.send(time.monotonic() - began)


def attempt(work: Work, store: Path, source: Path, patience: float | None) -> float | None:
    """Do some work in a process of its own, which is killed after `patience` seconds; its time if it ended."""
    receiver, sender = processes.Pipe(duplex=False)
    worker = processes.Process(target=_timed, args=(work, store, source, sender))
    worker.start()
    sender.close()
    assert receiver.poll(60), "the work began"
    receiver.recv()
    worker.join(patience)
    worker.kill()
    worker.join()
    assert worker.exitcode in (0, -signal.SIGKILL)
    return float(receiver.recv()) if worker.exitcode == 0 else None


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        ("score", 4),
        ("ingest", 2),
        ("group", 1),
        *(
            pytest.param(kind, kills, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])
            for kind, kills in (("score", 100), ("ingest", 60), ("group", 40))
        ),
    ],
)
def test_killed_and_started_again(ready: Path, source: Path, tmp_path: Path, kind: str, kills: int) -> None:
    """However often it is killed, what is there is whole, and in the end there is all that an undisturbed run makes."""
    rng = random.Random(kills)
    empty, calm = tmp_path / "empty", tmp_path / "calm"
    shutil.copytree(ready, empty)
    shutil.copytree(ready, calm)
    work = WORK[kind]
    seconds = attempt(work, calm, source, None)
    assert seconds is not None
    expected = contents(calm)
    done = 0
    while done < kills:
        shutil.rmtree(ready)
        shutil.copytree(empty, ready)
        (ready / "tmp" / "1-dead.parquet").touch()
        while attempt(work, ready, source, rng.uniform(0, seconds) if done < kills else None) is None:
            done += 1
            assert contents(ready).items() <= (expected | PASSING).items()
            if kind != "group":
                assert problems(ready) == []
        assert contents(ready) == expected
        assert problems(ready) == []
    for entry in (ready / "tmp").iterdir():
        os.utime(entry, (0, 0))
    attempt(append, ready, source, None)
    assert list((ready / "tmp").iterdir()) == [], "leftovers go with the next write, once they are old"


# kill -9 before each change of the store's files


def append_again(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        losses = np.full(opened.dataset("d").n_losses, 2.0)
        opened.append(model="m", dataset="d", step=0, losses=losses, replace=True)


def drop(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.drop([("m", "d", 0)])


def drop_dataset(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        if "d" in opened.dataset_names():
            opened.drop_dataset("d", losses=True)


def add_dataset(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.add_dataset("new", ragged((5, 6)))


def publish_model(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.publish_model(ModelFacts("m", n_params=7))


def drop_group(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        if "old" in opened.groups.names():
            opened.groups.drop("old")


def drop_table(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened, contextlib.suppress(UnknownName):
        opened.groups.drop("kept")


SITES = pl.DataFrame({"dataset": ["d", "e"], "context": [0, 1], "position": [1, 0]})


def add_table(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.groups.add("mine", SITES, "Mine.")


def replace_group(store: Path, _: Path) -> None:
    """One that another stands on."""
    with trajstore.open(store) as opened:
        opened.groups.add("used", "FROM groups.digits WHERE position > 1", "Replaced.", replace=True)


def replace_by_table(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.groups.add("used", SITES, "Replaced.", replace=True)


def replace_table(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.groups.add("kept", SITES[:1], replace=True)


def replace_table_by_sql(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.groups.add("kept", "FROM groups.digits", replace=True)


def create(store: Path, _: Path) -> None:
    """As `trajstore init` where nothing is, or where the catalog was lost."""
    Store.create(store / "inner").close()


def rebuild(store: Path, _: Path) -> None:
    lifecycle.rebuild(store)


SOME: list[Work] = [append, add_group, replace_by_table]
OTHERS: list[Work] = [
    *(append_again, drop, drop_dataset, add_dataset, publish_model, drop_group, rebuild),
    *(drop_table, add_table, replace_group, replace_table, replace_table_by_sql),
]


@pytest.mark.parametrize(
    ("work", "every"),
    [
        *((work, 5) for work in SOME),
        *(
            pytest.param(work, 1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])
            for work in SOME + OTHERS
        ),
    ],
)
def test_killed_before_any_change(ready: Path, tmp_path: Path, work: Work, every: int) -> None:
    with trajstore.open(ready) as store:
        store.append(model="m", dataset="d", step=0, losses=np.ones(store.dataset("d").n_losses))
        store.groups.add("old", "FROM groups.digits")
        store.groups.add("used", "FROM groups.digits")
        store.groups.add("user", "FROM groups.used")
        store.groups.add("kept", SITES)
    before = contents(ready)
    after = tmp_path / "after"
    shutil.copytree(ready, after)
    work(after, after)
    expected = contents(after)
    for copy, was_killed in killed.before_each_change(ready, tmp_path, work, every=every):
        if not was_killed:
            assert contents(copy) == expected
            return
        found = contents(copy)
        for name, content in found.items():
            assert content in (before.get(name), expected.get(name)), name
        assert before.keys() & expected.keys() <= found.keys(), (
            "what was there and is to be there is there meanwhile"
        )
        work(copy, copy)
        assert contents(copy) == expected
        assert problems(copy) == []


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_while_it_is_made(tmp_path: Path, every: int) -> None:
    begin = tmp_path / "begin"
    begin.mkdir()
    for place, _ in killed.before_each_change(begin, tmp_path, create, every=every):
        with Store.create(place / "inner") as store:
            assert store.sql("FROM losses").fetchall() == []
        assert problems(place / "inner") == []


# Leftovers in tmp/


def _append_slowly(store: Path, pipe: Connection) -> None:
    """Append a slice, and wait before it is published until told to go on."""
    link = os.link

    def slow(first: Path, second: Path) -> None:
        if "losses" in str(second):
            pipe.send("written")
            pipe.recv()
        link(first, second)

    os.link = slow  # type: ignore[assignment]
    append(store, store)


def test_a_live_writer_keeps_its_file(ready: Path) -> None:
    here, there = processes.Pipe()
    worker = processes.Process(target=_append_slowly, args=(ready, there))
    worker.start()
    assert here.poll(60)
    here.recv()
    old = ready / "tmp" / "1-dead.parquet"
    old.touch()
    os.utime(old, (0, 0))
    temporaries._swept.clear()
    with trajstore.open(ready) as store:
        store.publish_model(ModelFacts("other"))
    assert not old.exists()
    assert len(list((ready / "tmp").iterdir())) == 1
    here.send("go on")
    worker.join(60)
    assert worker.exitcode == 0
    assert list(contents(ready)) != []
    assert (ready / "losses/model=m/dataset=d/step=3/slice.parquet").exists()
    assert list((ready / "tmp").iterdir()) == []


def test_leftovers_that_cannot_be_removed_stop_nobody(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague's, in a store that several write."""
    old = ready / "tmp" / "1-dead.parquet"
    old.touch()
    os.utime(old, (0, 0))
    temporaries._swept.clear()
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == old:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    append(ready, ready)
    assert (ready / "losses/model=m/dataset=d/step=3/slice.parquet").exists()
    assert old.exists()
