"""The cube against counts, means and medians of the losses themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from trajstore.errors import NothingChosen, TrajstoreError
from trajstore.pipelines.loss_cube import EDGES, LossCube, bins_between, loss_cells
from trajstore.store.matrix.selection import Selection, checkpoints_by_dataset

if TYPE_CHECKING:
    from trajstore.store.store import Store

GROUPS = ["every_token", "first_half"]


@pytest.fixture
def cube(planted: Store) -> LossCube:
    checkpoints = checkpoints_by_dataset(planted, Selection())
    return LossCube.of(checkpoints, GROUPS, loss_cells(planted, checkpoints, GROUPS))


def losses_of(store: Store) -> pl.DataFrame:
    """(group, dataset, model, step, loss) of all losses, as SQL has them."""
    return pl.concat(
        store.sql(
            f"SELECT '{group}' AS \"group\", dataset, model, step, loss FROM losses SEMI JOIN groups.{group} "
            "USING (dataset, context, position)"
        ).pl()
        for group in GROUPS
    )


def test_a_brush_of_losses_gives_each_checkpoints_count_mean_and_median(
    planted: Store, cube: LossCube
) -> None:
    first, end = bins_between(7.0, 9.5)
    low, high = EDGES[first], EDGES[end]
    assert low <= 7.0 < EDGES[first + 1]
    assert EDGES[end - 1] < 9.5 <= high
    key = ["group", "dataset", "model", "step"]
    for bounds, within in (((), (0, np.inf)), ((7.0, 9.5), (low, high))):
        expected = (
            losses_of(planted)
            .filter(pl.col("loss").cast(pl.Float64).is_between(*within, closed="left"))
            .group_by(key)
            .agg(n=pl.len(), mean=pl.col("loss").cast(pl.Float64).mean(), median=pl.col("loss").median())
        )
        rows = cube.curves(*bounds).join(expected, on=key, how="full", suffix="_true")
        assert rows.height == expected.height > 30
        assert (rows["n"] == rows["n_true"]).all()
        assert np.allclose(rows["mean"], rows["mean_true"])
        off = (rows["median"] - rows["median_true"]).abs()
        assert (off <= rows["median_error"] + 1e-6).all()
        assert rows.filter(pl.col("n") % 2 == 1)["median_error"].max() < 0.1  # in one bin; else between two


def test_a_brush_of_steps_gives_the_distribution_of_losses(planted: Store, cube: LossCube) -> None:
    chosen = losses_of(planted).filter(
        pl.col("step").is_between(4, 16), model="b", dataset="e", group="first_half"
    )
    expected, _ = np.histogram(chosen["loss"].cast(pl.Float64), EDGES)
    rows = cube.density(4, 16).filter(model="b", dataset="e", group="first_half")
    assert rows["n"].to_list() == expected[expected > 0].tolist()
    assert np.array_equal(rows["low"], EDGES[:-1][expected > 0])
    assert rows["share"].sum() == pytest.approx(1)
    with pytest.raises(TrajstoreError, match="within these steps"):
        cube.density(3, 3)


def test_losses_beyond_the_last_edge_and_partial_slices_are_counted(store: Store) -> None:
    from tests.conftest import new_dataset

    dataset = store.add_dataset("d", new_dataset([["a", "b", "c"], ["a", "c"]]))
    store.append(model="m", dataset="d", step=0, losses=[0.0, 30.0, 40.0])
    store.append(model="m", dataset="d", step=1, losses=[1.0, 2.0], contexts=[0])
    assert dataset.n_losses == 3
    checkpoints = {"d": [("m", 0), ("m", 1)]}
    rows = LossCube.of(checkpoints, ["every_token"], loss_cells(store, checkpoints, ["every_token"])).curves()
    assert rows["n"].to_list() == [3, 2]
    assert rows["mean"].to_list() == pytest.approx([70 / 3, 1.5])
    assert rows["median"][0] is None
    assert abs(rows["median"][1] - 1.5) <= rows["median_error"][1]


def test_a_dataset_without_a_token_of_the_group_has_no_curve(planted: Store) -> None:
    (other, *_), of = planted.dataset_names(), planted.dataset_names()[-1]
    assert other != of
    planted.groups.add(
        "of_one", f"SELECT dataset, context, position FROM groups.every_token WHERE dataset = '{of}'"
    )
    checkpoints = checkpoints_by_dataset(planted, Selection())
    cube = LossCube.of(checkpoints, ["of_one"], loss_cells(planted, checkpoints, ["of_one"]))
    assert cube.curves()["dataset"].unique().to_list() == [of]
    assert cube.density()["dataset"].unique().to_list() == [of]
    with pytest.raises(NothingChosen, match="No token of of_one"):
        loss_cells(planted, {other: checkpoints[other]}, ["of_one"])
