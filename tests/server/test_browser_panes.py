"""Panes in a real browser: each shows what SQL says, and what is empty or fails can be read by all."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import trajstore
from tests.helpers.chromium import needs_chromium
from tests.pipelines.measures.test_head_kinds import plant_heads
from tests.server.conftest import plant_prompts, serving
from tests.server.page import Page, needs_axe, paged, serious
from trajstore.analysis.components.methods import Method
from trajstore.analysis.spikes.tokens import Tolerance
from trajstore.pipelines.components.pca import pca
from trajstore.pipelines.spikes import Search, spikes
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import NewStore

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def kept(planted_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The planted store with prompts, a group, a PCA, spikes and kinds of heads."""
    with Store(shutil.copytree(planted_once, tmp_path_factory.mktemp("kept") / "store")) as store:
        plant_prompts(store)
        store.groups.add("early", "FROM tokens WHERE position BETWEEN 1 AND 4", "Early tokens.")
        pca(store, Selection(["d"]), Method(components=3)).keep("p")
        spikes(store, Selection(["d"], ["a"]), Search((4, 8, 16), tolerance=Tolerance(tau=0.1))).keep("s")
        plant_heads(store, "a")
        bare = store.dataset("bare")
        for step in range(100):
            copied = step - (step == 51)
            store.append(
                model="long", dataset="bare", step=step, losses=np.full(bare.n_losses, 9 - copied / 20)
            )
        trajstore.head_kinds(store).keep("h")
        plant_heads(store, "b")
        trajstore.head_match(store, Selection(models=["a", "b"])).keep("m")
        yield store


@pytest.fixture(scope="module")
def page(kept: Store) -> Iterator[Page]:
    with paged(kept.path) as opened:
        yield opened


def near(cell: str, value: float) -> bool:
    """Tell whether a cell has a number as the page writes it, to five digits."""
    return float(cell) == pytest.approx(value, rel=1e-4)


def test_the_store_pane_counts_slices_and_bytes(page: Page, kept: Store) -> None:
    page.open("?pane=store")
    page.settled()
    slices = kept.sql("SELECT dataset, model, count(DISTINCT step) FROM losses GROUP BY ALL").fetchall()
    assert f"complete {sum(steps for *_, steps in slices)}" in page.text()
    rows = page.cells(".grid tbody tr")
    shown = {(dataset, model): size for dataset, model, size, _ in rows if size != "0.00 B"}
    assert shown.keys() == {(dataset, model) for dataset, model, _ in slices}
    for (dataset, model), size in shown.items():
        files = (kept.path / "losses" / f"model={model}" / f"dataset={dataset}").glob("*/*.parquet")
        n_bytes = sum(file.stat().st_size for file in files)
        assert float(size.removesuffix(" kB")) == pytest.approx(n_bytes / 1000, rel=5e-3)


def test_an_audit_of_many_slices_begins_when_it_is_asked_for(page: Page, kept: Store) -> None:
    page.open("?pane=store&datasets=bare")
    page.settled()
    button = next(one for one in page.browser.find_elements("css selector", "button") if "Audit" in one.text)
    assert button.text == "Audit 101 slices"
    button.click()
    page.settled()
    assert "store.audit=all" in page.browser.current_url
    expected = [(one.finding, one.model) for one in trajstore.audit(kept, datasets="bare")]
    assert expected
    assert [tuple(row[:2]) for row in page.rows("Audit")] == expected


def test_a_slice_is_chosen_by_keyboard(page: Page, kept: Store) -> None:
    page.open("?pane=store")
    page.settled()
    line = page.browser.find_element("css selector", '[aria-label="Slices of b on d"]')
    line.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert line.get_attribute("aria-valuetext") == "step 2: complete"
    assert "b on d, step 2: complete" in page.text()
    line.send_keys(Keys.ENTER)
    page.settled()
    [(rows,)] = kept.sql(
        "SELECT count(*) FROM losses WHERE (model, dataset, step) = ('b', 'd', 2)"
    ).fetchall()
    facts = page.script("return [...document.querySelectorAll('.facts div')].map((fact) => fact.innerText)")
    assert {"model\nb", "step\n2", f"rows\n{rows}"} <= set(facts)


