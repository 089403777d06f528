"""A small store that the page's tests ask, and a client of its server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.conftest import new_dataset
from tests.helpers.chromium import chromium
from trajstore.server.app import create_app
from trajstore.server.serve import server_of
from trajstore.store.store import Store

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

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
def served_path(planted_once: Path) -> Path:
    """The path of a store with what `planted` has, which no test changes."""
    return planted_once


@pytest.fixture(scope="session")
def client(served_path: Path) -> Iterator[TestClient]:
    """A client of a server over the small store, as a script on the same machine is one."""
    with TestClient(create_app(served_path), base_url=ADDRESS) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    """A browser with no page."""
    with chromium() as driver:
        yield driver


def plant_prompts(store: Store) -> None:
    """Give a store the datasets bare and shown, whose prompts end in the same item, and losses of a model m on them."""
    for name, shown in (("bare", 0), ("shown", 2)):
        texts = [["example"] * shown + list("ab") + ["end"] * 2]
        new = new_dataset([["start", *row] for row in texts])
        places = [None] * (1 + shown) + [0, 1] + [None] * 2
        items = pl.DataFrame(
            {"item": [None if p is None else 7 for p in places], "item_position": places, "role": None},
            schema={"item": pl.Int64, "item_position": pl.Int32, "role": pl.String},
        )
        ids = [np.array([9, *([8] * shown), 0, 1, 5, 5], dtype=np.int32)]
        made = type(new)(ids, new.texts, new.contexts, new.tokenizer, new.source, items)
        dataset = store.add_dataset(name, made)
        store.append(model="m", dataset=name, step=1, losses=np.arange(1, dataset.n_losses + 1) * (1 + shown))
