"""A headless Chromium, for the benchmark of the page and for the tests of pages."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
"""Without these two there is no browser."""

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)


@contextlib.contextmanager
def chromium(**capabilities: object) -> Iterator[Chrome]:
    """Start Chromium with these capabilities, its files in a folder whose path is short enough for its sockets."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(prefix="chromium-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*_FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        for name, value in capabilities.items():
            options.set_capability(name, value)
        driver = webdriver.Chrome(
            options=options, service=Service(str(DRIVER), env={**os.environ, "TMPDIR": folder})
        )
        try:
            yield driver
        finally:
            driver.quit()
