"""The matrix: losses of many checkpoints side by side, rows (model, step), columns (dataset, context, position).

Pulled slice by slice from the loss columns alone, straight into place. A column always carries its labels, a missing
slice, or what a partial one lacks, is an error or NaN, never 0 and never another's losses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl

from trajstore.arguments.choices import Align, Missing
from trajstore.arguments.spelling import as_given, option
from trajstore.display import Brief, of_checkpoints, of_names
from trajstore.errors import MissingSlices, NothingChosen, TrajstoreError, runs
from trajstore.progress import SILENT, Progress
from trajstore.store.disk import layout
from trajstore.store.files import slices
from trajstore.store.files.datasets import Dataset


@dataclass(frozen=True, repr=False)
class LossMatrix(Brief):
    """Losses of checkpoints (rows) at sites (columns)."""

    values: np.ndarray
    """float32 (rows, columns), nats; NaN where nothing is and that was allowed."""
    rows: pl.DataFrame
    """model (String), step (Int64); aligned by item, also dataset (String)."""
    columns: pl.DataFrame
    """dataset (String), context, position (Int32, of the predicted token), token (Int32), text (String); aligned by
    item, item (Int64), item_position (Int32), token, text, role (String)."""

    def __post_init__(self) -> None:
        if self.values.shape != (self.rows.height, self.columns.height):
            raise ValueError(
                f"{self.values.shape} values, {self.rows.height} rows, {self.columns.height} columns"
            )

    def brief(self) -> str:
        """Its shape, models, steps, and datasets or items."""
        rows, columns = self.values.shape
        labels = [frame for frame in (self.columns, self.rows) if "dataset" in frame.columns]
        on = [of_names(frame["dataset"].unique(maintain_order=True), "dataset") for frame in labels]
        of = of_checkpoints(self.rows.select("model", "step").iter_rows())
        return ", ".join([f"{rows:,} rows × {columns:,} columns, {self.values.dtype}", of, *on])


@dataclass(frozen=True)
class Sites:
    """The losses of one dataset that a matrix takes."""

    dataset: Dataset
    tokens: np.ndarray
    """Rows of tokens.parquet, int64, in the order of the columns; only sites with a loss unless padded."""
    take: np.ndarray | None
    """Rows of a slice, int64, −1 for the padding of a position 0; None for all of them in order."""

    @property
    def contexts(self) -> np.ndarray:
        """The context of each, int64."""
        return self.dataset.contexts_of(self.tokens)


def context_range(text: str, n_contexts: int) -> tuple[int, int]:
    """(first, end) of contexts meant by `FIRST:END`, as Python slices: 0:50 is the first fifty."""
    first, colon, end = text.partition(":") if isinstance(text, str) else ("", "", "")
    try:
        low, high = int(first or 0), int(end) if end else None
    except ValueError:
        low, high = -1, None
    if not colon or low < 0 or (high is not None and high <= low):
        raise TrajstoreError(
            f"Cannot read {as_given('contexts', text)}. It takes a text FIRST:END, as in 0:50 for the first fifty."
        )
    if low >= n_contexts:
        raise NothingChosen(f"{option('contexts', text)} lies beyond the last context, {n_contexts - 1}.")
    return low, n_contexts if high is None else min(high, n_contexts)


def check_align(align: str) -> None:
    """Raise unless `align` says which losses a group's tokens stand for."""
    if align not in get_args(Align):
        raise TrajstoreError(
            f"{as_given('align', align)}: there is predict (the token's own loss) and after (the next token's), and "
            "for matrix item (the same columns for datasets of the same items)."
        )


def choose_sites(
    dataset: Dataset, members: np.ndarray | None, contexts: str | None, align: Align, pad_first: bool
) -> Sites:
    """The sites of one dataset. `members` are the group's rows of tokens.parquet (int64), None for every token.

    Aligned `predict`, a member stands for its own loss; `after`, for the loss of the token that follows it.
    """
    check_align(align)
    if pad_first and align == "after":
        raise TrajstoreError(
            f"{option('pad_first', True)} and {option('align', 'after')} do not go together: a position 0 follows no "
            "token. Leave one of them out."
        )
    starts = dataset.offsets[:-1]
    chosen = np.ones(dataset.n_tokens, dtype=bool)
    if members is not None:
        chosen[:] = False
        chosen[members] = True
    if align == "after":
        chosen = np.concatenate([[False], chosen[:-1]])
        chosen[starts] = False
    if contexts is not None:
        low, high = context_range(contexts, dataset.n_contexts)
        chosen[: dataset.offsets[low]] = False
        chosen[dataset.offsets[high] :] = False
    first = np.zeros(dataset.n_tokens, dtype=bool)
    first[starts] = True
    if not pad_first:
        chosen &= ~first
    tokens = np.flatnonzero(chosen)
    if len(tokens) == dataset.n_losses and not pad_first:
        return Sites(dataset, tokens, None)
    # A slice has no row for a position 0: row number = token number less the contexts begun.
    take = tokens - np.cumsum(first)[tokens]
    take[first[tokens]] = -1
    return Sites(dataset, tokens, take)


def union_of(sites: Sequence[Sites]) -> Sites:
    """The sites that are in any of these, which are of one dataset."""
    tokens = np.concatenate([one.tokens for one in sites])
    return choose_sites(sites[0].dataset, tokens, None, "predict", pad_first=False)


