"""Events: what changes in a store while a page is open, as a stream of server-sent events.

A watch compares the folders' times of change, since a file that comes, goes or is replaced changes that of its folder;
no file is opened. It runs only while somebody listens, once for all who do, and takes at most a twentieth of the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse
from starlette.routing import Route

from trajstore.schema import is_stand_in, step_of

if TYPE_CHECKING:
    from starlette.requests import Request

PARTS = ("losses", "tokens", "models", "groups", "measures", "findings")
"""Folders of a store that are watched."""
_TURN = 1.0
"""Seconds between two looks."""
_SHARE = 20
"""A look of s seconds is followed by s times as many without one."""
_HEARTBEAT = 15.0
"""Seconds after which something is sent in any case, so that a client that is gone is noticed."""
_MOST_SLICES = 200
"""Slices named in one event."""
_MOST_BEHIND = 100
"""Events that wait for a client which takes none; its stream ends then, and it can come again."""

Folders = Mapping[str, int]
"""Time of change (ns) by path below the store."""


def folder_times(root: Path) -> Folders:
    """The times of change of a store's folders; those of slices are leaves, and not looked into."""
    times: dict[str, int] = {}
    for part in PARTS:
        times.update(_folders(root, part, 3 if part == "losses" else 8))
    return times


def changes(before: Folders, after: Folders) -> dict[str, Any]:
    """Changes between two looks: `parts` of the store, and `slices` (model, dataset, step) that came or changed.

    Empty where nothing did.
    """
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    if not changed:
        return {}
    slices = [key for path in sorted(changed & after.keys()) if (key := _slice_of(path)) is not None]
    return {
        "parts": sorted({path.partition("/")[0] for path in changed}),
        "slices": [
            dict(zip(("model", "dataset", "step"), key, strict=True)) for key in slices[:_MOST_SLICES]
        ],
        "more": max(0, len(slices) - _MOST_SLICES),
    }


class Watch:
    """A watch of one store for all who listen."""

    def __init__(self, root: Path, turn: float = _TURN) -> None:
        self._root = root
        self._turn = turn
        self._listeners: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Changes as they are seen; an empty one every 15 s without any, and first of all once the watch has begun."""
        if self._closed:
            return
        heard: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_MOST_BEHIND)
        if self._looking is None:
            before = await asyncio.to_thread(folder_times, self._root)
            if self._looking is None:
                self._looking = asyncio.create_task(self._look(before))
        self._listeners.add(heard)
        try:
            yield {}
            while True:
                try:
                    change = await asyncio.wait_for(heard.get(), _HEARTBEAT)
                except TimeoutError:
                    change = {}
                if change is None:
                    return
                yield change
        finally:
            self._listeners.discard(heard)
            if not self._listeners and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _look(self, before: Folders) -> None:
        """Tell the listeners what changes."""
        while True:
            begun = time.monotonic()
            after = await asyncio.to_thread(folder_times, self._root)
            if change := changes(before, after):
                self._tell(change)
            before = after
            await asyncio.sleep(max(self._turn, _SHARE * (time.monotonic() - begun)))

    def close(self) -> None:
        """End all streams, so that a server can stop."""
        self._closed = True
        self._tell(None)

    def _tell(self, change: dict[str, Any] | None) -> None:
        for heard in self._listeners:
            ends = heard.full()
            while ends and not heard.empty():
                heard.get_nowait()
            heard.put_nowait(None if ends else change)


def routes() -> list[Route]:
    """Return the route of the stream."""
    return [Route("/api/events", _stream, methods=["GET"])]


async def _stream(request: Request) -> StreamingResponse:
    watch: Watch = request.app.state.watch

    async def lines() -> AsyncIterator[str]:
        async for change in watch.listen():
            yield f"event: change\ndata: {json.dumps(change)}\n\n" if change else ": still here\n\n"

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


def _folders(root: Path, below: str, depth: int) -> Iterator[tuple[str, int]]:
    """(path below the root, time of change) of a folder and of those in it, to this depth."""
    try:
        yield below, (root / below).stat(follow_symlinks=False).st_mtime_ns
        if depth:
            with os.scandir(root / below) as entries:
                names = [
                    entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and not is_stand_in(entry.name)
                ]
            for name in names:
                yield from _folders(root, f"{below}/{name}", depth - 1)
    except OSError:  # it is gone, or cannot be read now, as over a network; another look may see it
        return


def _slice_of(path: str) -> tuple[str, str, int] | None:
    """(model, dataset, step) of a slice's folder."""
    keys = [part.partition("=") for part in path.split("/")[1:]]
    if [key for key, _, _ in keys] != ["model", "dataset", "step"] or (step := step_of(keys[2][2])) is None:
        return None
    return keys[0][2], keys[1][2], step
