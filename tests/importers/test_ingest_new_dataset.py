"""A dataset of a file's own tokens, and the command that takes losses in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import ragged
from tests.helpers.tiny_models import save_tokenizer
from tests.importers.conftest import IDS, Row, change, everywhere, losses, of, rows, run, there, write
from trajstore.cli import app
from trajstore.errors import BadDataset, BadSource
from trajstore.importers.ingest import ingest
from trajstore.importers.request import steps_in
from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("_dataset")

# a dataset of the file's own tokens


def with_first(table: list[Row]) -> list[Row]:
    return table + [
        {**table[0], "context": c, "position": 0, "token": ids[0], "loss": None} for c, ids in enumerate(IDS)
    ]


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    save_tokenizer(tmp_path / "t", [f"w{n}" for n in range(64)])
    return str(tmp_path / "t")


def test_a_dataset_of_the_files_own_tokens(store: Store, tmp_path: Path, tokenizer: str) -> None:
    table = with_first(rows()) + rows(step=1, seed=1)
    one, two = write(tmp_path / "1.parquet", table[9:]), write(tmp_path / "2.csv", table[:9])
    words = ["ingest", str(one), str(two), "-d", "mine", "--new-dataset", "--tokenizer", tokenizer]
    result = CliRunner().invoke(app, [*words, "-s", str(store.path)])
    assert result.exit_code == 0, result.stderr
    made = store.dataset("mine")
    assert [ids.tolist() for ids in made.ids()] == [list(ids) for ids in IDS]
    assert made.frame()["text"].to_list()[:2] == ["w0", "w1"]
    assert made.source["source"] == f"{one}, {two}"
    assert there(store) == of(rows(), rows(step=1, seed=1))
    assert "2 slices written" in result.stderr
    assert "3 losses of position 0, which has none, were left out." in result.stderr
    again = CliRunner().invoke(app, [*words, "-s", str(store.path)])
    assert "0 slices written, 2 there already" in again.stderr
    other = write(tmp_path / "3.csv", with_first([{**row, "token": 3} for row in rows()]))
    result = CliRunner().invoke(app, ["ingest", str(other), *words[3:], "-s", str(store.path)])
    assert result.exit_code == 1
    assert "exists with other tokens" in result.stderr


def test_bos_for_all_contexts(store: Store, tmp_path: Path, tokenizer: str) -> None:
    path = write(tmp_path / "x.csv", rows())
    words = [
        "ingest",
        str(path),
        "-d",
        "mine",
        "--new-dataset",
        "--tokenizer",
        tokenizer,
        "-s",
        str(store.path),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.stderr.strip() == (
        "Error: The first token of context 0 is not in the files: it is needed in a row of position 0 with an empty "
        "loss. If every context begins with the same token: --bos ID"
    )
    assert store.dataset_names() == ["d"]
    assert CliRunner().invoke(app, [*words, "--bos", "63"]).exit_code == 0
    assert [ids.tolist() for ids in store.dataset("mine").ids()] == [[63, *ids[1:]] for ids in IDS]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change(2, token=9), None),
        (
            lambda t: t.append({**t[2], "step": 1, "token": 9}),
            "context 0, position 3 is 3 in one row and 9 in another",
        ),
        (change(2, position=7), r"Context 0 has no row of positions 3, 5–6\."),
        (
            change(4, context=9, token=None),
            r"no whole number for its context, position or token \(context 9, position 1\)",
        ),
        (
            lambda t: [t.remove(r) for r in list(t) if r["context"] == 1],
            "no row of context 1; contexts are numbered from 0",
        ),
        (change(2, token=-3), "Context 0 has ids from -3 to 4; ids are 0 to 2147483647"),
        (everywhere(dataset=lambda _: "other"), "The files have no rows to make a dataset of"),
        (lambda t: [r.pop("token") for r in t], "has no column 'token', so no dataset can be made of it"),
    ],
)
def test_tokens_that_make_no_dataset(store: Store, tmp_path: Path, spoil: Any, message: str | None) -> None:
    table = with_first(rows())
    spoil(table)
    path = write(tmp_path / "x.csv", table)

    def make(ids: list[np.ndarray]) -> Any:
        return ragged([len(context) for context in ids])

    if message is None:
        assert ingest(store, path, dataset="new", make_dataset=make).failures
        return
    with pytest.raises(BadDataset, match=message):
        ingest(store, path, dataset="new", make_dataset=make)
    np.save(tmp_path / "m.npy", [losses(0)])
    with pytest.raises(BadDataset, match="A matrix holds no tokens"):
        ingest(store, tmp_path / "m.npy", dataset="new", make_dataset=make)
    assert store.dataset_names() == ["d"]


# the command


def test_the_command_says_what_it_did(store: Store, tmp_path: Path) -> None:
    bad = rows()
    bad[3]["token"] = 5
    path = write(tmp_path / "x.csv", bad + rows(step=1))
    result = run(store, path, "-d", "d")
    assert result.exit_code == 1
    assert "d: 1 slice written, 0 there already; 16 rows read in" in result.stderr
    assert (
        f"m on d at step 0: row 4 of {path}: the token at context 0, position 4 is 5; d has 4 there"
        in result.stderr
    )
    assert result.stderr.splitlines()[-1] == "1 was not taken; everything else was."
    half = write(
        tmp_path / "y.csv",
        [{k: v for k, v in r.items() if k not in ("model", "step", "token")} for r in rows()[5:]],
    )
    result = run(store, half, "-d", "d", "-m", "n", "--step", "4", "--partial", "--map", "loss=loss")
    assert result.exit_code == 0
    assert "1 slice written (1 of them still lack contexts)" in result.stderr
    assert "3 rows do not say their token, so it was not compared with the dataset's." in result.stderr


def test_many_failures_are_cut(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [row for step in range(30) for row in rows(step=step)[:3]])
    lines = run(store, path, "-d", "d").stderr.splitlines()
    assert lines[-1] == "30 were not taken; nothing else was there. 10 more are like these."
    assert sum(line.startswith("m on d at step") for line in lines) == 20


def test_steps_from_a_file(store: Store, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([losses(n) for n in range(3)], dtype=np.float32))
    (tmp_path / "steps.txt").write_text("0, 1\n512\n")
    assert (
        run(store, tmp_path / "m.npy", "-d", "d", "-m", "m", "--steps-file", tmp_path / "steps.txt").exit_code
        == 0
    )
    assert store.steps("m", "d") == [0, 1, 512]
    np.save(tmp_path / "steps.npy", np.array([4.0, 8.0]))
    assert steps_in(tmp_path / "steps.npy") == [4, 8]
    for name, text in (("a.txt", "one"), ("b.txt", "1.5"), ("none.txt", None)):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(BadSource, match=rf"Cannot read steps from .*{name}: "):
            steps_in(tmp_path / name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--new-dataset"], "--new-dataset and --tokenizer T go together"),
        (["--tokenizer", "t"], "--new-dataset and --tokenizer T go together"),
        (["--step", "1", "--steps-file", "x"], "give --step or --steps-file, and not both"),
        (["--step", "last"], "'last' is no step; it takes numbers joined by commas, as in 0,1,2,4"),
        (["--map", "nll"], "'nll' is not THEIRS=OURS, as in nll=loss, each column once"),
        (
            ["--map", "a=loss", "--map", "a=token"],
            "'a=token' is not THEIRS=OURS, as in nll=loss, each column once",
        ),
    ],
)
def test_wrong_usage(store: Store, tmp_path: Path, words: list[str], message: str) -> None:
    result = run(store, write(tmp_path / "x.csv", rows()), "-d", "d", *words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
