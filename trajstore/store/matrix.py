"""The matrix: losses of many checkpoints side by side, rows (model, step), columns (dataset, context, position).

Pulled slice by slice from the loss columns alone, straight into place. A column always carries its labels, a missing
slice is an error or NaN, never 0 and never another's losses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from trajstore.errors import MissingSlices, TrajstoreError, UnknownName
from trajstore.store import layout, slices
from trajstore.store.datasets import Dataset

Align = Literal["predict", "after"]
Missing = Literal["error", "nan"]


@dataclass(frozen=True)
class LossMatrix:
    """Losses of checkpoints (rows) at sites (columns)."""

    values: np.ndarray
    """float32 (rows, columns), nats; NaN where a slice is missing and that was allowed."""
    rows: pl.DataFrame
    """model (String), step (Int64)."""
    columns: pl.DataFrame
    """dataset (String), context, position (Int32, of the predicted token), token (Int32), text (String)."""

    def __post_init__(self) -> None:
        """Labels fit the values."""
        if self.values.shape != (self.rows.height, self.columns.height):
            raise ValueError(
                f"{self.values.shape} values, {self.rows.height} rows, {self.columns.height} columns"
            )


@dataclass(frozen=True)
class Sites:
    """Which losses of one dataset a matrix takes."""

    dataset: Dataset
    tokens: np.ndarray
    """Rows of tokens.parquet, int64, ascending; only sites with a loss unless padded."""
    take: np.ndarray | None
    """Rows of a slice, int64, −1 for the padding of a position 0; None for all of them in order."""


def context_range(text: str, n_contexts: int) -> tuple[int, int]:
    """(first, end) of contexts meant by `FIRST:END`, as Python slices: 0:50 is the first fifty."""
    first, colon, end = text.partition(":")
    try:
        low, high = int(first or 0), int(end) if end else n_contexts
    except ValueError:
        low, high = -1, -1
    if not colon or not 0 <= low < high:
        raise TrajstoreError(
            f"Cannot read --contexts {text!r}. It takes FIRST:END, as in 0:50 for the first fifty."
        )
    if low >= n_contexts:
        raise TrajstoreError(f"--contexts {text} lies beyond the last context, {n_contexts - 1}.")
    return low, min(high, n_contexts)


def choose_sites(
    dataset: Dataset,
    members: np.ndarray | None,
    contexts: str | None,
    align: Align,
    pad_first: bool,
) -> Sites:
    """The sites of one dataset. `members` are the group's rows of tokens.parquet (int64), None for every token.

    Aligned `predict`, a member stands for its own loss; `after`, for the loss of the token that follows it.
    """
    if align not in ("predict", "after"):
        raise TrajstoreError(
            f"--align {align!r}: there is predict (the token's own loss) and after (the next token's)."
        )
    starts = np.cumsum(dataset.lengths) - dataset.lengths
    chosen = np.ones(dataset.n_tokens, dtype=bool)
    if members is not None:
        chosen[:] = False
        chosen[members] = True
    if align == "after":
        chosen = np.concatenate([[False], chosen[:-1]])
        chosen[starts] = False
    if contexts is not None:
        low, high = context_range(contexts, dataset.n_contexts)
        ends = np.cumsum(dataset.lengths)
        chosen[: starts[low]] = False
        chosen[ends[high - 1] :] = False
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
    if missing not in ("error", "nan"):
        raise TrajstoreError(f"--missing {missing!r}: there is error and nan.")
    jobs = _jobs(root, checkpoints, sites, missing)
    columns = pl.concat([column_labels(chosen) for chosen in sites])
    values = np.empty((len(checkpoints), columns.height), dtype=np.float32)
    if missing == "nan":
        values[:] = np.nan

    def fill(job: _Job) -> None:
        losses = slices.read_losses(job.path, job.sites.dataset)
        out = values[job.row, job.first : job.first + len(job.sites.tokens)]
        if job.sites.take is None:
            out[:] = losses
        else:
            np.take(losses, job.sites.take, out=out, mode="wrap")
            out[job.sites.take < 0] = 0

    run_threads(fill, jobs, threads)
    rows = pl.DataFrame(
        {"model": [model for model, _ in checkpoints], "step": [step for _, step in checkpoints]},
        schema={"model": pl.String, "step": pl.Int64},
    )
    return LossMatrix(values, rows, columns)


@dataclass(frozen=True)
class _Job:
    """One slice and its place in the matrix."""

    path: Path
    sites: Sites
    row: int
    first: int


def _jobs(
    root: Path, checkpoints: Sequence[tuple[str, int]], sites: Sequence[Sites], missing: Missing
) -> list[_Job]:
    """A job for each slice that is there; raises `MissingSlices` for those that are not."""
    jobs, absent = [], []
    first = 0
    for chosen in sites:
        for row, (model, step) in enumerate(checkpoints):
            path = layout.slice_path(root, model, chosen.dataset.name, step)
            if path.exists():
                jobs.append(_Job(path, chosen, row, first))
            else:
                absent.append((model, chosen.dataset.name, step))
        first += len(chosen.tokens)
    if absent and missing == "error":
        raise MissingSlices(absent)
    return jobs


def run_threads(work: Callable[[_Job], None], jobs: Sequence[_Job], threads: int | None) -> None:
    """Do all jobs; decompression and checksums release the interpreter's lock."""
    n = threads or min(8, os.cpu_count() or 1)
    if n == 1:
        for job in jobs:
            work(job)
        return
    with ThreadPoolExecutor(n) as pool:
        try:
            for _ in pool.map(work, jobs):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def column_labels(sites: Sites) -> pl.DataFrame:
    """dataset, context, position, token, text of the chosen sites."""
    frame = sites.dataset.frame(["context", "position", "token", "text"])[sites.tokens]
    return frame.select(pl.lit(sites.dataset.name).alias("dataset"), pl.all())


def require_sites(sites: Sequence[Sites], group: str | None) -> None:
    """Raise where nothing at all was chosen."""
    if not any(len(chosen.tokens) for chosen in sites):
        names = ", ".join(chosen.dataset.name for chosen in sites)
        raise TrajstoreError(
            f"The group {group!r} has no token with a loss in {names} (within these contexts). "
            f"See its size in each dataset: trajstore group show {group}"
            if group
            else f"No token of {names} was chosen."
        )


def require_models(models: Sequence[str], datasets: Sequence[str], with_slices: Sequence[str]) -> list[str]:
    """Those of `models` that have slices on the datasets; raises `UnknownName` where none has."""
    kept = [model for model in models if model in with_slices]
    if not kept:
        raise UnknownName(
            "scored model",
            ", ".join(models) or "*",
            with_slices,
            f"Score one: trajstore score MODEL --dataset {datasets[0]}",
        )
    return kept
