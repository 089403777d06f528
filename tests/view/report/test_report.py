"""The report: what the page holds, read back out of it and compared with the store."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.conftest import PLANTED_LENGTHS, PLANTED_STEPS, new_dataset, ragged
from trajstore.errors import BadTarget, NothingChosen, PlotError, TrajstoreError, UnknownName
from trajstore.store.files.models import ModelFacts
from trajstore.store.matrix.matrix import LossMatrix, pull
from trajstore.view import Mark, write_report
from trajstore.view.charts.chart import step_axis
from trajstore.view.report import content, report
from trajstore.view.report.tokens import MISSING, joined, pack, spread

if TYPE_CHECKING:
    from pathlib import Path

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


def read_data(path: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL
    )
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def unpack(packed: str, tokens: int) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(packed), "<u2").astype(float)
    return np.where(values == MISSING, np.nan, (values - 1000) / 1000).reshape(-1, tokens - 1)


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
    path = write_report(planted, tmp_path / "r.html", groups=["newline", "every_token"], contexts=3)
    views = {view["name"]: view for view in read_data(path)["tokens"]}
    assert list(views) == ["d", "e"]
    for name, view in views.items():
        assert [model["name"] for model in view["models"]] == ["a", "b"]
        assert [len(context["ids"]) for context in view["contexts"]] == list(PLANTED_LENGTHS[:3])
        ids = planted.dataset(name).ids()
        for number, context in enumerate(view["contexts"]):
            assert context["ids"] == ids[number].tolist()
            for model, packed in zip(view["models"], context["losses"], strict=True):
                assert model["steps"] == list(PLANTED_STEPS)
                expected = planted.matrix(name, model["name"], contexts=f"{number}:{number + 1}").values
                np.testing.assert_allclose(unpack(packed, len(context["ids"])), expected, atol=0.00051)
        assert view["top"] >= np.percentile(planted.matrix(name, contexts="0:3").values, 99)


def test_the_page_holds_the_groups_trajectories(planted: Store, tmp_path: Path):
    data = read_data(write_report(planted, tmp_path / "r.html", groups=["second_half", "every_token"]))
    assert [group["name"] for group in data["groups"]] == ["every_token", "second_half"]
    assert data["groups"][1]["text"]
    figure = data["groups"][1]["figure"]
    curve = next(trace for trace in figure["data"] if trace.get("name") == "b")
    drawn = np.frombuffer(base64.b64decode(curve["y"]["bdata"]), curve["y"]["dtype"])
    np.testing.assert_allclose(drawn, planted.matrix("d", "b", "second_half").values.mean(axis=1), rtol=1e-5)


def test_the_page_holds_the_components_and_their_tokens(planted: Store, tmp_path: Path):
    data = read_data(write_report(planted, tmp_path / "r.html", groups=["every_token"]))
    fit = data["components"][0]
    assert fit["name"] == "d"
    assert "16 checkpoints of a, b; 97 tokens of d" in fit["text"]
    assert len(fit["figures"]) == 3
    top = fit["components"][0]["high"][0]
    frame = planted.dataset("d").frame().filter(context=top["context"])
    assert top["text"] == frame["text"][top["position"]]
    assert top["before"] == "".join(frame["text"][max(0, top["position"] - 8) : top["position"]])
    for component in fit["components"]:
        assert [row["loading"] for row in component["high"]] == sorted(
            (r["loading"] for r in component["high"]), reverse=True
        )
        assert all(row["loading"] < 0 for row in component["low"])
        assert len(component["high"]) <= 8


def test_every_groups_trajectory_is_the_mean_of_its_matrix(planted: Store, tmp_path: Path):
    data = read_data(write_report(planted, tmp_path / "r.html", dataset="d"))
    shown = {group["name"]: group["figure"]["data"] for group in data["groups"]}
    seen = 0
    for group in planted.groups.names():
        try:
            matrix = planted.matrix("d", "b", group)
        except NothingChosen:
            assert group not in shown
            continue
        curve = next(trace for trace in shown[group] if trace.get("name") == "b")
        drawn = np.frombuffer(base64.b64decode(curve["y"]["bdata"]), curve["y"]["dtype"])
        np.testing.assert_allclose(drawn, matrix.values.mean(axis=1, dtype=np.float64), rtol=1e-12)
        seen += 1
    assert seen > 8


def test_no_whole_matrix_is_pulled(planted: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Losses are pulled of the contexts and steps that are shown alone, and components go through blocks."""
    pulled = []

    def counted(*args: Any, **kwargs: Any) -> LossMatrix:
        pulled.append(matrix := pull(*args, **kwargs))
        return matrix

    monkeypatch.setattr(content, "pull", counted)
    monkeypatch.setattr(content, "_BLOCK_BYTES", 16 * 4 * 10)
    monkeypatch.setattr(planted, "matrix", None)
    whole = read_data(write_report(planted, tmp_path / "a.html", contexts=2, worst=True))
    assert [each.columns["context"].n_unique() for each in pulled] == [2, 2]
    monkeypatch.undo()
    assert (
        read_data(write_report(planted, tmp_path / "b.html", contexts=2, worst=True))["tokens"]
        == whole["tokens"]
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
        title="</title><script>alert(2)</script>",
        findings=["a </li><script>alert(3)</script>"],
        marks=[Mark(1, "</script><b>changed</b>")],
    )
    text = path.read_text()
    # The data, plotly.js and the page's own script, each begun and ended once.
    assert len(re.findall(r"<script\b", text)) == len(re.findall("</script", text)) == 3
    assert "<title>&lt;/title&gt;&lt;script&gt;alert(2)&lt;/script&gt;</title>" in text
    assert "<li>a &lt;/li&gt;&lt;script&gt;" in text
    data = read_data(path)
    assert data["tokens"][0]["contexts"][0]["texts"] == NASTY
    assert data["marks"] == [{"step": 1, "label": "</script><b>changed</b>"}]


