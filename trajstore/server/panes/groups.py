"""The pane of groups: what groups there are, their trajectories, and drafts of new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import polars as pl
from starlette.routing import BaseRoute

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.trajectories import Comparison
from trajstore.arguments.choices import By, X
from trajstore.errors import BadOption, MissingParameter, TrajstoreError
from trajstore.pipelines.token_context import Examples, draft_examples, examples
from trajstore.pipelines.trajectory_result import trajectory
from trajstore.progress import SILENT, Progress
from trajstore.server.choice import interval_of
from trajstore.server.endpoints import Ask, frames, post
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store

EXAMPLES = 12
"""Tokens of a group that are shown with it."""
_WIDTH = 12
_EVERY = "every_token"


def routes() -> Sequence[BaseRoute]:
    """The endpoints of the pane."""
    return [
        frames(
            "group-sizes",
            lambda ask: group_list(ask.store, ask.progress),
            outside=lambda ask: ask.store.groups.stale(),
        ),
        frames("trajectories", _trajectories),
        frames("group-examples", _examples),
        post("group-draft", _draft),
        post("group-save", _save),
    ]


def _trajectories(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    by = chosen.choice("by", ("", "dataset", "model"))
    comparison = Comparison(cast("By | None", by or None), chosen.text("minus"), chosen.text("minus_model"))
    groups = chosen.groups() or [_EVERY]
    x = cast("X", chosen.choice("x", ("step", "tokens", "flops")))
    interval = interval_of(chosen, "studentised")
    return group_trajectories(ask.store, groups, chosen.selection(), comparison, interval, x, ask.progress)


def _examples(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    n, seed = chosen.integer("n", EXAMPLES, 1, 200), chosen.integer("seed", 0)
    return group_examples(
        ask.store, chosen.text("group") or _EVERY, chosen.selection(), n, seed, ask.progress
    )


def _draft(ask: Ask) -> pl.DataFrame:
    return group_draft(ask.store, _posted(ask, "sql"), ask.parameters.selection(), progress=ask.progress)


def _save(ask: Ask) -> dict[str, object]:
    if not ask.edit:
        raise TrajstoreError("This page only reads. To keep groups start it with: trajstore serve --edit")
    group = ask.store.groups.add(
        _posted(ask, "name"), _posted(ask, "sql"), str(ask.body.get("description") or "")
    )
    return {"name": group.name, "sizes": group.sizes}


def _posted(ask: Ask, name: str) -> str:
    """Return a text of the body; raises `MissingParameter` and `BadOption`."""
    value = ask.body.get(name)
    if value is None or value == "":
        raise MissingParameter("This address", {name: ""})
    if not isinstance(value, str):
        raise BadOption(name, value, "a text")
    return value


def group_list(store: Store, progress: Progress = SILENT) -> pl.DataFrame:
    """The groups with their descriptions, origins and queries, a row for each dataset in which they have tokens."""
    rows = [
        (
            group.name,
            group.description,
            group.origin,
            group.sql,
            group.stale or group.problem,
            dataset,
            tokens,
        )
        for group in store.groups.list(progress=progress)
        for dataset, tokens in (group.sizes or {"": 0}).items()
    ]
    names = ("group", "description", "origin", "sql", "problem", "dataset", "tokens")
    types = {name: pl.Int64 if name == "tokens" else pl.String for name in names}
    return pl.DataFrame(rows, schema=types, orient="row")


def group_trajectories(
    store: Store,
    groups: Sequence[str],
    selection: Selection,
    comparison: Comparison | None = None,
    interval: Interval | None = None,
    x: X = "step",
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Mean losses of groups by step, or differences of them, with intervals; the caveats are said as progress."""
    result = trajectory(store, groups, selection, comparison, interval, x, progress)
    for sentence in result.caveats:
        progress.say(sentence)
    return result.frame


def group_examples(
    store: Store,
    group: str,
    selection: Selection,
    n: int = EXAMPLES,
    seed: int = 0,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Tokens of a group, drawn at random, each in its context; the group's size is said as progress."""
    drawn = examples(store, group, n, selection.datasets, _WIDTH, seed, selection.align)
    return _shown(drawn, progress)


def group_draft(
    store: Store, query: str, selection: Selection, n: int = EXAMPLES, progress: Progress = SILENT
) -> pl.DataFrame:
    """Tokens of a query that may become a group, drawn at random; its size is said as progress, and nothing is kept."""
    return _shown(draft_examples(store, query, n, selection.datasets, _WIDTH), progress)


def _shown(drawn: Examples, progress: Progress) -> pl.DataFrame:
    sizes = ", ".join(f"{size:,} in {dataset}" for dataset, size in drawn.sizes.items())
    progress.say(f"Tokens: {sizes}." if sizes else "No token is in it.")
    of_dataset = pl.col("dataset").replace_strict(drawn.sizes, default=0, return_dtype=pl.Int64)
    return drawn.tokens.with_columns(tokens=of_dataset)
