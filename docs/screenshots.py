"""Takes a picture of each pane of the page on a demo's store, into docs/images.

python docs/screenshots.py demo/store       # after `make demo`; needs Chromium and its driver
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

IMAGES = Path(__file__).parent / "images"
WIDTH = 1120

VIEWS = {
    "store": (700, "pane=store&store.model=tiny-2l-seed0&store.dataset=repeats&store.step=431"),
    "tokens": (1180, "pane=tokens&datasets=repeats&step=431&tokens.model=tiny-2l-seed0&tokens.position=80"),
    "differences": (
        820,
        "pane=tokens&datasets=repeats&tokens.view=models&tokens.model=tiny-2l-seed0&theme=dark",
    ),
    "groups": (800, "pane=groups&datasets=repeats"),
    "components": (800, "pane=components&datasets=repeats"),
    "compare": (800, "pane=compare&datasets=repeats"),
    "findings": (800, "pane=findings&datasets=repeats"),
    "losses": (
        1000,
        "pane=losses&datasets=repeats&models=tiny-2l-seed0,tiny-2l-seed1&step=431&brush=loss:2~6@tiny-2l-seed0@431",
    ),
    "sql": (
        1240,
        "pane=sql&sql.ran=SELECT model, step, avg(loss) AS mean_loss%0AFROM losses%0AGROUP BY ALL%0AORDER BY ALL",
    ),
}
"""Height in pixels and state of each picture."""

_SETTLED = """
return !!document.querySelector('main .card') && !document.querySelector('[aria-busy=true], .loading')
  && !document.querySelector('.working').textContent
  && [...document.querySelectorAll('.editor')].every((box) => box.shadowRoot?.querySelector('.cm-line'))
"""
_COLOURS = 128


def main() -> None:
    """Serve the store, take the pictures and stop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", help="the demo's store")
    parser.add_argument("views", nargs="*", metavar="VIEW", help=f"of {', '.join(VIEWS)}; all by default")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "trajstore", "serve", "-s", arguments.store, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = server.stderr.readline().split(" at ")[-1].split()[0]
            take(address, arguments.views or list(VIEWS))
        finally:
            server.terminate()


def take(address: str, views: list[str]) -> None:
    """Open each view in Chromium and keep its picture."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(flag)
    browser = Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    try:
        for name in views:
            height, state = VIEWS[name]
            metrics = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            browser.get(f"{address.rstrip('/')}/?{state}")
            WebDriverWait(browser, 60, 0.3).until(lambda driver: driver.execute_script(_SETTLED))
            picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
            picture.quantize(_COLOURS).save(IMAGES / f"page-{name}.png", optimize=True)
            print(IMAGES / f"page-{name}.png")
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
