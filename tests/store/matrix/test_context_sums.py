"""Sums by context, against numpy over each slice's own losses, and the trajectory of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.conftest import PLANTED_LENGTHS, new_dataset
from trajstore.analysis.trajectories import SCHEMA, group_trajectory, trajectories
from trajstore.arguments.choices import Align
from trajstore.errors import MissingSlices
from trajstore.pipelines import trajectories as gather
from trajstore.store.files.datasets import CONTEXT_COLUMNS, NewDataset
from trajstore.store.matrix.context_sums import Units, context_sums
from trajstore.store.matrix.matrix import Sites, choose_sites
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

CONTEXT = np.repeat(np.arange(6), np.array(PLANTED_LENGTHS) - 1)
"""Of each row of a slice."""


def sites(
    store: Store, *groups: str, contexts: str | None = None, align: Align = "predict"
) -> dict[str, Sites]:
    """Of groups in the dataset d."""
    dataset = store.dataset("d")
    return {
        group: choose_sites(dataset, store.groups.members(group, dataset), contexts, align, pad_first=False)
        for group in groups
    }


@pytest.fixture
def grouped(planted: Store) -> Store:
    """With groups that overlap, that are apart, and that leave contexts out."""
    planted.groups.add("third", "FROM tokens WHERE token % 3 = 0")
    planted.groups.add("late", "FROM tokens WHERE position > 8 AND token % 3 <> 0")
    return planted


GROUPS = ["third", "late", "every_token"]


@pytest.mark.parametrize("groups", [["third"], ["third", "late"], GROUPS])
@pytest.mark.parametrize("threads", [1, 3])
def test_sums_are_those_of_each_slice(grouped: Store, groups: list[str], threads: int) -> None:
    rows = [("a", 4), ("b", 64), ("a", 0)]
    chosen = sites(grouped, *groups)
    found = context_sums(grouped.path, rows, chosen, threads=threads)
    assert list(found) == groups
    for group, sums in found.items():
        assert sums.dataset == "d"
        assert sums.rows.rows() == rows
        take = chosen[group].take
        inside = np.arange(len(CONTEXT)) if take is None else take
        contexts, n = np.unique(CONTEXT[inside], return_counts=True)
        assert sums.tokens.tolist() == n.tolist()
        assert sums.contexts.tolist() == contexts.tolist()
        for row, (model, step) in zip(sums.sums, rows, strict=True):
            losses = grouped.slice_losses(model, "d", step)[inside].astype(np.float64)
            expected = [losses[CONTEXT[inside] == context].sum() for context in contexts]
            np.testing.assert_allclose(row, expected, rtol=1e-12)


@pytest.mark.parametrize("align", ["predict", "after"])
@pytest.mark.parametrize("contexts", [None, "2:5"])
def test_trajectories_are_those_of_matrices(grouped: Store, align: Align, contexts: str | None) -> None:
    selection = Selection(["d", "e"], ["b", "a"], "0:16", contexts, align)
    frame = gather.trajectories(grouped, GROUPS, selection)
    assert frame.columns == ["group", *SCHEMA]
    assert frame["group"].unique(maintain_order=True).to_list() == GROUPS
    for group in GROUPS:
        for dataset in ("d", "e"):
            matrix = grouped.matrix(dataset, ["b", "a"], group, "0:16", contexts, align=align)
            assert_frame_equal(
                frame.filter(group=group, dataset=dataset).drop("group"),
                group_trajectory(matrix),
                rel_tol=1e-12,
            )


def test_a_context_that_a_slice_lacks_has_no_sum(grouped: Store) -> None:
    losses = grouped.slice_losses("a", "d", 2)[np.isin(CONTEXT, (0, 2, 3, 5))]
    grouped.drop([("a", "d", 2)])
    grouped.append(model="a", dataset="d", step=2, losses=losses, contexts=[0, 2, 3, 5])
    rows = [("a", 1), ("a", 2), ("a", 3)]
    sums = context_sums(grouped.path, rows, sites(grouped, "every_token"), missing="nan")["every_token"]
    assert np.isnan(sums.sums).tolist() == [[False] * 6, [False, True, False, False, True, False], [True] * 6]
    assert trajectories({("g", "d"): sums}, ["g"])["step"].to_list() == [1]
    with pytest.raises(MissingSlices, match="a on d at step 2 .without contexts 1, 4"):
        context_sums(grouped.path, rows[:2], sites(grouped, "every_token", "third"))
    there = context_sums(grouped.path, rows[:2], sites(grouped, "every_token", contexts="2:4"))["every_token"]
    assert np.isfinite(there.sums).all()


def test_one_context_has_no_interval(planted: Store) -> None:
    sums = context_sums(planted.path, [("a", 0)], sites(planted, "every_token", contexts="3:4"))
    frame = trajectories({("g", "d"): sums["every_token"]}, ["g"])
    assert frame.schema == pl.Schema({"group": pl.String, **SCHEMA})
    assert frame.select("tokens", "contexts", "interval", "low", "high").rows() == [
        (16, 1, "none", None, None)
    ]


def told(**columns: list[object]) -> NewDataset:
    """A dataset of small contexts of which these things are known."""
    n = len(next(iter(columns.values())))
    contexts = pl.DataFrame(
        {name: columns.get(name, [None] * n) for name in CONTEXT_COLUMNS}, schema=CONTEXT_COLUMNS
    )
    return replace(new_dataset([["a", "b", "c"]] * n), contexts=contexts)


@pytest.mark.parametrize(
    ("columns", "kind", "units"),
    [
        ({"document": [None] * 3}, "context", [0, 1, 2]),
        ({"document": ["x", "y", "z"]}, "context", [0, 1, 2]),
        ({"document": ["x", "x", "x"]}, "context", [0, 1, 2]),
        ({"document": ["y", None, "x", None, "y"]}, "document", "abcda"),
        ({"category": ["x", "x", "y"]}, "context", [0, 1, 2]),
        ({"category": ["x", "x", "y"], "shot": [0, 0, 0]}, "category", "aab"),
        ({"category": ["x", "y"], "shot": [9, 9]}, "category", [0, 1]),
        ({"category": ["x", "x"], "shot": [0, 0]}, "context", [0, 1]),
    ],
)
def test_what_belongs_together(
    store: Store, columns: dict[str, list[object]], kind: str, units: Sequence[object]
) -> None:
    found = Units.of(store.add_dataset("d", told(**columns)))
    assert found.kind == kind
    assert found.count == len(set(units))
    same = found.of_context[:, None] == found.of_context
    assert same.tolist() == [[one == other for other in units] for one in units]
