"""Each check in sql/checks finds what it is for, in slices that no other check looks into, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import ragged
from trajstore import sqlfiles
from trajstore.store.store import Store

ROWS = 97


def altered(store: Store, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a slice's rows; its footer still speaks of those before."""
    path = store.path / "losses/model=b/dataset=d/step=4/slice.parquet"
    table = pq.read_table(path, partitioning=None)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def found(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """The answer of each check."""
    return {file.name: store.sql(file.body).fetchall() for file in sqlfiles.load("checks")}


def taken(*rows: int) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.take(np.array(rows))


def with_a_loss(value: float) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        losses = table["loss"].to_numpy().copy()
        losses[5] = value
        return table.set_column(2, "loss", pa.array(losses))

    return change


EVERY = tuple(range(ROWS))


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        (taken(*EVERY), {}),
        (taken(*reversed(EVERY)), {}),
        (with_a_loss(np.nan), {"losses_finite": 1}),
        (with_a_loss(np.inf), {"losses_finite": 1}),
        (taken(*EVERY, 3, 3, 96), {"losses_once": 3, "losses_have_tokens": 3}),
        (taken(*EVERY[:-1]), {"losses_have_tokens": 1}),
        # As many as there should be, one of them twice and one not at all.
        (taken(*EVERY[:-1], 0), {"losses_once": 1, "losses_have_tokens": 2}),
    ],
)
def test_a_check_counts_the_rows_that_fail_it(
    planted: Store, change: Callable[[pa.Table], pa.Table], bad: dict[str, int]
) -> None:
    altered(planted, change)
    assert found(planted) == {
        name: [("b", "d", 4, bad[name])] if name in bad else []
        for name in ("losses_finite", "losses_have_tokens", "losses_once")
    }


def test_a_long_context_is_told_position_by_position(store: Store) -> None:
    """Positions are counted 64 at a time."""
    dataset = store.add_dataset("d", ragged((300, 65, 66)))
    store.append(model="b", dataset="d", step=4, losses=np.ones(dataset.n_losses))
    assert found(store)["losses_once"] == []
    altered(store, lambda table: table.take(np.r_[0 : dataset.n_losses, 62:66, 298, 299]))
    assert found(store)["losses_once"] == [("b", "d", 4, 6)]
