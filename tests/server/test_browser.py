"""The page in a real browser: every pane, by light and dark, by keyboard, by links, and while a run is scored."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.helpers.chromium import complaints, needs_chromium
from tests.server.conftest import serving
from tests.server.page import Page, needs_axe, paged, serious
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs_chromium
MEANS = "SELECT step, avg(loss) AS mean FROM losses WHERE model = 'a' AND dataset = 'd' GROUP BY step ORDER BY step"


@pytest.fixture(scope="module")
def grown(planted_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with what `planted` has, to which the tests add."""
    with Store(shutil.copytree(planted_once, tmp_path_factory.mktemp("grown") / "store")) as store:
        yield store


@pytest.fixture(scope="module")
def page(grown: Store) -> Iterator[Page]:
    """The page of a server, in a browser."""
    with paged(grown.path) as opened:
        yield opened


@pytest.fixture(scope="module")
def address(served_path: Path) -> Iterator[str]:
    """The address of a server over the small store."""
    with serving(served_path) as made:
        yield made


@needs_axe
@pytest.mark.parametrize("width", [0, 420])
def test_every_pane_is_accessible_in_light_and_dark_and_complains_of_nothing(page: Page, width: int) -> None:
    page.narrow(width)
    selected = "&brush=steps:2~8&group=hapax" if width else ""
    page.open(f"?sql.ran=SELECT%201%20AS%20a%2C%202%20AS%20b{selected}")
    for pane in page.panes():
        page.show(pane)
        for theme in ("light", "dark"):
            page.theme(theme)
            page.settled()
            assert serious(page) == [], (pane, theme)
            assert page.script("return getComputedStyle(document.documentElement).colorScheme") == theme
        assert page.browser.find_elements("css selector", ".problem") == []
        assert page.script("return document.documentElement.scrollWidth <= innerWidth"), pane
        assert page.complaints() == []
    page.narrow(0)


def test_pages_that_are_left_keep_no_connection(page: Page) -> None:
    for step in range(8):  # a browser has six to a server
        begun = time.monotonic()
        page.open(f"?step={step}")
        assert time.monotonic() - begun < 10


def test_a_statement_is_written_and_run_by_keyboard_alone(page: Page, grown: Store) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.open("?pane=sql")
    page.settled()
    focus = "let e = document.activeElement; while (e?.shadowRoot) e = e.shadowRoot.activeElement; return e?.ariaLabel"
    page.until(lambda: page.script("return document.querySelector('.editor')?.shadowRoot != null"))
    keys = ActionChains(page.browser)
    for _ in range(60):
        keys.send_keys(Keys.TAB).perform()
        if page.script(focus) == "SQL":
            break
    assert page.script(focus) == "SQL"
    keys = ActionChains(page.browser)
    keys.key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).send_keys(MEANS + " ").send_keys(
        Keys.ESCAPE
    )
    keys.key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.until(lambda: "8 rows" in page.text())
    for cells, (step, mean) in zip(page.rows("Answer"), grown.sql(MEANS).fetchall(), strict=True):
        assert int(cells[0]) == step
        assert float(cells[1]) == pytest.approx(mean, rel=1e-6)
    page.browser.back()
    page.until(lambda: "8 rows" not in page.text())
    page.browser.forward()
    page.until(lambda: "8 rows" in page.text())
    assert page.complaints() == []


def test_a_link_restores_what_was_seen_and_the_curve_is_that_of_sql(page: Page, grown: Store) -> None:
    page.open("?pane=losses&datasets=d&models=a&brush=steps:2~8&theme=dark")
    page.settled()
    assert "Steps 2 to 8" in page.text()
    link = page.script("return document.querySelector('.data-links a').href")
    rows = json.loads(
        page.browser.execute_async_script(
            "fetch(arguments[0]).then((a) => a.text()).then(arguments[1])", link
        )
    )
    expected = dict(grown.sql(MEANS).fetchall())
    assert {row["step"]: row["mean"] for row in rows} == pytest.approx(expected)


def test_a_run_draws_its_curve_while_it_is_scored(
    page: Page, grown: Store, tmp_path: Path, one_thread: None
) -> None:
    from tests.helpers.tiny_models import random_dataset, save_run
    from trajstore.scoring import score

    grown.add_dataset("live", random_dataset(seed=1))
    page.open("?pane=losses&datasets=live")
    curve = "return document.querySelector('.chart')?.ariaLabel ?? ''"
    save_run(tmp_path / "runs", [0, 1])
    score(grown, str(tmp_path / "runs"), ["live"], name="growing")
    page.until(lambda: "growing" in page.script(curve))
    # The browser logs the answer from before the run, that nothing is scored there.
    assert [text for text in page.complaints() if "404" not in text] == []


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
