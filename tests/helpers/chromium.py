"""A headless Chromium for the tests of pages, which keeps what pages complain of and what they request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.harness import chromium as headless

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from selenium.webdriver import Chrome

needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (headless.CHROMIUM and headless.DRIVER),
        reason="needs Chromium and its driver: apt-get install chromium chromium-driver",
    ),
]
"""The marks of a module whose tests open a page."""


def chromium() -> AbstractContextManager[Chrome]:
    """A browser whose console and network are logged."""
    return headless.chromium(**{"goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}})


def complaints(browser: Chrome) -> list[str]:
    """Return what the console has said since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Chrome) -> list[str]:
    """Addresses of the network that were asked for since this was last asked."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if url.startswith(("http:", "https:", "ws:", "wss:"))]


def show(browser: Chrome, path: Path, state: str = "") -> None:
    """Open a file; what follows # is its page's state."""
    complaints(browser)
    requests(browser)
    browser.get("about:blank")  # a change of the state alone would load nothing anew
    browser.get(path.as_uri() + state)
