"""Hashes by which what an analysis read is known again: of its columns, and of the losses of its slices."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

import polars as pl

from trajstore.errors import UnknownName

if TYPE_CHECKING:
    from trajstore.store.matrix.blocks import SliceBlocks
    from trajstore.store.matrix.matrix import Sites
    from trajstore.store.store import Store


def hash_columns(sites: Sites) -> str:
    """`sha256:…` over the rows of tokens.parquet that are columns, as little-endian int64."""
    return f"sha256:{hashlib.sha256(sites.tokens.astype('<i8').tobytes()).hexdigest()}"


SLICES = {"model": pl.String, "step": pl.Int64, "dataset": pl.String, "loss_sha256": pl.String}
"""Columns of a table of slices and the hashes of their losses."""


def hashes_read(blocks: SliceBlocks) -> pl.DataFrame:
    """The slices that have been read, with the columns of `SLICES`."""
    rows = [
        (model, step, chosen.dataset.name, blocks.loss_hashes[chosen.dataset.name, model, step])
        for chosen in blocks.sites
        for model, step in blocks.checkpoints
        if (chosen.dataset.name, model, step) in blocks.loss_hashes
    ]
    return pl.DataFrame(rows, schema=SLICES, orient="row")


def hashes_now(store: Store, slices: pl.DataFrame) -> pl.DataFrame:
    """The same slices with the hashes that their footers have now; one that is not there is left out."""
    rows = []
    for model, step, dataset in slices.select("model", "step", "dataset").iter_rows():
        with contextlib.suppress(UnknownName):
            rows.append((model, step, dataset, store.slice_facts(model, dataset, step).loss_sha256))
    return pl.DataFrame(rows, schema=SLICES, orient="row")