def test_the_groups_pane_draws_means_of_sql_and_counts_tokens(page: Page, kept: Store) -> None:
    page.open("?pane=groups&groups.names=early&group=early&datasets=d&models=b")
    page.settled()
    plot = page.browser.find_element("css selector", ".u-over")
    ActionChains(page.browser).move_to_element(plot).perform()
    legend = "return [...document.querySelectorAll('.u-legend .u-value')].map((cell) => cell.textContent)"
    page.until(lambda: page.script(legend)[0].isdigit())
    step, mean, *_ = page.script(legend)
    [(expected,)] = kept.sql(
        "SELECT avg(loss) FROM losses SEMI JOIN groups.early USING (dataset, context, position) "
        f"WHERE model = 'b' AND dataset = 'd' AND step = {step}"
    ).fetchall()
    assert float(mean) == pytest.approx(expected, rel=1e-3)
    [(size,)] = kept.sql("SELECT count(*) FROM groups.early WHERE dataset = 'd'").fetchall()
    assert f"Tokens: {size} in d." in page.text()


def test_the_groups_pane_is_of_all_datasets_until_one_is_chosen_and_again(page: Page) -> None:
    def choice() -> Select:
        return Select(page.browser.find_element("xpath", "//label[span='Dataset']/select"))

    def curves() -> list[str]:
        page.settled()
        labels = "return [...document.querySelectorAll('.u-legend .u-label')].map((cell) => cell.textContent)"
        return list(page.script(labels))

    page.open("?pane=groups&groups.names=early&models=a")
    page.until(lambda: len(curves()) > 2)
    of_all = curves()
    assert choice().first_selected_option.text == f"all {len(choice().options) - 1}"
    choice().select_by_visible_text("d")
    page.until(lambda: len(curves()) < len(of_all))
    assert "datasets=d" in page.browser.current_url
    choice().select_by_index(0)
    page.until(lambda: curves() == of_all)


def test_the_components_pane_has_the_kept_scores(page: Page, kept: Store) -> None:
    page.open("?pane=components")
    page.settled()
    scores = kept.sql(
        "PIVOT (FROM pca_scores WHERE finding = 'p') ON component USING first(score) GROUP BY model, step ORDER BY ALL"
    ).fetchall()
    rows = page.rows("Scores")
    assert len(rows) > 8
    for cells, values in zip(rows, scores, strict=False):
        assert (cells[0], int(cells[1])) == values[:2]
        assert all(near(cell, value) for cell, value in zip(cells[2:], values[2:], strict=True))


def test_the_compare_pane_has_the_tokens_of_a_part(page: Page, kept: Store) -> None:
    page.open("?pane=compare&datasets=d&compare.one=a@0&compare.other=a@64&compare.box=9~10.5~8~10")
    page.settled()
    tokens = kept.sql(
        "SELECT position, one.loss, other.loss, one.loss - other.loss AS difference "
        "FROM losses one JOIN losses other USING (model, dataset, context, position) "
        "WHERE model = 'a' AND dataset = 'd' AND one.step = 0 AND other.step = 64 "
        "AND one.loss BETWEEN 9 AND 10.5 AND other.loss BETWEEN 8 AND 10 ORDER BY abs(difference) DESC"
    ).fetchall()
    assert f"{len(tokens)} tokens, of which" in page.text()
    first = page.rows("Tokens in the part")[0]
    assert int(first[2]) == tokens[0][0]
    assert all(near(cell, value) for cell, value in zip(first[3:6], tokens[0][1:], strict=True))


def test_the_findings_pane_has_the_rows_of_a_finding(page: Page, kept: Store) -> None:
    page.open("?pane=findings&datasets=d&findings.kind=spikes&findings.name=s&findings.table=spikes")
    page.settled()
    [(step, height)] = kept.sql("SELECT at_step, height FROM spikes WHERE finding = 's'").fetchall()
    [event] = page.rows("Spikes and phases")
    assert event[:5] == ["spikes", "s", "a", "spike", str(step)]
    assert near(event[5], height)
    [row] = page.rows("spikes")
    assert str(step) in row
    assert page.complaints() == []


def test_the_tokens_pane_takes_another_prompt_from_the_same_item(page: Page) -> None:
    page.open("?pane=tokens&datasets=shown&models=m&tokens.view=prompts&tokens.prompt=bare&tokens.position=4")
    page.settled()
    readout = page.browser.find_element("css selector", ".readout").text
    assert "loss 12.000 nats" in readout
    assert "from 2.000 nats" in readout
    assert "difference +10.000" in readout


