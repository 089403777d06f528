"""The tokens pane in a real browser: its numbers are those of SQL, by keyboard too, and going back undoes a choice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.view.report.test_report_browser import browser, complaints, pytestmark
from trajstore.server.app import create_app
from trajstore.server.serve import server_of
from trajstore.store.store import Store

__all__ = ["browser", "pytestmark"]


@pytest.fixture(scope="module")
def address(served_path: Path) -> Iterator[str]:
    """The address of a server over the small store."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(create_app(served_path))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()
    listener.close()


def test_numbers_of_a_token_by_keyboard_and_by_link(browser: Chrome, address: str, served_path: Path) -> None:
    complaints(browser)
    browser.get(f"{address}?pane=tokens&datasets=d&context=2&tokens.model=b&step=8")
    wait = WebDriverWait(browser, 60)
    text = wait.until(lambda page: page.find_element(By.CSS_SELECTOR, ".token-text"))
    text.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    [(loss,)] = (
        Store(served_path)
        .sql("SELECT loss FROM losses WHERE (model, dataset, context, position, step) = ('b', 'd', 2, 2, 8)")
        .fetchall()
    )
    readout = browser.find_element(By.CSS_SELECTOR, ".readout").text
    assert "position 2" in readout
    assert f"loss {loss:.3f} nats" in readout
    assert "tokens.position=2" in browser.current_url
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, ".card .card .chart canvas"))
    browser.back()
    wait.until(lambda page: not page.find_elements(By.CSS_SELECTOR, ".card .card"))
    assert "tokens.position" not in browser.current_url
    assert complaints(browser) == []
