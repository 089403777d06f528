"""Work in a process of its own that is killed before a change of a store's files, whichever test asks for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers.forked import processes
from trajstore.store.catalog import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb

    Work = Callable[[Path, Path], object]
    """Something done to a store, or to a folder that holds one (first path), with a source (second)."""


def before_each_change(
    begin: Path, places: Path, work: Work, *, every: int = 1, first: int = 1, least: int = 1, most: int = 400
) -> Iterator[tuple[Path, bool]]:
    """Copies of a folder in which work was killed, and at last one in which it ended: (copy, whether it was killed).

    It is killed before the change numbered `first` and each `every`-th after it. Fails unless there are more
    than `least` changes and fewer than `most`.
    """
    for number in range(first, most, every):
        copy = Path(shutil.copytree(begin, places / f"killed{number}"))
        worker = processes.Process(target=die_at, args=(work, copy, number))
        worker.start()
        worker.join(120)
        assert worker.exitcode in (0, -signal.SIGKILL)
        yield copy, worker.exitcode != 0
        if worker.exitcode == 0:
            assert number > max(first, least), "it was killed so often"
            return
        shutil.rmtree(copy)
    raise AssertionError(f"it did not end within {most} changes")


def die_at(work: Work, place: Path, number: int) -> None:
    """Work, and be killed before the change of that number, in Python's own calls or by a commit to the catalog."""
    left = number

    def change() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if os.fspath(place) in str(arguments[:2]) and _changes(event, arguments):
            change()

    real = catalog.transaction

    @contextlib.contextmanager
    def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Killed before the commit, or after it while the catalog is still open."""
        with real(connection):
            yield
            change()
        change()

    sys.addaudithook(watch)
    catalog.transaction = transaction
    work(place, place)


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Tell if a call is about to change a file system: not one that removes what is not there, or makes what is."""
    if event == "open":
        path, mode, flags = arguments
        return bool(set(str(mode or "")) & set("wxa+")) or (flags & os.O_CREAT and not os.path.lexists(path))
    if event == "os.mkdir":
        return not os.path.lexists(arguments[0])
    if event in ("os.remove", "shutil.rmtree"):
        return os.path.lexists(arguments[0])
    if event == "os.rmdir":
        return Path(arguments[0]).is_dir() and not any(Path(arguments[0]).iterdir())
    return event in ("os.link", "os.rename", "os.truncate")
