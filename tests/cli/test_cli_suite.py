"""suite list and show: what is published of suites, as tables and as JSON."""

from __future__ import annotations

import json
import socket

import pytest
from typer.testing import CliRunner, Result

from trajstore.cli import app


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def run(*words: str, ok: bool = True) -> Result:
    result = CliRunner().invoke(app, ["suite", *words])
    assert result.exit_code == (0 if ok else 1), result.output
    return result


def test_list_has_every_suite() -> None:
    rows = {row["suite"]: row for row in json.loads(run("list", "--json").stdout)}
    assert list(rows) == ["pythia", "crfm-gpt2", "olmo", "olmo-2", "smollm3"]
    assert rows["crfm-gpt2"]["models"] == 10
    assert (rows["crfm-gpt2"]["revisions"], rows["pythia"]["revisions"]) == ("609", "143 to 154")
    assert rows["olmo"]["revisions"] is None
    assert rows["olmo-2"]["tokens a step"] == "2,097,152 to 8,388,608"
    assert "14m, 31m, 70m, 160m, 410m, 1b, 1.4b, 2.8b, 6.9b, 12b" in run("list").stdout


def test_show_a_suite() -> None:
    shown = json.loads(run("show", "crfm-gpt2", "--json").stdout)
    assert shown["config"] == "reorder_and_upcast_attn = True, scale_attn_by_inverse_layer_idx = True"
    assert shown["known_bad"] == []
    assert shown["models"][0] == {
        "model": "alias-gpt2-small-x21",
        "repository": "stanford-crfm/alias-gpt2-small-x21",
        "size": "small",
        "seed": 21,
        "revisions": 609,
        "named": "checkpoint-0 … checkpoint-400000",
        "tokens a step": 524_288,
        "vocabulary rows": 50_257,
    }
    lines = run("show", "pythia").stdout.splitlines()
    assert any(line.split()[:2] == ["pythia-12b", "EleutherAI/pythia-12b"] for line in lines)
    assert any("issues/206" in line and "50000,58000" in line for line in lines)


def test_show_a_model_with_its_steps_and_what_is_bad_of_it() -> None:
    shown = json.loads(run("show", "pythia-410m-seed6", "--json").stdout)
    assert [model["repository"] for model in shown["models"]] == ["EleutherAI/pythia-410m-seed6"]
    assert len(shown["models"][0]["steps"]) == 154
    assert [(bad["steps"], bad["source"].rsplit("/", 1)[1]) for bad in shown["known_bad"]] == [
        ("88000", "202"),
        ("1", "83"),
        ("2", "198"),
    ]
    assert json.loads(run("show", "stanford-crfm/eowyn-gpt2-medium-x777", "--json").stdout)["models"][0][
        "seed"
    ] == (777)


def test_show_says_how_stages_are_named() -> None:
    assert "a later stage is scored as olmo-2-7b.STAGE" in run("show", "olmo-2-7b").stdout
    assert "one of stage2, stage3, lc-4k-to-32k, lc-32k-to-64k" in run("show", "smollm3").stdout
    assert "branch main  the last step" in run("show", "pythia-70m").stdout
    assert "main line" not in run("show", "pythia-70m").stdout


def test_an_unknown_name_is_an_error() -> None:
    result = run("show", "pithia", ok=False)
    assert result.stdout == ""
    assert "There is no suite or model 'pithia'" in result.stderr
    assert "Did you mean pythia" in result.stderr
