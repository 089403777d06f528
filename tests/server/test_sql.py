"""The endpoints of the SQL pane: what they answer, refuse, cut off and stop."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.server.conftest import ADDRESS
from trajstore.server.app import create_app
from trajstore.server.sessions import Limits
from trajstore.store.store import Store


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/api/sql", json=body)


def test_a_statement_is_answered_in_each_kind(client: TestClient, served_path: Path) -> None:
    sql = "SELECT step, avg(loss) AS mean FROM losses WHERE model = 'a' AND dataset = 'd' GROUP BY step ORDER BY step"
    with Store(served_path) as store:
        expected = store.sql(sql).pl()
    readers = {"arrow": pl.read_ipc_stream, "parquet": pl.read_parquet, "csv": pl.read_csv}
    for kind, read in readers.items():
        answer = ask(client, sql=sql, kind=kind)
        assert answer.status_code == 200, answer.text
        assert read(io.BytesIO(answer.content)).equals(expected)


def test_a_named_query_is_answered_with_its_parameters(client: TestClient, served_path: Path) -> None:
    with Store(served_path) as store:
        expected = store.query("most_improved", from_step=0, datasets="d", top=3).pl()
    answer = ask(client, query="most_improved", parameters={"from_step": 0, "datasets": "d", "top": 3})
    frame = pl.read_ipc_stream(io.BytesIO(answer.content))
    assert frame.equals(expected)
    assert frame.height > 0
    names = {query["name"]: query for query in client.get("/api/sql/queries").json()}
    assert {parameter["name"] for parameter in names["most_improved"]["parameters"]} >= {"datasets", "top"}
    missing = ask(client, query="no_such_query")
    assert missing.status_code == 404
    assert "no_such_query" in missing.json()["error"]


def test_only_the_first_rows_of_a_long_answer_come(client: TestClient) -> None:
    answer = ask(client, sql="FROM range(1_000_000_000_000)", rows=10)
    assert pl.read_ipc_stream(io.BytesIO(answer.content)).height == 10
    assert "first 10 rows" in json.loads(answer.headers["trajstore-notes"])[0]
    assert "trajstore-notes" not in ask(client, sql="FROM range(10)", rows=10).headers


def test_rows_of_many_bytes_are_cut_off(served_path: Path) -> None:
    """A million rows of long texts would take the machine's memory, which DuckDB's own limit does not hold."""
    with TestClient(create_app(served_path, limits=Limits(answer=1 << 20)), base_url=ADDRESS) as client:
        answer = ask(client, sql="SELECT repeat('x', 1000) AS x FROM range(100_000)")
        rows = pl.read_ipc_stream(io.BytesIO(answer.content)).height
        assert 1000 < rows < 20_000
        assert f"first {rows:,} rows" in json.loads(answer.headers["trajstore-notes"])[0]
        whole = ask(client, sql="SELECT repeat('x', 1000) AS x FROM range(500)")
    assert "trajstore-notes" not in whole.headers


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t AS SELECT 1",
        "COPY (SELECT 1) TO 'x.csv'",
        "ATTACH 'x.db'",
        "SELECT 1; SELECT 2",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SET memory_limit = '100GB'",
        "INSTALL httpfs",
        "SELECT no_such_column FROM losses",
        "",
    ],
)
def test_what_does_more_than_read_the_store_is_refused(client: TestClient, sql: str) -> None:
    answer = ask(client, sql=sql)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "body", [{"sql": 5}, {"sql": "SELECT 1", "rows": -1}, {"query": "coverage", "parameters": 3}]
)
def test_what_cannot_be_read_is_refused(client: TestClient, body: dict[str, Any]) -> None:
    assert ask(client, **body).status_code == 400


def test_what_is_no_kind_and_no_text_is_refused(client: TestClient) -> None:
    assert ask(client, sql="SELECT 1", kind=[]).status_code == 404
    half = b'{"sql": "FROM tokens", "name": "half", "description": "\\ud800"}'
    answer = client.post("/api/group-draft", content=half, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_columns_that_a_kind_of_reply_cannot_hold_are_named(client: TestClient) -> None:
    for kind, sql in (("json", "'a'::BLOB"), ("csv", "['a'::BLOB]"), ("arrow", "INTERVAL 1 DAY")):
        answer = ask(client, sql=f"SELECT {sql} AS x", kind=kind)
        assert answer.status_code == 400, answer.text
        assert 'CAST("x" AS VARCHAR)' in answer.json()["hint"]
    assert ask(client, sql="SELECT [DATE '2026-01-02'] AS x", kind="csv").text == 'x\n"[""2026-01-02""]"\n'


def test_a_statement_that_runs_too_long_is_stopped(served_path: Path) -> None:
    limits = Limits(seconds=0.5)
    with TestClient(create_app(served_path, limits=limits), base_url=ADDRESS) as client:
        begun = time.monotonic()
        answer = ask(
            client, sql="SELECT sum(a.range * b.range) FROM range(10_000_000) a, range(10_000_000) b"
        )
        assert answer.status_code == 408
        assert time.monotonic() - begun < 10
        assert ask(client, sql="SELECT 1 AS one").status_code == 200


def test_the_schema_names_columns_with_units(client: TestClient) -> None:
    relations = {relation["name"]: relation for relation in client.get("/api/sql/schema").json()}
    loss = next(column for column in relations["losses"]["columns"] if column["name"] == "loss")
    assert loss["unit"] == "nats"
    assert relations["groups.every_token"]["kind"] == "group"
