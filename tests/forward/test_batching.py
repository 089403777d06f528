"""Batches: the longest first, within a budget, each context once, also where memory runs out on the way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trajstore.errors import DeviceError
from trajstore.forward import batching
from trajstore.forward.batching import in_batches

CPU = torch.device("cpu")


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(2, 100), max_size=30),
    budget=st.integers(1, 3000),
    room=st.integers(100, 3000),
)
def test_every_context_runs_once_and_no_batch_is_over_its_budget(
    lengths: list[int], budget: int, room: int
) -> None:
    done: list[int] = []

    def work(batch: list[int]) -> None:
        tokens = len(batch) * max(lengths[i] for i in batch)
        assert len(batch) == 1 or tokens <= budget
        if tokens > room:
            raise torch.OutOfMemoryError
        done.extend(batch)

    left = in_batches(lengths, work, budget, CPU)
    assert sorted(done) == list(range(len(lengths)))
    assert [lengths[i] for i in done] == sorted(lengths, reverse=True)
    assert left <= budget


@pytest.mark.parametrize(
    ("kind", "singly", "budget"), [("cpu", False, 512), ("cpu", True, 1), ("mps", False, 8192)]
)
def test_the_budget_is_the_devices_where_none_is_asked_for(kind: str, singly: bool, budget: int) -> None:
    assert in_batches([5], lambda batch: None, None, torch.device(kind), singly=singly) == budget


@pytest.mark.parametrize(("free", "budget"), [(10_000_000, 16000), (10**12, 65536), (1000, 1)])
def test_on_a_gpu_the_budget_is_what_fits_beside_what_is_there(
    free: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first context of 100 tokens takes 500 bytes a token above the 7000 that lie there; 80 % are used."""
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(cuda, "memory_allocated", lambda device: 7_000)
    monkeypatch.setattr(cuda, "max_memory_allocated", lambda device: 57_000)
    monkeypatch.setattr(cuda, "memory_reserved", lambda device: 7_000 + free // 4)
    monkeypatch.setattr(cuda, "mem_get_info", lambda device: (free - free // 4, 10**12))
    batches: list[list[int]] = []
    assert in_batches([100] * 300, batches.append, None, torch.device("cuda")) == budget
    assert len(batches[0]) == 1
    assert len(batches[1]) == max(1, min(299, budget // 100))


def padding(lengths: list[int], batches: list[list[int]]) -> float:
    """Tokens of batches after padding over those before."""
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches) / sum(lengths)


def test_on_a_gpu_contexts_of_mixed_length_have_little_padding() -> None:
    """Lengths as those of e-mails, of mean a third of the longest."""
    drawn = np.random.default_rng(0).exponential(200, 512).astype(int)
    lengths = np.clip(drawn + 2, 2, 512).tolist()
    batches: dict[str, list[list[int]]] = {"cuda": [], "mps": []}
    for kind, done in batches.items():
        in_batches(lengths, done.append, 65536, torch.device(kind))
        assert sorted(i for batch in done for i in batch) == list(range(512))
    assert padding(lengths, batches["cuda"]) < 1.15 < 1.4 < padding(lengths, batches["mps"])
    sizes = [len(batch) * max(lengths[i] for i in batch) for batch in batches["cuda"]]
    assert min(sizes[:-1]) >= batching.LEAST_TOKENS


def test_contexts_of_one_length_fill_their_batches_on_a_gpu() -> None:
    batches: list[list[int]] = []
    in_batches([512] * 300, batches.append, 65536, torch.device("cuda"))
    assert [len(batch) for batch in batches] == [128, 128, 44]


def test_no_memory_for_one_context(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[torch.device] = []
    monkeypatch.setattr(batching, "_free", freed.append)

    def work(batch: list[int]) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(DeviceError, match="one context of 9 tokens"):
        in_batches([9, 3, 3, 9], work, None, CPU)
    assert len(freed) == 2
