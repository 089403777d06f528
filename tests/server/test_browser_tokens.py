"""The tokens pane in a real browser: its numbers are those of SQL, by keyboard too, and going back undoes a choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.helpers.chromium import complaints, needs_chromium
from tests.server.conftest import serving
from trajstore.store.store import Store

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address(served_path: Path) -> Iterator[str]:
    """The address of a server over the small store."""
    with serving(served_path) as made:
        yield made


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
