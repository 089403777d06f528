"""The tokens pane: one context's tokens, their losses and how these differ, and one token's trajectory everywhere."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import polars as pl
from starlette.routing import BaseRoute

from trajstore.analysis.differences import Pair, Scale, difference, pairs_of_models, stepwise
from trajstore.arguments import defaults
from trajstore.errors import BadOption, NothingChosen, UnknownName
from trajstore.pipelines.differences.differences import noise_of_slices
from trajstore.progress import SILENT, Progress
from trajstore.schema import PASS_COLUMNS
from trajstore.server.cache import LOSS, DatasetFiles, SliceCache
from trajstore.server.endpoints import Ask, frames
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.items import align_items
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

Of = Literal["steps", "models", "prompts"]
_FEW = 4
"""Checkpoints up to which ranks and entropies are given with the losses without being asked for."""
_Rows = Mapping[tuple[str, int], np.ndarray]


def routes() -> Sequence[BaseRoute]:
    """The endpoints of the pane."""
    return [
        frames("context", _context, of_slices=False),
        frames("tokens", _tokens, of_chosen=("models", "datasets", "dataset")),
        frames("token_differences", _differences, of_chosen=("models", "datasets", "dataset")),
        frames("token", _token, of_chosen=("models", "datasets", "dataset")),
        frames("neighbours", _neighbours, of_chosen=("models", "model", "datasets", "dataset")),
    ]


def _context(ask: Ask) -> pl.DataFrame:
    return context_tokens(ask.store, ask.parameters.dataset(), ask.parameters.integer("context"))


def _tokens(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    return token_losses(
        ask.store,
        ask.cache,
        chosen.selection(),
        chosen.dataset(),
        chosen.integer("context"),
        chosen.names("columns"),
        ask.progress,
    )


def _differences(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    of = chosen.choice("of", ("steps", "models", "prompts"))
    scale = Scale(
        chosen.choice("scale", ("absolute", "relative")) == "relative",
        chosen.number("least", defaults.LEAST),
    )
    context, threshold = chosen.integer("context"), chosen.number("threshold", 0.0)
    if of == "prompts":
        return prompt_differences(
            ask.store, ask.cache, chosen.selection(), context, scale, threshold, ask.progress
        )
    return token_differences(
        ask.store,
        ask.cache,
        "models" if of == "models" else "steps",
        chosen.selection(),
        chosen.dataset(),
        context,
        scale,
        threshold,
        ask.progress,
    )


def _token(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    return trajectory(
        ask.store,
        ask.cache,
        chosen.selection(),
        chosen.dataset(),
        (chosen.integer("context"), chosen.integer("position")),
        ask.progress,
    )


def _neighbours(ask: Ask) -> pl.DataFrame:
    chosen = ask.parameters
    return neighbours(
        ask.store,
        ask.cache,
        chosen.model(),
        chosen.dataset(),
        (chosen.integer("context"), chosen.integer("position")),
        chosen.text("steps") or "log",
        chosen.integer("n", 20, 1, 1000),
        ask.progress,
    )


def require_context(store: Store, dataset: str, context: int) -> slice:
    """Return the rows of a context in tokens.parquet; raises `UnknownName`."""
    offsets = store.dataset(dataset).offsets
    if not 0 <= context < len(offsets) - 1:
        raise UnknownName("context", str(context), [f"0–{len(offsets) - 2}"])
    return slice(int(offsets[context]), int(offsets[context + 1]))


def context_tokens(store: Store, dataset: str, context: int) -> pl.DataFrame:
    """The tokens of a context, position 0 too: position, token_id, token, item, item_position, role."""
    rows = require_context(store, dataset, context)
    return token_frame(store, dataset)[rows].rename({"token": "token_id", "text": "token"})


def token_frame(store: Store, dataset: str) -> pl.DataFrame:
    """All tokens of a dataset, as `Dataset.frame` gives them; those of the last ones are kept for all sessions."""
    return _frame(DatasetFiles(store.dataset(dataset)))


@functools.lru_cache(maxsize=2)
def _frame(files: DatasetFiles) -> pl.DataFrame:
    return files.dataset.frame(["position", "token", "text", "item", "item_position", "role"])


def token_losses(
    store: Store,
    cache: SliceCache,
    selection: Selection,
    dataset: str,
    context: int,
    columns: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The losses of a context's tokens at the selection's checkpoints: model, step, position, loss, NaN where none is.

    And rank and entropy, of `columns` if given, else of a few checkpoints where they are kept. By model, step and
    position, the last from 1. Raises `UnknownName`, `NotScored`, `UnknownStep`, `BadSteps`.
    """
    require_context(store, dataset, context)
    rows = _checkpoints(store, selection, dataset)
    names = [LOSS, *(PASS_COLUMNS if len(rows) <= _FEW else ())] if columns is None else list(columns)
    if unknown := set(names) - {LOSS, *PASS_COLUMNS}:
        raise BadOption("columns", min(unknown), f"{LOSS}, {', '.join(PASS_COLUMNS)}")
    values = {
        name: _stacked(_rows(store, cache, dataset, rows, context, progress, name), rows) for name in names
    }
    kept = [name for name in names if name == LOSS or columns or not np.isnan(values[name]).all()]
    n = next(iter(values.values())).shape[1]
    return _long(rows, n).with_columns(pl.Series(name, values[name].ravel()) for name in kept)


