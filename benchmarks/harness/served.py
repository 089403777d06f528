"""A store's page as it is used: its server in a process of its own, a real browser before it, and many clients.

Knows nothing of what is measured on which pane.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.harness.chromium import chromium
from trajstore.errors import TrajstoreError
from trajstore.server.app import STATIC

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_PATIENCE = 60
"""Seconds after which what is waited for counts as never shown."""

_SHOW = """
const [address, asked, before, scope, done] = arguments;
const begun = address === null ? 0 : performance.now();
if (address !== null) {
  performance.clearResourceTimings();
  history.pushState(null, "", address);
  dispatchEvent(new PopStateEvent("popstate"));
}
const entries = () => performance.getEntriesByType("resource");
const answered = () => asked === "" || entries().some(({ name }) => name.includes(asked));
const other = () => before === null || document.querySelector("#pane figcaption")?.textContent !== before;
const whole = () => {
  const part = document.querySelector(scope);
  if (part?.querySelector(".problem")) throw new Error(part.querySelector(".problem").textContent);
  const there = part && (part.matches(".card") || part.querySelector(".card"));
  return there && !part.querySelector(".loading, [aria-busy='true']");
};
const look = () => answered() && other() && whole()
  ? requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun)))
  : requestAnimationFrame(look);
look();
"""
"""Go to an address as the browser's own buttons do, and return the milliseconds until what it shows is painted."""

_IDLE = """
const done = arguments[0], begun = performance.now();
const idle = () => document.querySelector(".working")?.textContent === "";
const look = () => idle() ? done(performance.now() - begun) : setTimeout(look, 5);
setTimeout(look, 50);
"""


@dataclass(frozen=True)
class Server:
    """A running `trajstore serve`."""

    address: str
    process: subprocess.Popen[str]

    def peak(self) -> int:
        """Return its highest resident memory, in bytes; 0 where the system does not say."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
            if line := re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE):
                return int(line[1]) * 1024
        return 0


class NotServed(TrajstoreError):
    """A server that did not start."""


@contextlib.contextmanager
def served(store: Path) -> Iterator[Server]:
    """Serve a store's page, by the command, on a port that is free."""
    command = [sys.executable, "-m", "trajstore", "serve", "--store", str(store), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            if not (address := re.search(r"http://\S+", line)):
                raise NotServed(f"trajstore serve did not say where the page is, but {line!r}")
            yield Server(address[0], process)
        finally:
            process.kill()


class Page:
    """The page in headless Chromium."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def open(self, address: str) -> float:
        """Load the page with an empty cache; returns seconds until its pane is there."""
        self._driver.get("about:blank")
        self._driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        self._driver.get(address)
        seconds = self._run(_SHOW, None, "", None, "#pane")
        self.settle()
        return seconds

    def go(self, query: str, asked: str = "", scope: str = "#pane", *, text_changes: bool = False) -> float:
        """Go to another address of the page; returns seconds until what it shows is painted.

        It is shown once an endpoint whose address has `asked` in it has answered and nothing in `scope` is loading,
        and with `text_changes` once the caption over a text is another. The browser's cache is emptied before.
        """
        self._driver.execute_cdp_cmd("Network.clearBrowserCache", {})
        caption = (
            self._run_for("return document.querySelector('#pane figcaption').textContent")
            if text_changes
            else None
        )
        return self._run(_SHOW, query, asked, caption, scope)

    def settle(self) -> float:
        """Wait until the page loads nothing; returns the seconds."""
        return self._run(_IDLE)

    def _run(self, script: str, *arguments: object) -> float:
        return float(self._driver.execute_async_script(script, *arguments)) / 1e3

    def _run_for(self, script: str) -> Any:
        return self._driver.execute_script(script)


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """Start Chromium, which waits for no more of a page than its text."""
    with chromium(pageLoadStrategy="eager") as driver:
        driver.set_script_timeout(_PATIENCE)
        yield Page(driver)


@dataclass(frozen=True)
class Answers:
    """The replies that clients got."""

    seconds: list[float]
    errors: int

    @property
    def p95(self) -> float:
        """Seconds within which 95 of 100 came."""
        return float(np.quantile(self.seconds, 0.95))


def many_clients(
    server: Server, paths: Callable[[int], Iterator[str]], clients: int, seconds: float, pause: float
) -> Answers:
    """Let clients ask for so long, each the `paths` of its number, one in `pause` seconds or at its last answer."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(clients) as pool:
        each = list(
            pool.map(
                lambda number: _client(server.address, paths(number), end, pause, pause * number / clients),
                range(clients),
            )
        )
    return Answers([took for answers in each for took in answers.seconds], sum(a.errors for a in each))


def _client(address: str, paths: Iterator[str], end: float, pause: float, wait: float) -> Answers:
    place = urlsplit(address)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=_PATIENCE)
    times: list[float] = []
    errors = 0
    time.sleep(wait)
    while not times or time.monotonic() < end:
        start = time.monotonic()
        try:
            connection.request("GET", next(paths))
            reply = connection.getresponse()
            reply.read()
            errors += reply.status != http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            connection.close()
            errors += 1
        times.append(time.monotonic() - start)
        time.sleep(max(0.0, pause - times[-1]))
    connection.close()
    return Answers(times, errors)


def page_bytes() -> int:
    """Return the size of what a browser loads of the served page, each file gzipped, in bytes."""
    files = [STATIC / name for name in ("index.html", "icon.svg", "page.css", "page.js", "sql.js")]
    return sum(len(gzip.compress(path.read_bytes())) for path in files)
