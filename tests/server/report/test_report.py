"""The report: what the page holds, read back out of it and compared with the store."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from tests.conftest import PLANTED_LENGTHS, PLANTED_STEPS, new_dataset, ragged
from trajstore import output_files
from trajstore.errors import BadTarget, NothingChosen, PlotError, TrajstoreError, UnknownName
from trajstore.server.report import content, page, report, tables
from trajstore.server.report.container import unpacked
from trajstore.server.report.page import STATIC, read_data
from trajstore.server.report.quantised_losses import MISSING
from trajstore.server.report.report import write_report
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts
from trajstore.store.matrix.matrix import LossMatrix, pull
from trajstore.view import Mark

if TYPE_CHECKING:
    from trajstore.store.store import Store

NASTY = [
    "start",
    "</script>",
    "<script>alert(1)</script>",
    "<!--",
    " &amp;",
    "\n",
    '"',
    "'",
    "\\",
    "\u2028",
    "\x00",
    "‮",
]


class ReportFile:
    """Return the data of a written report, read as its page reads it."""

    def __init__(self, path: Path) -> None:
        self.header, self._bytes = read_data(path)
        self.facts = self.header["facts"]
        self.error = self.header["error"]

    def tables(self, start: str = "") -> list[str]:
        """Names of its tables."""
        return [name for name in self.header["tables"] if name.startswith(start)]

    def table(self, name: str) -> pl.DataFrame:
        """The rows that an endpoint would give."""
        return pl.read_ipc_stream(io.BytesIO(self._part(self.header["tables"][name]["at"])))

    def notes(self, name: str) -> list[str]:
        """Sentences beside a table."""
        notes: list[str] = self.header["tables"][name]["notes"]
        return notes

    def kept(self, dataset: str) -> list[int]:
        """The contexts of a dataset whose losses it holds."""
        return [block["context"] for block in self.header["losses"][dataset]["contexts"]]

    def losses(self, dataset: str, context: int, model: str) -> np.ndarray:
        """A model's losses of a context (steps, tokens but the first)."""
        facts = self.header["losses"][dataset]
        block = next(block for block in facts["contexts"] if block["context"] == context)
        codes = np.frombuffer(self._part(block["at"]), "<u2").reshape(-1, block["tokens"])
        models = [of["name"] for of in facts["models"] for _ in of["steps"]]
        rows = codes[[name == model for name in models]]
        return np.where(rows == MISSING, np.nan, block["low"] + rows * block["unit"])

    def _part(self, place: list[int]) -> bytes:
        first, length = place
        return self._bytes[first : first + length]


class Watcher:
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self, label: str, total: int, unit: str) -> None:
        self.told.append(f"start {label} {total} {unit}")

    def advance(self, amount: int = 1, note: str = "") -> None:
        self.told.append(f"advance {note}")

    def stop(self) -> None:
        self.told.append("stop")

    def say(self, message: str) -> None:
        self.told.append(f"say {message}")


def test_the_page_holds_the_losses_of_the_store(planted: Store, tmp_path: Path):
    watcher = Watcher()
    out = tmp_path / "r.html"
    held = ReportFile(
        write_report(planted, out, groups=["newline", "every_token"], contexts=3, progress=watcher)
    )
    assert 0 < held.error < 2e-4
    assert (
        watcher.told[-1] == f"say Losses are held in 16 bits: at most {held.error:.2g} nats from the store's."
    )
    for name in ("d", "e"):
        assert held.kept(name) == [0, 1, 2]
        assert [of["name"] for of in held.header["losses"][name]["models"]] == ["a", "b"]
        tokens = held.table(f"context/{name}")
        assert tokens.group_by("context", maintain_order=True).len()["len"].to_list() == list(
            PLANTED_LENGTHS[:3]
        )
        for number in range(3):
            ids = planted.dataset(name).ids()[number].tolist()
            assert tokens.filter(context=number)["token_id"].to_list() == ids
            for model in ("a", "b"):
                expected = planted.matrix(name, model, contexts=f"{number}:{number + 1}").values
                np.testing.assert_allclose(
                    held.losses(name, number, model), expected, rtol=0, atol=held.error * (1 + 1e-9)
                )


def test_the_page_holds_the_components_and_their_tokens(planted: Store, tmp_path: Path):
    held = ReportFile(write_report(planted, tmp_path / "r.html", groups=["every_token"]))
    assert "16 checkpoints of a, b; 97 tokens of d" in held.notes("component-scores/new/d")[0]
    scores = held.table("component-scores/new/d")
    assert scores.height == 16
    variance = held.table("component-variance/new/d")
    np.testing.assert_allclose(
        variance["variance"],
        [(scores[f"component_{n}"] ** 2).sum() / 15 for n in variance["component"]],
        rtol=1e-6,
    )
    tokens = held.table("component-tokens/new/d")
    top = tokens.row(0, named=True)
    frame = planted.dataset("d").frame().filter(context=top["context"])
    assert top["text"] == frame["text"][top["position"]]
    assert top["before"] == "".join(frame["text"][max(0, top["position"] - 10) : top["position"]])
    for _, of_component in tokens.group_by("component"):
        assert of_component["loading"].to_list() == sorted(of_component["loading"], reverse=True)
        assert of_component.height <= 40


