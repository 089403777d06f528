"""Changes of the pass on a GPU that the package does not make, each to be kept where it pays by a tenth or more.

Tiles and batches of other sizes, attention by cuDNN, a compiled body, a compiled sum over a tile's logits, batches
replayed as a CUDA graph, and contexts of mixed length packed into rows. On the CPU they run without a compiler or a
graph, which shows that they give the same losses and nothing more. All take full contexts but the packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from benchmarks.forward.passes import Score
from trajstore.forward import tiled_head
from trajstore.forward.device_queue import queueing, to_device
from trajstore.forward.losses import token_scores
from trajstore.forward.model_pass import Forward
from trajstore.forward.tiled_head import GPU_TILE, Tile
from trajstore.forward.workspace import Workspace

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ROWS = 64
"""Contexts of a batch that is captured."""


@dataclass(frozen=True)
class Trial:
    """A changed pass: its name, and what makes a way to score of a model."""

    name: str
    scorer: Callable[[PreTrainedModel], Score]
    mixed: bool = False
    """True if it is for contexts of mixed length."""


def trials(device: str) -> list[Trial]:
    """All trials, for a device by name."""
    tiles = (Tile(1024, 8192), Tile(8192, 4096), Tile(2048, 50304), Tile(16384, 8192))
    return [
        *(Trial(f"tiles of {tile.positions} × {tile.vocabulary}", _tiled(tile)) for tile in tiles),
        Trial(f"batches of {1 << 15} tokens", _budgeted(1 << 15)),
        Trial(f"batches of {1 << 17} tokens", _budgeted(1 << 17)),
        Trial("attention by cuDNN", _by_cudnn),
        Trial("compiled body", _compiled(device)),
        Trial("compiled sums over tiles", _compiled_sums(device)),
        Trial("packed rows", _packed, mixed=True),
        # the last one, since a capture that fails may leave a device that does nothing more
        Trial(f"CUDA graph of {ROWS} contexts", _replayed),
    ]


def _tiled(tile: Tile) -> Callable[[PreTrainedModel], Score]:
    def scorer(model: PreTrainedModel) -> Score:
        workspace = Workspace()
        return lambda ids: token_scores(model, list(ids), tile=tile, workspace=workspace).loss

    return scorer


def _budgeted(tokens: int) -> Callable[[PreTrainedModel], Score]:
    return lambda model: lambda ids: token_scores(model, list(ids), batch_tokens=tokens).loss


def _by_cudnn(model: PreTrainedModel) -> Score:
    """The attention kernel of cuDNN where it has one for the dtype, else torch's usual ones."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    others = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    workspace = Workspace()

    def score(ids: np.ndarray) -> list[np.ndarray]:
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, *others], set_priority=True):
            return token_scores(model, list(ids), workspace=workspace).loss

    return score


def _compiled_sums(device: str) -> Callable[[PreTrainedModel], Score]:
    """One reading of a tile and no writing, in the place of a softmax that writes it."""

    def scorer(model: PreTrainedModel) -> Score:
        import torch

        backend = "inductor" if device == "cuda" else "eager"
        plain = tiled_head.log_sums_
        total: Any = torch.compile(torch.logsumexp, dynamic=False, backend=backend)
        workspace = Workspace()

        def log_sums_(logits: torch.Tensor, out: torch.Tensor) -> None:
            if len(logits) < 100:  # of the checks of a model, whose shapes would be compiled too
                plain(logits, out)
            else:
                out.copy_(total(logits, 1))

        def score(ids: np.ndarray) -> list[np.ndarray]:
            with patch.object(tiled_head, "log_sums_", log_sums_):
                return token_scores(model, list(ids), workspace=workspace).loss

        return score

    return scorer


def _compiled(device: str) -> Callable[[PreTrainedModel], Score]:
    """The body compiled once; its class's forward comes back after each run."""

    def scorer(model: PreTrainedModel) -> Score:
        import torch

        body: Any = model.base_model
        plain = body.forward
        fast = torch.compile(plain, dynamic=False, backend="inductor" if device == "cuda" else "eager")

        def forward(ids: torch.Tensor, **options: Any) -> Any:
            # the checks of a model run a context or two, each shape of which would be compiled too
            return (fast if len(ids) > 2 else plain)(ids, **options)

        @contextmanager
        def compiled() -> Iterator[None]:
            body.forward = forward
            try:
                yield
            finally:
                del body.forward

        def score(ids: np.ndarray) -> list[np.ndarray]:
            with compiled():
                return token_scores(model, list(ids), batch_tokens=1 << 16).loss

        return score

    return scorer