def test_steps_and_a_group_chosen_in_one_pane_are_followed_by_the_others(page: Page, kept: Store) -> None:
    heat = "return document.querySelector('.heatmap').ariaLabel"
    page.open("?pane=tokens&datasets=d&models=a&context=2&group=early&step=8")
    page.settled()
    assert "8 rows by step" in page.script(heat)
    [(members,)] = kept.sql(
        "SELECT count(*) FROM groups.early WHERE dataset = 'd' AND context = 2"
    ).fetchall()
    faded = "return document.querySelectorAll('.token.faded').length"
    page.until(lambda: page.script(faded) == 30 - members)  # asked for once the losses are there
    page.script("document.querySelector('.heatmap').focus()")
    ActionChains(page.browser).key_down(Keys.SHIFT).send_keys(Keys.PAGE_UP).key_up(Keys.SHIFT).perform()
    page.until(lambda: "brush=steps" in page.browser.current_url)
    page.settled()
    chips = page.script("return [...document.querySelectorAll('.chip')].map((chip) => chip.textContent)")
    assert chips == ["Steps 0 to 8 ×", "Group early ×"]
    assert "5 rows by step" in page.script(heat)
    for pane in ("groups", "components", "compare", "findings"):
        page.show(pane)
        page.settled()
        assert len(page.browser.find_elements("css selector", ".chip")) == 2
        if pane == "components":  # of two models by eight steps, all in one dataset
            assert page.script("return document.querySelectorAll('circle.faded').length") == 6
        if pane == "compare":
            steps = page.script(
                "return [...document.querySelectorAll('.controls select')].map((one) => one.value)"
            )
            assert steps == ["a", "0", "a", "8"]
        if pane == "findings":
            assert [row[4] for row in page.rows("Spikes and phases")] == ["8"]
    page.browser.find_element("css selector", ".chip").click()
    page.until(lambda: "brush=" not in page.browser.current_url)
    assert "group=early" in page.browser.current_url
    assert page.complaints() == []


SIZE = "SELECT count(*) FROM losses one JOIN losses other USING (model, dataset, context, position) WHERE "
PAIR = "model = 'a' AND dataset = 'd' AND one.step = 0 AND other.step = 64"


def test_the_tokens_of_a_brushed_part_are_a_curve_and_marked(page: Page, kept: Store) -> None:
    page.open("?pane=compare&datasets=d&models=a&compare.one=a@0&compare.other=a@64")
    page.settled()
    page.script("document.querySelector('.heatmap').focus()")
    keys = ActionChains(page.browser).send_keys(Keys.PAGE_UP).key_down(Keys.SHIFT)
    keys.send_keys(*[Keys.PAGE_UP] * 4, *[Keys.ARROW_RIGHT] * 9).key_up(Keys.SHIFT).perform()
    page.until(lambda: "brush=loss" in page.browser.current_url)
    low, high, other_low, other_high = parse_qs(page.browser.current_url)["compare.box"][0].split("~")
    where = (
        f"{PAIR} AND one.loss BETWEEN {low} AND {high} AND other.loss BETWEEN {other_low} AND {other_high}"
    )
    [(size,)] = kept.sql(SIZE + where).fetchall()
    assert 0 < size < kept.dataset("d").n_losses
    page.show("groups")
    page.settled()
    assert f"The brushed tokens: {size} in d." in page.text()
    assert f"Tokens: {size} in d." in page.text()
    assert "every_token, brushed tokens by step" in page.script(
        "return document.querySelector('.chart').ariaLabel"
    )
    page.show("tokens")
    page.settled()
    [(inside,)] = kept.sql(f"{SIZE}{where} AND context = 0").fetchall()
    page.until(lambda: page.script("return document.querySelectorAll('.token.faded').length") == 9 - inside)
    chip = "return document.querySelector('.chip')?.textContent"
    said = page.script(chip)
    assert "nats of a at step 0 and" in said
    for _ in range(3):
        page.browser.back()
    page.until(lambda: page.script(chip) is None)
    page.browser.forward()
    page.until(lambda: page.script(chip) == said)
    assert page.complaints() == []


