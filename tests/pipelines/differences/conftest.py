"""Losses of a slice."""

from __future__ import annotations

import numpy as np

from tests.cli.test_cli import path
from tests.conftest import PLANTED_LENGTHS
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

__all__ = ["path"]

CONTEXT = np.repeat(np.arange(6), np.array(PLANTED_LENGTHS) - 1)
ON_D = Selection(datasets=["d"])


def losses(store: Store, model: str, step: int, dataset: str = "d") -> np.ndarray:
    return store.slice_losses(model, dataset, step).astype(np.float64)
