"""A store that is ready to be scored on."""

from __future__ import annotations

import pytest

from tests.helpers.tiny_models import random_dataset
from trajstore.store.store import Store


@pytest.fixture
def ready(store: Store) -> Store:
    """A store with the datasets d and e."""
    store.add_dataset("d", random_dataset(seed=1))
    store.add_dataset("e", random_dataset((7, 7), seed=2))
    return store
