"""Kept findings on the report's page: each kind from the command to the page, against the finding's own tables."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

import trajstore
from tests.conftest import ragged
from tests.pipelines.measures.test_head_kinds import plant_heads
from tests.server.report.test_report import ReportFile
from trajstore.cli import app
from trajstore.server.report.charts import drawing
from trajstore.server.report.findings.table import ROWS_SHOWN
from trajstore.server.report.kept_findings import kept_analyses
from trajstore.server.report.report import write_report
from trajstore.store.store import Store
from trajstore.view import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import NewStore
    from trajstore.server.report.kept_findings import Analysis
    from trajstore.store.files.findings import Finding

pytestmark = pytest.mark.usefixtures("drawn_rho")
STEPS = [0, *(2**power for power in range(14))]
COMMANDS = {
    "pca": ["pca", "-d", "d", "-m", "a", "-m", "b"],
    "spikes": ["spikes", "-d", "d", "-m", "a", "--window", "256:512:1024"],
    "shapes": ["shapes", "-d", "d"],
    "phases": ["phases", "second_half", "-d", "d"],
    "compare": ["compare", "a", "b", "-d", "d"],
    "diff": ["diff", "steps", "-d", "d", "-m", "a", "-g", "second_half"],
}


@pytest.fixture(scope="module")
def bare(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two models on one dataset; a's loss has a spike at 512."""
    path = tmp_path_factory.mktemp("bare") / "store"
    rng = np.random.default_rng(3)
    with new_store(path) as store:
        dataset = store.add_dataset("d", ragged([40] * 6, 1))
        store.add_dataset("other", ragged([5], 2))
        base, drop = rng.gamma(3, 0.5, dataset.n_losses), rng.gamma(3, 0.3, dataset.n_losses)
        for model, middle in (("a", 5), ("b", 8)):
            for number, step in enumerate(STEPS):
                losses = 2 + base + drop / (1 + np.exp(number - middle))
                losses += rng.normal(0, 0.05, len(losses)) + 1.5 * (model == "a" and step == 512)
                store.append(model=model, dataset="d", step=step, losses=losses.astype(np.float32))
    return path


