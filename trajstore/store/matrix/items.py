"""Datasets that hold the same items under different prompts, side by side: a matrix with the same columns for each.

A column is an item and a place in it (item, item_position), and stands in the matrix if every dataset has a loss there:
what a prompt cuts off, the first token of a context and the separators between items drop from all of them. Where two
datasets have different tokens at the same place, they are not the same items, which is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import polars as pl

from trajstore.errors import NotAligned, NothingChosen
from trajstore.store.files.datasets import Dataset
from trajstore.store.matrix.matrix import LossMatrix, Sites

_KEY = ("item", "item_position")


def align_items(
    datasets: Sequence[Dataset], members: Sequence[np.ndarray] | None, group: str | None = None
) -> tuple[list[Sites], pl.DataFrame]:
    """The sites of each dataset, in the same order of columns, and the columns' labels.

    `members` are the rows of each dataset's tokens.parquet that are in the group, None for all; a place is taken if it
    is in the group in any of the datasets. Labels are item, item_position, token, text, role. Raises `NotAligned`
    for datasets that differ in tokenizer or in the token at a place, and `NothingChosen`.
    """
    _same_tokenizer(datasets)
    places = [_places(dataset, None if members is None else members[n]) for n, dataset in enumerate(datasets)]
    for place, dataset in zip(places, datasets, strict=True):
        if (twice := place.filter(pl.struct(_KEY).is_duplicated())).height:
            item, position = twice.select(_KEY).row(0)
            raise NotAligned(f"{dataset.name} has item {item} at item_position {position} more than once.")
    labels = ["token", "text", "role"]
    common = reduce(
        lambda left, right: left.join(right, on=_KEY, how="inner"),
        [
            place.rename({name: f"{name} {n}" for name in place.columns if name not in _KEY})
            for n, place in enumerate(places)
        ],
    ).sort(_KEY)
    for n, dataset in enumerate(datasets):
        other = common.filter(pl.col("token 0") != pl.col(f"token {n}"))
        if other.height:
            raise _differ(other.row(0, named=True), n, datasets[0].name, dataset.name)
    if members is not None:
        common = common.filter(pl.any_horizontal(f"member {n}" for n in range(len(datasets))))
    if not common.height:
        names = ", ".join(dataset.name for dataset in datasets)
        chosen = (
            f"The group {group!r} has no token with a loss" if group else "No item has a token with a loss"
        )
        raise NothingChosen(f"{chosen} in each of {names} at the same item and item_position.")
    sites = [
        Sites(dataset, common[f"token_row {n}"].to_numpy(), common[f"loss_row {n}"].to_numpy())
        for n, dataset in enumerate(datasets)
    ]
    return sites, common.select(*_KEY, *(pl.col(f"{name} 0").alias(name) for name in labels))


def stack(beside: LossMatrix, datasets: Sequence[str], columns: pl.DataFrame) -> LossMatrix:
    """A matrix whose datasets stand beside each other, each with these columns, as one with them below each other.

    Rows become model, step, dataset: each checkpoint's datasets in the order given. The values are not copied.
    """
    count = len(datasets)
    rows = beside.rows[np.repeat(np.arange(beside.rows.height), count)]
    return LossMatrix(
        beside.values.reshape(rows.height, columns.height),
        rows.with_columns(pl.Series("dataset", list(datasets) * beside.rows.height, pl.String)),
        columns,
    )


def _places(dataset: Dataset, members: np.ndarray | None) -> pl.DataFrame:
    """The places of a dataset that have a loss and an item, with their rows of tokens.parquet and of a slice."""
    frame = dataset.frame(["context", "position", *_KEY, "token", "text", "role"])
    chosen = np.zeros(frame.height, dtype=bool)
    chosen[slice(None) if members is None else members] = True
    return (
        frame.with_row_index("token_row")
        .with_columns(
            pl.col("token_row").cast(pl.Int64),
            # A slice has no row for a position 0: one less for each context begun.
            loss_row=pl.col("token_row").cast(pl.Int64) - pl.col("context").cast(pl.Int64) - 1,
            member=pl.Series(chosen),
        )
        .filter(pl.col("position") > 0, pl.all_horizontal(pl.col(_KEY).is_not_null()))
        .drop("context", "position")
    )


def _same_tokenizer(datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    for other in datasets[1:]:
        if other.tokenizer.vocabulary_sha256 != first.tokenizer.vocabulary_sha256:
            raise NotAligned(
                f"{first.name} was made with the tokenizer {first.tokenizer.name}, {other.name} with "
                f"{other.tokenizer.name}, and their vocabularies differ."
            )


def _differ(row: dict[str, object], n: int, first: str, other: str) -> NotAligned:
    return NotAligned(
        f"At item {row['item']}, item_position {row['item_position']}, {first} has the token {row['token 0']} "
        f"({row['text 0']!r}), {other} has {row[f'token {n}']} ({row[f'text {n}']!r})."
    )