def test_every_groups_trajectory_is_the_mean_of_its_matrix(planted: Store, tmp_path: Path):
    held = ReportFile(write_report(planted, tmp_path / "r.html", dataset="d"))
    curves = held.table("trajectories")
    seen = 0
    for group in planted.groups.names():
        try:
            matrix = planted.matrix("d", "b", group)
        except NothingChosen:
            assert group not in held.facts["groups"]
            continue
        mean = curves.filter(group=group, model="b", dataset="d")["mean"]
        np.testing.assert_allclose(mean, matrix.values.mean(axis=1, dtype=np.float64), rtol=1e-12)
        assert f"Tokens: {matrix.columns.height} of d." in held.facts["groupTexts"][group][0]
        drawn = held.table("group-examples").filter(group=group)
        assert drawn.join(matrix.columns, ["context", "position"]).height == drawn.height > 0
        seen += 1
    assert seen > 8
    assert held.facts["groups"][0] == "every_token"


def test_no_whole_matrix_is_pulled(planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Losses are pulled of the contexts and steps that are shown alone, and components go through blocks."""
    pulled = []

    def counted(*args: Any, **kwargs: Any) -> LossMatrix:
        pulled.append(matrix := pull(*args, **kwargs))
        return matrix

    monkeypatch.setattr(content, "pull", counted)
    monkeypatch.setattr(content, "_BLOCK_BYTES", 16 * 4 * 10)
    monkeypatch.setattr(planted, "matrix", None)
    whole = ReportFile(write_report(planted, tmp_path / "a.html", contexts=2, worst=True))
    assert [each.columns["context"].n_unique() for each in pulled] == [2, 2]
    monkeypatch.undo()
    again = ReportFile(write_report(planted, tmp_path / "b.html", contexts=2, worst=True))
    assert whole.kept("d") == again.kept("d")
    np.testing.assert_array_equal(
        whole.losses("d", whole.kept("d")[0], "a"), again.losses("d", whole.kept("d")[0], "a")
    )


def test_texts_from_the_data_cannot_break_the_page(store: Store, tmp_path: Path):
    store.add_dataset("nasty", new_dataset([NASTY, NASTY[::-1]]))
    for step in (0, 1):
        store.append(
            model="m", dataset="nasty", step=step, losses=np.arange(22, dtype=np.float32) / (step + 2)
        )
    path = write_report(
        store,
        tmp_path / "r.html",
        title="</title><script>alert(2)</script>\udcff",
        findings=["a </li><script>alert(3)</script>"],
        marks=[Mark(1, "</script><b>changed</b>")],
    )
    text = path.read_text()
    # The data and the page's own script, each begun and ended once.
    assert len(re.findall(r"<script\b", text)) == len(re.findall("</script", text)) == 2
    assert "<title>&lt;/title&gt;&lt;script&gt;alert(2)&lt;/script&gt;?</title>" in text
    held = ReportFile(path)
    assert held.facts["sentences"] == ["a </li><script>alert(3)</script>"]
    assert held.table("context/nasty").filter(context=0)["token"].to_list() == NASTY
    assert held.facts["marks"] == [{"step": 1, "label": "</script><b>changed</b>"}]


def test_nothing_runs_but_the_page_and_nothing_is_requested(planted: Store, tmp_path: Path):
    text = write_report(planted, tmp_path / "r.html", groups=["every_token"]).read_text()
    head = text[: text.index("<style>")]
    policy = re.search('Content-Security-Policy" content="([^"]*)"', head)
    assert policy
    script, style = (re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style"))
    assert script
    assert style
    hashes = [
        base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode() for part in (script, style)
    ]
    assert policy[1] == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"(src|href)=(?!\"data:)|https?:", head)
    assert not re.search(r"@import|url\(", style[1])
    sources = (STATIC.parent / "page" / "src").rglob("*.ts*")
    assert not [path for path in sources if "innerHTML" in path.read_text()]


def test_what_is_scored_is_told(planted: Store, tmp_path: Path):
    planted.publish_model(ModelFacts("a", family="gpt_neox", n_layer=2, n_params=12345, seed=7))
    planted.append(model="b", dataset="d", step=128, losses=np.ones(97, dtype=np.float32))
    held = ReportFile(write_report(planted, tmp_path / "r.html", groups=["every_token"]))
    assert "2 models, 2 datasets, 33 slices" in held.facts["lead"]
    (facts,) = held.table("models").filter(model="a").rows(named=True)
    assert (facts["family"], facts["n_layer"], facts["n_params"], facts["seed"]) == ("gpt_neox", 2, 12345, 7)
    cells = held.table("coverage")
    assert cells.filter(model="b", state="there").group_by("dataset").len().sort("dataset").rows() == [
        ("d", 9),
        ("e", 8),
    ]
    assert cells.filter(state="missing").select("model", "dataset", "step").rows() == [("b", "e", 128)]
    assert held.facts["sentences"] == []
    of_slice = held.table("slice").filter(model="b", dataset="d", step=128)
    digest = planted.slice_facts("b", "d", 128).loss_sha256
    assert dict(of_slice.select("fact", "value").rows())["loss_sha256"] == digest


def test_measures_are_in_the_report_and_what_has_no_room_is_counted(
    planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for step in (0, 8):
        planted.add_measures(
            "norm",
            [Measure("norm", float(step + layer), layer=layer) for layer in (0, 1)],
            model="a",
            step=step,
        )
        planted.add_measures("rank", [Measure("rank", float(step))], model="a", step=step, dataset="d")
    held = ReportFile(write_report(planted, tmp_path / "r.html", groups=[]))
    curves = held.table("measure-curves")
    assert curves.filter(measures="norm", layer=1).select("step", "value").rows() == [(0, 1.0), (8, 9.0)]
    assert curves.filter(measures="rank").select("step", "value").rows() == [(0, 0.0), (8, 8.0)]
    monkeypatch.setattr(tables, "_MOST_MEASURED", 3)
    held = ReportFile(write_report(planted, tmp_path / "r.html", groups=[]))
    assert held.table("measure-names")["name"].to_list() == ["rank"]
    assert held.notes("measure-names") == ["Measures that are not here: 1."]


def test_measures_on_a_dataset_without_losses_are_in_the_report(planted: Store, tmp_path: Path) -> None:
    planted.add_dataset("probe", new_dataset([["a", "b"]]))
    planted.add_measures("rank", [Measure("rank", 2.5)], model="a", step=8, dataset="probe")
    held = ReportFile(write_report(planted, tmp_path / "r.html", groups=[]))
    assert held.table("measure-curves").select("dataset", "step", "value").rows() == [("probe", 8, 2.5)]
    assert "probe" not in [of["name"] for of in held.facts["datasets"]]
    held = ReportFile(write_report(planted, tmp_path / "r.html", groups=[], dataset="d"))
    assert held.table("measure-names").is_empty()


def test_datasets_and_models_can_be_chosen(planted: Store, tmp_path: Path):
    held = ReportFile(
        write_report(planted, tmp_path / "r.html", dataset="e", models="b*", groups=["every_token"])
    )
    assert [of["name"] for of in held.facts["datasets"]] == ["e"] == list(held.header["losses"])
    assert [of["name"] for of in held.header["losses"]["e"]["models"]] == ["b"] == held.facts["models"]
    assert held.table("coverage").select("model", "dataset").unique().rows() == [("b", "e")]


def test_a_model_on_some_of_the_datasets_and_a_dataset_without_slices(planted: Store, tmp_path: Path):
    planted.add_dataset("unscored", ragged([4, 5], seed=9))
    planted.add_dataset("single", ragged([4], seed=8))
    planted.append(model="c", dataset="single", step=5, losses=np.ones(3, dtype=np.float32))
    watcher = Watcher()
    path = write_report(planted, tmp_path / "r.html", groups=["every_token"], progress=watcher)
    held = ReportFile(path)
    assert list(held.header["losses"]) == ["d", "e", "single"]
    assert held.tables("component-scores") == ["component-scores/new/d", "component-scores/new/e"]
    missing = held.table("coverage").filter(model="c", state="missing")
    assert missing["dataset"].to_list() == ["d", "e"]
    assert watcher.told[0] == "start report 3 datasets"
    assert any(
        line.startswith("say No principal components of single: PCA compares") for line in watcher.told
    )
    assert watcher.told[-3:-1] == ["advance single", "stop"]


def test_wrong_input_writes_nothing(planted: Store, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UnknownName, match="no group 'sevens'"):
        write_report(planted, out / "r.html", groups=["sevens"])
    with pytest.raises(UnknownName, match="no dataset 'x'"):
        write_report(planted, out / "r.html", dataset="x")
    with pytest.raises(UnknownName, match="no model 'x'"):
        write_report(planted, out / "r.html", models="x")
    with pytest.raises(BadTarget, match=r"it must end in \.html"):
        write_report(planted, out / "r.png")
    with pytest.raises(BadTarget, match="no folder"):
        write_report(planted, out / "missing" / "r.html")
    with pytest.raises(BadTarget, match="lies in the store"):
        write_report(planted, planted.path / "site", split=True)
    (link := tmp_path / "link").symlink_to(out)
    for folder, reason in ((link, "there already"), (Path(), "no name of its own")):
        with pytest.raises(BadTarget, match=reason):
            write_report(planted, folder, split=True)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("split", [False, True])
def test_what_cannot_be_written_is_told_before_anything_is_computed(
    planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, split: bool
):
    def computed(*_: object) -> None:
        pytest.fail("it was computed first")

    monkeypatch.setattr(content, "gather", computed)
    ending = "" if split else ".html"
    with pytest.raises(BadTarget, match="File name too long"):
        write_report(planted, tmp_path / ("r" * 240 + ending), split=split)
    with pytest.raises(BadTarget, match=r"Cannot write /proc/r"):
        write_report(planted, Path(f"/proc/r{ending}"), split=split)
    disk = output_files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(output_files.shutil, "disk_usage", lambda _: disk._replace(free=1000))
    if split:
        with pytest.raises(BadTarget, match=r"bytes at least, and 1,000 are free there"):
            write_report(planted, tmp_path / "site", split=True)
    assert {path.name for path in tmp_path.iterdir()} == {planted.path.name}


def test_the_error_that_is_told_is_rounded_up():
    assert [content.Content(error=error).told_error for error in (0.0, 0.12, 0.1201)] == [0.0, 0.12, 0.13]


def test_a_store_without_losses_is_an_error(store: Store, tmp_path: Path):
    store.add_dataset("d", ragged([4]))
    with pytest.raises(PlotError, match=r"nothing to report\. Score a model first: trajstore score"):
        write_report(store, tmp_path / "r.html")


def test_progress_stops_when_the_work_fails(planted: Store, tmp_path: Path):
    watcher = Watcher()
    (planted.path / "losses/model=a/dataset=e/step=4/slice.parquet").write_bytes(b"no Parquet")
    with pytest.raises(TrajstoreError, match="damaged"):
        write_report(planted, tmp_path / "r.html", groups=["every_token"], progress=watcher)
    assert watcher.told[-1] == "stop"
    assert not (tmp_path / "r.html").exists()


def test_a_long_training_run_keeps_some_steps_and_says_so(
    planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(report, "_TOKEN_BYTES", 0)
    monkeypatch.setattr(report, "_FEWEST_STEPS", 4)
    held = ReportFile(write_report(planted, tmp_path / "r.html", dataset="d", groups=[], contexts=1))
    model = held.header["losses"]["d"]["models"][0]
    assert (model["steps"][0], model["steps"][-1], model["of"]) == (0, 64, 8)
    assert len(model["steps"]) == 4
    chosen = planted.matrix("d", "a", contexts="0:1", steps=model["steps"]).values
    np.testing.assert_allclose(held.losses("d", 0, "a"), chosen, atol=held.error * 1.01)


def test_a_folder_holds_the_page_and_the_slices_themselves(planted: Store, tmp_path: Path):
    out = write_report(planted, tmp_path / "site", dataset="d", models="b", groups=[], contexts=3, split=True)
    assert {path.name for path in out.iterdir()} == {
        "index.html",
        "page.js",
        "page.css",
        "icon.svg",
        "data.bin",
        "losses",
    }
    slices = sorted(path.relative_to(out) for path in out.rglob("slice.parquet"))
    assert len(slices) == len(PLANTED_STEPS)
    assert all((out / path).read_bytes() == (planted.path / path).read_bytes() for path in slices)
    assert not any((out / path).samefile(planted.path / path) for path in slices), (
        "an edit would reach the store"
    )
    header, _ = unpacked((out / "data.bin").read_bytes())
    losses = planted.matrix("d", "b", steps="8").values[0]
    for block in header["losses"]["d"]["contexts"]:
        number = block["context"]
        expected = planted.matrix("d", "b", steps="8", contexts=f"{number}:{number + 1}").values[0]
        assert losses[block["first"] : block["first"] + block["tokens"]].tolist() == expected.tolist()
    policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
    assert policy in (out / "index.html").read_text()


def test_a_folder_is_there_whole_or_not_at_all(
    planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed = tmp_path / ".site.0123abcd.trajstore-part"
    (killed / "losses").mkdir(parents=True)
    write_report(planted, tmp_path / "site", dataset="d", groups=[], contexts=1, split=True)
    assert not killed.exists(), "left by a run that was killed"
    with pytest.raises(BadTarget, match="there already"):
        write_report(planted, tmp_path / "site", dataset="d", groups=[], contexts=1, split=True)
    monkeypatch.setattr(
        page.shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(BadTarget, match="No space left"):
        write_report(planted, tmp_path / "other", dataset="d", groups=[], contexts=1, split=True)
    assert [path.name for path in tmp_path.iterdir() if "site" in path.name or "other" in path.name] == [
        "site"
    ]
