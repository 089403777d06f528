"""Puts losses into a store: checked, published whole, and never over a slice that is there unless on purpose.

A complete slice takes a free path or that of a partial one. Losses of some contexts only are added to those that a
partial slice has, if they agree where both have them. Whoever replaces a file holds a lock on it meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trajstore.arguments.spelling import option
from trajstore.errors import BadLosses, LossesDiffer, SliceExists, runs
from trajstore.progress import stage
from trajstore.schema import LOWEST_LOSS, PASS_COLUMNS
from trajstore.store import loss_limits
from trajstore.store.disk import layout
from trajstore.store.files import slices
from trajstore.store.files.datasets import Dataset
from trajstore.store.files.slices import Provenance, SliceFacts


def append(
    root: Path,
    model: str,
    dataset: Dataset,
    step: int,
    losses: Sequence[Any] | np.ndarray,
    provenance: Provenance,
    *,
    contexts: Sequence[int] | np.ndarray | None = None,
    columns: Mapping[str, Any] | None = None,
    replace_existing: bool = False,
    allow_large: bool = False,
) -> Path:
    """Check losses and publish them as a slice, or as those of its `contexts`; returns the slice's path.

    `columns` are kept beside the losses of all contexts: rank, entropy. `allow_large` takes losses that are too large
    to be nats for the dataset's vocabulary.

    Raises `BadLosses`, `SliceExists` where the path is taken by a complete slice, and `LossesDiffer` where losses of
    `contexts` are not those of the partial slice there.
    """
    path = layout.unlinked(layout.slice_path(root, model, dataset.name, step))
    if not replace_existing and slices.is_complete(path):
        raise SliceExists(model, dataset.name, step)
    what = f"{model} on {dataset.name} at step {step}"
    chosen = None if contexts is None else _ascending(contexts, dataset, what)
    flat = flat_losses(losses, dataset, provenance.dtype, what, chosen)
    if not allow_large and (large := loss_limits.hardly_nats(flat, dataset.tokenizer.size)) is not None:
        raise BadLosses(
            f"{what}: these losses are hardly nats: {large}. Nothing was written: {loss_limits.OTHER_UNITS}, and "
            f"losses that are right as they are want {option('allow_large', True)}."
        )
    if provenance.time is None:
        provenance = replace(provenance, time=datetime.now(UTC).isoformat(timespec="seconds"))
    kept = _checked_columns(columns or {}, dataset, what, chosen is not None)
    new = _New(path, (model, dataset.name, step), dataset, provenance, kept)
    values = flat if chosen is None else _spread(flat, chosen, dataset)
    with stage("encode"):
        data = new.encode(values)
    while path.exists() or not layout.publish(root, path, data):
        with contextlib.suppress(FileNotFoundError), held(path):  # it may have been dropped meanwhile
            if chosen is not None:
                data = new.encode(new.merged(values, replace_existing))
            elif not replace_existing and slices.is_complete(path):
                raise SliceExists(model, dataset.name, step)
            layout.publish(root, path, data, replace=True)
            break
    return path


def flat_losses(
    losses: Sequence[Any] | np.ndarray,
    dataset: Dataset,
    dtype: str,
    what: str,
    contexts: np.ndarray | None = None,
) -> np.ndarray:
    """Losses as one float32 array in canonical order, checked; raises `BadLosses` naming the first bad place.

    Takes a flat array or one array a context (n_tokens − 1 each); anything numpy can read as numbers, and torch
    tensors; not masked arrays, whose gaps would be lost. `dtype` is that of the forward pass: it decides how far
    below zero rounding can lead. `contexts` are those that the losses are of, ascending; all by default.
    """
    numbers = np.arange(dataset.n_contexts) if contexts is None else contexts
    wanted = dataset.lengths[numbers] - 1

    def of() -> str:
        return dataset.name if contexts is None else f"contexts {runs(contexts)} of {dataset.name}"

    losses = _detached(losses)
    if len(losses) and np.ndim(losses[0]) == 1:
        parts = [_numbers(part, what) for part in losses]
        if any(part.ndim != 1 for part in parts):
            raise BadLosses(f"{what}: the losses of each context must be one flat array.")
        lengths = np.array([len(part) for part in parts])
        if len(parts) != len(numbers):
            raise BadLosses(f"{what}: losses of {len(parts)} contexts; {of()} has {len(numbers)}.")
        if (wrong := np.flatnonzero(lengths != wanted)).size:
            first = int(wrong[0])
            raise BadLosses(
                f"{what}: context {numbers[first]} has {lengths[first]} losses; its {wanted[first] + 1} tokens have "
                f"{wanted[first]} (position 0 is not predicted)."
            )
        flat = np.concatenate(parts)
    else:
        flat = _numbers(losses, what)
    if flat.ndim != 1 or len(flat) != wanted.sum():
        raise BadLosses(
            f"{what}: an array of shape {flat.shape}; {of()} has {wanted.sum()} losses "
            f"({wanted.sum() + len(numbers)} tokens less the first of each of its {len(numbers)} contexts)."
        )
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused below
        flat = flat.astype(np.float32)
    if (bad := np.flatnonzero(~loss_limits.possible(flat, dtype))).size:
        row = int(bad[0]) if contexts is None else int(np.flatnonzero(dataset.losses_in(contexts))[bad[0]])
        context, position = dataset.site_of_loss(row)
        raise BadLosses(
            f"{what}: {len(bad)} of {len(flat)} losses cannot be right; the first is {flat[bad[0]]!s} at context "
            f"{context}, position {position} ({loss_limits.rule(dtype, flat[bad[0]])}). Nothing was written."
        )
    return flat


def _detached(values: Any) -> Any:
    """Tensors, alone or in a list, as numpy can read them: on the CPU, outside of any graph, bfloat16 as float32."""
    if isinstance(values, list | tuple):
        return [_detached(value) for value in values] if any(map(_is_tensor, values)) else values
    if not _is_tensor(values):
        return values
    plain = values.detach().cpu()
    return plain.float() if str(plain.dtype) == "torch.bfloat16" else plain


def _is_tensor(value: object) -> bool:
    return hasattr(value, "detach")


def _numbers(values: Any, what: str) -> np.ndarray:
    """Values as an array of whole or floating numbers; raises `BadLosses` for any other kind."""
    masked = isinstance(values, np.ma.MaskedArray)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise BadLosses(f"{what}: these are not losses: {error}.") from error
    if masked or array.dtype.kind not in "iuf":
        kind = "a masked array" if masked else f"an array of {array.dtype}"
        raise BadLosses(f"{what}: {kind}; losses are plain numbers (nats), one of each token predicted.")
    return array


def check_agreement(
    slice_: tuple[str, str, int], dataset: Dataset, have: np.ndarray, new: np.ndarray
) -> None:
    """Raise `LossesDiffer` unless two float32 (n_losses,) are equal to the bit wherever neither is NaN."""
    both = ~(np.isnan(have) | np.isnan(new))
    differ = np.flatnonzero(both & (have.view(np.uint32) != new.view(np.uint32)))
    if differ.size:
        first = int(differ[0])
        place = dataset.site_of_loss(first)
        raise LossesDiffer(slice_, place, (str(have[first]), str(new[first])), (differ.size, int(both.sum())))


def _checked_columns(
    columns: Mapping[str, Any], dataset: Dataset, what: str, partial: bool
) -> dict[str, np.ndarray]:
    """Return the columns beside the losses as arrays (n_losses,) of their dtype; raises `BadLosses`."""
    if columns and partial:
        raise BadLosses(f"{what}: {', '.join(columns)} can only be kept beside the losses of all contexts.")
    kept = {}
    for name, column in columns.items():
        if name not in PASS_COLUMNS:
            raise BadLosses(
                f"{what}: {name!r} is not kept beside the loss; there are {', '.join(PASS_COLUMNS)}."
            )
        column = _detached(column)
        nested = len(column) and np.ndim(column[0]) == 1
        values = (
            np.concatenate([_numbers(part, what) for part in column]) if nested else _numbers(column, what)
        )
        if values.shape != (dataset.n_losses,):
            raise BadLosses(
                f"{what}: {name} has the shape {values.shape}; it takes one number for each of the "
                f"{dataset.n_losses} losses."
            )
        if not np.isfinite(values).all() or values.min() < (0 if name == "rank" else LOWEST_LOSS["float32"]):
            raise BadLosses(
                f"{what}: {name} has numbers that are not finite, or below 0. Nothing was written."
            )
        kept[name] = values.astype(PASS_COLUMNS[name])
    return kept


@dataclass(frozen=True)
class _New:
    """A slice to be published under one path."""

    path: Path
    key: tuple[str, str, int]
    """Model, dataset and step."""
    dataset: Dataset
    provenance: Provenance
    columns: Mapping[str, np.ndarray]

    def encode(self, values: np.ndarray) -> memoryview:
        """The file of a slice with these losses, float32 (n_losses,); NaN in the contexts that it lacks."""
        present = ~np.isnan(values)
        partial = not present.all()
        flat = values[present] if partial else values
        facts = SliceFacts(
            *self.key,
            rows=len(flat),
            tokens_sha256=self.dataset.tokens_sha256,
            loss_sha256=slices.hash_losses(flat),
            provenance=self.provenance,
            partial=partial,
        )
        context, position = self.dataset.loss_keys
        keys = (context[present], position[present]) if partial else (context, position)
        return slices.encode_slice(flat, keys, facts, self.columns)

    def merged(self, values: np.ndarray, replace_existing: bool) -> np.ndarray:
        """The losses with those of the slice that is there in the contexts that they lack.

        Raises `SliceExists` where it is complete and `LossesDiffer` where it has others, both unless
        `replace_existing`; `BadLosses` where the two came about in different ways.
        """
        facts, have = slices.read_checked(self.path, self.dataset)
        if not replace_existing:
            if not facts.partial:
                raise SliceExists(*self.key)
            check_agreement(self.key, self.dataset, have, values)
        for name in ("weights", "dtype", "vocab"):
            old, new = getattr(facts.provenance, name), getattr(self.provenance, name)
            if old != new:
                raise BadLosses(
                    "{} on {} at step {}: ".format(*self.key)
                    + f"the losses there have {name} {old}, these have {new}; one slice cannot hold both. Drop the "
                    "slice first (trajstore drop), or give all its contexts at once."
                )
        return np.where(np.isnan(values), have, values)


def _ascending(contexts: Sequence[int] | np.ndarray, dataset: Dataset, what: str) -> np.ndarray:
    """Numbers of contexts as int64, if they are ascending and the dataset's; raises `BadLosses`."""
    numbers = np.asarray(contexts, dtype=np.int64)
    if (
        not len(numbers)
        or (np.diff(numbers) < 1).any()
        or numbers[0] < 0
        or numbers[-1] >= dataset.n_contexts
    ):
        raise BadLosses(
            f"{what}: contexts must be numbers of {dataset.name}'s contexts, 0 to {dataset.n_contexts - 1}, ascending "
            "and each once."
        )
    return numbers


def _spread(flat: np.ndarray, contexts: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Losses of some contexts as float32 (n_losses,), NaN elsewhere."""
    values = np.full(dataset.n_losses, np.nan, dtype=np.float32)
    values[dataset.losses_in(contexts)] = flat
    return values


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """A lock on the file that has this name, so that of several who would replace it each sees the other's.

    Raises `FileNotFoundError` where the name is free.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR)  # over NFS a lock wants a file open for writing
        except PermissionError:
            descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                yield
                return
        finally:
            os.close(descriptor)
