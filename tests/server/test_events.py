"""The watch: what comes, goes and changes in a store is told, once, to all who listen."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from trajstore.server.events import _MOST_BEHIND, Watch, changes, folder_times

if TYPE_CHECKING:
    from trajstore.store.store import Store


def test_changes_name_the_parts_and_the_slices(planted: Store) -> None:
    before = folder_times(planted.path)
    assert changes(before, folder_times(planted.path)) == {}
    n = planted.dataset("d").n_losses
    planted.append(model="new", dataset="d", step=3, losses=[1.0] * n)
    after = folder_times(planted.path)
    key = {"model": "new", "dataset": "d", "step": 3}
    assert changes(before, after) == {"parts": ["losses"], "slices": [key], "more": 0}
    planted.append(model="new", dataset="d", step=3, losses=[2.0] * n, replace=True)
    planted.groups.add("mine", "SELECT dataset, context, position FROM tokens WHERE position = 1")
    changed = changes(after, folder_times(planted.path))
    assert changed["slices"] == [key]
    assert "groups" in changed["parts"]
    planted.drop([("new", "d", 3)])
    gone = changes(after, folder_times(planted.path))
    assert "losses" in gone["parts"]
    assert gone["slices"] == []


def test_all_who_listen_are_told_and_the_watch_rests_without_them(planted: Store) -> None:
    watch = Watch(planted.path, turn=0.02)

    async def heard() -> dict[str, Any]:
        async for change in watch.listen():
            if change:
                return change
            begun.release()
        raise AssertionError("the watch ended")

    async def both() -> list[dict[str, Any]]:
        listening = [asyncio.create_task(heard()) for _ in range(2)]
        for _ in listening:
            await begun.acquire()
        n = planted.dataset("e").n_losses
        await asyncio.to_thread(lambda: planted.append(model="a", dataset="e", step=99, losses=[1.0] * n))
        return await asyncio.wait_for(asyncio.gather(*listening), 10)

    async def closed() -> list[dict[str, Any]]:
        changes = []
        async for change in watch.listen():
            changes.append(change)
            watch.close()
        return changes

    begun = asyncio.Semaphore(0)
    for change in asyncio.run(both()):
        assert change["slices"] == [{"model": "a", "dataset": "e", "step": 99}]
    assert watch._looking is None
    assert asyncio.run(closed()) == [{}]


def test_a_folder_that_cannot_be_read_ends_no_watch(planted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a network's file system would end the task that looks, and nobody would hear of it."""
    scan = os.scandir

    def scanned(folder: Any) -> Any:
        if os.fspath(folder).endswith("tokens"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scanned)
    times = folder_times(planted.path)
    assert {"tokens", "losses/model=a/dataset=d"} <= times.keys()
    assert not any(path.startswith("tokens/") for path in times)


def test_the_stream_of_a_client_that_takes_nothing_ends(planted: Store) -> None:
    watch = Watch(planted.path, turn=60)

    async def stalled() -> list[dict[str, Any]]:
        stream = watch.listen()
        heard = [await anext(stream)]
        for _ in range(_MOST_BEHIND + 1):
            watch._tell({"parts": ["losses"]})
        return heard + [change async for change in stream]

    assert asyncio.run(stalled()) == [{}]
