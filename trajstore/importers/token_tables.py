"""A dataset's tokens as tables in the long format hold them: contexts from 0, positions from 0, an id each.

Memory holds each (context, position) once, however many slices a file repeats them for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from trajstore.arguments.spelling import option
from trajstore.errors import BadDataset, runs
from trajstore.importers.formats import Format
from trajstore.importers.request import IngestRequest, choose_columns
from trajstore.store.files import foreign_tables

_SITE = ("context", "position", "token")


def token_ids(
    files: Iterable[tuple[Path, Format]], request: IngestRequest, bos: int | None = None
) -> list[np.ndarray]:
    """The ids of each context, int32, from (path, format) of every file.

    `bos` stands at position 0 of contexts without a row for it. Raises `BadDataset` for ids that are missing or
    contradict each other, and `BadSource`.
    """
    seen = pl.DataFrame(schema=dict.fromkeys(_SITE, pl.Int64))
    for path, form in files:
        columns = choose_columns(path, foreign_tables.column_names(path, form.name, form.reader), request)
        if "token" not in columns:
            raise BadDataset(
                f"{path} has no column 'token', so no dataset can be made of it. Name the one that holds it: "
                f"{option('columns', {'THEIRS': 'token'})}"
            )
        wanted = {name: theirs for name, theirs in columns.items() if name in (*_SITE, "dataset")}
        for batch in foreign_tables.batches(path, form.name, wanted, reader=form.reader):
            frame = pl.DataFrame(batch).with_columns(pl.col("token").replace(foreign_tables.UNREADABLE, None))
            if "dataset" in frame.columns:
                frame = frame.filter(dataset=request.dataset)
            seen = pl.concat([seen, frame.select(_SITE)]).unique()
    return _contexts(seen.sort(_SITE), bos)


def _contexts(seen: pl.DataFrame, bos: int | None) -> list[np.ndarray]:
    """The ids of each context from sorted (context, position, token) without duplicates."""
    if not seen.height:
        raise BadDataset("The files have no rows to make a dataset of.")
    if (holes := seen.filter(pl.any_horizontal(pl.all().is_null()))).height:
        row = ", ".join(
            f"{name} {value}" for name, value in holes.row(0, named=True).items() if value is not None
        )
        raise BadDataset(
            f"A row has no whole number for its context, position or token ({row or 'none of them'}), so no dataset "
            "can be made of these files."
        )
    if (twice := seen.filter(pl.struct("context", "position").is_duplicated())).height:
        (context, position, first), (_, _, second) = twice.rows()[:2]
        raise BadDataset(
            f"The token at context {context}, position {position} is {first} in one row and {second} in another."
        )
    contexts = []
    for number, ((context,), part) in enumerate(seen.group_by(["context"], maintain_order=True)):
        if context != number:
            raise BadDataset(f"The files have no row of context {number}; contexts are numbered from 0.")
        contexts.append(_whole(number, part["position"].to_list(), part["token"].to_numpy(), bos))
    return contexts


def _whole(context: int, positions: list[int], tokens: np.ndarray, bos: int | None) -> np.ndarray:
    """The ids of a context, if none is missing."""
    if positions[0] != 0:
        if bos is None:
            raise BadDataset(
                f"The first token of context {context} is not in the files: it is needed in a row of position 0 with "
                f"an empty loss. If every context begins with the same token: {option('bos', 'ID')}"
            )
        positions, tokens = [0, *positions], np.concatenate([[bos], tokens])
    if positions != list(range(len(positions))):
        absent = sorted(set(range(positions[-1] + 1)).difference(positions))
        raise BadDataset(f"Context {context} has no row of positions {runs(absent)}.")
    if tokens.min() < 0 or tokens.max() > np.iinfo(np.int32).max:
        raise BadDataset(
            f"Context {context} has ids from {tokens.min()} to {tokens.max()}; ids are 0 to 2147483647."
        )
    return tokens.astype(np.int32)
