"""A cache of decoded losses, bounded by bytes; what was not asked for longest goes first.

A slice is one page, so one context's losses at a step cost the decoding of the whole slice. Of each slice read for one
context the losses of its neighbours are kept as well, a block of contexts, so that the next context at all steps is
there already; and once a block is asked for, the next one is fetched ahead.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

import numpy as np

from trajstore.errors import DamagedFile, TrajstoreError
from trajstore.progress import SILENT, Progress
from trajstore.server.signatures import file_state, state_of
from trajstore.store.disk import layout
from trajstore.store.files import coverage
from trajstore.store.files.datasets import Dataset
from trajstore.store.store import Store

LOSS = "loss"
"""The column of a slice that every one has."""
_BLOCK_LOSSES = 1 << 16
_FETCHED = 64
_READERS = max(1, min(4, os.cpu_count() or 1))


class Held(Protocol):
    """A value whose size is known."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""


V = TypeVar("V", bound=Held)


class ByteCache(Generic[V]):
    """Arrays, or other values, by key, up to so many bytes; safe to use from several threads, each value made once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._arrays: OrderedDict[Hashable, V] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self.bytes = 0
        """Held now."""

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Return the value of a key, made where it is not there; an array may not be written to."""
        while (array := self.peek(key)) is None:
            with self._lock:
                making = self._making.setdefault(key, threading.Lock())
            with making:
                if self.peek(key) is None:
                    try:
                        return self.put(key, make())
                    finally:
                        with self._lock:
                            self._making.pop(key, None)
        return array

    def peek(self, key: Hashable) -> V | None:
        """Return the value of a key where it is there."""
        with self._lock:
            if (array := self._arrays.get(key)) is not None:
                self._arrays.move_to_end(key)
            return array

    def put(self, key: Hashable, array: V) -> V:
        """Keep a value; returns it, an array read-only."""
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
        with self._lock:
            if (old := self._arrays.pop(key, None)) is not None:
                self.bytes -= old.nbytes
            if array.nbytes <= self._limit:
                self._arrays[key] = array
                self.bytes += array.nbytes
            while self.bytes > self._limit:
                self.bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array


