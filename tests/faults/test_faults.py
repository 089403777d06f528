"""Killed, out of disk, or not allowed to write: a store is as before or as after, and the same command goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

import trajstore
from tests.conftest import ragged
from tests.helpers import killed
from tests.helpers.commands import run
from tests.helpers.forked import processes
from tests.helpers.tiny_models import random_dataset, save_run, save_tokenizer
from trajstore.errors import StoreUnusable, TrajstoreError, UnknownName
from trajstore.store import checks, lifecycle
from trajstore.store.disk import temporaries
from trajstore.store.files import group_tables
from trajstore.store.files.group_files import Definition
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    Work = Callable[[Path, Path], object]
    """Something done to a store (first path) with a source (second)."""

STEPS = range(5)


def contents(path: Path) -> dict[str, str]:
    """All that a store holds, by file: the hash of a slice's losses, of a dataset's tokens, other files as text."""
    found = {}
    with trajstore.open(path) as store:
        for file in path.glob("losses/*/*/*/slice.parquet"):
            model, dataset, step = (part.partition("=")[2] for part in file.parts[-4:-1])
            found[str(file.relative_to(path))] = store.slice_facts(model, dataset, int(step)).loss_sha256
        for name in store.dataset_names():
            found[f"tokens/{name}"] = store.dataset(name).tokens_sha256
        for file in [*path.glob("models/*"), *path.glob("groups/*.sql")]:
            found[str(file.relative_to(path))] = file.read_text()
        for file in path.glob("groups/*.parquet"):
            found[str(file.relative_to(path))] = group_tables.read_table(path, file.stem).sites_sha256
        views = store.sql("SELECT view_name FROM duckdb_views() WHERE schema_name = 'groups'").fetchall()
        found |= {f"view {name}": "" for (name,) in views}
    return found


def problems(path: Path) -> list[checks.StoreProblem]:
    with trajstore.open(path) as store:
        return checks.check(store, deep=True)


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


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of checkpoints, losses of two models in two files, and a text with its tokenizer."""
    folder = tmp_path_factory.mktemp("source")
    save_run(folder / "run", STEPS)
    save_tokenizer(folder / "tokenizer", ["one", "two", "three"])
    (folder / "text.txt").write_text("one two three " * 500)
    ids = random_dataset(seed=1).ids
    rng = np.random.default_rng(0)
    frames = []
    for model in ("x", "y"):
        for step in STEPS:
            for context, tokens in enumerate(ids):
                n = len(tokens)
                frames.append(
                    pl.DataFrame({"context": [context] * (n - 1), "position": range(1, n)}).with_columns(
                        pl.lit(model).alias("model"),
                        pl.lit(step).alias("step"),
                        pl.Series("loss", rng.gamma(2, 1, n - 1).astype(np.float32)),
                    )
                )
    rows = pl.concat(frames).sample(fraction=1.0, shuffle=True, seed=0)
    rows[: len(rows) // 2].write_parquet(folder / "one.parquet")
    rows[len(rows) // 2 :].write_csv(folder / "two.csv")
    return folder


@pytest.fixture
def ready(store: Store) -> Path:
    """The path of a store with two datasets and no losses."""
    store.add_dataset("d", random_dataset(seed=1))
    store.add_dataset("e", random_dataset((7, 7), seed=2))
    store.close()
    return store.path


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


def append(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened, contextlib.suppress(TrajstoreError):
        opened.append(model="m", dataset="d", step=3, losses=np.ones(opened.dataset("d").n_losses))


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


def add_group(store: Path, _: Path) -> None:
    with trajstore.open(store) as opened:
        opened.groups.add("mine", "FROM groups.digits")


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


# Disks that are full, and that cannot be written


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[bool]:
    """A folder that is a file system of 8 MB, where that is allowed; whether it is."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place]
    made = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield bool(made)
    finally:
        if made:
            subprocess.run(["umount", "-l", place], check=True)


@dataclass
class Disk:
    """A place whose disk a test can fill."""

    place: Path
    fill: Callable[[int], object]
    """Leaving this many pages."""
    free: Callable[[], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small file system; or, where none can be had, one whose every write is refused at its end."""
    place = tmp_path / "disk"
    ballast = place / "ballast"

    def fill(pages: int) -> None:
        descriptor = os.open(ballast, os.O_CREAT | os.O_WRONLY)
        with contextlib.suppress(OSError):
            while os.write(descriptor, bytes(4096)):
                pass
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - 4096 * pages)
        os.close(descriptor)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with mounted(place) as real, pytest.MonkeyPatch.context() as patch:
        if real:
            yield Disk(place, fill, ballast.unlink)
        else:
            yield Disk(place, lambda _: patch.setattr(os, "fsync", full), patch.undo)


def adding_a_dataset(source: Path) -> list[object]:
    """Return the words of a command."""
    return f"dataset add new {source}/text.txt --tokenizer {source}/tokenizer --contexts 4".split()


def test_a_full_disk(disk: Disk, source: Path) -> None:
    store, out = disk.place / "store", disk.place / "m.npy"
    words: list[list[object]] = [
        ["score", source / "run", "-d", "d", "--steps", "0:3"],
        adding_a_dataset(source),
        ["group", "add", "mine", "--sql", "FROM groups.digits"],
        ["ingest", source / "one.parquet", source / "two.csv", "-d", "d"],
        ["rebuild"],
    ]
    disk.fill(0)
    result = run("init", "-s", store)
    assert (result.exit_code, "No space left on device" in result.stderr) == (1, True)
    disk.free()
    assert run("init", "-s", store).exit_code == 0
    with trajstore.open(store) as opened:
        opened.add_dataset("d", random_dataset(seed=1))
    before = contents(store)
    disk.fill(0)
    for command in words:
        result = run(*command, "-s", store)
        assert result.exit_code == 1, command
        assert "No space left on device" in result.stderr, result.stderr
        assert contents(store) == before
        assert list((store / "tmp").iterdir()) == []
    with pytest.raises(OSError, match="No space left on device"):
        append(store, store)
    with trajstore.open(store) as opened, pytest.raises(OSError, match="No space left on device"):
        opened.add_dataset("new", ragged((50, 60)))
    assert contents(store) == before
    assert list((store / "tmp").iterdir()) == []
    assert run("status", "-s", store).exit_code == 0
    assert run("sql", "SELECT count(*) FROM tokens", "-s", store).exit_code == 0
    disk.free()
    for command in words:
        assert run(*command, "-s", store).exit_code == 0
    assert problems(store) == []
    disk.fill(0)
    for command in (
        ["matrix", out, "-d", "d", "-m", "run"],
        ["matrix", out.with_suffix(".arrow"), "-d", "d", "-m", "run"],
        *(
            ["sql", "FROM losses", "-o", disk.place / f"x.{kind}"]
            for kind in ("csv", "json", "md", "parquet")
        ),
        ["trajectory", "every_token", "--plot", disk.place / "x.png"],
        ["trajectory", "every_token", "--plot", disk.place / "x.html"],
        ["report", disk.place / "x.html"],
    ):
        result = run(*command, "-s", store)
        assert (result.exit_code, "No space left on device" in result.stderr) == (1, True)
    for command in (["drop", "-m", "run", "--steps", "0", "--yes"], ["dataset", "drop", "new", "--yes"]):
        assert run(*command, "-s", store).exit_code == 0, "removing needs no room"
    disk.free()
    assert [path.name for path in disk.place.iterdir()] == ["store"], "no half of an export"
    assert run("matrix", out, "-d", "d", "-m", "run", "-s", store).exit_code == 0


def test_a_disk_that_fills_while_the_catalog_is_written(disk: Disk, ready: Path) -> None:
    store = Path(shutil.copytree(ready, disk.place / "store"))
    before = contents(store)
    refused = 0
    for pages in range(3):
        disk.fill(pages)
        added = run("group", "add", f"g{pages}", "--sql", "FROM groups.digits", "-s", store)
        if added.exit_code:
            refused += 1
            assert "No space left on device" in added.stderr
            assert contents(store) == before
        disk.free()
        assert run("group", "add", f"g{pages}", "--sql", "FROM groups.digits", "-s", store).exit_code == 0
        before = contents(store)
    assert refused
    assert problems(store) == []


def test_a_catalog_that_cannot_be_committed(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where no small file system can be had."""
    import duckdb

    from trajstore.store.catalog import catalog

    @contextlib.contextmanager
    def fails(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        yield
        raise duckdb.TransactionException(
            "TransactionContext Error: Failed to commit: No space left on device"
        )

    before = contents(ready)
    with trajstore.open(ready) as store, monkeypatch.context() as patch:
        patch.setattr(catalog, "transaction", fails)
        with pytest.raises(
            StoreUnusable, match="could not be written, so nothing was changed: .*No space left"
        ):
            store.groups.add("mine", "FROM groups.digits")
    assert contents(ready).keys() - {"view mine"} == before.keys()


@pytest.fixture
def read_only(ready: Path, source: Path, tmp_path: Path) -> Iterator[Path]:
    """A store with losses that nobody can write: its file system is read-only, or, for others than root, its modes."""
    append(ready, ready)
    add_group(ready, ready)
    _leave_a_log(ready)
    if os.geteuid() == 0:
        place = tmp_path / "disk"
        with mounted(place) as real:
            if not real:
                pytest.skip("root can write everywhere, and no file system can be mounted here")
            store = Path(shutil.copytree(ready, place / "store"))
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            yield store
        return
    every = [ready, *ready.rglob("*")]
    for path in every:
        path.chmod(path.stat().st_mode & ~0o222)
    yield ready
    for path in every:
        path.chmod(path.stat().st_mode | 0o200)


def _leave_a_log(store: Path) -> None:
    """A writer of the catalog dies, so that what it wrote is in the log alone."""
    code = (
        "import duckdb, os, signal, sys; c = duckdb.connect(sys.argv[1]); "
        "c.execute('CREATE VIEW logged AS SELECT 42 AS x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, store / "catalog.duckdb"], check=False)
    assert (store / "catalog.duckdb.wal").stat().st_size > 0


def test_a_read_only_store_answers_and_is_not_written(read_only: Path, source: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}
    reading: list[list[object]] = [
        ["status"],
        ["sql", "SELECT x, count(*) FROM losses, logged GROUP BY x"],
        ["sql", "SELECT count(*) FROM losses", "--files", tmp_path],
        ["matrix", tmp_path / "m.npy", "-d", "d"],
        ["trajectory", "every_token"],
        ["group", "list"],
        ["dataset", "list"],
        ["check", "--deep"],
        ["migrate", "--list"],
        ["init"],
    ]
    for words in reading:
        result = run(*words, "-s", read_only)
        assert result.exit_code == 0, result.output
    assert json.loads(run("sql", "FROM logged", "-s", read_only, "--format", "json").stdout) == [{"x": 42}]
    writing: list[list[object]] = [
        ["score", source / "run", "-d", "d", "--steps", "0"],
        ["ingest", source / "one.parquet", source / "two.csv", "-d", "d"],
        ["group", "add", "other", "--sql", "FROM groups.digits"],
        ["group", "drop", "mine"],
        ["drop", "-m", "m", "--yes"],
        adding_a_dataset(source),
        ["dataset", "drop", "e", "--yes"],
        ["rebuild"],
        ["migrate"],
    ]
    for words in writing:
        result = run(*words, "-s", read_only)
        assert result.exit_code == 1, words
        assert "Read-only file system" in result.stderr or "Permission denied" in result.stderr, result.stderr
    with trajstore.open(read_only) as store:
        with pytest.raises(OSError, match="Read-only file system|Permission denied"):
            store.append(model="new", dataset="d", step=3, losses=np.ones(store.dataset("d").n_losses))
        assert store.matrix("d", group="every_token").values.shape[0] == 1
        assert store.sql("SELECT count(*) FROM losses").fetchall()[0][0] > 0
    assert {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()} == before


def test_a_catalog_that_may_not_be_read(ready: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (ready / "catalog.duckdb").chmod(0)
    with pytest.raises(StoreUnusable, match="cannot be read here"):
        trajstore.open(ready)