@pytest.fixture(scope="module")
def kept_store(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a finding of each kind, named `mine`."""
    path = shutil.copytree(bare, tmp_path_factory.mktemp("kept") / "store")
    for kind, words in COMMANDS.items():
        done = CliRunner().invoke(app, [*words, "--name", "mine", "-s", str(path)])
        assert done.exit_code == 0, (kind, done.output)
    return path


@pytest.fixture(scope="module")
def kept(kept_store: Path) -> Iterator[Store]:
    """It, opened; no test changes it."""
    with Store(kept_store) as store:
        yield store


@pytest.fixture(scope="module")
def shown(kept: Store) -> dict[str, Analysis]:
    """By kind, how the findings of a on d are shown."""
    return {each.kind: each for each in kept_analyses(kept, ["a"], ["d"], [Mark(16, "mix")])}


@pytest.fixture
def own(kept_store: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of it."""
    shutil.copytree(kept_store, tmp_path / "own")
    with Store(tmp_path / "own") as store:
        yield store


def test_every_kind_of_finding_is_on_the_page(kept: Store, tmp_path: Path):
    path = write_report(kept, tmp_path / "r.html", groups=["every_token"])
    held = ReportFile(path)
    analyses = {each["title"]: each for each in held.facts["analyses"]}
    assert list(analyses) == [f"{kind}: mine" for kind in sorted(COMMANDS)]
    for kind, each in ((title.split(":")[0], each) for title, each in analyses.items()):
        assert each["text"].startswith(("a, b on d", "a on d")), kind
        assert "cannot be shown" not in each["text"]
        assert each["charts"], kind
        assert all(
            series["y"] for chart in each["charts"] for panel in chart["panels"] for series in panel["series"]
        )
        assert each["tables"][0]["rows"], kind
        assert any(
            sentence.startswith(f"{kind}: mine. {each['text'][:10]}") for sentence in held.facts["sentences"]
        )
    assert held.table("findings").select("kind", "finding").rows() == [
        (kind, "mine") for kind in sorted(COMMANDS)
    ]
    for kind, names in held.table("findings").select("kind", "tables").iter_rows():
        for name in names.split(", "):
            rows = kept.finding(kind, "mine").table(name)
            assert held.table(f"finding/{kind}/mine/{name}").height == min(200, rows.height)
    (spike,) = held.table("finding-events").filter(kind="spikes").rows(named=True)
    assert spike["step"] == 512
    scores = held.table("component-scores/kept/mine")
    assert (
        scores["component_1"].to_list()
        == kept.finding("pca", "mine").table("scores").filter(component=1)["score"].to_list()
    )


def test_a_kind_without_a_module_of_its_own_has_its_tables(own: Store):
    shutil.rmtree(own.path / "findings")
    plant_heads(own, "a")
    trajstore.head_kinds(own).keep("h")
    (shown,) = kept_analyses(own, ["a"], own.dataset_names(), [])
    assert shown.text.startswith("a on ")
    assert [table.title for table in shown.tables] == ["Heads"]
    heads = own.finding("head_kinds", "h").table("heads")
    assert shown.tables[0].rows == [list(row) for row in heads.head(ROWS_SHOWN).iter_rows()]
    assert heads.height


def test_a_chart_is_drawn_at_the_places_that_it_describes(shown: dict[str, Analysis]):
    chart = shown["spikes"].charts[0]
    drawn = drawing(chart)
    series, described = drawn["panels"][0]["series"][0], chart.panels[0].series[0]
    assert series["steps"] == list(described.x)
    assert series["x"] == pytest.approx([chart.axis().position(step) for step in described.x])
    assert series["y"] == pytest.approx(described.y)
    assert (drawn["marks"][0]["label"], drawn["marks"][0]["at"]) == ("mix", pytest.approx(np.log10(16)))


def test_tables_on_the_page_are_the_findings(kept: Store, shown: dict[str, Analysis]):
    ratios = kept.finding("pca", "mine").table("components")["ratio"]
    assert [row[2] for row in shown["pca"].tables[0].rows] == ratios.to_list()
    (spike,) = kept.finding("spikes", "mine").table("spikes").rows(named=True)
    assert spike["at_step"] == 512
    assert shown["spikes"].tables[0].rows[0][:3] == [256, 512, 1024]
    assert any(mark.step == 512 for mark in shown["spikes"].charts[0].marks)
    top = shown["pca"].tables[1]
    loadings = kept.finding("pca", "mine").table("loadings").filter(component=1)["loading"]
    assert top.rows[0][1] == loadings.max()
    largest = kept.finding("diff", "mine").table("tokens")["difference"].abs().max()
    assert abs(shown["diff"].tables[0].rows[0][9]) == largest  # type: ignore[arg-type]
    assert len(shown["diff"].tables[0].rows) <= ROWS_SHOWN
    pairs = shown["compare"].tables[0]
    assert dict(zip(pairs.columns, pairs.rows[0], strict=True))["step"] == STEPS[-1]
    curve = shown["phases"].charts[0].panels[0].series[0]
    expected = kept.matrix("d", curve.name, "second_half").values.mean(axis=1)
    np.testing.assert_allclose(curve.y, expected, rtol=1e-5)


def test_findings_of_other_models_or_datasets_are_left_out(kept: Store):
    assert {each.title for each in kept_analyses(kept, ["b"], ["d"], [])} == {
        f"{kind}: mine" for kind in ("pca", "shapes", "phases", "compare")
    }
    assert kept_analyses(kept, ["a"], ["other"], []) == []


def test_what_cannot_be_shown_is_said_and_the_rest_stays(own: Store, tmp_path: Path):
    shutil.rmtree(own.path / "losses/model=a")
    own.refresh()
    damaged = own.path / "findings/kind=pca/finding=mine/components.parquet"
    data = bytearray(damaged.read_bytes())
    data[60] ^= 1
    damaged.write_bytes(data)
    shown = {each.title.split(":")[0]: each for each in kept_analyses(own, ["a", "b"], ["d"], [])}
    assert "Its charts cannot be shown" in shown["spikes"].text
    assert shown["spikes"].tables[0].rows
    assert shown["spikes"].charts == ()
    assert shown["compare"].charts
    write_report(own, tmp_path / "r.html", groups=["every_token"])


def test_a_finding_with_other_facts_is_said_and_the_rest_stays(own: Store, monkeypatch: pytest.MonkeyPatch):
    """As where another version wrote it."""
    usual = Store.findings

    def older(self: Store, kind: str | None = None) -> list[Finding]:
        return [replace(each, facts={"model": "a", "datasets": ["d"]}) for each in usual(self, kind)]

    monkeypatch.setattr(Store, "findings", older)
    shown = {each.title.split(":")[0]: each for each in kept_analyses(own, ["a"], ["d"], [])}
    assert shown.keys() == COMMANDS.keys()
    for each in shown.values():
        assert "its facts are not those that this version writes (KeyError" in each.text, each
    assert shown["spikes"].tables[0].rows


def test_contexts_of_the_token_view_are_chosen(bare: Path, tmp_path: Path):
    with Store(bare) as store:
        first = ReportFile(write_report(store, tmp_path / "r.html", groups=["every_token"], contexts=5))
        worst = ReportFile(
            write_report(store, tmp_path / "w.html", groups=["every_token"], contexts=3, worst=True)
        )
        last = store.matrix("d", steps="last")
    assert first.kept("d") == [0, 1, 2, 3, 4]
    means = [last.values[:, (last.columns["context"] == context).to_numpy()].mean() for context in range(6)]
    assert worst.kept("d") == np.argsort(means)[::-1][:3].tolist()


def test_the_command_takes_contexts_and_marks(bare: Path, tmp_path: Path):
    words = ["report", str(tmp_path / "r.html"), "-s", str(bare), "-g", "every_token"]
    done = CliRunner().invoke(app, [*words, "--worst", "2", "--mark", "16=mix changes", "--mark", "64=end"])
    assert done.exit_code == 0, done.output
    held = ReportFile(tmp_path / "r.html")
    assert "at most" in done.output
    assert held.facts["marks"] == [{"step": 16, "label": "mix changes"}, {"step": 64, "label": "end"}]
    assert len(held.kept("d")) == 2
    assert "Tokens: 234 of d." in held.facts["groupTexts"]["every_token"][0]
    done = CliRunner().invoke(app, ["report", str(tmp_path / "site"), "--split", *words[2:], "-d", "d"])
    assert done.exit_code == 0, done.output
    assert f"in {5 + 2 * len(STEPS)} files): put it on a static host" in done.output
    wrong = CliRunner().invoke(app, [*words, "--mark", "mix changes"])
    assert wrong.exit_code == 2
    assert "STEP=TEXT" in wrong.output


def test_differences_are_told_in_a_sentence(kept: Store, shown: dict[str, Analysis]):
    row = kept.finding("diff", "mine").table("groups").row(-1, named=True)
    said = shown["diff"].text
    start = f"second_half of a on d at step {row['step']} less step {row['minus_step']}: {row['mean']:+.3g} ("
    assert start in said
    assert said.endswith("nats a token.")
