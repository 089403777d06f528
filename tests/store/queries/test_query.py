"""Answers as frames and as files, one file for each format; parameters, places of errors, Ctrl-C, memory."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from trajstore.errors import MissingParameter, QueryError, UnknownName
from trajstore.store.queries import query
from trajstore.store.store import Store

ASK = "SELECT i, 'a\"b' AS s, i / 2.0 AS f FROM range(3) t(i)"
ENDLESS = "SELECT count(*) FROM range(100_000_000_000) t(i) WHERE sqrt(i) > 5"


def written(store: Store, kind: str, ask: str = ASK, **parameters: Any) -> bytes:
    sink = io.BytesIO()
    query.write(store, ask, sink, kind, parameters=parameters)
    return sink.getvalue()


def test_csv(store: Store) -> None:
    assert written(store, "csv") == b'"i","s","f"\n0,"a""b",0\n1,"a""b",0.5\n2,"a""b",1\n'


def test_json(store: Store) -> None:
    assert json.loads(written(store, "json")) == [{"i": i, "s": 'a"b', "f": i / 2} for i in range(3)]
    assert json.loads(written(store, "json", "SELECT 1 AS i WHERE false")) == []
    many = json.loads(written(store, "json", "SELECT i FROM range(250000) t(i)"))
    assert [row["i"] for row in many] == list(range(250_000))


def test_parquet(store: Store) -> None:
    assert pl.read_parquet(io.BytesIO(written(store, "parquet"))).rows() == [
        (0, 'a"b', 0),
        (1, 'a"b', 0.5),
        (2, 'a"b', 1),
    ]


def test_markdown(store: Store) -> None:
    ask = "SELECT * FROM (VALUES (1, 'a|b', 0.123456789::DOUBLE), (NULL, E'c\\nd', 2)) t(i, \"s|t\", f)"
    assert written(store, "markdown", ask).decode() == (
        "| i | s\\|t | f |\n| ---: | --- | ---: |\n| 1 | a\\|b | 0.12346 |\n|  | c⏎d | 2 |\n"
    )


def test_frames_say_how_many_rows_there_are(store: Store) -> None:
    frame, rows = query.frame(store, "SELECT i FROM range(300000) t(i)", limit=3)
    assert frame["i"].to_list() == [0, 1, 2]
    assert rows == 300_000
    frame, rows = query.frame(store, "SELECT 1 AS i WHERE false")
    assert (frame.columns, rows) == (["i"], 0)


@pytest.mark.parametrize("kind", ["csv", "json", "markdown", "parquet"])
@pytest.mark.parametrize("first_bad", [0, 400_000])
def test_an_error_while_running_is_said(store: Store, kind: str, first_bad: int) -> None:
    """In the first batch, and after some have been written."""
    ask = f"SELECT CASE WHEN i < {first_bad} THEN i ELSE ('x' || i)::INT END AS i FROM range(500000) t(i)"
    with pytest.raises(QueryError, match=r"Conversion Error.*'x"):
        written(store, kind, ask)


# parameters


def test_parameters_are_values_and_never_sql(store: Store) -> None:
    ask = "SELECT $text AS text, $number::BIGINT + 1 AS number, 3 IN $several AS inside"
    evil = "x' UNION SELECT 'y"
    assert store.sql(ask, parameters={"text": evil, "number": 41, "several": [1, 3]}).fetchall() == [
        (evil, 42, True)
    ]
    assert json.loads(written(store, "json", ask, text="a", number=1, several=[2])) == [
        {"text": "a", "number": 2, "inside": False}
    ]


def test_parameters_choose_slices(planted: Store) -> None:
    ask = "SELECT count(*) FROM losses WHERE model = $model AND step IN $steps"
    assert store_count(planted, ask, model="a", steps=[0, 64]) == 4 * 97
    assert store_count(planted, "SELECT count(*) FROM query_table('groups.' || $g)", g="every_token") == 206


def store_count(store: Store, ask: str, **parameters: Any) -> int:
    return int(store.sql(ask, parameters=parameters).fetchall()[0][0])


def test_parameters_that_do_not_fit_are_named(store: Store) -> None:
    with pytest.raises(UnknownName, match=r"'\$stp'.*there is: \$model, \$step\. Did you mean \$step"):
        store.sql("SELECT $step, $model", parameters={"stp": 1, "model": 2})
    with pytest.raises(MissingParameter, match="needs a value for model, step. Give it with: model=VALUE"):
        store.sql("SELECT $step, $model")
    with pytest.raises(UnknownName, match="there is: none"):
        store.sql("SELECT 1", parameters={"x": 1})


# errors


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ("SELECT 1 +\nFROM losses", "LINE 2: FROM losses\n        ^"),
        ("SELECT loss FROM losses WHERE\n  stp = 3", 'Candidate bindings: "step"'),
        ("SELECT loss FROM losses WHERE\n  stp = 3", "LINE 2:   stp = 3\n          ^"),
        ("SELECT 'é', los FROM losses", "LINE 1: SELECT 'é', los FROM losses\n                    ^"),
        ('FROM losses WHERE model = "tiny-2l"', "a text stands in single quotes: 'tiny-2l'"),
        ("SELECT los FROM losses", "The columns of a table: trajstore schema NAME"),
        ("FROM losess", 'Did you mean "losses"'),
        ("FROM groups.digitz", 'Did you mean "digits"'),
        ("FROM digits", 'Did you mean "groups.digits"'),
        ("FROM trajectry('digits')", 'Did you mean "trajectory"'),
        ("FROM trajectory('digitz')", 'Did you mean "digits"'),
        ("SELECT l.los FROM losses l", "Did you mean loss"),
        ("FROM losses JOIN tokens USING (contxt)", "Did you mean context"),
    ],
)
def test_an_error_shows_its_place_and_near_names(store: Store, ask: str, said: str) -> None:
    with pytest.raises(QueryError) as caught:
        store.sql(ask)
    assert said in str(caught.value)


def test_two_columns_of_one_name(store: Store) -> None:
    with pytest.raises(QueryError, match="tell them apart with AS"):
        query.frame(store, "SELECT 1 AS x, 2 AS x")


# Ctrl-C


def test_ctrl_c_stops_the_query(store: Store) -> None:
    connection = store.connection()
    began = threading.Event()

    def work() -> None:
        began.set()
        connection.sql(ENDLESS).fetchall()

    def press() -> None:
        began.wait()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        query.interruptible(connection, work)
    assert connection.sql("SELECT 1").fetchall() == [(1,)]


def test_ctrl_c_is_never_raised_within_a_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one it could leave the lock that the thread needs to end, and both would wait for ever."""
    within: list[str] = []
    wait = query.wait

    def pressed(*arguments: Any, **options: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            return wait(*arguments, **options)
        except KeyboardInterrupt:
            within.append("raised")
            raise

    monkeypatch.setattr(query, "wait", pressed)
    with pytest.raises(KeyboardInterrupt):
        query.interruptible(store.connection(), lambda: time.sleep(0.2))
    assert within == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_goes_to_the_handler_that_there_is(store: Store) -> None:
    """One that raises nothing does not stop the query."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        assert query.interruptible(store.connection(), lambda: time.sleep(0.4) or 5) == 5
    finally:
        signal.signal(signal.SIGINT, before)
    assert came == [signal.SIGINT]


def test_errors_of_the_work_come_through(store: Store) -> None:
    connection = store.connection()
    with pytest.raises(duckdb.CatalogException):
        query.interruptible(connection, lambda: connection.sql("FROM nothing"))


# Says on stderr when the query begins, so that Ctrl-C comes neither before it nor after.
COMMAND = """
import sys
from trajstore.cli import main
from trajstore.store.queries import query
select = query.select
def told(*arguments):
    found = select(*arguments)
    print("asked", file=sys.stderr, flush=True)
    return found
query.select = told
sys.argv = ["trajstore", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("out", [None, "out.parquet"])
def test_ctrl_c_ends_the_command_with_a_message(store: Store, tmp_path: Path, out: str | None) -> None:
    words = ["sql", ENDLESS, "-s", str(store.path), *(["-o", str(tmp_path / out)] if out else [])]
    before = sorted(tmp_path.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "asked\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            shown, said = process.communicate(timeout=60)
        finally:
            process.kill()  # or the query of a test that failed would take a core for good
    assert process.returncode == 1
    assert said.startswith("Stopped: the query was interrupted")
    assert shown == ""
    assert sorted(tmp_path.iterdir()) == before


# memory

PEAK = """
import sys
from trajstore.store.queries import query
from trajstore.store.store import Store
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1000
store = Store(sys.argv[1])
def answer(ask, parameters=None):
    if sys.argv[3] == "table":
        return query.frame(store, ask, 3, parameters=parameters)[1]
    with open(sys.argv[2], "wb") as file:
        return query.write(store, ask, file, sys.argv[3], parameters=parameters)
answer("SELECT 1 AS i")
before = peak()
rows = answer("SELECT i, i * $k AS j, random() AS x FROM range(6_000_000) t(i)", {"k": 3})
print(rows, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.skipif(
    int(duckdb.__version__.split(".")[0]) < 2, reason="holds answers of queries with parameters"
)
@pytest.mark.parametrize("kind", ["csv", "parquet", "table"])
def test_an_answer_is_written_without_being_held(store: Store, tmp_path: Path, kind: str) -> None:
    """144 MB of rows."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(store.path), str(tmp_path / "out"), kind],
        capture_output=True,
        text=True,
        check=True,
    )
    rows, grown = done.stdout.split()
    assert int(rows) == 6_000_000
    assert float(grown) < 80, "MB"