def token_differences(
    store: Store,
    cache: SliceCache,
    of: Literal["steps", "models"],
    selection: Selection,
    dataset: str,
    context: int,
    scale: Scale | None = None,
    threshold: float = 0.0,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Differences of a context's losses: each step less the one before, or the selection's second model less its first.

    Columns model, step, minus_model, minus_step, position, minus_loss, loss, difference (of the `scale`), noise (nats,
    NaN where it was not measured), equal (no more nats than the noise and the threshold). Raises as `token_losses`,
    and `NothingChosen` where there are no two checkpoints.
    """
    require_context(store, dataset, context)
    rows = _checkpoints(store, selection, dataset)
    if of == "steps":
        pairs = stepwise(rows)
    else:
        first, second = _two("models", list(dict.fromkeys(model for model, _ in rows)))
        shared = {step for model, step in rows if model == first} & {
            step for model, step in rows if model == second
        }
        pairs = pairs_of_models(sorted(shared), first, second)
    if not pairs:
        raise NothingChosen(
            "There are no two checkpoints to compare here. Choose more steps, or other models."
        )
    losses = _rows(store, cache, dataset, rows, context, progress)
    return _compared(store, pairs, (dataset, dataset), (losses, losses), scale, threshold)


def prompt_differences(
    store: Store,
    cache: SliceCache,
    selection: Selection,
    context: int,
    scale: Scale | None = None,
    threshold: float = 0.0,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """Differences of a context's losses in the selection's second dataset less those of the same items in its first.

    Columns as `token_differences`, minus_context and minus_position. Raises as it, and `NotAligned`.
    """
    first, second = _two("datasets", selection.datasets or ())
    require_context(store, second, context)
    (before, after), _ = align_items([store.dataset(first), store.dataset(second)], None)
    here = after.contexts == context
    contexts = before.contexts[here]
    positions = before.tokens[here] - before.dataset.offsets[contexts]
    position = after.tokens[here] - after.dataset.offsets[context]
    if not len(position):
        raise NothingChosen(f"No token of context {context} of {second} is in an item of {first}.")
    rows = [
        row
        for row in _checkpoints(store, selection, second)
        if row[1] in store.steps(row[0], first) and row[1] in store.steps(row[0], second)
    ]
    if not rows:
        raise NothingChosen(f"No model has a step on both {first} and {second}.")
    losses = _rows(store, cache, second, rows, context, progress)
    minus = {row: np.full(len(position), np.nan, dtype=np.float32) for row in rows}
    for number in np.unique(contexts):
        there = contexts == number
        for row, values in _rows(store, cache, first, rows, int(number), progress).items():
            minus[row][there] = values[positions[there] - 1]
    pairs = [Pair(model, step, model, step) for model, step in rows]
    taken = {row: values[position - 1] for row, values in losses.items()}
    frame = _compared(store, pairs, (second, first), (taken, minus), scale, threshold)
    return frame.with_columns(
        position=np.tile(position.astype(np.int32), len(rows)),
        minus_context=np.tile(contexts.astype(np.int32), len(rows)),
        minus_position=np.tile(positions.astype(np.int32), len(rows)),
    )


def trajectory(
    store: Store,
    cache: SliceCache,
    selection: Selection,
    dataset: str,
    site: tuple[int, int],
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The loss of one token, at `site` (context, position), at the selection's checkpoints: model, step, loss."""
    context, position = _site(store, dataset, site)
    rows = _checkpoints(store, selection, dataset)
    losses = _rows(store, cache, dataset, rows, context, progress)
    return (
        _long(rows, 1)
        .drop("position")
        .with_columns(loss=np.array([losses[row][position - 1] for row in rows], dtype=np.float32))
    )


def neighbours(
    store: Store,
    cache: SliceCache,
    model: str,
    dataset: str,
    site: tuple[int, int],
    steps: str = "log",
    n: int = 20,
    progress: Progress = SILENT,
) -> pl.DataFrame:
    """The `n` tokens of a dataset whose losses over these steps of a model are nearest to those of one token.

    Columns dataset, context, position, token, distance: the root mean square of the differences, in nats. Tokens that
    lack a loss at one of the steps are left out, and so is the token itself. Raises as `token_losses`.
    """
    context, position = _site(store, dataset, site)
    of = store.dataset(dataset)
    row = int(of.offsets[context]) + position - context - 1
    rows = _checkpoints(store, Selection([dataset], [model], steps), dataset)
    total = np.zeros(of.n_losses, dtype=np.float64)
    for _, step in rows:
        progress.advance(0)
        losses = cache.slice(store, model, dataset, step)
        total += np.square(losses - losses[row], dtype=np.float64)
    distance = np.sqrt(total / len(rows))
    distance[row] = np.nan
    known = np.flatnonzero(~np.isnan(distance))
    nearest = known[np.argsort(distance[known], kind="stable")[:n]]
    contexts, positions = (keys[nearest] for keys in of.loss_keys)
    texts = token_frame(store, dataset)["text"][of.tokens_at(contexts, positions)]
    return pl.DataFrame(
        {
            "dataset": pl.Series([dataset] * len(nearest), dtype=pl.String),
            "context": contexts,
            "position": positions,
            "token": texts,
            "distance": distance[nearest],
        }
    )


def _checkpoints(store: Store, selection: Selection, dataset: str) -> list[tuple[str, int]]:
    """(model, step) of the selection's checkpoints on a dataset, in the order in which its models are named."""
    rows = checkpoints(store.scored(selection.models), [dataset], selection.models, selection.steps)
    order = {name: number for number, name in enumerate(selection.models or ())}
    return sorted(rows, key=lambda row: order.get(row[0], len(order)))


def _rows(
    store: Store,
    cache: SliceCache,
    dataset: str,
    rows: Sequence[tuple[str, int]],
    context: int,
    progress: Progress,
    column: str = LOSS,
) -> _Rows:
    """A context's losses by (model, step), float32 (tokens but the first,)."""
    found = {}
    for model in dict.fromkeys(model for model, _ in rows):
        steps = [step for name, step in rows if name == model]
        values = cache.context(store, model, dataset, steps, context, column, progress)
        found.update({(model, step): of_step for step, of_step in zip(steps, values, strict=True)})
    return found


def _stacked(losses: _Rows, rows: Sequence[tuple[str, int]]) -> np.ndarray:
    return np.stack([losses[row] for row in rows])


def _names(names: Sequence[str]) -> pl.Enum:
    """A type of names that repeat, which is a number each in Arrow."""
    return pl.Enum(list(dict.fromkeys(names)))


def _long(rows: Sequence[tuple[str, int]], n: int) -> pl.DataFrame:
    """Labels of `n` tokens at each checkpoint: model, step, position from 1."""
    models = [model for model, _ in rows]
    numbers = np.repeat(np.arange(len(rows)), n)
    return pl.DataFrame(
        {
            "model": pl.Series(models, dtype=_names(models))[numbers],
            "step": np.array([step for _, step in rows], dtype=np.int64)[numbers],
            "position": np.tile(np.arange(1, n + 1, dtype=np.int32), len(rows)),
        }
    )


def _compared(
    store: Store,
    pairs: Sequence[Pair],
    datasets: tuple[str, str],
    losses: tuple[_Rows, _Rows],
    scale: Scale | None,
    threshold: float,
) -> pl.DataFrame:
    """The rows of pairs, whose losses are of (the second, the first) of the datasets."""
    later = np.stack([losses[0][pair.model, pair.step] for pair in pairs])
    before = np.stack([losses[1][pair.minus_model, pair.minus_step] for pair in pairs])
    noise = noise_of_slices(
        store, sorted({name for pair in pairs for name in (pair.model, pair.minus_model)})
    )
    floors = [
        max(
            noise.get((pair.model, pair.step, datasets[0]), np.nan),
            noise.get((pair.minus_model, pair.minus_step, datasets[1]), np.nan),
            key=lambda value: -1.0 if np.isnan(value) else value,
        )
        for pair in pairs
    ]
    least = np.maximum(np.nan_to_num(np.array(floors)), threshold)[:, None]
    n = later.shape[1]
    labels = _long([(pair.model, pair.step) for pair in pairs], n)
    numbers = np.repeat(np.arange(len(pairs)), n)
    minus = [pair.minus_model for pair in pairs]
    return labels.select(
        "model",
        "step",
        pl.Series("minus_model", minus, dtype=_names(minus))[numbers],
        pl.Series("minus_step", [pair.minus_step for pair in pairs], dtype=pl.Int64)[numbers],
        "position",
        pl.Series("minus_loss", before.ravel()),
        pl.Series("loss", later.ravel()),
        pl.Series("difference", difference(later, before, scale).ravel()),
        pl.Series("noise", np.array(floors, dtype=np.float32)[numbers]),
        pl.Series("equal", (np.abs(difference(later, before)) <= least).ravel()),
    )


def _two(name: str, values: Sequence[str]) -> tuple[str, str]:
    if len(values) != 2:
        raise BadOption(name, ",".join(values), "two, of which the second is compared with the first")
    return values[0], values[1]


def _site(store: Store, dataset: str, site: tuple[int, int]) -> tuple[int, int]:
    """A site that has a loss; raises `UnknownName`."""
    context, position = site
    tokens = require_context(store, dataset, context)
    if not 1 <= position < tokens.stop - tokens.start:
        raise UnknownName("position", str(position), [f"1–{tokens.stop - tokens.start - 1}"])
    return site
