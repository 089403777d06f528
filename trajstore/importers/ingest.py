"""Ingests files into a store: every slice that can be taken lands, every other one is named with its reason.

What is there already is skipped if it is equal to the bit. A slice is published when all files that may hold rows of it
are read, so that whatever ends the work leaves whole slices only, and the same call goes on from there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from trajstore.errors import BadDataset, SliceExists, TrajstoreError
from trajstore.importers import matrices
from trajstore.importers.formats import Format, format_of
from trajstore.importers.long_tables import LongFiles
from trajstore.importers.request import IncomingSlice, IngestRequest, Tally
from trajstore.importers.site_index import SiteIndex
from trajstore.importers.token_tables import token_ids
from trajstore.progress import SILENT, Progress
from trajstore.schema import check_name
from trajstore.store.files.publish_slices import check_agreement
from trajstore.store.files.slices import Provenance
from trajstore.store.loss_limits import guess_in_bits

if TYPE_CHECKING:
    from trajstore.store.files.datasets import NewDataset
    from trajstore.store.store import Store

MakeDataset = Callable[[list[np.ndarray]], "NewDataset"]
"""Takes the ids of all contexts, int32, their texts and a tokenizer."""

_BUDGET = 64 << 20
"""Bytes of checked rows held in memory."""
_HEAD = 1 << 16
"""Bytes at the beginning of a file by which the length of its rows is estimated."""


@dataclass(frozen=True)
class Failure:
    """A slice or file that could not be taken."""

    what: str
    """A slice or a file."""
    reason: str


@dataclass(frozen=True)
class Report:
    """Counts of an ingest."""

    written: int
    """Slices published, or added to."""
    partial: int
    """Written slices that still lack contexts."""
    skipped: int
    """Slices that were there already, with the same losses."""
    failures: list[Failure]
    tally: Tally
    """Rows read, and those that hold nothing to store."""
    seconds: float


def ingest(
    store: Store,
    paths: str | Path | Sequence[str | Path],
    *,
    dataset: str,
    model: str | None = None,
    step: int | Sequence[int] | None = None,
    format: str = "auto",  # noqa: A002 — as the command line calls it
    columns: Mapping[str, str] | None = None,
    replace: bool = False,
    partial: bool = False,
    unit: str = "nats",
    dtype: str = "float32",
    allow_large: bool = False,
    make_dataset: MakeDataset | None = None,
    bos: int | None = None,
    budget: int = _BUDGET,
    progress: Progress = SILENT,
) -> Report:
    """Take the losses of files into a store, on one dataset.

    Tables in the long format (parquet, csv, jsonl, arrow) have columns model, step, context, position, token, loss,
    and maybe dataset; devinterp's Zarr is read as one. `format` is auto, by the files' names, or one of
    `formats.names()`. `model` and `step` stand for those that are not there, and choose rows where they are.
    `columns` gives the long format's name for each of theirs, empty for one to leave unread. Matrices (npy, npz, or
    Parquet with lists) have a row a checkpoint; see `matrices`. Tables are read to the end before slices of theirs
    are published, so that a slice may be spread over files.

    `partial` allows slices that lack whole contexts, `replace` overwrites losses that differ. `unit` is nats, bits
    or perplexity, `dtype` that of the forward pass. `allow_large` takes losses that are too large to be nats for the
    dataset's vocabulary. With `make_dataset` the dataset is first made of the tables' own tokens, `bos`
    being the first token of contexts that have no row for it. `budget` bounds the rows that are held in memory.

    Raises `UnknownName`, `DatasetExists`, `BadDataset`, `BadSource` for a file that is not there, and
    `TrajstoreError` for options that are not known. What goes wrong with single files and slices is in the report.
    """
    started = time.monotonic()
    steps = None if step is None else (step,) if isinstance(step, int) else tuple(step)
    request = IngestRequest(dataset, model, steps, columns, unit, dtype)
    if model is not None:
        check_name("model", model)
    one = isinstance(paths, str | Path)
    files = [(path, format_of(path, format)) for path in map(Path, [paths] if one else paths)]  # type: ignore[arg-type]
    if make_dataset is not None:
        if any(matrices.is_matrix(path, form.name) for path, form in files):
            raise BadDataset(
                "A matrix holds no tokens, so no dataset can be made of it: trajstore dataset add"
            )
        store.add_dataset(dataset, make_dataset(token_ids(files, request, bos)))
    job = _Ingest(store, request, replace, partial, allow_large, progress)
    tables = LongFiles(store.path, job.sites, request, job.tally, budget)
    try:
        job.read(files, tables)
        job.publish(tables)
    finally:
        tables.close()
        progress.stop()
    return Report(job.written, job.partial, job.skipped, job.failures, job.tally, time.monotonic() - started)


class _Ingest:
    """One ingest and its counts."""

    def __init__(
        self,
        store: Store,
        request: IngestRequest,
        replace: bool,
        allow_partial: bool,
        allow_large: bool,
        progress: Progress,
    ) -> None:
        self.store, self.request, self.progress = store, request, progress
        self.replace, self.allow_partial, self.allow_large = replace, allow_partial, allow_large
        self.sites = SiteIndex(store.dataset(request.dataset))
        self.tally = Tally()
        self.written = self.partial = self.skipped = 0
        self.failures: list[Failure] = []
        self._run = f"ingest-{secrets.token_hex(6)}"
        self._known_steps: dict[str, set[int]] = {}

    def read(self, files: Sequence[tuple[Path, Format]], tables: LongFiles) -> None:
        """Publish the rows of matrices, and sort those of tables."""
        self.progress.start("reading", sum(_size(path) for path, _ in files), "bytes")
        for path, form in files:
            try:
                if matrices.is_matrix(path, form.name):
                    self._read_matrix(path, form.name, alone=len(files) == 1)
                else:
                    tables.read(path, form, self._advancing(path, _bytes_a_row(path, form.name)))
            except TrajstoreError as error:
                self._fail(str(path), str(error).removeprefix(f"{path} "))

    def publish(self, tables: LongFiles) -> None:
        if len(tables):
            self.progress.start("storing", len(tables), "slices")
            for incoming in tables.slices():
                self.take(incoming)
                self.progress.advance(1, f"{incoming.model} at step {incoming.step}")

    def take(self, incoming: IncomingSlice) -> None:
        name = self.request.dataset
        try:
            if incoming.values is None or incoming.model is None or incoming.step is None:
                raise TrajstoreError(incoming.problem)
            check_name("model", incoming.model)
            self._put((incoming.model, name, incoming.step), incoming.values, incoming.source)
        except TrajstoreError as error:
            model, step = ("?" if label is None else label for label in (incoming.model, incoming.step))
            what = f"{model} on {name} at step {step}"
            source = "" if incoming.problem else f" in {incoming.source}"  # a problem names its row and file
            self._fail(f"{what}{source}", str(error).removeprefix(f"{what}: "))

    def _put(self, key: tuple[str, str, int], values: np.ndarray, source: str) -> None:
        """Publish a slice unless all of it is there; raises where it differs or is not whole."""
        model, name, step = key
        contexts = self.sites.whole_contexts(values, self.allow_partial)
        if self._has(key, values):
            self.skipped += 1
            return
        whole = len(contexts) == len(self.sites.lengths)
        try:
            self.store.append(
                model=model,
                dataset=name,
                step=step,
                losses=values[~np.isnan(values)],
                provenance=Provenance(dtype=self.request.dtype, run=self._run, source=source),
                contexts=None if whole and self.replace else contexts.tolist(),
                replace=self.replace,
                allow_large=self.allow_large,
            )
        except SliceExists:  # another job published it since
            self._known_steps.pop(model, None)
            self._put(key, values, source)
            return
        self._known_steps.setdefault(model, set()).add(step)
        self._look_for_bits(key, values)
        self.written += 1
        self.partial += not self.store.has_slice(*key)

    def _look_for_bits(self, key: tuple[str, str, int], values: np.ndarray) -> None:
        """Note how losses taken as nats look like bits; only a guess at a run's beginning can."""
        size = self.sites.dataset.tokenizer.size
        said = guess_in_bits(values[~np.isnan(values)], size) if self.request.unit == "nats" else None
        if said is not None and not self.tally.like_bits:
            self.tally.like_bits = f"{key[0]} at step {key[2]}: {said}"

    def _has(self, key: tuple[str, str, int], values: np.ndarray) -> bool:
        """Return whether the store has all these losses; raises `LossesDiffer` where others are there to stay."""
        model, name, step = key
        if model not in self._known_steps:
            self._known_steps[model] = set(self.store.steps(model, name))
        if step not in self._known_steps[model]:
            return False
        try:
            have = self.store.slice_losses(*key)
            check_agreement(key, self.sites.dataset, have, values)
        except TrajstoreError:
            if self.replace:
                return False
            raise
        return not (np.isnan(have) & ~np.isnan(values)).any()

    def _read_matrix(self, path: Path, kind: str, *, alone: bool) -> None:
        """Publish a matrix; one that comes `alone` may have been of a model of another name."""
        request = matrices.under_name(path, kind, self.request) if alone else self.request
        if request.renamed:
            self.progress.say(
                f"The losses of {request.renamed} in {path} are taken as those of {request.model}."
            )
        advance = self._advancing(path, 4 * self.sites.dataset.n_losses)
        for incoming in matrices.read(path, kind, self.store.path, self.sites, request, self.tally):
            self.take(incoming)
            advance(1)

    def _advancing(self, path: Path, per_row: float) -> Callable[[int], None]:
        """A function that moves the bar over a file by rows, of about this many bytes, and not beyond it."""
        left = _size(path)

        def advance(rows: int) -> None:
            nonlocal left
            amount = min(int(rows * per_row), left)
            left -= amount
            self.progress.advance(amount, path.name)

        return advance

    def _fail(self, what: str, reason: str) -> None:
        self.failures.append(Failure(what, reason))


def _bytes_a_row(path: Path, kind: str) -> float:
    """The approximate length of a row on disk, for a bar that moves evenly."""
    if kind == "parquet":
        rows: int = pq.read_metadata(path).num_rows
        return path.stat().st_size / max(1, rows)
    if kind not in ("csv", "jsonl"):
        return 4 if path.is_dir() else 32
    with path.open("rb") as file:
        head = file.read(_HEAD)
    return len(head) / max(1, head.count(b"\n"))


def _size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    parts = (part for part in path.rglob("*") if part.is_file()) if path.is_dir() else (path,)
    return sum(part.stat().st_size for part in parts)