def pull(
    root: Path,
    checkpoints: Sequence[tuple[str, int]],
    sites: Sequence[Sites],
    missing: Missing = "error",
    threads: int | None = None,
) -> LossMatrix:
    """The matrix of these checkpoints (model, step) at these sites, in the order given.

    Raises `MissingSlices` unless `missing` is "nan", and `DamagedFile` for a slice that fails its checks.
    """
    columns = pl.concat([column_labels(chosen) for chosen in sites])
    values = np.empty((len(checkpoints), columns.height), dtype=np.float32)
    if missing == "nan":
        values[:] = np.nan

    def fill(job: SliceRead) -> bool:
        return take_losses(job, values[job.row, job.first : job.first + len(job.sites.tokens)]).partial

    each_slice(root, checkpoints, sites, fill, missing, threads)
    return LossMatrix(values, row_labels(checkpoints), columns)


_TOGETHER = 16
"""Most slices that a thread reads before it takes more, of many: each time it waits for the interpreter's lock."""


@dataclass(frozen=True)
class SliceRead:
    """One slice and its place in the matrix."""

    path: Path
    sites: Sites
    row: int
    first: int
    """Column."""
    model: str
    step: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Model, dataset, step."""
        return self.model, self.sites.dataset.name, self.step


def take_losses(job: SliceRead, out: np.ndarray) -> slices.SliceFacts:
    """Put a slice's losses at the job's sites into `out`, float32 (sites,); returns the facts in its footer.

    Raises `FileNotFoundError` or `DamagedFile`.
    """
    facts, losses = slices.read_checked(job.path, job.sites.dataset)
    if job.sites.take is None:
        out[:] = losses
    else:
        np.take(losses, job.sites.take, out=out, mode="wrap")
        out[job.sites.take < 0] = 0
    return facts


def each_slice(
    root: Path,
    checkpoints: Sequence[tuple[str, int]],
    sites: Sequence[Sites],
    work: Callable[[SliceRead], bool],
    missing: Missing = "error",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Do `work` on the slice of each checkpoint (model, step) on each dataset; it says whether the slice is partial.

    `progress` moves by one a slice.

    Raises `MissingSlices`, after the work where it is for partial slices, unless `missing` is "nan"; else as the work.
    """
    if missing not in ("error", "nan"):
        raise TrajstoreError(f"{as_given('missing', missing)}: there is error and nan.")
    jobs, absent = _jobs(root, checkpoints, sites)
    torn: list[SliceRead] = []
    if absent and missing == "error":
        torn = [job for job in jobs if not slices.is_complete(job.path)]
        raise MissingSlices(absent, _incomplete(torn, absent))

    def watched(job: SliceRead) -> None:
        try:
            if work(job):
                torn.append(job)
        except FileNotFoundError:
            absent.append(job.key)  # dropped since it was listed

    run_threads(watched, jobs, threads, progress)
    if missing == "error" and ((incomplete := _incomplete(torn, absent)) or absent):
        raise MissingSlices(absent, incomplete)


def _jobs(
    root: Path, checkpoints: Sequence[tuple[str, int]], sites: Sequence[Sites]
) -> tuple[list[SliceRead], list[tuple[str, str, int]]]:
    """A job for each slice that is there, and (model, dataset, step) of those that are not."""
    jobs, absent = [], []
    first = 0
    for chosen in sites:
        for row, (model, step) in enumerate(checkpoints):
            path = layout.slice_path(root, model, chosen.dataset.name, step)
            if path.exists():
                jobs.append(SliceRead(path, chosen, row, first, model, step))
            else:
                absent.append((model, chosen.dataset.name, step))
        first += len(chosen.tokens)
    return jobs, absent


def _incomplete(
    partial: Sequence[SliceRead], dropped: list[tuple[str, str, int]]
) -> list[tuple[str, str, int, str]]:
    """(model, dataset, step, what it lacks) of those partial slices that lack a context of the columns.

    One that another job has dropped meanwhile is put among `dropped`.
    """
    rows = []
    for job in sorted(partial, key=lambda job: (job.first, job.row)):
        try:
            losses = slices.read_losses(job.path, job.sites.dataset)
        except FileNotFoundError:
            dropped.append(job.key)
            continue
        context, _ = job.sites.dataset.loss_keys
        wanted = slice(None) if job.sites.take is None else job.sites.take[job.sites.take >= 0]
        lacking = np.unique(context[wanted][np.isnan(losses[wanted])])
        if len(lacking):
            rows.append((*job.key, f"contexts {runs(lacking.tolist())}"))
    return rows


def run_threads(
    work: Callable[[SliceRead], None],
    jobs: Sequence[SliceRead],
    threads: int | None,
    progress: Progress = SILENT,
) -> None:
    """Do all jobs; decompression and checksums release the interpreter's lock."""
    n = threads or min(8, os.cpu_count() or 1)
    together = max(1, min(_TOGETHER, len(jobs) // (_TOGETHER * n)))
    parts = [jobs[at : at + together] for at in range(0, len(jobs), together)]

    def each(part: Sequence[SliceRead]) -> None:
        for job in part:
            work(job)

    with ThreadPoolExecutor(n) as pool:
        done = map(each, parts) if n == 1 else pool.map(each, parts)
        try:
            for part, _ in zip(parts, done, strict=True):
                for job in part:
                    progress.advance(1, f"{job.model} at step {job.step}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def row_labels(checkpoints: Sequence[tuple[str, int]]) -> pl.DataFrame:
    """model, step of the rows."""
    return pl.DataFrame(checkpoints, schema={"model": pl.String, "step": pl.Int64}, orient="row")


def column_labels(sites: Sites) -> pl.DataFrame:
    """dataset, context, position, token, text of the chosen sites."""
    frame = sites.dataset.frame(["context", "position", "token", "text"])[sites.tokens]
    return frame.select(pl.lit(sites.dataset.name).alias("dataset"), pl.all())
