"""Getting checkpoints ready in a thread: errors stay with their checkpoint, and no thread stays behind."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.tiny_models import neox, save_run
from trajstore.checkpoints import prefetch
from trajstore.checkpoints.cache_limit import CacheLimit, used_bytes
from trajstore.checkpoints.library_output import quiet
from trajstore.checkpoints.loading import Loader
from trajstore.checkpoints.prefetch import Ahead
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.checkpoints.weight_files import weight_files
from trajstore.checkpoints.weights import reading
from trajstore.checkpoints.weights.fingerprints import fingerprint
from trajstore.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.loopback_hub import LoopbackHub
    from trajstore.checkpoints.loading import Checkpoint


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name == "trajstore-ahead"]


def loader() -> Loader:
    return Loader("cpu", torch.float32)


@pytest.fixture
def ahead() -> Iterator[Ahead]:
    each = Ahead(loader(), None)
    yield each
    each.close()


@pytest.fixture
def local(tmp_path: Path) -> list[Checkpoint]:
    return list(find_checkpoints(str(save_run(tmp_path / "run", [0, 1, 2]))).checkpoints)


@pytest.fixture
def remote(loopback: LoopbackHub, tmp_path: Path) -> list[Checkpoint]:
    for step in (0, 1, 2):
        loopback.add_model("org/run", f"step{step}", neox(step), tmp_path / "made")
    return list(find_checkpoints("org/run").checkpoints)


def test_what_was_begun_is_taken_and_anything_else_is_got_at_once(
    ahead: Ahead, local: list[Checkpoint]
) -> None:
    ahead.begin(local[1])
    for checkpoint in (local[1], local[0], local[0]):
        ready = ahead.take(checkpoint)
        assert str(ready.folder) == checkpoint.location
        assert ready.weights == fingerprint(weight_files(ready.folder))
        assert ready.held is None


def test_a_revision_is_downloaded_ahead_and_held(
    ahead: Ahead, remote: list[Checkpoint], loopback: LoopbackHub
) -> None:
    ahead.begin(remote[1])
    for _ in range(500):
        if remote[1].present() is not None:
            break
        time.sleep(0.01)
    ready = ahead.take(remote[1])
    assert ready.folder == remote[1].present()
    assert [download.name for download in loopback.downloads].count("model.safetensors") == 1
    limit = CacheLimit(0, [])
    limit.claim(ready.held)
    assert not limit.make_room(0)
    assert remote[1].present() is not None
    ready.release()
    limit.make_room(0)
    assert remote[1].present() is None


def test_an_error_belongs_to_its_own_checkpoint(ahead: Ahead, local: list[Checkpoint]) -> None:
    (weight_files(local[1].folder())[0]).unlink()
    ahead.begin(local[1])
    with pytest.raises(CheckpointError, match="step1 holds no weights"):
        ahead.take(local[1])
    assert ahead.take(local[2]).folder == local[2].folder()
    ahead.begin(local[1])
    assert ahead.take(local[0]).folder == local[0].folder()  # the error is dropped with its checkpoint


def test_a_download_that_fails_holds_nothing(
    ahead: Ahead, remote: list[Checkpoint], loopback: LoopbackHub
) -> None:
    loopback.fail("model.safetensors", times=100, status=404, code="EntryNotFound")
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        ahead.take(remote[0])
    loopback.faults.clear()
    ahead.take(remote[0]).release()


def test_closing_stops_a_download(
    ahead: Ahead, remote: list[Checkpoint], loopback: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks at each piece of a file whether to go on."""
    asked = threading.Event()
    whole = loopback.fault_of

    def wait(path: str) -> object:
        if "/stored/" in path:
            asked.set()
            time.sleep(0.3)
        return whole(path)

    monkeypatch.setattr(loopback, "fault_of", wait)
    ahead.begin(remote[0])
    assert asked.wait(20)
    begin = time.monotonic()
    ahead.close()
    assert time.monotonic() - begin < 5
    assert remote[0].present() is None


def test_closing_stops_a_download_through_xet(
    ahead: Ahead, remote: list[Checkpoint], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own threads download, and hear of nothing that a bar raises; here from a server that never answers."""
    xet = pytest.importorskip("hf_xet")
    from huggingface_hub.utils._xet import get_xet_session

    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = threading.Event()

        def download(*_: object, **__: object) -> None:
            group = get_xet_session().new_file_download_group(
                endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}",
                token="token",
                token_expiry_unix_secs=1 << 40,
            )
            with group:
                group.start_download_file(xet.XetFileInfo("a" * 64, 1000), str(tmp_path / "file"))
                begun.set()

        monkeypatch.setattr(prefetch.hub, "fetch", download)
        ahead.begin(remote[0])
        assert begun.wait(20)
        begin = time.monotonic()
        ahead.close()
        assert time.monotonic() - begin < 10


def test_closing_stops_reading(
    ahead: Ahead, local: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    monkeypatch.setattr(reading, "_PIECE", 1)  # a byte at a time, so that it does not end at once
    whole = reading._Reading.read

    def read(self: reading._Reading, path: Path, into: torch.Tensor | None) -> None:
        end = time.monotonic() + 30
        while not self._stopped() and time.monotonic() < end:  # else it might be done before it is closed
            time.sleep(0.01)
        try:
            whole(self, path, into)
        except reading.Stopped:
            stopped.set()
            raise

    monkeypatch.setattr(reading._Reading, "read", read)
    ahead.begin(local[0])
    ahead.close()
    assert stopped.is_set()


def test_ctrl_c_while_waiting_leaves_the_work_to_close(
    ahead: Ahead, local: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.begin(local[0])
    work = ahead._work
    assert work is not None

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work.result, "exception", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ahead.take(local[0])
    ahead.close()
    assert not work._thread.is_alive()


def test_one_ahead_waits_where_there_is_no_room(remote: list[Checkpoint]) -> None:
    """With room for one, the second is downloaded when the first has been scored and may go."""
    first = Ahead(loader(), None)
    first.take(remote[2]).release()  # put there by another
    weights = used_bytes()
    limit = CacheLimit(weights * 3 // 2, remote)
    ahead = Ahead(loader(), limit)
    try:
        ready = ahead.take(remote[0])  # over the limit by less than one, since something must be scored
        ahead.begin(remote[1])
        assert ahead._work is not None
        assert ahead._work.result.result(20) is None
        assert [checkpoint.present() is not None for checkpoint in remote] == [True, False, True]
        ready.release()
        limit.done_with(remote[0])
        ahead.take(remote[1]).release()
        assert [checkpoint.present() is not None for checkpoint in remote] == [False, True, True]
    finally:
        ahead.close()


def test_quiet_in_two_threads_at_once_ends_as_it_began() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity()
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert logging.get_verbosity() == logging.ERROR
    second.__exit__(None, None, None)
    assert logging.get_verbosity() == before != logging.ERROR
