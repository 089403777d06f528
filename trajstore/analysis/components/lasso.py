"""The lasso of many columns that share one small Gram matrix, solved exactly for all of them at once.

For each column v of the answer: minimise ½ vᵀGv − cᵀv + α‖v‖₁, where G (k, k) is shared and c is the column's own;
units are the caller's. An active-set method, as in Lee et al. 2007, "Efficient sparse coding algorithms": with the
signs of v fixed, the minimum is the solution of a linear system. v moves towards it until an entry reaches 0, which
leaves; when it is there, the entry that violates the optimality conditions most comes in. All columns take these turns
together, and those of equal support share one inverse, so that a start near the answer, such as the last one, costs
little more than one product.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 14
"""Columns solved at a time: what is held beside them is as many k × k matrices at most, float64."""

_TOLERANCE = 1e-10
"""By how much, relative to α and the column's largest |c|, an optimality condition may be violated."""

_TURNS = 20
"""Turns for each entry of a column, at most: rounding could otherwise have one leave and come back for ever."""

_LIFT = 1e-10
"""Share of the largest diagonal entry that is added to all: too little to show, and singular systems can be solved."""


def lasso(gram: np.ndarray, targets: np.ndarray, alpha: float, start: np.ndarray) -> np.ndarray:
    """The minima, float64 (k, columns), for `gram` (k, k) and `targets` (k, columns), from `start` (k, columns) on.

    An entry whose diagonal in `gram` is 0 stays 0. Where `gram` is singular, one of the minima.
    """
    answer = np.where(gram.diagonal()[:, None] > 0, start, 0.0)
    largest = gram.diagonal().max()
    if largest == 0:
        return answer
    lifted = gram + _LIFT * largest * np.eye(len(gram))
    for first in range(0, answer.shape[1], _BLOCK):
        at = slice(first, first + _BLOCK)
        _solve(lifted, np.ascontiguousarray(targets[:, at]), alpha, answer[:, at])
    return answer


def _solve(gram: np.ndarray, c: np.ndarray, alpha: float, answer: np.ndarray) -> None:
    """Solve a block in place."""
    _sweep(gram, c, alpha, answer)
    here, v = np.arange(answer.shape[1]), answer.copy()
    signs = np.sign(v)
    slack = _TOLERANCE * (alpha + np.abs(c).max(axis=0))
    for _ in range(_TURNS * len(gram)):
        v, arrived = _move(v, _minima(gram, c - alpha * signs, signs != 0), signs)
        slope = c - gram @ v
        outside = np.abs(slope) * (signs == 0)
        entry = outside.argmax(axis=0)
        every = np.arange(len(here))
        violated = outside[entry, every] > alpha + slack
        done = arrived & ~violated
        answer[:, here[done]] = v[:, done]
        entering = np.flatnonzero(arrived & violated)
        signs[entry[entering], entering] = np.sign(slope[entry[entering], entering])
        left = np.flatnonzero(~done)
        if not len(left):
            return
        here, v, c, signs, slack = here[left], v[:, left], c[:, left], signs[:, left], slack[left]
    answer[:, here] = v


def _sweep(gram: np.ndarray, c: np.ndarray, alpha: float, v: np.ndarray) -> None:
    """Take each entry to its minimum with the others held, once, in place: of orthogonal directions the answer."""
    for k in range(len(gram)):
        pull = c[k] - gram[k] @ v + gram[k, k] * v[k]
        v[k] = (pull - np.clip(pull, -alpha, alpha)) / gram[k, k]


def _move(v: np.ndarray, goal: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move each column towards its goal until an entry reaches 0 and leaves, in `signs` too; who arrived, bool."""
    crossing = goal * signs < 0
    held = crossing.any(axis=0)
    if held.any():
        stuck, ahead, cross = v[:, held], goal[:, held], crossing[:, held]
        share = np.where(cross, stuck / np.where(cross, stuck - ahead, 1), 1)
        step = share.min(axis=0)
        leaving = cross & (share == step)
        goal[:, held] = np.where(leaving, 0, stuck + step * (ahead - stuck))
        signs[:, held] *= ~leaving
    return goal, ~held


def _minima(gram: np.ndarray, right: np.ndarray, support: np.ndarray) -> np.ndarray:
    """The solutions of gram · v = right on each column's support, 0 elsewhere."""
    packed = np.packbits(support, axis=0)
    order = np.lexsort(packed)
    packed, right = packed[:, order], right[:, order]
    firsts = np.flatnonzero(np.r_[True, (packed[:, 1:] != packed[:, :-1]).any(axis=0)])
    patterns = support[:, order[firsts]].T
    both = patterns[:, :, None] & patterns[:, None, :]
    inverses = np.linalg.inv(np.where(both, gram, np.eye(len(gram)))) * both
    solved, answer = np.empty_like(right), np.empty_like(right)
    for inverse, first, end in zip(inverses, firsts, [*firsts[1:], len(order)], strict=True):
        np.matmul(inverse, right[:, first:end], out=solved[:, first:end])
    answer[:, order] = solved
    return answer
