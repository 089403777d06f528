"""A small store that the page's tests ask, and a client of its server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.conftest import NewStore, plant
from trajstore.server.app import create_app
from trajstore.server.serve import server_of

ADDRESS = "http://localhost:8000"


@contextlib.contextmanager
def serving(path: Path) -> Iterator[str]:
    """The address of a server over a store, which ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(create_app(path))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


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
