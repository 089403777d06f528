"""sql and query on the command line: parameters, formats, and a table cut to the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from trajstore.cli import app
from trajstore.cli.queries import query_output
from trajstore.store.queries import named_queries
from trajstore.store.store import Store


def run(*words: object, code: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, result.output
    return result


def test_parameters_of_sql(planted: Store, tmp_path: Path) -> None:
    question = tmp_path / "question.sql"
    question.write_text(
        "SELECT model, count(*) AS n FROM losses\nWHERE model = $model AND step IN $steps GROUP BY ALL;"
    )
    words = ["sql", "-f", question, "-p", "model=a", "-p", "$steps=[0, 64]", "-s", planted.path]
    assert json.loads(run(*words, "--json").stdout) == [{"model": "a", "n": 4 * 97}]
    assert run(*words, "--format", "markdown").stdout == "| model | n |\n| --- | ---: |\n| a | 388 |\n"
    run(*words, "-o", tmp_path / "answer.md")
    assert (tmp_path / "answer.md").read_text().endswith("| a | 388 |\n")


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("512", 512),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ("pythia-70m", "pythia-70m"),
        ('"512"', "512"),
        ("", ""),
        ("NaN", "NaN"),
        ("a=b", "a=b"),
        ('{"a": 1}', '{"a": 1}'),
        ("x'; DROP VIEW losses; --", "x'; DROP VIEW losses; --"),
    ],
)
def test_what_a_value_stands_for(store: Store, given: str, value: object) -> None:
    (row,) = json.loads(run("sql", "SELECT $x AS x", "-p", f"x={given}", "-s", store.path, "--json").stdout)
    assert row["x"] == value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sql", "SELECT $x", "-p", "x"], "Cannot read -p 'x'. It takes NAME=VALUE"),
        (["sql", "SELECT $x", "-p", "=1"], "It takes NAME=VALUE"),
        (["sql", "SELECT $x"], "This query needs a value for x. Give it with: -p x=VALUE"),
        (["sql", "SELECT $x", "-p", "y=1"], "there is: $x"),
        (["sql", "SELECT 1,\n  los FROM losses"], "LINE 2:   los FROM losses\n          ^"),
        (["query", "coverge"], "Did you mean coverage?"),
        (["query", "coverage", "-p", "modle=a"], "Did you mean models?"),
        (["query", "most_improved"], "needs a value for from_step"),
    ],
)
def test_what_is_wrong_is_said(store: Store, words: list[str], said: str) -> None:
    result = run(*words, "-s", store.path, code=2 if "It takes" in said else 1)
    assert said in result.stderr
    assert result.stdout == ""


def test_a_column_that_a_format_cannot_hold_is_named(store: Store) -> None:
    for kind, value in (("json", "'a'::BLOB"), ("csv", "[1, 2]"), ("markdown", "INTERVAL 1 DAY")):
        result = run("sql", f"SELECT {value} AS x", "--format", kind, "-s", store.path, code=1)
        assert 'CAST("x" AS VARCHAR)' in result.stderr
        assert result.stdout == ""


def test_query(planted: Store, tmp_path: Path) -> None:
    words = [
        "query",
        "loss_by_position",
        "-p",
        "models=a",
        "-p",
        "step=64",
        "-p",
        "datasets=d",
        "-s",
        planted.path,
    ]
    rows = json.loads(run(*words, "--json").stdout)
    assert rows == planted.query("loss_by_position", models="a", step=64, datasets="d").pl().to_dicts()
    shown = run(*words)
    assert shown.stdout.split()[:5] == ["model", "dataset", "position", "contexts", "mean"]
    assert shown.stderr == "39 rows.\n"
    run(*words, "-o", tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet").height == 39


def test_queries_are_listed_and_explained(tmp_path: Path) -> None:
    listed = json.loads(run("query", "list", "--json").stdout)
    assert [each["query"] for each in listed] == list(named_queries.shipped())
    assert "from_step to_step=last models=*" in run("query", "list").stdout
    for name, query in named_queries.shipped().items():
        shown = run("query", name, "--explain").stdout
        assert shown.startswith(query.description)
        assert shown.rstrip().endswith(query.sql)
        assert query.example in shown
    assert json.loads(run("query", "coverage", "--explain", "--json").stdout)["sql"].startswith("WITH")


ROWS = [["a" * 30, 12345, "short", "漢" * 20], ["b", 6, "words", "x"]]
NAMES = ["long", "number", "text", "wide"]


def width(names: list[str], rows: list[list[object]]) -> int:
    widths = [max(cell_len(str(cell)) for cell in column) for column in zip(names, *rows, strict=True)]
    return sum(widths) + 2 * len(widths)


def test_a_table_that_fits_is_left_alone() -> None:
    assert query_output.cut(NAMES, ROWS, 200) == (NAMES, ROWS, [])


@pytest.mark.parametrize("room", [80, 60, 44])
def test_long_texts_are_cut_first_and_numbers_never(room: int) -> None:
    names, rows, left = query_output.cut(NAMES, ROWS, room)
    assert (names, left) == (NAMES, [])
    assert width(names, rows) <= room
    assert rows[0][1] == 12345
    assert rows[0][2] == "short"
    assert rows[0][0] == ROWS[0][0] or (rows[0][0].endswith("…") and len(rows[0][0]) >= 12)
    assert rows[1] == ROWS[1]


def test_then_columns_go_and_are_named() -> None:
    names, rows, left = query_output.cut(NAMES, ROWS, 28)
    assert names == ["long", "number"]
    assert left == ["text", "wide"]
    assert width(names, rows) <= 28
    assert query_output.cut(NAMES, ROWS, 3)[0] == ["long"]


def test_no_rows_are_cut_too() -> None:
    assert query_output.cut(NAMES, [], 14) == (["long", "number"], [], ["text", "wide"])


def test_the_rest_is_said_on_a_terminal(planted: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_output, "_width", lambda: 24)
    monkeypatch.setattr(query_output, "_on_terminal", lambda: True)
    result = run("sql", "FROM raw_losses", "-s", planted.path)
    assert "The first 200 of 3,104 rows." in result.stderr
    assert "3 more columns have no room: context, position, loss." in result.stderr
    assert result.stdout.splitlines()[0].split() == ["model", "dataset", "step"]
