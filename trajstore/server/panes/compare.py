"""The pane that compares two checkpoints: the density of their losses, tokens in a part of it, groups, convergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from starlette.routing import BaseRoute

from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.errors import BadOption, NothingChosen
from trajstore.pipelines.comparison.comparison import compare, density
from trajstore.pipelines.comparison.result import Question
from trajstore.pipelines.differences.differences import read
from trajstore.pipelines.groups.enrichment import enriched
from trajstore.pipelines.token_context import checkpoint_named, with_context
from trajstore.progress import SILENT, Progress
from trajstore.server.choice import interval_of
from trajstore.server.endpoints import Ask, frames
from trajstore.store.matrix.matrix import Sites, column_labels
from trajstore.store.matrix.selection import Selection, none_with_loss, sites_in

if TYPE_CHECKING:
    from trajstore.store.store import Store

TOKENS = 200
"""Of a box that are shown."""
_WIDTH = 10


def routes() -> Sequence[BaseRoute]:
    """The endpoints of the pane; `one` and `other` are MODEL@STEP, or MODEL for its last step."""
    return [
        frames("density", lambda ask: loss_density(_pair(ask))),
        frames(
            "box-tokens",
            lambda ask: tokens_in_box(
                ask.store, _pair(ask), _box(ask), ask.parameters.integer("n", TOKENS, 1, 2000)
            ),
        ),
        frames(
            "box-groups",
            lambda ask: groups_in_box(
                ask.store, _pair(ask), _box(ask), interval_of(ask.parameters), ask.progress
            ),
        ),
        frames("convergence", _convergence),
    ]


def _pair(ask: Ask) -> LossPair:
    chosen = ask.parameters
    one, other = chosen.required("one"), chosen.required("other")
    return LossPair.read(ask.store, one, other, chosen.dataset(), chosen.selection())


def _box(ask: Ask) -> Box:
    ends = {
        name: -np.inf if name.endswith("low") else np.inf
        for name in ("low", "high", "other_low", "other_high")
    }
    values = {
        name: ask.parameters.number(name, end) for name, end in ends.items() if ask.parameters.text(name)
    }
    return Box(**{**ends, **values}, apart=ask.parameters.number("apart", 0.0))


def _convergence(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    models = chosen.models() or ask.store.model_names()
    return convergence(ask.store, models, chosen.selection(), interval_of(chosen), ask.progress)


@dataclass(frozen=True)
class Box:
    """Part of the plane of two checkpoints' losses, in nats; its ends are in it."""

    low: float = -np.inf
    high: float = np.inf
    """Of the first checkpoint's loss."""
    other_low: float = -np.inf
    other_high: float = np.inf
    apart: float = 0.0
    """Least |difference| of the two losses."""

    def __post_init__(self) -> None:
        """Refuse a box that nothing can be in."""
        if self.low > self.high or self.other_low > self.other_high:
            raise BadOption("box", f"{self.low}:{self.high}, {self.other_low}:{self.other_high}", "LOW:HIGH")

    def holds(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return which tokens lie in it, bool (tokens,); those without a loss (NaN) do not."""
        inside = (x >= self.low) & (x <= self.high) & (y >= self.other_low) & (y <= self.other_high)
        held: np.ndarray = inside & (np.abs(x.astype(np.float64) - y) >= self.apart)
        return held


@dataclass(frozen=True)
class LossPair:
    """The losses of two checkpoints on the tokens of one dataset."""

    checkpoints: tuple[tuple[str, int], tuple[str, int]]
    sites: Sites
    x: np.ndarray
    """Losses of the first, float32 (tokens,); NaN where a partial slice has none."""
    y: np.ndarray

    @classmethod
    def read(cls, store: Store, one: str, other: str, dataset: str, selection: Selection) -> LossPair:
        """The losses of two checkpoints, MODEL@STEP each, on the selection's group, contexts and alignment."""
        pair = checkpoint_named(store, one, [dataset]), checkpoint_named(store, other, [dataset])
        sites = sites_in(store, selection, dataset)
        if not len(sites.tokens):
            raise none_with_loss(store, selection, [selection.group or "every_token"], [dataset])
        x, y = (read(store, checkpoint, sites, "nan") for checkpoint in pair)
        return cls(pair, sites, x, y)


def loss_density(pair: LossPair) -> pl.DataFrame:
    """The number of tokens in each cell of the plane of both losses, with its ends in nats, if there are any."""
    cells = density(pair.x, pair.y)
    counts = np.array(cells.counts)
    row, column = np.nonzero(counts)
    x, y = np.array(cells.x), np.array(cells.y)
    return pl.DataFrame(
        {
            "x_low": x[column],
            "x_high": x[column + 1],
            "y_low": y[row],
            "y_high": y[row + 1],
            "tokens": counts[row, column],
        }
    )


def tokens_in_box(store: Store, pair: LossPair, box: Box, n: int = TOKENS) -> pl.DataFrame:
    """The n tokens of a box on which the two differ most, in their contexts; `in_box` is how many it holds."""
    inside = np.flatnonzero(box.holds(pair.x, pair.y))
    apart = pair.x[inside].astype(np.float64) - pair.y[inside]
    order = np.argsort(-np.abs(apart), kind="stable")[:n]
    at = inside[order]
    places = column_labels(pair.sites).select("dataset", "context", "position")[at]
    columns = {"loss": pair.x[at], "other_loss": pair.y[at], "difference": apart[order]}
    rows = places.with_columns(
        *(pl.Series(name, values, pl.Float64) for name, values in columns.items()),
        pl.lit(len(inside), pl.Int64).alias("in_box"),
    )
    return with_context(store, rows, _WIDTH)


def groups_in_box(
    store: Store,
    pair: LossPair,
    box: Box,
    interval: Interval | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The enrichment of every group among the tokens of a box; raises `NothingChosen` where it has none."""
    marked = box.holds(pair.x, pair.y)
    if not marked.any():
        raise NothingChosen("No token has losses in this part of the plane. Choose a larger one.")
    models = {model for model, _ in pair.checkpoints}
    return enriched(store, [pair.sites], marked, models, interval, progress=progress)


def convergence(
    store: Store,
    models: Sequence[str],
    selection: Selection,
    interval: Interval | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Correlations and distances of two or more models' losses at each step that all have, and with their last."""
    question = Question(groups=False, missing="nan", interval=interval or Interval())
    return compare(store, models, question, selection, progress).correlations