def test_the_page_asks_for_nothing_from_outside(planted: Store, tmp_path: Path):
    text = write_report(planted, tmp_path / "r.html", groups=["every_token"]).read_text()
    head = text[: text.index('<script type="application/json"')]
    assert "default-src 'none'" in head
    assert not re.search(r"(src|href)=(?!\"#)|@import|url\(|https?:", head)
    assert text.count("* plotly.js v") == 1
    script = text[text.rindex("<script>") :]
    assert "http" not in script
    assert "innerHTML" not in script


def test_what_is_scored_is_told(planted: Store, tmp_path: Path):
    planted.publish_model(ModelFacts("a", family="gpt_neox", n_layer=2, n_params=12345, seed=7))
    planted.append(model="b", dataset="d", step=128, losses=np.ones(97, dtype=np.float32))
    text = write_report(planted, tmp_path / "r.html", groups=["every_token"]).read_text()
    assert "2 models, 2 datasets, 33 slices" in text
    assert "gpt_neox, layers: 2, parameters: 12,345, seed: 7" in text
    assert "<td>9 steps<small>0 to 128</small></td>" in text
    assert "<td>8 steps, 1 missing<small>0 to 64</small></td>" in text
    assert 'id="findings" hidden' in text


def test_datasets_and_models_can_be_chosen(planted: Store, tmp_path: Path):
    data = read_data(
        write_report(planted, tmp_path / "r.html", dataset="e", models="b*", groups=["every_token"])
    )
    assert [view["name"] for view in data["tokens"]] == ["e"]
    assert [model["name"] for model in data["tokens"][0]["models"]] == ["b"]