def test_charts_are_read_and_brushed_by_keyboard(page: Page, kept: Store) -> None:
    page.open("?pane=losses&datasets=d&models=a")
    page.settled()

    def at(chart: int, *keys: str, marking: str = "") -> None:
        page.script("document.querySelectorAll('.chart, .paths')[arguments[0]].focus()", chart)
        typed = ActionChains(page.browser).send_keys(*keys).key_down(Keys.SHIFT)
        typed.send_keys(marking).key_up(Keys.SHIFT).perform()

    at(0, Keys.END, Keys.ARROW_LEFT, Keys.ENTER)
    page.until(lambda: "step=32" in page.browser.current_url)
    [(mean,)] = kept.sql(
        "SELECT avg(loss) FROM losses WHERE (model, dataset, step) = ('a', 'd', 32)"
    ).fetchall()
    said = page.script("return document.querySelector('.chart .for-readers').textContent")
    assert said == f"step 32: a {mean:.4g}"
    assert page.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    at(0, marking=Keys.ARROW_LEFT * 2)
    page.until(lambda: "brush=steps%3A8%7E32" in page.browser.current_url)
    page.settled()
    at(1, Keys.HOME, marking=Keys.ARROW_RIGHT * 3)
    page.until(lambda: "brush=loss" in page.browser.current_url)
    [brush] = parse_qs(page.browser.current_url)["brush"]
    assert brush.endswith("@a@32")
    page.show("compare")
    page.settled()
    low, high, _ = re.split("[~@]", brush.removeprefix("loss:"), maxsplit=2)
    where = f"model = 'a' AND dataset = 'd' AND step = 32 AND loss BETWEEN {low} AND {high}"
    [(size,)] = kept.sql(f"SELECT count(*) FROM losses WHERE {where}").fetchall()
    assert f"{size} tokens, of which {size} are here." in page.text()
    page.open("?pane=components&components.of=p")
    page.settled()
    at(0, Keys.HOME, marking=Keys.ARROW_RIGHT * 2)
    page.until(lambda: "brush=steps%3A0%7E2" in page.browser.current_url)
    assert page.script("return document.querySelectorAll('circle.faded').length") == 10
    at(0, Keys.END, Keys.ENTER)
    page.until(lambda: "step=64" in page.browser.current_url)
    assert page.complaints() == []


def test_a_slider_that_moves_changes_the_address_a_few_times_and_leaves_its_last_place(page: Page) -> None:
    page.open("?pane=tokens&datasets=d&models=a")
    page.settled()
    page.script(
        "const said = history.replaceState; window.said = 0;"
        "history.replaceState = (...state) => (window.said++, said.apply(history, state))"
    )
    slider = page.browser.find_element("css selector", "input[type=range]")
    slider.send_keys(Keys.HOME, *([Keys.ARROW_RIGHT] * 5))
    page.until(lambda: "step=16" in page.browser.current_url)
    assert page.script("return window.said") < 6


def test_the_findings_pane_draws_heads_by_their_kinds(page: Page, kept: Store) -> None:
    page.open(
        "?pane=findings&datasets=d&findings.kind=head_kinds&findings.name=h&findings.measure=prefix_matching"
    )
    page.settled()
    kinds = kept.sql("SELECT kind, count(*) FROM head_kinds GROUP BY ALL").fetchall()
    panels = page.browser.find_element("css selector", ".card").find_elements("css selector", "figure")
    heads = {
        panel.find_element("css selector", "figcaption").text: len(
            str(panel.find_element("css selector", ".chart").get_attribute("aria-label")).split(", ")
        )
        for panel in panels
    }
    assert heads == dict(kinds)


def test_the_findings_pane_draws_matched_heads_by_layer(page: Page, kept: Store) -> None:
    page.open("?pane=findings&findings.kind=head_matches&findings.name=m")
    page.settled()
    pairs = kept.sql(
        "SELECT layer::INT, head::INT, other_layer || '.' || other_head || CASE WHEN ambiguous THEN ' ?' ELSE '' END "
        "FROM head_matches WHERE finding = 'm'"
    ).fetchall()
    heads = sorted({head for _, head, _ in pairs})
    assert page.cells(".heads tbody tr") == [
        [str(layer), *({(a, b): text for a, b, text in pairs}.get((layer, head), "") for head in heads)]
        for layer in sorted({layer for layer, *_ in pairs})
    ]


@needs_axe
def test_what_is_empty_or_fails_is_accessible_and_says_what_to_do(
    page: Page, new_store: NewStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = tmp_path_factory.mktemp("empty") / "store"
    new_store(empty).close()
    with serving(empty) as address:
        for pane in page.panes():
            page.browser.get(f"{address}?pane={pane}&theme=dark")
            page.settled()
            assert serious(page) == [], pane
            if pane != "sql":
                assert "trajstore " in str(page.script("return document.querySelector('main').innerText")), (
                    pane
                )
    page.open("?pane=components&components.of=gone")
    page.settled()
    assert "gone" in page.browser.find_element("css selector", ".problem").text
    for theme in ("light", "dark"):
        page.theme(theme)
        assert serious(page) == [], theme
