"""Sessions of requests: each asks the store through a session of its own, in a thread, within limits.

Opening a session takes tens of milliseconds, so they are kept for later requests, which first take up what has changed.
Work that goes on for too long, or whose client has gone away, is ended: its queries are interrupted, and what runs in
Python stops where it next reports its progress.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trajstore.arguments.spelling import spelled_here
from trajstore.errors import QueryError, StoreNotFound, TrajstoreError
from trajstore.schema import CATALOG
from trajstore.server.page_spelling import PageSpelling
from trajstore.store.store import Store

if TYPE_CHECKING:
    import duckdb
    from starlette.requests import Request

T = TypeVar("T")

_TURN = 0.25
"""Seconds after which a wait looks at the clock."""
_INSIST = 0.05
"""Seconds between interrupts: between two batches of an answer there is nothing to interrupt."""


@dataclass(frozen=True)
class Limits:
    """The most that requests may take."""

    seconds: float = 60.0
    """Of one request's work."""
    rows: int = 1_000_000
    """Of one reply."""
    answer: int = 256 << 20
    """Bytes of the rows that a statement of SQL gives, beyond which no more are read."""
    memory: str = "256MB"
    """Of a session's queries, before they spill to disk."""
    cache: int = 384 << 20
    """Bytes of decoded losses that are kept."""
    at_work: int = max(2, min(4, os.cpu_count() or 2))
    """Requests that are worked on at once; others wait."""
    waiting: int = 256
    """Requests that are worked on or wait; more are refused."""


class WorkStopped(TrajstoreError):
    """The work was ended before it was done."""


class TooBusy(TrajstoreError):
    """Too many requests wait."""


class RequestStore(Store):
    """A store for one request at a time, whose queries can be interrupted from another thread."""

    def __init__(self, path: str | os.PathLike[str], *, memory: str | None = None) -> None:
        """Open the store at `path`, see `Store`."""
        self._asking: list[duckdb.DuckDBPyConnection] = []
        super().__init__(path, memory=memory)

    def refresh(self) -> None:
        """Take up the catalog anew; its state is noted before, so that what changes meanwhile is taken up next."""
        self._catalog = self._catalog_state()
        super().refresh()

    def connection(self, files: Sequence[str | os.PathLike[str]] = ()) -> duckdb.DuckDBPyConnection:
        """A connection that `interrupt` reaches; raises `QueryError` for files beside the store's."""
        if files:
            raise QueryError("Files beside the store are not read for a page.")
        connection = super().connection()
        self._asking.append(connection)
        return connection

    def interrupt(self) -> None:
        """Stop the queries that run."""
        for connection in [*self._asking]:
            connection.interrupt()

    def settle(self) -> None:
        """Let go of what the last request asked, and take up what others have changed since."""
        self._asking.clear()
        self._frames.clear()
        if self._catalog_state() != self._catalog:
            self.refresh()
        else:
            self.follow_groups()

    def _catalog_state(self) -> tuple[int, int]:
        try:
            facts = (self.path / CATALOG).stat()
        except FileNotFoundError:
            raise StoreNotFound(self.path) from None
        return facts.st_ino, facts.st_mtime_ns


class Work:
    """One request's work, and its progress, which ends it once it is stopped and keeps what is said."""

    def __init__(self, seconds: float) -> None:
        self.notes: list[str] = []
        """Lines that were said beside the answer."""
        self.store: RequestStore | None = None
        self.ended = False
        """True once nobody waits for the answer."""
        self._seconds = seconds
        self._begun = float("inf")

    def begin(self) -> None:
        """Start the clock."""
        self._begun = time.monotonic()
        self.advance()

    @property
    def overdue(self) -> bool:
        """True once it took longer than it may."""
        return time.monotonic() - self._begun > self._seconds

    def end(self) -> None:
        """Interrupt its queries, and stop it where it next reports its progress."""
        self.ended = True
        if (store := self.store) is not None:  # the thread that works lets go of it at any moment
            store.interrupt()

    def start(self, label: str, total: int, unit: str) -> None:  # noqa: ARG002
        """Raise `WorkStopped` once the work is ended."""
        self.advance()

    def advance(self, amount: int = 1, note: str = "") -> None:  # noqa: ARG002
        """Raise `WorkStopped` once the work is ended."""
        if self.ended:
            raise WorkStopped("Nobody waits for this answer any more.")

    def stop(self) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Keep a line for the reply."""
        self.notes.append(message)


class Sessions:
    """The sessions of a server's requests."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        """Sessions on the store at `path`; raises as `Store` where it cannot be opened."""
        self.limits = limits or Limits()
        self._idle = [RequestStore(path, memory=self.limits.memory)]
        self.path = self._idle[0].path
        self._pool = ThreadPoolExecutor(self.limits.at_work, "trajstore-request")
        self._works: set[Work] = set()

    @contextmanager
    def store(self) -> Iterator[RequestStore]:
        """A store that nobody else uses meanwhile."""
        try:
            store = self._idle.pop()
        except IndexError:
            store = RequestStore(self.path, memory=self.limits.memory)
        sound = False
        try:
            store.settle()
            yield store
            sound = True
        except TrajstoreError as error:
            sound = not isinstance(error, WorkStopped)
            raise
        finally:
            if sound:
                self._idle.append(store)
            else:
                store.close()  # a query of it may have been left half read

    async def run(self, request: Request, answer: Callable[[RequestStore, Work], T]) -> T:
        """Return what `answer` gives, in a thread; the request's body must have been read.

        Raises `WorkStopped` where that takes too long or the client goes away, and `TooBusy` where too many wait.
        """
        if len(self._works) >= self.limits.waiting:
            raise TooBusy("Too many requests wait for an answer. Try again in a moment.")
        work = Work(self.limits.seconds)
        self._works.add(work)
        running = asyncio.get_running_loop().run_in_executor(self._pool, self._answer, work, answer)
        gone = asyncio.ensure_future(_gone(request))
        try:
            await _ended(running, gone, work)
            return running.result()
        except Exception as error:
            if not work.ended:
                raise
            raise WorkStopped(
                f"This took longer than {self.limits.seconds:g} s. Choose fewer models, steps or contexts, or run it "
                "on the command line, which has no limit."
            ) from error
        finally:
            gone.cancel()
            work.end()
            self._works.discard(work)

    def _answer(self, work: Work, answer: Callable[[RequestStore, Work], T]) -> T:
        work.begin()
        with spelled_here(PageSpelling()), self.store() as store:
            work.store = store
            try:
                return answer(store, work)
            finally:
                work.store = None

    def end(self) -> None:
        """End all work."""
        for work in [*self._works]:
            work.end()

    def close(self) -> None:
        """End all work, and the sessions."""
        self.end()
        self._pool.shutdown(wait=True, cancel_futures=True)
        while self._idle:
            self._idle.pop().close()


async def _ended(running: asyncio.Future[T], gone: asyncio.Future[None], work: Work) -> None:
    """Wait until the work has ended, and end it once it is overdue or nobody waits for it."""
    while not running.done():
        if gone.done() or work.overdue:
            work.end()
            await asyncio.wait([running], timeout=_INSIST)
        else:
            both: list[asyncio.Future[Any]] = [running, gone]
            await asyncio.wait(both, timeout=_TURN, return_when=asyncio.FIRST_COMPLETED)


async def _gone(request: Request) -> None:
    """Return once the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