def _replayed(model: PreTrainedModel) -> Score:
    """Batches of `ROWS` full contexts, each shape of batch one graph."""
    import torch

    graphs: dict[tuple[int, ...], _Graph] = {}

    def score(ids: np.ndarray) -> list[np.ndarray]:
        losses = []
        with torch.no_grad(), queueing(model.device):
            for start in range(0, len(ids), ROWS):
                (batch,) = to_device(model.device, ids[start : start + ROWS])
                shape = tuple(batch.shape)
                if shape not in graphs:
                    graphs[shape] = _Graph(model, ids[0], batch)
                losses.append(graphs[shape].losses(batch))
        return list(torch.cat(losses).view(len(ids), -1).cpu().numpy())

    return score


class _Graph:
    """The pass over a batch of full contexts, captured once and replayed on other ids; on a CPU run as it is."""

    def __init__(self, model: PreTrainedModel, sample: np.ndarray, batch: torch.Tensor) -> None:
        """`sample` is a context, by which the head is checked."""
        import torch

        self._forward = Forward(model, GPU_TILE, (), None, sample)
        self._ids, self._graph = batch.clone(), None
        if model.device.type != "cuda":
            return
        streams: Any = torch.cuda
        aside = streams.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # allocates and chooses kernels, which a capture may not
            self._run()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = self._run()

    def losses(self, batch: torch.Tensor) -> torch.Tensor:
        """The losses of a batch of the same shape, one after another."""
        self._ids.copy_(batch)
        if self._graph is None:
            return self._run()
        self._graph.replay()
        return self._out.clone()

    def _run(self) -> torch.Tensor:
        """The losses of the ids in the graph's input."""
        hidden = self._forward.model.base_model(self._ids, use_cache=False).last_hidden_state
        assert self._forward.head is not None
        return self._forward.head.columns(hidden[:, :-1].flatten(0, 1), self._ids[:, 1:].flatten()).loss


def _packed(model: PreTrainedModel) -> Score:
    """Contexts packed into rows as long as the longest, apart by a mask that transformers makes of their positions."""
    import torch

    def score(contexts: np.ndarray) -> list[np.ndarray]:
        rows = packed(list(map(len, contexts)))
        losses: dict[int, np.ndarray] = {}
        with torch.no_grad():
            forward = Forward(model, GPU_TILE, (), None, contexts[0])
            for start in range(0, len(rows), 2 * ROWS):
                some = rows[start : start + 2 * ROWS]
                numbers = [number for row in some for number in row]
                columns = _packed_losses(forward, contexts, some)
                losses |= dict(zip(numbers, columns, strict=True))
        return [losses[number] for number in range(len(contexts))]

    return score


def _packed_losses(forward: Forward, contexts: np.ndarray, rows: list[list[int]]) -> list[np.ndarray]:
    """The losses of the contexts of packed rows, in the rows' order."""
    import torch

    width = max(sum(len(contexts[number]) for number in row) for row in rows)
    ids, positions = np.zeros((2, len(rows), width), np.int64)
    predicting = np.zeros((len(rows), width), bool)
    for r, row in enumerate(rows):
        at = 0
        for number in row:
            n = len(contexts[number])
            ids[r, at : at + n], positions[r, at : at + n] = contexts[number], np.arange(n)
            predicting[r, at : at + n - 1] = True
            at += n
        positions[r, at:] = np.arange(width - at)
    lengths = [len(contexts[number]) - 1 for row in rows for number in row]
    targets = np.concatenate([contexts[number][1:] for row in rows for number in row])
    sent = to_device(forward.device, ids, positions, targets, np.flatnonzero(predicting))
    hidden = forward.model.base_model(sent[0], position_ids=sent[1], use_cache=False).last_hidden_state
    assert forward.head is not None
    losses = forward.head.columns(hidden.flatten(0, 1).index_select(0, sent[3]), sent[2]).loss.cpu()
    return [part.numpy() for part in torch.split(losses, lengths)]


def packed(lengths: list[int]) -> list[list[int]]:
    """Return rows of contexts, whose lengths together are no more than the longest: each in the first with room."""
    longest, rows, room = max(lengths), list[list[int]](), list[int]()
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = next((r for r, left in enumerate(room) if left >= lengths[number]), None)
        if fitting is None:
            fitting = len(rows)
            rows.append([])
            room.append(longest)
        rows[fitting].append(number)
        room[fitting] -= lengths[number]
    return rows
