"""Groups with a parameter, asked for by a macro's call: `position_is(500)`, without a group of that name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from trajstore.errors import GroupError
from trajstore.store.catalog import read_only
from trajstore.store.quoting import quoted

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset
    from trajstore.store.store import Store

_CALL = re.compile(r"\s*[A-Za-z_]\w*\s*\(.*\)\s*", re.DOTALL)


def is_call(group: str) -> bool:
    """Whether this is a macro's call, and not a group's name."""
    return _CALL.fullmatch(group) is not None


def check_call(store: Store, call: str) -> None:
    """Raise `QueryError` for a call that cannot run, and `GroupError` for one that gives no group."""
    given = store.sql(f"FROM {call}").columns
    if missing := [name for name in ("dataset", "context", "position") if name not in given]:
        raise GroupError(
            f"{call} is no group: one gives the columns dataset, context, position; this gives {', '.join(given)} "
            f"(without {', '.join(missing)})."
        )


def called_members(store: Store, call: str, dataset: Dataset) -> np.ndarray:
    """Rows of the dataset's tokens.parquet that a call gives, int64, ascending, each once."""
    asked = quoted(dataset.name)
    try:
        found = store.sql(
            f"SELECT DISTINCT context, position FROM (FROM {call}) WHERE dataset = {asked}"
        ).fetchnumpy()
    except duckdb.Error as error:
        raise GroupError(f"{call} cannot be computed: {read_only.explained(error)}") from error
    starts = np.cumsum(dataset.lengths) - dataset.lengths
    return np.sort(starts[found["context"]] + found["position"])
