"""The report in a real browser: opened from a file, moved with slider and keys, and read off the page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.chromium import chromium, needs_chromium
from tests.conftest import PLANTED_STEPS, new_dataset
from trajstore.view import Mark, save_chart, trajectory_chart, write_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    from trajstore.store.store import Store

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def show(browser: Chrome, path: Path) -> None:
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())


def complaints(browser: Chrome) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Chrome) -> list[str]:
    """Addresses of the network asked for since the page was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if url.startswith(("http:", "https:", "ws:", "wss:"))]


def text_of(browser: Chrome, css: str) -> str:
    return str(browser.execute_script("return document.querySelector(arguments[0]).textContent", css))


def choose(browser: Chrome, name: str, label: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", name)).select_by_visible_text(label)


def shown_loss(browser: Chrome) -> float:
    number, unit = text_of(browser, "#loss").split()
    assert unit == "nats"
    return float(number)


def bar_buttons(browser: Chrome) -> list[str]:
    """Titles of the buttons that stand over the charts."""
    found = browser.execute_script(
        "return Array.from(document.querySelectorAll('.modebar-btn'), (b) => b.dataset.title || b.ariaLabel)"
    )
    return [str(title) for title in found]


def assert_cannot_upload(browser: Chrome) -> None:
    """The bar is there, and has nothing that would send the chart to a server."""
    titles = bar_buttons(browser)
    assert any("Download" in title for title in titles)
    assert not [title for title in titles if re.search("share|cloud|upload|edit", title, re.IGNORECASE)]


def test_a_tokens_loss_is_read_off_the_page(planted: Store, tmp_path: Path, browser: Chrome):
    from selenium.webdriver.common.keys import Keys

    path = write_report(
        planted,
        tmp_path / "r.html",
        marks=[Mark(8, "mix changes")],
        findings=["Seed 0 < seed 1."],
        contexts=3,
    )
    show(browser, path)
    assert browser.title == "Losses through training"
    assert text_of(browser, "#findings li") == "Seed 0 < seed 1."
    for place in ("#group-plot", "#pca-plots > :nth-child(1)", "#pca-plots > :nth-child(3)", "#token-plot"):
        assert browser.find_elements("css selector", f"{place} svg.main-svg"), place
    assert_cannot_upload(browser)

    choose(browser, "token-dataset", "e")
    choose(browser, "token-model", "b")
    browser.execute_script("document.getElementById('token-context').value = 2")
    browser.execute_script("document.getElementById('token-context').onchange()")
    tokens = browser.find_elements("css selector", "#text span")
    assert len(tokens) == 30
    tokens[17].click()
    losses = planted.matrix("e", "b", contexts="2:3").values  # steps × positions 1 to 29

    slider = browser.find_element("id", "step")
    assert slider.get_attribute("max") == "7"
    for index in (0, 3, 7):
        move = "const s = arguments[0]; s.value = arguments[1]; s.dispatchEvent(new Event('input'))"
        browser.execute_script(move, slider, index)
        assert text_of(browser, "#step-label") == f"step {PLANTED_STEPS[index]}"
        assert shown_loss(browser) == pytest.approx(losses[index, 16], abs=0.0011)
        assert "position 17" in text_of(browser, "#readout")
        assert ("after: mix changes" in text_of(browser, "#readout")) == (PLANTED_STEPS[index] >= 8)

    browser.find_element("id", "text").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert text_of(browser, "#step-label") == f"step {PLANTED_STEPS[5]}"
    assert shown_loss(browser) == pytest.approx(losses[5, 16], abs=0.0011)
    slider.send_keys(Keys.ARROW_RIGHT)
    assert text_of(browser, "#step-label") == f"step {PLANTED_STEPS[6]}"
    drawn = browser.execute_script("return document.getElementById('token-plot').data[1].y")
    assert drawn == pytest.approx(losses[:, 16].tolist(), abs=0.0011)
    assert complaints(browser) == []
    assert requests(browser) == []


def test_the_first_token_has_no_loss_and_is_grey(planted: Store, tmp_path: Path, browser: Chrome):
    show(browser, write_report(planted, tmp_path / "r.html", groups=["every_token"]))
    first, second = browser.find_elements("css selector", "#text span")[:2]
    assert first.get_attribute("class") == "none"
    assert first.value_of_css_property("background-color") == "rgba(220, 223, 227, 1)"
    assert second.value_of_css_property("background-color") != "rgba(220, 223, 227, 1)"
    first.click()
    assert text_of(browser, "#loss").startswith("no loss")


def test_selects_change_what_is_drawn(planted: Store, tmp_path: Path, browser: Chrome):
    show(browser, write_report(planted, tmp_path / "r.html", groups=["first_half", "second_half"]))
    before = browser.execute_script(
        "return Array.from(document.getElementById('group-plot').calcdata[1], (p) => p.y)"
    )
    choose(browser, "group", "second_half")
    after = browser.execute_script(
        "return Array.from(document.getElementById('group-plot').calcdata[1], (p) => p.y)"
    )
    assert before != after
    assert after == pytest.approx(
        planted.matrix("d", "a", "second_half").values.mean(axis=1).tolist(), rel=1e-4
    )
    choose(browser, "pca-dataset", "e")
    assert "tokens of e" in text_of(browser, "#pca-text")
    assert "e, context" in text_of(browser, "#top-tokens td")
    assert complaints(browser) == []


def test_texts_are_shown_as_they_are_and_run_nothing(store: Store, tmp_path: Path, browser: Chrome):
    texts = [
        "a",
        "</script><script>document.title = 'run'</script>",
        "<b>b</b>",
        "\n",
        "<0xF0><0x9F>",
        "<0x98>",
        "<0x80>",
    ]
    dataset = store.add_dataset("nasty", new_dataset([texts]))
    for step in (0, 1):
        store.append(
            model="m", dataset="nasty", step=step, losses=[float(step + i) for i in range(dataset.n_losses)]
        )
    show(
        browser,
        write_report(store, tmp_path / "r.html", findings=["<script>document.title = 'run'</script>"]),
    )
    assert browser.title == "Losses through training"
    shown = browser.execute_script(
        "return Array.from(document.querySelectorAll('#text span'), (s) => s.textContent)"
    )
    assert shown == [*texts[:3], "↵\n", "😀", "·", "·"]
    assert browser.find_elements("css selector", "#text b") == []
    assert complaints(browser) == []


def test_a_saved_chart_opens_offline(planted: Store, tmp_path: Path, browser: Chrome):
    import polars as pl

    from trajstore.analysis.trajectories import group_trajectory

    frame = group_trajectory(planted.matrix("d")).select(pl.lit("every_token").alias("group"), pl.all())
    show(browser, save_chart(trajectory_chart(frame, [Mark(8, "mix changes")]), tmp_path / "c.html"))
    assert_cannot_upload(browser)
    assert len(browser.find_elements("css selector", ".plotly-graph-div svg.main-svg")) > 0
    ticks = [tick.text for tick in browser.find_elements("css selector", ".xtick text")]
    assert ticks == ["0", "1", "2", "5", "10", "20", "50"]
    assert complaints(browser) == []
    assert requests(browser) == []
