"""Budgets of time, and what the slices of earlier runs say of their pace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import ragged
from trajstore.display import duration
from trajstore.errors import BadOption
from trajstore.scoring.time_budget import Budget, Pace, parse_duration, recorded_pace
from trajstore.store.files.slices import Provenance

if TYPE_CHECKING:
    from trajstore.store.store import Store


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90", "90s", "15m", "2h", "1.5d", " 2 h ")] == [
        90,
        90,
        900,
        7200,
        129_600,
        7200,
    ]
    for wrong in ("", "2x", "h", "-1h", "1h30m", "inf"):
        with pytest.raises(BadOption, match="as in 90s, 15m, 2h"):
            parse_duration(wrong)
    assert [duration(seconds) for seconds in (0.4, 8, 99, 600, 9000, 360_000)] == [
        "0.4 s",
        "8 s",
        "99 s",
        "10 min",
        "2.5 h",
        "4.2 days",
    ]


def test_no_budget_allows_everything() -> None:
    assert Budget(None).allows(10**15)


def test_a_budget_allows_what_fits_at_the_pace_so_far() -> None:
    clock = Clock()
    budget = Budget(100, clock)
    clock.now += 10  # making the plan
    budget.begin_work()
    assert budget.allows(10**9), "nothing tells the pace yet"
    clock.now += 20
    budget.did(40)  # 2 tokens a second; 70 seconds left
    assert budget.allows(140)
    assert not budget.allows(141)
    clock.now += 30  # a download: 0.8 tokens a second; 40 seconds left
    assert budget.allows(32)
    assert not budget.allows(33)


def test_a_budget_that_is_used_up_allows_nothing() -> None:
    clock = Clock()
    budget = Budget(5, clock)
    budget.begin_work()
    clock.now += 5
    assert not budget.allows(1)


T0 = datetime(2025, 1, 1, tzinfo=UTC)


def add(store: Store, step: int, run: str | None, seconds: float | None, dataset: str = "d") -> None:
    when = None if seconds is None else (T0 + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    losses = np.ones(store.dataset(dataset).n_losses)
    provenance = Provenance(run=run, time=when, device=f"device of {run}", dtype="bfloat16")
    store.append(model="m", dataset=dataset, step=step, losses=losses, provenance=provenance)


def test_the_pace_is_that_between_the_first_and_the_last_slice_of_the_last_run(store: Store) -> None:
    store.add_dataset("d", ragged((30, 20)))
    store.add_dataset("e", ragged((7, 3)))
    assert recorded_pace(store, "m") is None
    add(store, 0, "old", 0)
    assert recorded_pace(store, "m") is None, "one slice tells no time"
    add(store, 1, "old", 10)
    assert recorded_pace(store, "m") == Pace(5.0, "device of old", "bfloat16")
    add(store, 2, None, 500)  # not scored by a job
    add(store, 3, "new", 100)
    add(store, 4, "new", 140)
    add(store, 4, "new", 150, "e")
    assert recorded_pace(store, "m") == Pace((50 + 10) / 50, "device of new", "bfloat16")
    add(store, 5, "short", 900)
    add(store, 6, "short", 904)  # too short for times of whole seconds
    assert recorded_pace(store, "m") == Pace((50 + 10) / 50, "device of new", "bfloat16")
    assert recorded_pace(store, "other") is None
