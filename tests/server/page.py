"""The page in a browser as its tests have it: opened, waited for, read, and judged by axe."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.chromium import chromium
from tests.server.conftest import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome

SERVER = Path(__file__).parents[2] / "trajstore" / "server"
AXE = SERVER / "page" / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: make page")


@contextlib.contextmanager
def paged(store: Path) -> Iterator[Page]:
    """The page of a store's server, in a browser."""
    with serving(store) as address, chromium() as browser:
        yield Page(browser, address)


class Page:
    """The page, as a reader has it."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser = browser
        self.address = address

    def open(self, query: str = "") -> None:
        self.browser.get_log("browser")
        self.browser.get(self.address + query)
        self.until(lambda: self.script("return document.querySelector('main') !== null"))

    def script(self, text: str, *arguments: Any) -> Any:
        return self.browser.execute_script(text, *arguments)

    def text(self) -> str:
        return str(self.script("return document.body.innerText"))

    def until(self, true: Callable[[], object], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.text()
            time.sleep(0.1)

    def settled(self) -> None:
        """Wait until nothing loads."""
        self.until(
            lambda: self.script(
                "return !document.querySelector('.loading, [aria-busy=true]') && "
                "document.querySelector('.working')?.textContent !== 'Loading…'"
            )
        )

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def panes(self) -> list[str]:
        links = "return [...document.querySelectorAll('.tabs a')].map((a) => new URLSearchParams(a.search).get('pane'))"
        return [name or "store" for name in self.script(links)]

    def show(self, pane: str) -> None:
        self.browser.find_elements("css selector", ".tabs a")[self.panes().index(pane)].click()
        self.until(lambda: self.script("return document.querySelector('main').dataset.pane") == pane)

    def theme(self, name: str) -> None:
        choice = ".settings select"
        self.browser.find_element("css selector", f"{choice} option[value={name}]").click()

    def rows(self, table: str) -> list[list[str]]:
        """The cells of a table's rows in sight."""
        return self.cells(f"[aria-label={json.dumps(table)}] tbody tr")

    def cells(self, rows: str) -> list[list[str]]:
        """The cells of the rows that a selector finds."""
        found = "return [...document.querySelectorAll(arguments[0])]"
        return list(
            self.script(f"{found}.map((row) => [...row.cells].map((cell) => cell.textContent))", rows)
        )

    def narrow(self, width: int) -> None:
        """Give the page a window of this width; 0 is that of the browser."""
        metrics = {"width": width, "height": 900 if width else 0, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def serious(page: Page) -> list[str]:
    """Serious violations that axe finds, each with where."""
    page.script(AXE.read_text())
    found = page.browser.execute_async_script(
        "axe.run(document, {resultTypes: ['violations']}).then(arguments[arguments.length - 1])"
    )
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
