"""Tokens shown with a little of their context, for people to read; and examples of a group, drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from trajstore.arguments import defaults
from trajstore.arguments.choices import Align
from trajstore.display import Brief
from trajstore.errors import BadOption, GroupError, NotScored, UnknownStep, listed
from trajstore.store.disk import layout
from trajstore.store.groups.trial import draft
from trajstore.store.matrix.matrix import check_align
from trajstore.store.matrix.steps import resolve
from trajstore.store.queries import named_queries, query
from trajstore.store.queries.named_queries import NamedQuery
from trajstore.text import join_around

if TYPE_CHECKING:
    from trajstore.store.store import Store


@dataclass(frozen=True, repr=False)
class Examples(Brief):
    """Some tokens of a group."""

    group: str
    description: str
    sizes: dict[str, int]
    """Tokens of the group in each dataset that has any; aligned `after`, tokens that follow one."""
    align: Align
    seed: int
    checkpoint: tuple[str, int] | None
    """(model, step) of the losses."""
    tokens: pl.DataFrame
    """dataset (String), context, position (Int32), loss (Float32, nats, null where there is none; absent without a
    checkpoint), text, before, marked, after (String, see `with_context`); in this order of rows."""


def examples(
    store: Store,
    group: str,
    n: int = defaults.EXAMPLES,
    datasets: str | Sequence[str] | None = None,
    width: int = defaults.EXAMPLE_WIDTH,
    seed: int = 0,
    align: Align = "predict",
    checkpoint: str | None = None,
) -> Examples:
    """`n` tokens of a group, from as many datasets (names or globs, all by default) and contexts as can be.

    They are drawn in SQL, whatever the group's size, and are the same for the same seed. Aligned `after` they are the
    tokens that follow the group's. `checkpoint` is MODEL or MODEL@STEP, by default the last step, and gives their
    losses. Raises `UnknownName`, `UnknownStep`, `NotScored`, `BadOption`, `QueryError` for a group that cannot be
    computed, and `GroupError` for one that names a place which does not exist.
    """
    draw = _draw(n, width, align)
    parameters = {"group": group, "align": align, "datasets": datasets, "n": n, "seed": seed}
    bound = named_queries.bind(store, store.groups, draw, parameters)
    sizes, drawn = _drawn(store, group, draw, bound)
    chosen = None if checkpoint is None or not sizes else checkpoint_named(store, checkpoint, list(sizes))
    if chosen is not None:
        drawn = drawn.with_columns(_losses(store, drawn, *chosen))
    description = store.groups.description(group)
    return Examples(group, description, sizes, align, seed, chosen, with_context(store, drawn, width))


def draft_examples(
    store: Store,
    query: str,
    n: int = defaults.EXAMPLES,
    datasets: str | Sequence[str] | None = None,
    width: int = defaults.EXAMPLE_WIDTH,
    seed: int = 0,
) -> Examples:
    """The same of a query that may become a group; nothing is added. Raises `GroupError` where it cannot."""
    draw = _draw(n, width, "predict")
    group = draft(store, query)
    parameters = {"group": "every_token", "datasets": datasets, "n": n, "seed": seed}
    bound = {**named_queries.bind(store, store.groups, draw, parameters), "group": group.name}
    sizes, drawn = _drawn(store, "draft", draw, bound)
    return Examples(
        "draft", group.description, sizes, "predict", seed, None, with_context(store, drawn, width)
    )


def _draw(n: int, width: int, align: Align) -> NamedQuery:
    """The query that draws tokens of a group; raises `BadOption` for what it cannot draw."""
    check_align(align)
    if n < 1:
        raise BadOption("n", n, "at least one token")
    if width < 0:
        raise BadOption("width", width, "no negative width")
    return named_queries.find_query("group_examples")


def _drawn(
    store: Store, group: str, draw: NamedQuery, parameters: Mapping[str, Any]
) -> tuple[dict[str, int], pl.DataFrame]:
    """Tokens by dataset, and the sites that were drawn; raises `GroupError` for one that does not exist."""
    rows, _ = query.frame(store, draw.sql, parameters=parameters)
    sizes = dict(rows.select("dataset", "tokens").unique(maintain_order=True).iter_rows())
    drawn = rows.drop("tokens").drop_nulls()
    for dataset, context, position in drawn.iter_rows():
        _check_place(store, group, dataset, context, position)
    return sizes, drawn.cast({"context": pl.Int32, "position": pl.Int32})


def with_context(store: Store, sites: pl.DataFrame, width: int = 8) -> pl.DataFrame:
    """The rows of `sites` (dataset, context, position, …) with columns text, before, marked and after.

    `text` is the token's own. `marked` is the same, but has the whole of a character of which the token holds a byte.
    `before` and `after` are the texts of up to `width` tokens on either side, without what is marked.
    """
    texts = {name: store.dataset(name).frame(["text"])["text"] for name in sites["dataset"].unique()}
    rows = []
    for dataset, context, position in sites.select("dataset", "context", "position").iter_rows():
        of_context = texts[dataset].slice(*_extent(store, dataset, context))
        first = max(0, position - width)
        pieces = of_context[first : position + 1 + width].to_list()
        at = position - first
        rows.append((pieces[at], *join_around(pieces[:at], pieces[at], pieces[at + 1 :])))
    names = ["text", "before", "marked", "after"]
    made = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return sites.with_columns(made.get_columns())


def _extent(store: Store, dataset: str, context: int) -> tuple[int, int]:
    """Return the first row of a context in tokens.parquet, and its number of tokens."""
    lengths = store.dataset(dataset).lengths
    return int(lengths[:context].sum()), int(lengths[context])


def _check_place(store: Store, group: str, dataset: str, context: int, position: int) -> None:
    """Raise `GroupError` for a place that does not exist."""
    lengths = store.dataset(dataset).lengths
    if not (0 <= context < len(lengths) and 0 <= position < lengths[context]):
        raise GroupError(
            f"The group {group!r} names context {context}, position {position} of {dataset}, which does not exist."
        )


def checkpoint_named(store: Store, spelling: str, datasets: Sequence[str]) -> tuple[str, int]:
    """(model, step) meant by MODEL or MODEL@STEP, among the steps on these datasets."""
    name, _, step = spelling.partition("@")
    models = store.models(name)
    every = [number for model in models for dataset in datasets for number in store.steps(model, dataset)]
    if not every:
        raise NotScored(models, datasets, store.scored())
    try:
        chosen = resolve(step or "last", every, listed(models))
    except UnknownStep as error:
        raise UnknownStep(error.part, listed(models), error.near, model=name) from None
    if len(models) > 1 or len(chosen) > 1:
        raise BadOption("loss", spelling, "one checkpoint, MODEL or MODEL@STEP")
    return models[0], chosen[0]


def _losses(store: Store, sites: pl.DataFrame, model: str, step: int) -> pl.Series:
    """The loss of each site at a checkpoint, float32, null where there is none."""
    values: list[float | None] = []
    of_dataset: dict[str, np.ndarray | None] = {}
    for dataset, context, position in sites.select("dataset", "context", "position").iter_rows():
        if dataset not in of_dataset:
            is_scored = layout.slice_path(store.path, model, dataset, step).exists()
            of_dataset[dataset] = store.slice_losses(model, dataset, step) if is_scored else None
        losses = of_dataset[dataset]
        # A slice has no row for a position 0: one less for each context begun.
        row = _extent(store, dataset, context)[0] + position - context - 1
        values.append(None if losses is None or position == 0 else float(losses[row]))
    return pl.Series("loss", values, pl.Float32).fill_nan(None)
