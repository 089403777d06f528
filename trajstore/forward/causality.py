"""Makes sure that a model is causal: that no prediction depends on later tokens, nor on padding behind them.

Some models that transformers offers as causal ones read in both directions (BERT, RoBERTa, XLNet), so that their losses
would be those of tokens which they have seen. Two short passes tell: with other ids at the end of a context, and with
padding behind its beginning, the losses before must stay the same. That is checked once for a model, and again
after it was changed; other weights are no change, unless no token's prediction depended on any other token at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from trajstore.errors import NotCausal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from trajstore.forward.model_pass import Forward, Ids

MOST_TOKENS = 24
"""Of a context, for the check."""

_CUTS = (2 / 3, 1 / 2)
"""Where the ids begin that are changed, as shares of the context; the second try is made where the first one fails."""
_ROUNDING = 1e-5, 1e-4
"""Nats that a loss may move, in float32 and in half precision, although the sizes of all products stay the same: causal
models give 0."""
_TIMES_NOISE = 8

_passed: WeakKeyDictionary[PreTrainedModel, object] = WeakKeyDictionary()
"""Models that are causal, and how they were built when that was checked."""


def check_causal(forward: Forward, contexts: Sequence[Ids], rows: int) -> None:
    """Raises `NotCausal` where the predictions of the pass depend on later tokens or on padding.

    `contexts` are real ones, of which the longest is taken; the model's vocabulary has the ids below `rows`.
    """
    if not contexts or _passed.get(forward.model) == forward.built:
        return
    ids = max(contexts, key=len)[:MOST_TOKENS]
    moved = _ahead(forward, ids, _CUTS[0], rows)
    if moved > 0 and (moved := min(moved, _ahead(forward, ids, _CUTS[1], rows))) > 0:
        raise NotCausal(
            f"{_called(forward)} is not a causal language model: with other tokens at the end of a context, losses "
            f"before them move by up to {moved:.2g} nats, so each of its losses would be that of a token which the "
            "model has read. Only models that predict a token from those before it can be scored."
        )
    if (moved := _by_padding(forward, ids, rows)) > 0:
        raise NotCausal(
            f"The predictions of {_called(forward)} depend on padding behind a context: losses move by up to "
            f"{moved:.2g} nats, so that they would depend on the contexts which happen to share a batch."
        )
    if _reads_back(forward, ids, rows):
        _passed[forward.model] = forward.built


def _reads_back(forward: Forward, ids: Ids, rows: int) -> bool:
    """Return whether predictions depend on earlier tokens, as attention of zeros does not, whichever way it looks."""
    half = len(ids) // 2
    changed = np.concatenate([_changed(ids, 0, 1, rows)[:half], ids[half:]])
    moved = _apart(_losses(forward, [ids], ids)[half:], _losses(forward, [changed], ids)[half:])
    return moved > _ROUNDING[forward.model.dtype.itemsize < torch.float32.itemsize]


def _ahead(forward: Forward, ids: Ids, share: float, rows: int) -> float:
    """The most nats that a loss moves by other ids from a share of the context on; 0 for what rounding explains."""
    cut = max(1, int(len(ids) * share))
    changed, others = _changed(ids, cut, 1, rows), _changed(ids, cut, 2, rows)
    before = _losses(forward, [ids], ids)[:cut]
    moved = _apart(before, _losses(forward, [changed], ids)[:cut])
    if moved <= _ROUNDING[forward.model.dtype.itemsize < torch.float32.itemsize]:
        return 0.0
    # experts take their tokens in batches of their own, whose sizes depend on all tokens: as much may be rounding
    noise = _apart(_losses(forward, [ids, changed], ids)[:cut], _losses(forward, [ids, others], ids)[:cut])
    return moved if moved > _TIMES_NOISE * noise else 0.0


def _by_padding(forward: Forward, ids: Ids, rows: int) -> float:
    """The most that a loss moves, in nats, by padding behind a context; 0 for what rounding explains."""
    begin = ids[: max(2, len(ids) // 2)]
    alone = _losses(forward, [begin], begin)
    moved = _apart(alone, _losses(forward, [begin, ids], begin))
    eps = torch.finfo(forward.model.dtype).eps
    # here the sizes of all products differ, so that rounding is not 0
    allowed = max(1e-3, 8 * eps * float(np.abs(alone).max()))
    if moved <= allowed:
        return 0.0
    noise = _apart(alone, _losses(forward, [begin, _changed(begin, 0, 1, rows)], begin))
    return moved if moved > _TIMES_NOISE * noise else 0.0


def _losses(forward: Forward, contexts: list[Ids], targets: Ids) -> np.ndarray:
    """The losses of given targets as predicted in the first of some contexts, float32 (n − 1,)."""
    loss = forward.columns(contexts, [targets, *contexts[1:]])[0].loss
    return np.asarray(loss.float().numpy())


def _changed(ids: Ids, start: int, by: int, rows: int) -> Ids:
    """A context with other ids from `start` on: those at its beginning in reverse, else the next id."""
    tail = np.resize(np.roll(ids[: max(1, start)][::-1], by), len(ids) - start)
    return np.concatenate([ids[:start], np.where(tail == ids[start:], (tail + by) % rows, tail)])


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference; infinite where one of them is not a number and the other is."""
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return float("inf")
    both = np.isfinite(one)
    return float(np.abs(one[both] - other[both]).max(initial=0.0))


def _called(forward: Forward) -> str:
    """A model's class."""
    return type(forward.model).__name__
