"""Jobs that change one store's catalog at once take turns, and none of their changes is lost."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import trajstore
from tests.conftest import ragged
from tests.helpers.forked import processes
from trajstore.errors import DamagedFile, GroupError, StoreUnusable, TrajstoreError
from trajstore.store import checks, lifecycle
from trajstore.store.disk import catalog_lock
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue


@pytest.fixture
def ready(store: Store) -> Path:
    """The path of a store with a dataset."""
    store.add_dataset("d", ragged((20, 3)))
    store.close()
    return store.path


def add_groups(path: Path, name: str, rounds: int) -> None:
    """Groups of which each stands on the one before."""
    with trajstore.open(path) as store:
        sql = "FROM groups.every_token"
        for number in range(rounds):
            store.groups.add(f"{name}{number}", sql)
            sql = f"FROM groups.{name}{number}"


def add_and_drop(path: Path, _: str, rounds: int) -> None:
    """A group that others add and drop as well."""
    for _ in range(rounds):
        with trajstore.open(path) as store, contextlib.suppress(TrajstoreError):
            store.groups.add("common", "FROM groups.digits")
            store.groups.drop("common")


def rebuild(path: Path, _: str, rounds: int) -> None:
    for _ in range(rounds):
        lifecycle.rebuild(path)


def look(path: Path, _: str, rounds: int) -> None:
    for _ in range(rounds):
        with trajstore.open(path) as store:
            assert store.sql("SELECT count(*) FROM tokens").fetchall() == [(23,)]
            store.groups.list()


def told(work: Callable[..., object], path: Path, name: str, rounds: int, said: Queue[str]) -> None:
    """Work, and say what it ended with."""
    try:
        work(path, name, rounds)
    except BaseException as error:
        said.put(f"{work.__name__}: {error!r}")
        raise
    said.put("")


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_many_change_the_catalog_at_once(ready: Path, rounds: int) -> None:
    work = [
        (add_groups, "a"),
        (add_groups, "b"),
        (rebuild, ""),
        (look, ""),
        (add_and_drop, ""),
        (add_and_drop, ""),
    ]
    said = processes.Queue()
    workers = [processes.Process(target=told, args=(each, ready, name, rounds, said)) for each, name in work]
    for worker in workers:
        worker.start()
    assert [said.get(timeout=600) for _ in workers] == [""] * len(workers)
    for worker in workers:
        worker.join()
    with trajstore.open(ready) as store:
        views = store.sql("SELECT view_name FROM duckdb_views() WHERE schema_name = 'groups'").fetchall()
        there = {name for (name,) in views}
        assert {f"{name}{number}" for name in "ab" for number in range(rounds)} <= there
        assert checks.check(store) == []


def test_many_make_one_store_at_once(tmp_path: Path) -> None:
    place, said = tmp_path / "new", processes.Queue()

    workers = [processes.Process(target=told, args=(create, place, "", 1, said)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert [said.get(timeout=120) for _ in workers] == [""] * 4
    for worker in workers:
        worker.join()
    assert checks.check(Store(place)) == []


def create(path: Path, _: str, __: int) -> None:
    Store.create(path).close()


def hold(path: Path, begun: multiprocessing.synchronize.Event) -> None:
    """Have a turn for ever."""
    with catalog_lock.turn(path):
        begun.set()
        time.sleep(600)


def test_a_turn_ends_with_the_process_that_has_it(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = processes.Event()
    holder = processes.Process(target=hold, args=(ready, begun))
    holder.start()
    assert begun.wait(60)
    with trajstore.open(ready) as store:
        with monkeypatch.context() as patch:
            patch.setattr(catalog_lock, "_PATIENCE", 0.3)
            with pytest.raises(StoreUnusable, match="Another job has been changing the catalog of"):
                store.groups.add("mine", "FROM groups.digits")
        assert not (ready / "groups" / "mine.sql").exists()
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGKILL)
        store.groups.add("mine", "FROM groups.digits")
    holder.join()


def test_threads_take_turns_and_a_turn_holds_others(ready: Path) -> None:
    seen: list[str] = []

    def wait() -> None:
        with catalog_lock.turn(ready):
            seen.append("second")

    with catalog_lock.turn(ready):
        other = threading.Thread(target=wait)
        other.start()
        with catalog_lock.turn(ready):
            time.sleep(0.2)
            seen.append("first")
    other.join()
    assert seen == ["first", "second"]


def test_a_lock_that_is_taken_away_meanwhile(ready: Path) -> None:
    """Whoever waited for the old file goes on with the new one."""
    begun = processes.Event()
    holder = processes.Process(target=hold, args=(ready, begun))
    holder.start()
    assert begun.wait(60)
    timer = threading.Timer(0.3, lambda: ((ready / catalog_lock.FILE).unlink(), holder.kill()))
    timer.start()
    with catalog_lock.turn(ready):
        assert os.path.samestat(os.stat(catalog_lock._held[ready]), os.stat(ready / catalog_lock.FILE))  # noqa: PTH116
    timer.join()
    holder.join()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_strange_thing_in_the_place_of_the_lock(ready: Path, tmp_path: Path, kind: str) -> None:
    lock, outside = ready / catalog_lock.FILE, tmp_path / "outside"
    lock.unlink(missing_ok=True)
    {"link": lambda: lock.symlink_to(outside), "pipe": lambda: os.mkfifo(lock), "folder": lock.mkdir}[kind]()
    with pytest.raises((DamagedFile, StoreUnusable), match="catalog.lock"):
        lifecycle.rebuild(ready)
    assert not outside.exists()


def test_a_file_system_without_locks(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with trajstore.open(ready) as store:
        assert "digits" in store.groups.names()
        with pytest.raises(StoreUnusable, match=r"cannot lock files \(No locks available\)"):
            store.groups.add("mine", "FROM groups.digits")
    assert not list((ready / "groups").iterdir())


def test_a_catalog_is_not_put_aside_under_a_program_that_has_it_open(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would write its log beside the new catalog, which then could not be read."""
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read(1); "
        "c.execute('CREATE VIEW theirs AS SELECT 1'); c.close()"
    )
    command = [sys.executable, "-c", code, str(ready / "catalog.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with monkeypatch.context() as patch:
            patch.setattr(catalog_lock, "_PATIENCE", 0.2)
            with pytest.raises(StoreUnusable, match="held open by another program"):
                lifecycle.rebuild(ready)
        other.stdin.write("x")
        other.stdin.close()
        lifecycle.rebuild(ready)
    with trajstore.open(ready) as store, pytest.raises(TrajstoreError, match="theirs"):
        store.sql("FROM theirs")


def test_a_group_is_not_dropped_from_under_one_that_came_meanwhile(
    ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trajstore.open(ready) as store:
        store.groups.add("base", "FROM groups.every_token")
        real = catalog_lock.turn

        @contextlib.contextmanager
        def late(root: Path):  # type: ignore[no-untyped-def]
            """Another job has its turn first."""
            monkeypatch.setattr(catalog_lock, "turn", real)
            with trajstore.open(root) as other:
                other.groups.add("user", "FROM groups.base")
            with real(root):
                yield

        monkeypatch.setattr(catalog_lock, "turn", late)
        with pytest.raises(GroupError, match="is used by user. Drop those first"):
            store.groups.drop("base")
        lifecycle.rebuild(ready)
