"""The report in a real browser: opened from a file, moved with slider and keys, and read off the page."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.conftest import PLANTED_STEPS, new_dataset
from tests.helpers.chromium import complaints, needs_chromium, requests, show
from tests.server.page import Page, needs_axe, serious
from trajstore.pipelines.comparison.comparison import compare
from trajstore.pipelines.comparison.result import Question
from trajstore.pipelines.loss_cube import LossCube, loss_cells
from trajstore.server.report.report import write_report
from trajstore.store.matrix.selection import Selection, checkpoints_by_dataset
from trajstore.store.store import Store
from trajstore.view import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def written(served_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small store."""
    out = tmp_path_factory.mktemp("report") / "r.html"
    with Store(served_path) as store:
        return write_report(
            store,
            out,
            groups=["first_half", "second_half"],
            marks=[Mark(8, "mix changes")],
            findings=["Seed 0 < seed 1."],
            contexts=3,
        )


def opened(browser: Chrome, path: Path, state: str) -> Page:
    show(browser, path, state)
    page = Page(browser, path.as_uri())
    page.until(lambda: page.script("return document.querySelector('main') !== null"))
    page.settled()
    return page


def readout(page: Page) -> dict[str, str]:
    """Return what the page says of a token, by name."""
    spans = "[...document.querySelectorAll('.readout span')]"
    pairs = page.script(f"return {spans}.map((part) => [part.children[0].textContent, part.lastChild.data])")
    return {name: value.strip() for name, value in pairs}


def test_a_tokens_loss_is_read_off_the_page(served_path: Path, written: Path, browser: Chrome):
    from selenium.webdriver.common.keys import Keys

    page = opened(
        browser, written, "#pane=tokens&datasets=e&context=2&tokens.model=b&tokens.position=17&step=0"
    )
    with Store(served_path) as store:
        losses = store.matrix("e", "b", contexts="2:3").values  # steps × positions 1 to 29
    slider = browser.find_element("css selector", "input[type=range]")
    assert slider.get_attribute("max") == "7"
    for index, step in enumerate(PLANTED_STEPS):
        said = readout(page)
        assert said["loss"] == f"{losses[index, 16]:.3f} nats".replace("-", "−")
        assert (said["position"], said.get("after")) == ("17", "mix changes" if step >= 8 else None)
        slider.send_keys(Keys.ARROW_RIGHT)
    page.until(lambda: f"step={PLANTED_STEPS[-1]}" in browser.current_url)
    assert len(browser.find_elements("css selector", ".token-text .token")) == 30
    page.until(lambda: browser.find_elements("css selector", ".card .card .chart canvas"))
    assert complaints(browser) == []
    assert requests(browser) == []


def test_differences_and_contexts_are_found_in_the_data(served_path: Path, written: Path, browser: Chrome):
    state = "#pane=tokens&datasets=d&context=2&tokens.model=b&tokens.position=2&step=16&tokens.view="
    page = opened(browser, written, f"{state}models&tokens.other=a")
    with Store(served_path) as store:
        a, b = (store.matrix("d", model, contexts="2:3", steps="16").values[0, 1] for model in "ab")
    assert float(readout(page)["difference"].replace("−", "-")) == pytest.approx(b - a, abs=2e-3)
    page = opened(browser, written, f"{state}steps&tokens.steps=4:16,64")
    assert (
        browser.find_element("css selector", "input[type=range]").get_attribute("max") == "2"
    )  # 8, 16, 64 less 16
    with Store(served_path) as store:
        before, after = store.matrix("d", "b", contexts="2:3", steps="8,16").values[:, 1]
    assert float(readout(page)["difference"].replace("−", "-")) == pytest.approx(after - before, abs=2e-3)
    page = opened(browser, written, f"{state}raw&tokens.find=group&group=second_half")
    scores = {row[0]: row[1] for row in page.rows("Contexts")}
    with Store(served_path) as store:
        inside = store.matrix("d", "b", "second_half", contexts="2:3").values
    change = inside[-1].mean() - inside[0].mean()
    assert float(scores["2"].replace("−", "-")) == pytest.approx(change, abs=2e-3)
    page = opened(browser, written, f"{state}raw".replace("context=2", "context=4"))
    assert "Context 4 of d is not in the report." in page.text()
    assert complaints(browser) == []


