"""A small store that the page's tests ask, and a client of its server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.conftest import NewStore, plant
from trajstore.server.app import create_app

ADDRESS = "http://localhost:8000"


@pytest.fixture(scope="session")
def served_path(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a store with what `planted` has, which no test changes."""
    path = tmp_path_factory.mktemp("served") / "store"
    with new_store(path) as store:
        plant(store)
    return path


@pytest.fixture(scope="session")
def client(served_path: Path) -> Iterator[TestClient]:
    """A client of a server over the small store, as a script on the same machine is one."""
    with TestClient(create_app(served_path), base_url=ADDRESS) as made:
        yield made
