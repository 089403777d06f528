"""Zarr stores of devinterp's `sample`: losses of weights that were drawn around a checkpoint's, in the long format.

Each chain is a model, STORE-chainN after the folder STORE.zarr, and each draw a step of it, since every draw is a set
of weights. An observable's losses lie in `loss_NAME` (chain, draw, context, position − 1), the tokens it has in
`input_ids_NAME` (context, position). Of several observables, NAME is the dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trajstore.errors import BadSource, describe_error

SUFFIX = ".zarr"
_LOSSES, _IDS = "loss_", "input_ids_"
_NUMBERS = ("step", "context", "position", "token")


@dataclass(frozen=True)
class _Observable:
    """The losses of one dataset, with its tokens; arrays that are read when they are asked for."""

    name: str
    losses: Any
    ids: Any


def devinterp_reader(path: Path) -> pa.RecordBatchReader:
    """A store's rows, a batch a draw, with the tokens of position 0 that have no loss; raises `BadSource`."""
    observables = _observables(path)
    names = ("model", "dataset") if len(observables) > 1 else ("model",)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in names),
            *((name, pa.int64()) for name in _NUMBERS),
            ("loss", pa.from_numpy_dtype(observables[0].losses.dtype)),
        ]
    )
    batches = (
        pa.RecordBatch.from_pydict({name: columns[name] for name in schema.names}, schema)
        for observable in observables
        for columns in _draws(path.name.removesuffix(SUFFIX), observable)
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _observables(path: Path) -> list[_Observable]:
    """The observables of a store, by name; raises `BadSource` where it has none, or arrays that do not fit."""
    try:
        import zarr
    except ImportError as error:
        raise BadSource(f"{path} is read by zarr ({error}). Install it: pip install 'zarr>=3'") from error
    try:
        arrays: dict[str, Any] = dict(zarr.open_group(path, mode="r").arrays())
    except Exception as error:  # whatever zarr raises on what is not a store of its own
        raise BadSource(f"{path} cannot be read as devinterp: {describe_error(error)}") from error
    names = sorted(
        name.removeprefix(_LOSSES)
        for name in arrays
        if name.startswith(_LOSSES) and f"{_IDS}{name.removeprefix(_LOSSES)}" in arrays
    )
    if not names:
        raise BadSource(
            f"{path} has no losses of draws on fixed tokens: arrays {_LOSSES}NAME with {_IDS}NAME beside them, as "
            "devinterp's sample writes them for observables. Its susceptibilities are no losses."
        )
    observables = [_Observable(name, arrays[_LOSSES + name], arrays[_IDS + name]) for name in names]
    for observable in observables:
        losses, ids = observable.losses.shape, observable.ids.shape
        if len(losses) != 4 or len(ids) != 2 or losses[2:] != (ids[0], ids[1] - 1):
            raise BadSource(
                f"{path}: {_LOSSES}{observable.name} is {losses} and {_IDS}{observable.name} {ids}; they are to be "
                "(chain, draw, context, n − 1) and (context, n)."
            )
    return observables


def _draws(store: str, observable: _Observable) -> Iterator[dict[str, pa.Array]]:
    """The columns of each draw, chain by chain; a chunk of draws is read at a time, as it cannot be read in part."""
    ids = observable.ids[:]
    context, position = np.indices(ids.shape)
    tokens = {"context": context.ravel(), "position": position.ravel(), "token": ids.ravel()}
    fixed = {name: pa.array(values, pa.int64()) for name, values in tokens.items()}
    fixed["dataset"] = pa.repeat(observable.name, ids.size)
    chains, draws = observable.losses.shape[:2]
    at_once = observable.losses.chunks[1]
    for chain in range(chains):
        fixed["model"] = pa.repeat(f"{store}-chain{chain}", ids.size)
        for first in range(0, draws, at_once):
            for number, losses in enumerate(observable.losses[chain, first : first + at_once], first):
                padded = np.pad(losses, ((0, 0), (1, 0)), constant_values=np.nan)
                step = pa.repeat(pa.scalar(number, pa.int64()), ids.size)
                yield {**fixed, "step": step, "loss": pa.array(padded.ravel())}