def pointed_at(page: Page, chart: int = 0) -> list[str]:
    """Point at the middle of a chart; returns what its legend says there: the place, and each curve's value."""
    from selenium.webdriver.common.action_chains import ActionChains

    plot = page.browser.find_elements("css selector", ".u-over")[chart]
    page.script("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(page.browser).move_to_element(plot).perform()
    cells = (
        "return [...[...document.querySelectorAll('.u-legend')][arguments[0]].querySelectorAll('.u-value')]"
        ".map((cell) => cell.textContent)"
    )
    page.until(lambda: page.script(cells, chart)[0] not in ("–", "--"))
    return list(page.script(cells, chart))


def test_two_checkpoints_are_compared_in_the_data(served_path: Path, written: Path, browser: Chrome):
    state = "#pane=compare&datasets=d&compare.one=a@0&compare.other=a@64&compare.box=9~10.5~8~10"
    page = opened(browser, written, state)
    with Store(served_path) as store:
        tokens = store.sql(
            "SELECT position, one.loss, other.loss, one.loss - other.loss AS difference "
            "FROM losses one JOIN losses other USING (model, dataset, context, position) "
            "WHERE model = 'a' AND dataset = 'd' AND one.step = 0 AND other.step = 64 AND context < 3 "
            "AND one.loss BETWEEN 9 AND 10.5 AND other.loss BETWEEN 8 AND 10 ORDER BY abs(difference) DESC"
        ).fetchall()
        [(size, inside)] = store.sql(
            "SELECT count(*), count(*) FILTER (one.loss BETWEEN 9 AND 10.5 AND other.loss BETWEEN 8 AND 10) "
            "FROM losses one JOIN losses other USING (model, dataset, context, position) "
            "SEMI JOIN groups.first_half USING (dataset, context, position) "
            "WHERE model = 'a' AND dataset = 'd' AND one.step = 0 AND other.step = 64 AND context < 3"
        ).fetchall()
        alike = compare(store, ["a", "b"], Question(groups=False), Selection(["d"], contexts="0:3"))
    assert f"{len(tokens)} tokens, of which" in page.text()
    first = page.rows("Tokens in the part")[0]
    assert int(first[2]) == tokens[0][0]
    assert [float(cell) for cell in first[3:6]] == pytest.approx(tokens[0][1:], abs=2e-3)
    rows = {row[0]: row for row in page.rows("Groups in the part")}
    assert [int(cell) for cell in rows["first_half"][1:3]] == [size, inside]
    for name in ("partial", "rms"):
        page = opened(browser, written, f"#pane=compare&datasets=d&compare.by={name}")
        step, value, *_ = pointed_at(page)
        row = alike.correlations.filter(model="a", other="b", step=int(step), other_step=int(step))
        assert float(value) == pytest.approx(row[name].item(), abs=2e-3)
    assert complaints(browser) == []


def test_losses_by_step_and_their_distribution_follow_a_brush(
    served_path: Path, written: Path, browser: Chrome
):
    state = "#pane=losses&datasets=d&models=b&group=second_half&losses.statistic="
    with Store(served_path) as store:
        within = Selection(["d"], ["b"], contexts="0:3")
        rows = checkpoints_by_dataset(store, within)
        cube = LossCube.of(rows, ["second_half"], loss_cells(store, rows, ["second_half"], within))
        means = store.sql(
            "SELECT step, avg(loss::DOUBLE) FROM losses "
            "SEMI JOIN groups.second_half USING (dataset, context, position) "
            "WHERE model = 'b' AND dataset = 'd' AND context < 3 GROUP BY step"
        ).fetchall()
    page = opened(browser, written, f"{state}mean")
    step, mean = pointed_at(page)
    assert float(mean) == pytest.approx(dict(means)[int(step)], rel=5e-4)
    page = opened(browser, written, f"{state}median&brush=loss:7~9")
    step, median = pointed_at(page)
    brushed = cube.curves(7, 9).filter(step=int(step))
    assert float(median) == pytest.approx(brushed["median"].item(), rel=5e-4)
    page = opened(browser, written, f"{state}mean&brush=steps:2~8")
    density = cube.density(2, 8).drop_nulls()
    shares = (density["share"] / (density["high"] - density["low"])).to_list()
    assert float(pointed_at(page, 1)[1]) in [pytest.approx(share, rel=1e-3) for share in shares]
    page = opened(browser, written, state.replace("second_half", "digits"))
    assert "No token of digits has a loss in the 3 contexts in this report." in page.text()
    assert complaints(browser) == []


def test_a_group_stands_for_the_tokens_that_follow_where_the_report_is_aligned_so(
    served_path: Path, tmp_path: Path, browser: Chrome
):
    with Store(served_path) as store:
        path = write_report(
            store, tmp_path / "r.html", dataset="d", groups=["first_half"], contexts=3, align="after"
        )
        within = Selection(["d"], ["b"], contexts="0:3", align="after")
        rows = checkpoints_by_dataset(store, within)
        cube = LossCube.of(rows, ["first_half"], loss_cells(store, rows, ["first_half"], within))
    page = opened(browser, path, "#pane=losses&datasets=d&models=b&group=first_half")
    step, mean, *_ = pointed_at(page)
    assert float(mean) == pytest.approx(cube.curves().filter(step=int(step))["mean"].item(), rel=5e-4)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The address of a host of static files."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def test_a_folder_on_a_static_host_reads_the_stores_own_slices(
    served_path: Path, tmp_path: Path, browser: Chrome
):
    with Store(served_path) as store:
        write_report(store, tmp_path / "site", groups=["second_half"], contexts=6, split=True)
        losses, anew = (store.matrix("e", model, contexts="2:3").values for model in "ba")
        [(boxed,)] = store.sql(
            "SELECT count(*) FROM losses one JOIN losses other USING (model, dataset, context, position) "
            "WHERE model = 'a' AND dataset = 'e' AND one.step = 0 AND other.step = 64 AND context < 6 "
            "AND one.loss BETWEEN 9 AND 11 AND other.loss BETWEEN 8 AND 10"
        ).fetchall()
    for path in (tmp_path / "site").rglob("slice.parquet"):
        os.utime(path, (10**9, 10**9))
    requests(browser)
    with hosted(tmp_path / "site") as address:
        page = Page(browser, address)
        page.open(
            "#pane=tokens&datasets=e&context=2&tokens.model=b&tokens.position=17&step=8&tokens.steps=all"
        )
        page.until(lambda: page.rows("Tokens most like it"))
        page.settled()
        assert readout(page)["loss"] == f"{losses[PLANTED_STEPS.index(8), 16]:.3f} nats".replace("-", "−")
        assert page.script("return document.querySelector('input[type=range]').max") == "7"
        assert page.complaints() == []
        asked = requests(browser)
        for state, slices_of_a in (
            ("pane=tokens&datasets=e&context=2&tokens.model=b&tokens.position=17&tokens.steps=4,8", [4, 8]),
            (
                "pane=compare&datasets=e&models=a&compare.one=a@0&compare.other=a@64&compare.box=9~11~8~10",
                [0, 64],
            ),
        ):
            browser.get("about:blank")
            page.open(f"#{state}")
            page.until(lambda: browser.find_elements("css selector", ".chart canvas, .heatmap"))
            page.until(lambda: not page.script("return document.querySelector('.loading') !== null"))
            page.settled()
            read = [url for url in requests(browser) if "model=a" in url]
            assert sorted(int(url.split("step=")[1].split("/")[0]) for url in read) == slices_of_a
        assert f"{boxed} tokens, of which" in page.text()
        # Scored anew on a host that lets a browser keep what it has.
        of_a, of_b = (tmp_path / f"site/losses/model={m}/dataset=e/step=8/slice.parquet" for m in "ab")
        shutil.copyfile(of_a, of_b)
        browser.get("about:blank")
        page.open(
            "#pane=tokens&datasets=e&context=2&tokens.model=b&tokens.position=17&step=8&tokens.steps=all"
        )
        page.until(lambda: page.rows("Tokens most like it"))
        page.settled()
        assert readout(page)["loss"] == f"{anew[PLANTED_STEPS.index(8), 16]:.3f} nats".replace("-", "−")
    assert {url.rpartition("/")[0] + "/" for url in asked if not url.startswith(f"{address}losses/")} == {
        address
    }
    slices = [url for url in asked if url.endswith("slice.parquet")]
    assert f"{address}losses/model=b/dataset=e/step=8/slice.parquet" in slices
    assert len(slices) == len(set(slices)) == 16, (
        "of both models, once each, and of the dataset that is shown"
    )