def test_a_model_on_some_of_the_datasets_and_a_dataset_without_slices(planted: Store, tmp_path: Path):
    planted.add_dataset("unscored", ragged([4, 5], seed=9))
    planted.add_dataset("single", ragged([4], seed=8))
    planted.append(model="c", dataset="single", step=5, losses=np.ones(3, dtype=np.float32))
    watcher = Watcher()
    path = write_report(planted, tmp_path / "r.html", groups=["every_token"], progress=watcher)
    data = read_data(path)
    assert [view["name"] for view in data["tokens"]] == ["d", "e", "single"]
    assert [fit["name"] for fit in data["components"]] == ["d", "e"]
    assert "<td>none</td>" in path.read_text()
    assert watcher.told[0] == "start report 3 datasets"
    assert any(
        line.startswith("say No principal components of single: PCA compares") for line in watcher.told
    )
    assert watcher.told[-2:] == ["advance single", "stop"]


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
    assert list(out.iterdir()) == []


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
    data = read_data(write_report(planted, tmp_path / "r.html", dataset="d", groups=[], contexts=1))
    model = data["tokens"][0]["models"][0]
    assert (model["steps"][0], model["steps"][-1], model["of"]) == (0, 64, 8)
    assert len(model["steps"]) == 4
    chosen = planted.matrix("d", "a", contexts="0:1", steps=model["steps"]).values
    np.testing.assert_allclose(unpack(data["tokens"][0]["contexts"][0]["losses"][0], 9), chosen, atol=0.00051)


# packing


def test_losses_survive_packing_to_half_a_thousandth():
    rng = np.random.default_rng(0)
    losses = rng.gamma(2, 2, (5, 40)).astype(np.float32)
    losses[0, :3] = [-0.2, 0, 60]
    losses[1, 1] = np.nan
    back = unpack(pack(losses), 41)
    np.testing.assert_allclose(back, losses, atol=0.00051)
    assert unpack(pack(np.array([[500.0, -5.0]])), 3).tolist() == [[64.534, -1.0]]


def test_steps_are_spread_over_the_axis_with_both_ends():
    steps = [0, *(2**i for i in range(10)), *range(1000, 144_000, 1000)]
    axis = step_axis(steps)
    kept = [steps[i] for i in spread(steps, 12, axis)]
    assert (kept[0], kept[-1]) == (0, 143_000)
    assert len(kept) <= 12
    gaps = np.diff([axis.position(step) for step in kept])
    assert gaps.max() < 1.0
    assert spread([1, 2, 3], 3, step_axis([1, 2, 3])) == [0, 1, 2]


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["a", "b"], {}),
        (["<0xF0><0x9F>", "<0x98>", "<0x80>", "x"], {0: "😀", 1: "", 2: ""}),
        (["x", "<0xE2>", "y"], {}),
        ([" <0xC3>", "<0xA9>t", "<0xC3>", "<0xA9>"], {0: " ét", 1: "", 2: "é", 3: ""}),
        (["<0xE2>", "<0xE2>", "<0x82>", "<0xAC>"], {1: "€", 2: "", 3: ""}),
        (["a<0x2>b", "<0x"], {}),
    ],
)
def test_tokens_that_share_a_character_show_it_once(texts, shown):
    assert joined(texts) == shown


def test_partial_slices_are_counted_and_not_drawn(planted: Store, tmp_path: Path) -> None:
    first = [1.0] * (PLANTED_LENGTHS[0] - 1)
    for model, dataset, step in (("a", "d", 3), ("a", "d", 5), ("c", "d", 7), ("c", "e", 7)):
        planted.append(model=model, dataset=dataset, step=step, losses=first, contexts=[0])
    out = write_report(planted, tmp_path / "r.html", groups=["every_token"])
    cells = re.findall(r"<td>.*?</td>", out.read_text())
    assert "<td>10 steps, 2 partial<small>0 to 64</small></td>" in cells
    assert "<td>8 steps, 2 missing<small>0 to 64</small></td>" in cells, (
        "the other dataset lacks the same steps"
    )
    assert cells.count("<td>1 step, 1 partial<small>7</small></td>") == 2
    data = read_data(out)
    assert [[model["name"] for model in view["models"]] for view in data["tokens"]] == [["a", "b"]] * 2
    assert all(model["steps"] == list(PLANTED_STEPS) for view in data["tokens"] for model in view["models"])
    assert "16 checkpoints of a, b" in data["components"][0]["text"]
    with pytest.raises(PlotError, match="There are no complete losses of these models"):
        write_report(planted, tmp_path / "r.html", models="c")
