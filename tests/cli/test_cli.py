"""The command line, run as a user runs it: stdout is data, stderr is talk, three exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from tests.conftest import PLANTED_STEPS, new_dataset
from tests.helpers import commands
from tests.server.report.test_report import ReportFile
from trajstore.cli import app, output
from trajstore.store.store import Store


def run(*words: object, ok: bool = True, stdin: str | None = None) -> Result:
    result = commands.run(*words, stdin=stdin)
    if ok:
        assert result.exit_code == 0, result.output
    else:
        assert result.exit_code in (1, 2), result.output
        assert result.stdout == ""
    return result


@pytest.fixture
def path(planted_once: Path, store_path: Path) -> Path:
    return shutil.copytree(planted_once, store_path)


def test_init_migrate_status(tmp_path: Path) -> None:
    store = tmp_path / "s"
    assert "Made a store" in run("init", "-s", store).stderr
    assert "already" in run("init", "-s", store).stderr
    lines = json.loads(run("migrate", "--list", "--json", "-s", store).stdout)
    assert [line["state"] for line in lines] == ["applied"] * 4
    assert "No pending migrations" in run("migrate", "-s", store).stderr
    assert "No losses yet: add a dataset" in run("status", "-s", store).stderr


def test_the_store_is_chosen_by_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAJSTORE", str(path))
    assert "a" in run("status").stdout
    monkeypatch.delenv("TRAJSTORE")
    monkeypatch.chdir(path.parent)
    assert "a" in run("status").stdout


def test_status_counts_what_is_missing(path: Path) -> None:
    (path / "losses/model=b/dataset=e/step=64/slice.parquet").unlink()
    lines = {
        (line["model"], line["dataset"]): line
        for line in json.loads(run("status", "-s", path, "--json").stdout)
    }
    assert lines["b", "e"]["missing"] == [64]
    assert lines["a", "d"]["steps"] == list(PLANTED_STEPS)
    table = run("status", "-s", path).stdout.splitlines()
    assert table[0].split()[:4] == ["model", "dataset", "steps", "first"]
    assert table[4].split()[:7] == ["b", "e", "7", "0", "32", "1", "64"]


def test_sql_formats(path: Path, tmp_path: Path) -> None:
    ask = "SELECT model, count(*) AS n FROM raw_losses GROUP BY ALL ORDER BY ALL"
    assert run("sql", ask, "-s", path).stdout.split() == ["model", "n", "a", "1552", "b", "1552"]
    assert json.loads(run("sql", ask, "-s", path, "--format", "json").stdout)[1] == {"model": "b", "n": 1552}
    assert run("sql", ask, "-s", path, "--format", "csv").stdout == '"model","n"\n"a",1552\n"b",1552\n'
    assert (
        run("sql", ask, "-s", path, "--json").stdout == run("sql", ask, "-s", path, "--format", "json").stdout
    )
    assert "0 rows" in run("sql", "FROM losses WHERE false", "-s", path).stderr
    assert run("sql", "-", "-s", path, stdin="SELECT 7 AS x").stdout.split() == ["x", "7"]
    (tmp_path / "q.sql").write_text(ask)
    for name in ("out.csv", "out.json", "out.parquet"):
        run("sql", "-f", tmp_path / "q.sql", "-s", path, "-o", tmp_path / name)
    assert pl.read_parquet(tmp_path / "out.parquet").rows() == [("a", 1552), ("b", 1552)]


def test_a_long_table_says_that_it_stops(path: Path) -> None:
    result = run("sql", "FROM raw_losses", "-s", path)
    assert len(result.stdout.splitlines()) == 201
    assert "The first 200 of 3,104 rows" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["sql", "SELECT nothing FROM losses"], 1, "Candidate bindings"),
        (["sql", "DROP VIEW losses"], 1, "Sessions only read"),
        (["sql"], 2, "Error: give the query, as in trajstore sql"),
        (["sql", "FROM losses", "-f", "x.sql"], 2, "and not both"),
        (["pca", "--components", "0"], 2, "'--components': it takes 1 or more"),
        (["sql", "SELECT 1", "--format", "xml"], 2, "none of table, csv, json, markdown, parquet"),
        (["sql", "SELECT 1", "--format", "parquet"], 2, "-o FILE.parquet"),
        (["sql", "SELECT 1", "-o", "x.txt"], 2, "none of table, csv, json, markdown, parquet"),
        (["sql", "SELECT 1", "-o", "none/x.csv"], 1, "There is no folder none"),
        (["sql", "-f", "none.sql"], 1, "Cannot read none.sql"),
        (["matrix", "m.csv", "-d", "d"], 1, "must end in .npy or .npz or .parquet or .arrow"),
        (["matrix", "m.npy", "-d", "dd"], 1, "There is no dataset 'dd' here; there is: d, e. Did you mean"),
        (["matrix", "m.npy", "-d", "d", "-m", "c*"], 1, "There is no model 'c*' here; there is: a, b."),
        (["matrix", "m.npy", "-d", "d", "--steps", "3"], 1, "The nearest that exist: 0, 1, 2, 4, 8, 16"),
        (["matrix", "m.npy", "-d", "d", "--steps", "x"], 1, "It takes all, last, log"),
        (["matrix", "m.npy"], 2, "--dataset"),
        (["trajectory", "digitz"], 1, "Did you mean digits"),
        (["trajectory", "every_token", "--plot", "x.jpeg"], 1, "must end in .html or .png or .pdf or .svg"),
        (["pca", "-d", "d", "--steps", "last", "-m", "a"], 1, "compares checkpoints, and this matrix has 1"),
        (["group", "add", "Bad", "--sql", "SELECT 1"], 1, "cannot be a group name"),
        (
            ["group", "add", "g", "--sql", "SELECT 1 AS x"],
            1,
            "this one gives x (without dataset, context, position)",
        ),
        (["group", "add", "g"], 2, "one of --sql, --file, --from"),
        (["group", "add", "g", "FROM tokens"], 2, "a query is given with --sql QUERY"),
        (["group", "show", "nothing"], 1, "trajstore group add"),
        (["group", "drop", "digits"], 1, "comes with trajstore"),
        (["dataset", "show", "nothing"], 1, "trajstore dataset add"),
        (["dataset", "add", "a/b", "x.txt", "--tokenizer", "t"], 1, "cannot be a dataset name"),
        (["dataset", "add", "new", "x.txt", "--tokenizer", "t"], 1, "x.txt"),
        (["score", "nowhere", "-d", "nothing"], 1, "trajstore dataset add"),
        (["report", "x.pdf"], 1, ".html"),
        (["demo", "d", "--quick", "--sorting"], 2, "and not both"),
    ],
)
def test_wrong_input(
    planted_once: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(planted_once.parent)
    before = sorted(planted_once.parent.rglob("*"))
    result = run(*words, ok=False)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert sorted(planted_once.parent.rglob("*")) == before, "nothing is written"


@pytest.mark.parametrize(
    "words", [["status"], ["sql", "SELECT 1"], ["group", "list"], ["pca", "-d", "d"], ["migrate"]]
)
def test_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words, ok=False)
    assert result.exit_code == 1
    assert "There is no store at store. Make one with: trajstore init -s store" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_groups(path: Path, tmp_path: Path) -> None:
    (tmp_path / "w7.sql").write_text(
        "-- The word w7.\nSELECT dataset, context, position FROM tokens WHERE text = ' w7';\n"
    )
    assert "Group w7: " in run("group", "add", "w7", "--file", tmp_path / "w7.sql", "-s", path).stderr
    listed = {line["group"]: line for line in json.loads(run("group", "list", "-s", path, "--json").stdout)}
    assert listed["w7"]["description"] == "The word w7."
    assert set(listed["w7"]["sizes"]) <= {"d", "e"}
    assert "text = ' w7'" in run("group", "show", "w7", "-s", path).stdout
    assert "w7" in run("group", "list", "-s", path).stdout
    run("group", "drop", "w7", "-s", path)
    assert "w7" not in run("group", "list", "-s", path).stdout


def test_trajectory_with_plots(path: Path, tmp_path: Path) -> None:
    words = ["trajectory", "every_token", "first_half", "-m", "a", "-d", "d", "--steps", "log", "-s", path]
    rows = json.loads(run(*words, "--json").stdout)
    assert len(rows) == 2 * 8
    assert all(row["low"] < row["mean"] < row["high"] for row in rows)
    for name, start in (("t.png", b"\x89PNG"), ("t.html", b"<!"), ("t.pdf", b"%PDF-"), ("t.svg", b"<?xml")):
        drawn = run(*words, "--plot", tmp_path / name)
        assert f"Drew {tmp_path / name}" in drawn.stderr
        assert drawn.stdout == "", "the table is not printed as well"
        assert (tmp_path / name).read_bytes().startswith(start)
    page = (tmp_path / "t.svg").read_text()
    assert "every_token" in page
    run(*words, "--plot", tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == page
    asked = run(*words, "--plot", tmp_path / "t.png", "--json").stdout
    assert json.loads(asked) == rows, "unless it is asked for"


def test_matrix(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.npy"
    result = run(
        "matrix", out, "-d", "d", "-d", "e", "-m", "*", "--contexts", "0:2", "--pad-first", "-s", path
    )
    assert "16 checkpoints × 22 tokens" in result.stderr
    assert np.load(out).shape == (16, 22)
    assert pl.read_parquet(tmp_path / "m.columns.parquet").columns == [
        "dataset",
        "context",
        "position",
        "token",
        "text",
    ]


def test_pca(path: Path, tmp_path: Path) -> None:
    words = ["pca", "-d", "d", "-d", "e", "--components", "2", "--top", "3", "-s", path]
    found = json.loads(run(*words, "--json").stdout)
    assert sum(row["ratio"] for row in found["variance"]) > 0.999
    assert len(found["scores"]) == 2 * 16
    assert {"before", "after", "text", "loading"} <= found["tokens"][0].keys()
    table = run(*words, "--replace").stdout
    assert "component" in table
    assert "PC2" in table
    assert run(*words, "--plot", tmp_path / "p.png", "--replace").stdout == ""
    assert (tmp_path / "p.png").exists()


def test_dataset_list_and_show(path: Path) -> None:
    rows = json.loads(run("dataset", "list", "-s", path, "--json").stdout)
    assert [(row["dataset"], row["contexts"], row["losses"]) for row in rows] == [("d", 6, 97), ("e", 6, 97)]
    shown = json.loads(run("dataset", "show", "d", "-s", path, "--json").stdout)
    assert shown["tokens_sha256"].startswith("sha256:")
    assert len(shown["first_contexts"]) == 3
    assert "tokens_sha256" in run("dataset", "show", "d", "-s", path).stdout


def test_report(path: Path, tmp_path: Path) -> None:
    run("report", tmp_path / "r.html", "-s", path, "-d", "d", "-g", "every_token")
    assert ReportFile(tmp_path / "r.html").kept("d") == [0, 1, 2, 3, 4, 5]


def test_the_list_of_groups_stays_narrow_with_many_datasets(path: Path) -> None:
    with Store(path) as store:
        for number in range(3):
            store.add_dataset(f"more{number}", new_dataset([["a", " b"], ["c", "a"]]))
        expected = store.groups.show("every_token").sizes
    done = run("group", "list", "-s", path)
    assert done.stdout.split()[:3] == ["group", "tokens", "description"]
    assert f"every_token {sum(expected.values())} " in " ".join(done.stdout.split())
    assert "-d DATASET shows one" in done.stderr
    assert run("group", "list", "-d", "more1", "-s", path).stdout.split()[:3] == [
        "group",
        "more1",
        "description",
    ]
    assert run("group", "list", "-d", "less", "-s", path, ok=False).exit_code == 1


def test_quiet_says_errors_and_no_more(path: Path, tmp_path: Path) -> None:
    for words in (
        ["-q", "status", "-s", path],
        ["status", "-q", "-s", path],
        ["status", "--quiet", "-s", path],
    ):
        said = run(*words)
        assert said.stderr == ""
        assert said.stdout == run("status", "-s", path).stdout
    assert "models" in run("status", "-s", path).stderr, "one command's quiet does not outlive it"
    assert run("-q", "group", "list", "-s", path).stderr == ""
    assert run("trajectory", "every_token", "-q", "-s", path).stderr == ""
    assert (
        "There is no model"
        in run("matrix", tmp_path / "m.npy", "-d", "d", "-m", "c", "-q", "-s", path, ok=False).stderr
    )
    (path / "losses/model=a/dataset=d/step=1/slice.parquet").write_bytes(b"PAR1")
    broken = CliRunner().invoke(app, ["check", "-q", "-s", str(path)])
    assert broken.exit_code == 1
    assert broken.stderr == "1 problem.\n"


def test_quiet_leaves_no_warning_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output.Talk, "quiet", True)
    output.say("Scoring on cpu.\nWarning: there is a GPU.")
    output.bars().say("Warning: losses depend on the kernel.")
    output.bars().say("step 1")
    assert capsys.readouterr().err == "Warning: there is a GPU.\nWarning: losses depend on the kernel.\n"


def test_of_an_endless_error_start_and_end_are_said(path: Path) -> None:
    said = run("matrix", "m.npy", "-d", "d", "-m", "x" * 100_000, "-s", path, ok=False).stderr
    assert said.startswith("Error: There is no model 'xxx")
    assert "characters more)" in said
    assert len(said) < 2_200
    assert "There is: a, b" in said or "trajstore" in said


def test_one_is_singular(path: Path, tmp_path: Path) -> None:
    assert "2 models, 2 datasets" in run("status", "-s", path).stderr
    assert run("sql", "SELECT 1 AS x", "-s", path).stderr == "1 row.\n"
    assert "Wrote 1 row to" in run("sql", "SELECT 1 AS x", "-o", tmp_path / "x.csv", "-s", path).stderr
    done = run("drop", "-m", "a", "-d", "d", "--steps", "1", "--yes", "-s", path)
    assert "a on d: 1 slice, step 1" in done.stderr
    assert "Removed 1 slice of a." in done.stderr
    table = tmp_path / "bad.csv"
    table.write_text("model,step,context,position,token,loss\nc,5,0,1,0,1.0\n")
    failed = CliRunner().invoke(app, ["ingest", str(table), "-d", "d", "-s", str(path)])
    assert failed.exit_code == 1
    assert "1 was not taken; nothing else was there." in failed.stderr
    assert "1 row read" in failed.stderr


def test_a_named_query_without_rows_says_what_was_asked(path: Path) -> None:
    done = run("query", "in_context_learning", "-p", "early=7", "-s", path)
    asked = "in_context_learning where late=500, early=7, models=*, datasets=*."
    assert f"Nothing in this store answers {asked}" in done.stderr
    assert "trajstore query in_context_learning --explain" in done.stderr
    done = run("query", "in_context_learning", "-p", "early=7", "--json", "-s", path)
    assert json.loads(done.stdout) == []
    assert "late=500" in done.stderr
    assert (
        "Nothing"
        not in run("query", "in_context_learning", "-p", "early=1", "-p", "late=2", "-s", path).stderr
    )
