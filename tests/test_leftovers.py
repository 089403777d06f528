"""A process removes what a killed one has left: folders for spilling and half-written outputs."""

from __future__ import annotations

import os
import signal
import stat
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.forked import processes
from trajstore import leftovers, output_files, scratch
from trajstore.store.catalog import catalog

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess


def spill(place: str, store: str, pipe: Connection) -> None:
    """A query that has spilled, and goes on until the process ends."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which tests that are run under nohup ignore
    os.environ["TMPDIR"] = place
    scratch.tempfile.tempdir = None
    with catalog.empty_session(Path(store)) as session:
        ((folder,),) = session.execute("SELECT current_setting('temp_directory')").fetchall()
        Path(folder).mkdir()
        (Path(folder) / "duckdb_temp_block").write_bytes(bytes(1000))
        pipe.send(folder)
        time.sleep(600)


def write_slowly(path: str, pipe: Connection) -> None:
    """An output that is half written."""
    with output_files.whole_file(Path(path)) as file:
        file.write(bytes(1000))
        file.flush()
        pipe.send("half")
        time.sleep(600)


def begun(work: object, *arguments: str) -> tuple[BaseProcess, str]:
    """A process that works until it is killed, and what it said when it had begun."""
    here, there = processes.Pipe()
    worker = processes.Process(target=work, args=(*arguments, there))
    worker.start()
    assert here.poll(60)
    return worker, str(here.recv())


def end(worker: BaseProcess, number: int) -> None:
    assert worker.pid is not None
    os.kill(worker.pid, number)
    worker.join(60)
    assert worker.exitcode == -number


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place where this process keeps folders for spilling, with none yet."""
    forkserver.ensure_running()  # whose socket lies in the usual temporary folder, with a short path
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(scratch, "_mine", {})
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(place))
    return place / f"trajstore-{os.getuid()}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_what_a_killed_query_has_spilled_goes_with_the_next_session(
    private: Path, tmp_path: Path, number: int
) -> None:
    killed, left = begun(spill, str(private.parent), str(tmp_path))
    alive, kept = begun(spill, str(private.parent), str(tmp_path))
    end(killed, number)
    assert (Path(left) / "duckdb_temp_block").exists()
    catalog.empty_session(tmp_path).close()
    assert not Path(left).parent.exists()
    assert (Path(kept) / "duckdb_temp_block").exists(), "its process lives"
    end(alive, signal.SIGKILL)


def test_the_folder_is_one_a_process_and_goes_with_it(private: Path) -> None:
    made = scratch.folder()
    assert made is not None
    assert made == scratch.folder()
    assert made.parent == private
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert Path(scratch.spill_folder()).parent == made
    assert len(scratch.held_open()) == 1
    (made / "something").touch()
    scratch._remove(os.getpid())
    assert list(private.iterdir()) == []


def test_a_folder_that_something_else_removes_is_made_again(private: Path) -> None:
    first = scratch.folder()
    assert first is not None
    first.rmdir()
    private.rmdir()
    second = scratch.folder()
    assert second is not None
    assert second.is_dir()
    assert scratch.folder() == second != first
    scratch._remove(os.getpid())
    assert list(private.iterdir()) == []


def test_a_half_written_output_goes_with_the_next_one_in_its_folder(tmp_path: Path) -> None:
    killed, _ = begun(write_slowly, str(tmp_path / "a.csv"))
    alive, _ = begun(write_slowly, str(tmp_path / "b.csv"))
    end(killed, signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 2
    output_files.write_whole(tmp_path / "c.csv", b"c")
    left = sorted(path.name.partition(".csv")[0] for path in tmp_path.iterdir())
    assert left == [".b", "c"], "that of a process that lives stays"
    end(alive, signal.SIGKILL)
    output_files.write_together([(tmp_path / "d.rows", b"d"), (tmp_path / "d.npy", b"d")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "d.npy", "d.rows"]


def test_an_output_whose_writing_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    target.write_text("before")

    def fail() -> None:
        with output_files.whole_file(target) as file:
            file.write(b"after")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert target.read_text() == "before"


def test_files_and_folders_that_nobody_holds_go(tmp_path: Path) -> None:
    held, descriptor = leftovers.new_folder(tmp_path, "a-")
    (tmp_path / "a-dead").mkdir()
    (tmp_path / "a-dead" / "file").touch()
    (tmp_path / "a-file").touch()
    (tmp_path / "a-link").symlink_to(held)
    (tmp_path / "other").touch()
    leftovers.sweep(tmp_path, "a-*")
    assert {path.name for path in tmp_path.iterdir()} == {held.name, "a-link", "other"}
    os.close(descriptor)
    leftovers.sweep(tmp_path, "a-*")
    assert not held.exists()


def test_a_folder_that_is_swept_before_it_is_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, swept = leftovers.hold, list[Path]()

    def late(descriptor: int, path: Path) -> bool:
        if not swept:
            swept.append(path)
            leftovers.sweep(tmp_path, "a-*")
        return hold(descriptor, path)

    monkeypatch.setattr(leftovers, "hold", late)
    folder, descriptor = leftovers.new_folder(tmp_path, "a-")
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == [folder]
    assert folder not in swept
