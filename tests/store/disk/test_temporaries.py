"""Leftovers of writers who died go by age; links and live writers' files are tried in tests/faults."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trajstore.store.disk import temporaries

if TYPE_CHECKING:
    from trajstore.store.store import Store


def test_old_temporaries_go_and_young_ones_stay(store: Store) -> None:
    young, old = store.path / "tmp" / "young", store.path / "tmp" / "old"
    young.touch()
    old.mkdir()
    os.utime(old, (0, 0))
    assert temporaries.sweep(store.path / "tmp") == 1
    assert [entry.name for entry in (store.path / "tmp").iterdir()] == ["young"]
