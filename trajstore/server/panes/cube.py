"""Brushes: curves and densities of losses, answered from a cube of counts that is made once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trajstore.pipelines.loss_cube import LossCube, loss_cells
from trajstore.server import signatures
from trajstore.server.endpoints import Ask, frames
from trajstore.store.matrix.selection import checkpoints_by_dataset

if TYPE_CHECKING:
    from starlette.routing import Route

_EVERY = "every_token"


def routes() -> list[Route]:
    """Return the routes of the cube."""
    return [frames("cube/curves", curves), frames("cube/density", density)]


def curves(ask: Ask) -> pl.DataFrame:
    """Mean and median by step of the losses between `low` and `high` nats, of `groups`; see `LossCube.curves`."""
    low, high = ask.parameters.number("low", 0.0), ask.parameters.number("high", 1e30)
    return cube(ask).curves(low, high)


def density(ask: Ask) -> pl.DataFrame:
    """Losses by bin at the steps between `first` and `last`, of `groups`; see `LossCube.density`."""
    return cube(ask).density(ask.parameters.integer("first", 0), ask.parameters.integer("last", 2**53))


def cube(ask: Ask) -> LossCube:
    """The cube of a request's selection and groups, made where it is not kept from an earlier request."""
    groups = list(dict.fromkeys(ask.parameters.groups() or [_EVERY]))
    selection = ask.parameters.selection()
    checkpoints = checkpoints_by_dataset(ask.store, selection)
    models = ask.store.models(selection.models)
    contents = signatures.selection_contents(ask.store, models, selection.datasets)
    key = signatures.etag("cube", groups, json.dumps(selection.facts), checkpoints, contents)

    def make() -> np.ndarray:
        return loss_cells(ask.store, checkpoints, groups, selection, ask.progress)

    return LossCube.of(checkpoints, groups, ask.cache.kept(key, make))
