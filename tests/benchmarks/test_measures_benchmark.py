"""The benchmark of measures: its ways give the same losses, its tables a row for each. Nothing asserts a time."""

from __future__ import annotations

import pytest

from benchmarks import measures
from benchmarks.forward import passes
from benchmarks.forward.jobs import measuring_seconds
from benchmarks.forward.passes import ModelShape
from benchmarks.measures import ALONE, FOUR, HEADS, PASSES, QUICK, extra_memory, in_pass, pass_seconds

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ModelShape("tiny", 16, 1, 2)


def test_passes_take_turns_and_memory_is_above_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "LENGTH", 24)
    seconds = pass_seconds(TINY, 2, 2)
    assert list(seconds) == list(PASSES)
    assert all(len(every) == 2 and min(every) > 0 for every in seconds.values())
    table = measures.ratios("Pass", seconds).splitlines()
    assert len(table) == 2 + len(PASSES) - 1
    assert table[-1].startswith(f"| {FOUR} |")
    monkeypatch.setattr(measures, "LENGTH", 24)
    memory = {ALONE: extra_memory(TINY, 20, ()), "all": extra_memory(TINY, 20, (*in_pass(), "heads"))}
    assert min(memory.values()) > 0
    assert len(measures.megabytes(QUICK, memory).splitlines()) == 4


def test_jobs_have_their_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "LENGTH", 24)
    seconds = measuring_seconds(TINY, 2, 1, {ALONE: (), HEADS: measures.JOBS[HEADS]})
    assert all(len(every) == 1 and every[0] > 0 for every in seconds.values())
