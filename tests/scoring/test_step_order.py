"""The order of steps: coarse to fine, and what a shard takes of them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajstore.errors import BadOption
from trajstore.scoring.step_order import coarse_to_fine, in_order

PYTHIA = [0, *(2**power for power in range(10)), *range(1000, 144_000, 1000)]
ascending = st.lists(st.integers(0, 200_000), unique=True, max_size=60).map(sorted)


def test_steps_spaced_evenly_in_log_are_bisected() -> None:
    """Ends, middle, quarters, eighths: by hand."""
    steps = [2**power - 1 for power in range(9)]  # log(step + 1) is 0 … 8 in units of log 2
    assert coarse_to_fine(steps) == [0, 255, 15, 3, 63, 1, 7, 31, 127]


def test_a_few_steps_of_pythia_are_spread_over_all_of_its_training() -> None:
    assert coarse_to_fine(PYTHIA)[:7] == [0, 143_000, 512, 16, 9000, 128, 2000]


@pytest.mark.parametrize("steps", [[], [7], [0, 7], [0, 3, 7]])
def test_few_steps_are_their_ends_first(steps: list[int]) -> None:
    assert coarse_to_fine(steps) == (steps if len(steps) < 3 else [0, 7, 3])


def widest_gap(chosen: list[int], steps: list[int]) -> float:
    """The widest gap in log (step + 1) between neighbours in `chosen` that some other of `steps` would narrow."""
    gaps = [
        math.log1p(b) - math.log1p(a)
        for a, b in pairwise(sorted(chosen))
        if any(a < step < b for step in steps)
    ]
    return max(gaps, default=0.0)


@given(ascending)
def test_every_step_comes_once_and_each_narrows_the_widest_gap(steps: list[int]) -> None:
    found = coarse_to_fine(steps)
    assert sorted(found) == steps
    for number in range(2, len(found)):
        before = sorted(found[:number])
        low = max(step for step in before if step < found[number])
        high = min(step for step in before if step > found[number])
        width = math.log1p(high) - math.log1p(low)
        assert width == pytest.approx(widest_gap(before, steps))
        middle = (math.log1p(low) + math.log1p(high)) / 2
        nearest = min(abs(math.log1p(step) - middle) for step in steps if low < step < high)
        assert abs(math.log1p(found[number]) - middle) == pytest.approx(nearest)


@given(ascending, st.integers(1, 9))
def test_shards_of_any_orders_are_all_steps_once(steps: list[int], count: int) -> None:
    taken = [
        in_order(steps, "bisect" if number % 2 else "forward", f"{number}/{count}") for number in range(count)
    ]
    assert sorted(step for part in taken for step in part) == steps
    assert max(map(len, taken)) - min(map(len, taken)) <= 1
    for number, part in enumerate(taken):
        assert set(part) == set(in_order(steps, "forward", f"{number}/{count}"))


def test_orders() -> None:
    assert in_order(PYTHIA, "forward") == PYTHIA
    assert in_order(PYTHIA, "bisect") == coarse_to_fine(PYTHIA)
    assert in_order([0, 1, 3, 7], "forward", "0/1") == [0, 1, 3, 7]
    assert in_order([0, 1, 3, 7], "bisect", "1/2") == [7, 3]


@pytest.mark.parametrize("asked", ["4/4", "40/4", "-1/4", "1", "1/0", "a/b", "1/2/3", ""])
def test_a_shard_that_is_none_says_what_it_takes(asked: str) -> None:
    with pytest.raises(BadOption, match=r"shard=.*I from 0 to N-1.*--array=0-39"):
        in_order([0, 1], "forward", asked)


def test_an_order_that_is_none() -> None:
    with pytest.raises(BadOption, match="Cannot read order='random'. It takes one of forward, bisect"):
        in_order([0, 1], "random")
