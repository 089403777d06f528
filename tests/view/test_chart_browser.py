"""A saved chart in a real browser: it opens offline, and has no button that sends it anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.helpers.chromium import chromium, complaints, needs_chromium, requests, show
from trajstore.view import Mark, save_chart, trajectory_chart

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

    from trajstore.store.store import Store

pytestmark = needs_chromium


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


def test_a_saved_chart_opens_offline(planted: Store, tmp_path: Path):
    import polars as pl

    from trajstore.analysis.trajectories import group_trajectory

    frame = group_trajectory(planted.matrix("d")).select(pl.lit("every_token").alias("group"), pl.all())
    chart = save_chart(trajectory_chart(frame, [Mark(8, "mix changes")]), tmp_path / "c.html")
    with chromium() as browser:
        show(browser, chart)
        assert_cannot_upload(browser)
        assert len(browser.find_elements("css selector", ".plotly-graph-div svg.main-svg")) > 0
        ticks = [tick.text for tick in browser.find_elements("css selector", ".xtick text")]
        assert ticks == ["0", "1", "2", "5", "10", "20", "50"]
        assert complaints(browser) == []
        assert requests(browser) == []
