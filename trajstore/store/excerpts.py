"""Tokens shown with a little of their context, for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from trajstore.store.text import join_pieces

if TYPE_CHECKING:
    from trajstore.store.store import Store


def with_context(store: Store, sites: pl.DataFrame, width: int = 8) -> pl.DataFrame:
    """The rows of `sites` (dataset, context, position, …) with columns text, before and after.

    `before` and `after` are the texts of up to `width` tokens on either side, joined so that bytes of one character
    are together again.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for dataset, wanted in sites.select("dataset", "context").unique().group_by("dataset"):
        name = str(dataset[0])
        frame = store.dataset(name).frame().filter(pl.col("context").is_in(wanted["context"].to_list()))
        for (context,), tokens in frame.group_by(["context"], maintain_order=True):
            found[name, int(str(context))] = tokens["text"].to_list()
    pieces = [found[name, context] for name, context in sites.select("dataset", "context").iter_rows()]
    at = sites["position"].to_list()
    return sites.with_columns(
        pl.Series("text", [texts[p] for texts, p in zip(pieces, at, strict=True)], dtype=pl.String),
        pl.Series(
            "before",
            [join_pieces(t[max(0, p - width) : p]) for t, p in zip(pieces, at, strict=True)],
            dtype=pl.String,
        ),
        pl.Series(
            "after",
            [join_pieces(t[p + 1 : p + 1 + width]) for t, p in zip(pieces, at, strict=True)],
            dtype=pl.String,
        ),
    )
