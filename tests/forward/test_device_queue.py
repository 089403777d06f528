"""A batch goes to a GPU without a wait for it, and what was queued is taken a batch later. Nothing here needs one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import masking_utils

from tests.helpers.architectures import KINDS, UNKNOWN, ragged, tiny
from trajstore.forward import losses
from trajstore.forward.causality import check_causal
from trajstore.forward.device_queue import arrival, queueing, to_device, to_host, unpacked
from trajstore.forward.losses import token_losses, token_scores
from trajstore.forward.model_pass import Forward, Started
from trajstore.forward.tiled_head import Tile

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
LENGTHS = (40, 40, 31, 17, 5, 2)


class Waits(TorchDispatchMode):
    """The operations whose result the CPU must know before it goes on, for which a GPU's queue runs dry."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if masks or name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select"):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def ready(kind: str, columns: Sequence[str] = ()) -> Forward:
    """The pass of a model that was checked."""
    model, contexts = tiny(kind), ragged(lengths=LENGTHS)
    with torch.no_grad():
        forward = Forward(model, Tile(32, 100), columns, None, contexts[0])
        check_causal(forward, contexts, 300)
    return forward


def waits(forward: Forward) -> list[str]:
    with torch.no_grad(), Waits() as seen:
        forward.start(ragged(lengths=LENGTHS))
    return seen.seen


@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
def test_nothing_in_a_batch_waits_for_the_device(kind: str) -> None:
    forward = ready(kind, ["entropy"])
    with unpacked():
        assert waits(forward) == []


@pytest.mark.parametrize("kind", [*KINDS, UNKNOWN])
def test_without_a_look_for_packed_contexts_losses_are_the_same(kind: str) -> None:
    model, contexts = tiny(kind), ragged(lengths=LENGTHS)
    with_look = np.concatenate(token_losses(model, contexts, batch_tokens=120))
    with unpacked():
        without = np.concatenate(token_losses(model, contexts, batch_tokens=120))
    np.testing.assert_array_equal(without, with_look)


def test_ranks_wait_once_at_the_end_of_a_batch() -> None:
    forward = ready("gpt-neox", ["rank", "entropy"])
    assert len(range(0, sum(LENGTHS) - len(LENGTHS), 32)) > 2  # runs of positions
    with unpacked():
        assert waits(forward) == ["nonzero"]


def test_the_watcher_sees_the_look_for_packed_contexts_that_is_left_out() -> None:
    look = masking_utils.find_packed_sequence_indices
    forward = ready("gpt-neox")
    assert waits(forward) != []
    with pytest.raises(KeyError), unpacked():
        raise KeyError(masking_utils.find_packed_sequence_indices is look)
    assert masking_utils.find_packed_sequence_indices is look


def test_rows_with_positions_of_their_own_are_looked_at() -> None:
    restarting = torch.tensor([[0, 1, 2, 0, 1], [0, 1, 2, 3, 4]])
    with unpacked():
        seen = masking_utils.find_packed_sequence_indices(restarting)
        assert seen is not None
        assert seen.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]
        assert masking_utils.find_packed_sequence_indices(torch.arange(5)[None].expand(3, -1)) is None


def test_a_version_of_transformers_that_does_not_look_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(masking_utils, "find_packed_sequence_indices")
    with unpacked():
        assert not hasattr(masking_utils, "find_packed_sequence_indices")


def test_on_a_cpu_all_is_done_at_once() -> None:
    ids, more = np.arange(6, dtype=np.int64).reshape(2, 3), np.array([7, 8])
    sent = to_device(CPU, ids, more)
    assert [each.tolist() for each in sent] == [[[0, 1, 2], [3, 4, 5]], [7, 8]]
    assert to_host(sent[0]) is sent[0]
    assert arrival(CPU) is None
    look = masking_utils.find_packed_sequence_indices
    with queueing(CPU):
        assert masking_utils.find_packed_sequence_indices is look


class Order:
    """The order in which batches of a device that runs ahead are begun and taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.progress: list[int] = []
        start, columns = Forward.start, Started.columns

        def starting(forward: Forward, contexts: list[np.ndarray], targets: Any = None) -> Started:
            if targets is None:
                self.events.append("begin")
            return start(forward, contexts, targets)

        def taking(started: Started) -> Any:
            self.events.append("take")
            return columns(started)

        monkeypatch.setattr(losses, "runs_ahead", lambda device: True)
        monkeypatch.setattr(Forward, "start", starting)
        monkeypatch.setattr(Started, "columns", taking)

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.progress.append(amount)


def test_a_batch_is_taken_when_the_next_one_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    model, contexts = tiny("llama"), ragged()
    wanted = token_losses(model, contexts, batch_tokens=40)
    order = Order(monkeypatch)
    ahead = token_scores(model, contexts, batch_tokens=40, progress=order)  # type: ignore[arg-type]
    for one, other in zip(ahead.loss, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    assert order.events == ["begin", *["begin", "take"] * 4, "take"]
    assert sum(order.progress) == sum(map(len, contexts))


def test_where_memory_runs_out_the_batch_before_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, contexts = tiny("llama"), ragged()
    wanted = token_losses(model, contexts, batch_tokens=20)
    Order(monkeypatch)
    whole, failed = Forward.start, []

    def start(forward: Forward, batch: list[np.ndarray], targets: Any = None) -> Started:
        if targets is None and len(batch) > 1:
            failed.append(len(batch))
            raise torch.OutOfMemoryError
        return whole(forward, batch, targets)

    monkeypatch.setattr(Forward, "start", start)
    found = token_losses(model, contexts, batch_tokens=62)
    assert failed
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_is_waited_for_by_nothing_in_a_batch(kind: str) -> None:
    """By torch's own account, which makes an error of each wait."""
    model, contexts = tiny(kind).to("cuda"), ragged(lengths=LENGTHS)
    with torch.no_grad(), queueing(model.device):
        forward = Forward(model, Tile(32, 100), ["entropy"], None, contexts[0])
        forward.columns(contexts)
        torch.cuda.set_sync_debug_mode("error")
        try:
            started = forward.start(contexts)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(started.columns()) == len(contexts)
