"""A store that tests of the catalog and of groups begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_dataset

if TYPE_CHECKING:
    from trajstore.store.store import Store


B = "SELECT dataset, context, position FROM tokens WHERE text = 'b'"
"""The group of the letter b."""
SITES = {"dataset": ["d", "d", "d"], "context": [1, 0, 1], "position": [0, 3, 0]}
"""Two sites of the letters, one of them twice."""


def add_letters(store: Store) -> Store:
    """Give an empty store two contexts of the letters a, b and c, and a slice."""
    dataset = store.add_dataset("d", new_dataset([["a", "b", "c", "b"], ["b", "c"]]))
    store.append(model="m", dataset="d", step=0, losses=[float(n) for n in range(dataset.n_losses)])
    return store


@pytest.fixture
def lettered(store: Store) -> Store:
    """A store with two contexts of the letters a, b and c, and a slice."""
    return add_letters(store)