@needs_axe
def test_every_pane_is_there_and_can_be_read(served_path: Path, written: Path, browser: Chrome):
    page = opened(browser, written, "#theme=dark")
    assert browser.title == "Losses through training"
    assert page.script("return document.querySelector('.lead li').textContent") == "Seed 0 < seed 1."
    assert page.script("return document.querySelector('.legend b').textContent") == "32", "complete slices"
    tabs = [tab.text for tab in browser.find_elements("css selector", ".tabs a")]
    assert tabs == ["Overview", "Tokens", "Groups", "Components", "Compare", "Findings", "Losses"]
    shown = (".lead", ".token-text", ".chart canvas", ".paths circle", ".heatmap", ".empty", ".chart canvas")
    for tab, has in enumerate(shown):
        browser.find_elements("css selector", ".tabs a")[tab].click()
        page.until(lambda has=has: browser.find_elements("css selector", f"main {has}"))
        page.settled()
        assert serious(page) == [], tabs[tab]
    assert complaints(browser) == []
    assert requests(browser) == []


def test_texts_are_shown_as_they_are_and_run_nothing(store: Store, tmp_path: Path, browser: Chrome):
    attack = "</script><script>document.title = 'run'</script>"
    texts = ["a", attack, "<b>b</b>", "\n", "<0xF0><0x9F>", "<0x98>", "<0x80>"]
    dataset = store.add_dataset("nasty", new_dataset([texts]))
    for step in (0, 1):
        store.append(
            model="m", dataset="nasty", step=step, losses=[float(step + i) for i in range(dataset.n_losses)]
        )
    path = write_report(store, tmp_path / "r.html", findings=[attack], marks=[Mark(1, attack)])
    page = opened(browser, path, "#pane=tokens&tokens.position=1")
    spans = "[...document.querySelectorAll('.token-text .token')].map((span) => span.textContent)"
    assert page.script(f"return {spans}") == [*texts[:3], "⏎", "😀", "·", "·"]
    assert browser.find_elements("css selector", ".token-text b") == []
    assert readout(page)["after"] == attack
    colours = "[...document.querySelectorAll('.token-text .token')].map((span) => span.style.backgroundColor)"
    first, second = page.script(f"return {colours}")[:2]
    assert first == "", "the first token has no loss"
    assert second
    page.script("location.hash = ''")
    page.until(lambda: page.script("return document.querySelector('.lead li')?.textContent") == attack)
    assert browser.title == "Losses through training"
    assert complaints(browser) == []
