"""Changes of the pass on a GPU that the package does not make, each to be kept where it pays by a tenth or more.

Tiles and batches of other sizes, a compiled body, and whole batches replayed as a CUDA graph. On the CPU they run
without a compiler or a graph, which shows that they give the same losses and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.passes import Score
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


def trials(device: str) -> list[Trial]:
    """All trials, for a device by name."""
    tiles = (Tile(1024, 8192), Tile(8192, 4096), Tile(2048, 50304), Tile(16384, 8192))
    return [
        *(Trial(f"tiles of {tile.positions} × {tile.vocabulary}", _tiled(tile)) for tile in tiles),
        Trial(f"batches of {1 << 15} tokens", _budgeted(1 << 15)),
        Trial(f"batches of {1 << 17} tokens", _budgeted(1 << 17)),
        Trial("compiled body", _compiled(device)),
        Trial(f"CUDA graph of {ROWS} contexts", _replayed),
    ]


def _tiled(tile: Tile) -> Callable[[PreTrainedModel], Score]:
    def scorer(model: PreTrainedModel) -> Score:
        workspace = Workspace()
        return lambda ids: token_scores(model, list(ids), tile=tile, workspace=workspace).loss

    return scorer


def _budgeted(tokens: int) -> Callable[[PreTrainedModel], Score]:
    return lambda model: lambda ids: token_scores(model, list(ids), batch_tokens=tokens).loss


def _compiled(device: str) -> Callable[[PreTrainedModel], Score]:
    """The body compiled once; its class's forward comes back after each run."""

    def scorer(model: PreTrainedModel) -> Score:
        import torch

        body: Any = model.base_model
        plain = body.forward
        fast = torch.compile(plain, dynamic=False, backend="inductor" if device == "cuda" else "eager")

        @contextmanager
        def compiled() -> Iterator[None]:
            body.forward = fast
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
