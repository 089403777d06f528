"""Rows of the long format: their faults, looked for in a whole batch at once, and the first of them in words."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajstore.store import loss_limits
from trajstore.store.files import foreign_tables

if TYPE_CHECKING:
    from trajstore.importers.request import IngestRequest
    from trajstore.importers.site_index import SiteIndex

Key = tuple[str | None, int | None]
"""(model, step) of a slice; None where a row has none."""

RECORD = np.dtype([("site", "<i4"), ("loss", "<f4"), ("row", "<i8")])
"""A row once it is checked."""

NOTHING = np.iinfo(np.int64).min
"""Stands where a file has no whole number."""


@dataclass(frozen=True)
class LongRows:
    """The rows of a batch that are taken, as arrays of one length."""

    row: np.ndarray
    """Number over all files, from 0."""
    slice: np.ndarray
    """Index into `keys`."""
    keys: list[Key]
    context: np.ndarray
    """int64, as position and token."""
    position: np.ndarray
    token: np.ndarray | None
    """None where the file has no such column."""
    loss: np.ndarray
    """float32, NaN where the file has no number."""


class Fault(enum.IntEnum):
    """A fault of a row."""

    LABEL = 1
    CONTEXT = 2
    POSITION = 3
    PADDING = 4
    LOSS = 5
    TOKEN = 6


def check(rows: LongRows, sites: SiteIndex, request: IngestRequest) -> tuple[np.ndarray, np.ndarray]:
    """The fault of each row (0 for none), uint8, and the rows as records."""
    loss = rows.loss
    wrong = np.zeros(len(rows.row), dtype=np.uint8)
    known = (rows.context >= 0) & (rows.context < sites.dataset.n_contexts)
    context = np.where(known, rows.context, 0)
    fits = sites.dataset.has_sites(context, rows.position)
    position = np.where(fits, rows.position, 0)
    first = rows.position == 0
    if rows.token is not None:
        other = rows.token != sites.tokens(context, position)
        wrong[other & (rows.token != NOTHING)] = Fault.TOKEN
    sound = loss_limits.possible(loss, request.dtype)
    # The gravest last, since it is what is said.
    wrong[~first & ~sound] = Fault.LOSS
    wrong[first & ~(np.isnan(loss) | (loss == 0))] = Fault.PADDING
    wrong[~fits] = Fault.POSITION
    wrong[~known] = Fault.CONTEXT
    unlabelled = np.array([None in key for key in rows.keys])
    wrong[unlabelled[rows.slice]] = Fault.LABEL
    records = np.empty(len(rows.row), RECORD)
    records["site"] = sites.dataset.losses_at(context, position)
    records["loss"], records["row"] = loss, rows.row
    return wrong, records


def describe_fault(
    rows: LongRows, wrong: np.ndarray, bad: np.ndarray, sites: SiteIndex, request: IngestRequest
) -> str:
    """The fault of the first of the rows `bad` (indices), in words."""
    i = int(bad[0])
    context, position, loss = rows.context[i], rows.position[i], str(rows.loss[i])
    at = f"context {context}, position {position}"
    match wrong[i]:
        case Fault.LABEL:
            return "it has no model, or no whole number for a step"
        case Fault.CONTEXT:
            said = "no whole number for a context" if context == NOTHING else f"context {context}"
            return f"it has {said}; {sites.dataset.name} has contexts 0 to {len(sites.lengths) - 1}"
        case Fault.POSITION:
            said = "no whole number for a position" if position == NOTHING else f"position {position}"
            return (
                f"it has {said} in context {context}, whose positions are 0 to {sites.lengths[context] - 1}"
            )
        case Fault.PADDING:
            return f"the loss at {at} is {loss}; position 0 has none (empty, NaN or 0)"
        case Fault.LOSS:
            said = "NaN or no number" if loss == "nan" else loss
            return f"the loss at {at} is {said}; {loss_limits.rule(request.dtype, rows.loss[i])}"
    return _other_token(rows, bad[wrong[bad] == Fault.TOKEN], sites)


def _other_token(rows: LongRows, bad: np.ndarray, sites: SiteIndex) -> str:
    """The first row's token beside the dataset's, with a note where all rows have the tokens one position further."""
    assert rows.token is not None
    context, position, token = rows.context[bad], rows.position[bad], rows.token[bad]
    place = f"context {context[0]}, position {position[0]}"
    have = sites.tokens(context[:1], position[:1])[0]
    if token[0] == foreign_tables.UNREADABLE:
        return f"the token at {place} is no whole number; {sites.dataset.name} has {have} there"
    said = f"the token at {place} is {token[0]}; {sites.dataset.name} has {have} there"
    inner = sites.dataset.has_sites(context, position + 1)
    shifted = token[inner] == sites.tokens(context[inner], position[inner] + 1)
    if len(bad) > 2 and shifted.size and shifted.all():
        said += " (these tokens stand one position further: position here is that of the predicted token)"
    return said
