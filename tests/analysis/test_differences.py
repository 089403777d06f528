"""Differences of arrays of losses, by hand and by other ways."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.test_cli import path
from trajstore.analysis.differences import Extremes, Pair, Scale, difference, shares, stepwise
from trajstore.errors import (
    BadOption,
)

__all__ = ["path"]


# Arrays


def test_pairs_of_steps() -> None:
    found = stepwise([("b", 8), ("a", 0), ("a", 8), ("a", 2), ("b", 1)])
    assert found == [Pair("b", 8, "b", 1), Pair("a", 2, "a", 0), Pair("a", 8, "a", 2)]


def test_relative_by_hand() -> None:
    after, before = np.array([1.5, 0.003, -1e-5, 2.0]), np.array([3.0, 0.001, 0.0, 0.0])
    assert difference(after, before) == pytest.approx([-1.5, 0.002, -1e-5, 2.0])
    assert difference(after, before, Scale(True)) == pytest.approx([-0.5, 0.02, -1e-4, 20.0])
    assert difference(after, before, Scale(True, 1.0)) == pytest.approx([-0.5, 0.002, -1e-5, 2.0])
    with pytest.raises(BadOption, match="least=0"):
        Scale(True, 0)


def test_the_largest_are_those_of_a_sort() -> None:
    rng = np.random.default_rng(0)
    extremes, every = Extremes(7), []
    for step in range(5):
        values = rng.normal(size=400).astype(np.float32)
        values[rng.integers(0, 400, 20)] = np.nan
        extremes.add(Pair("m", step, "m", 0), 0, values, values + 1, np.ones(400))
        every += [(float(value), step, column) for column, value in enumerate(values) if value == value]
    every.sort()
    assert [(each.value, each.pair.step, each.column) for each in extremes.fell()] == every[:7]
    assert [(each.value, each.pair.step, each.column) for each in extremes.rose()] == every[::-1][:7]
    assert extremes.fell()[0].loss == pytest.approx(every[0][0] + 1)


def test_of_equal_changes_the_first_are_taken() -> None:
    values = np.array([-1, -2, -1, 3, -1, 3, 3], dtype=np.float32)
    extremes = Extremes(3)
    for step in (2, 1):
        extremes.add(Pair("m", step, "m", 0), 0, values, values, values)
    assert [(each.pair.step, each.column) for each in extremes.fell()] == [(1, 1), (2, 1), (1, 0)]
    assert [(each.pair.step, each.column) for each in extremes.rose()] == [(1, 3), (1, 5), (1, 6)]
    none = Extremes(0)
    none.add(Pair("m", 1, "m", 0), 0, values, values, values)
    assert none.fell() == none.rose() == []


def test_what_did_not_change_is_no_change() -> None:
    extremes = Extremes(3)
    extremes.add(Pair("m", 1, "m", 0), 0, np.array([0.0, 1.0, 0.0]), np.ones(3), np.ones(3))
    assert extremes.fell() == []
    assert len(extremes.rose()) == 1
    assert shares(np.array([-0.5, -0.1, 0.1, 0.2, np.nan]), 0.15) == (0.25, 0.25)