class SliceCache:
    """Losses and columns of slices, decoded."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Store]], limit: int) -> None:
        """A cache of up to `limit` bytes; `opened` gives a store to fetch ahead with."""
        self._opened = opened
        self._arrays: ByteCache[np.ndarray] = ByteCache(limit)
        self._readers = ThreadPoolExecutor(_READERS, "trajstore-slices")
        self._ahead = ThreadPoolExecutor(1, "trajstore-ahead")
        self._wish = 0
        self._fetched: deque[tuple[Hashable, ...]] = deque(maxlen=_FETCHED)
        """Blocks fetched ahead of late, which need not be looked through once more."""
        self._closed = False

    @property
    def bytes(self) -> int:
        """Bytes that are held."""
        return self._arrays.bytes

    def slice(self, store: Store, model: str, dataset: str, step: int, column: str = LOSS) -> np.ndarray:
        """A slice's losses, rank or entropy in canonical order, (n_losses,); empty where a column was not kept.

        NaN in the contexts that a partial one lacks. Raises `UnknownName` or `DamagedFile`.
        """
        return self._arrays.get(
            (*self._of_file(store, model, dataset, step), column),
            lambda: _read(store, model, dataset, step, column),
        )

    def kept(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return another array by key, made where it is not there; the key says of which files it is made."""
        return self._arrays.get(key, make)

    def context(
        self,
        store: Store,
        model: str,
        dataset: str,
        steps: Sequence[int],
        context: int,
        column: str = LOSS,
        progress: Progress = SILENT,
    ) -> np.ndarray:
        """One context's losses, rank or entropy, float32 (steps, tokens but the first).

        NaN where a slice lacks the context or the column, or cannot be read, which is said. Raises `UnknownName`.
        """
        blocks = _Blocks(store.dataset(dataset))
        block = blocks.of(context)

        def row(step: int) -> np.ndarray | DamagedFile:
            progress.advance(0)
            try:
                return self._block(store, model, dataset, step, column, blocks, block)
            except DamagedFile as error:
                return error

        rows: list[np.ndarray | DamagedFile | None] = []
        rows += self._held(store, model, dataset, steps, (column, block))
        lacking = [number for number, held in enumerate(rows) if held is None]
        for number, read in zip(lacking, self._readers.map(row, [steps[n] for n in lacking]), strict=True):
            rows[number] = read
        inside = blocks.inside(context, block)
        values = np.full((len(steps), inside.stop - inside.start), np.nan, dtype=np.float32)
        for number, found in enumerate(rows):
            if isinstance(found, DamagedFile):
                progress.say(f"Step {steps[number]} of {model} is left out: {found}")
            elif found is not None and len(found):
                values[number] = found[inside]
        self._fetch_ahead(model, dataset, steps, column, [n for n in (block + 1, block - 1) if n in blocks])
        return values

    def close(self) -> None:
        """Fetch no more."""
        self._closed = True
        for pool in (self._ahead, self._readers):
            pool.shutdown(wait=True, cancel_futures=True)

    def _held(
        self, store: Store, model: str, dataset: str, steps: Sequence[int], part: tuple[Hashable, ...]
    ) -> list[np.ndarray | None]:
        """Return what is held of a part of these slices, None where nothing is."""
        files = coverage.files_of(store.path, model, dataset)
        tokens = store.dataset(dataset).tokens_sha256
        keys = [(model, dataset, step, state_of(files[step][1]), tokens) for step in steps if step in files]
        held = {key[2]: self._arrays.peek((*key, *part)) for key in keys}
        return [held.get(step) for step in steps]

    def _of_file(self, store: Store, model: str, dataset: str, step: int) -> tuple[Hashable, ...]:
        state = file_state(layout.slice_path(store.path, model, dataset, step))
        return model, dataset, step, state, store.dataset(dataset).tokens_sha256

    def _block(
        self, store: Store, model: str, dataset: str, step: int, column: str, blocks: _Blocks, block: int
    ) -> np.ndarray:
        """A slice's losses in a block of contexts; those in the blocks beside it are kept on the way."""
        of_file = self._of_file(store, model, dataset, step)

        def made() -> np.ndarray:
            whole = self._arrays.peek((*of_file, column))
            if whole is None:
                whole = _read(store, model, dataset, step, column)
            for beside in (block - 1, block + 1):
                if beside in blocks:
                    self._arrays.put((*of_file, column, beside), whole[blocks.extent(beside)].copy())
            return whole[blocks.extent(block)].copy()

        return self._arrays.get((*of_file, column, block), made)

    def _fetch_ahead(
        self, model: str, dataset: str, steps: Sequence[int], column: str, wanted: Sequence[int]
    ) -> None:
        """Fetch blocks at all these steps in the background, until others are wished for."""
        wanted = [block for block in wanted if (model, dataset, *steps, column, block) not in self._fetched]
        if len(steps) < 2 or not wanted or self._closed:
            return
        self._wish += 1
        wish = self._wish

        def fetch() -> None:
            with contextlib.suppress(TrajstoreError), self._opened() as store:
                blocks = _Blocks(store.dataset(dataset))
                for block in wanted:
                    for step in steps:
                        if self._closed or wish != self._wish:
                            return
                        with contextlib.suppress(DamagedFile):
                            self._block(store, model, dataset, step, column, blocks, block)
                    self._fetched.append((model, dataset, *steps, column, block))

        self._ahead.submit(fetch)


class DatasetFiles:
    """A dataset as the key of what is kept of it: another once its files are."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._key = (dataset.folder, dataset.files)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatasetFiles) and other._key == self._key


class _Blocks:
    """The contexts of a dataset in blocks of about as many losses each."""

    def __init__(self, dataset: Dataset) -> None:
        self._first = dataset.offsets - np.arange(dataset.n_contexts + 1)
        """Of each context the row of its first loss, and behind them the number of losses."""
        self._numbers = self._first[:-1] // _BLOCK_LOSSES

    def __contains__(self, block: int) -> bool:
        at = int(np.searchsorted(self._numbers, block))
        return at < len(self._numbers) and bool(self._numbers[at] == block)

    def of(self, context: int) -> int:
        """The block of a context."""
        return int(self._numbers[context])

    def extent(self, block: int) -> slice:
        """The rows of a block in a slice."""
        first, end = np.searchsorted(self._numbers, [block, block + 1])
        return slice(int(self._first[first]), int(self._first[end]))

    def inside(self, context: int, block: int) -> slice:
        """The rows of a context in its block."""
        begin = self.extent(block).start
        return slice(int(self._first[context]) - begin, int(self._first[context + 1]) - begin)


def _read(store: Store, model: str, dataset: str, step: int, column: str) -> np.ndarray:
    if column == LOSS:
        return store.slice_losses(model, dataset, step)
    values = store.slice_column(model, dataset, step, column)
    return np.empty(0, np.float32) if values is None else values
