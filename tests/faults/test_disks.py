"""Disks that are full, and that cannot be written: nothing is half-written, and what can be read still is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import trajstore
from tests.conftest import ragged
from tests.faults.conftest import add_group, append, contents, problems
from tests.helpers.commands import run
from tests.helpers.tiny_models import random_dataset
from trajstore.errors import StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Work = Callable[[Path, Path], object]
    """Something done to a store (first path) with a source (second)."""


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
