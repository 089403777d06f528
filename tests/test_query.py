"""Answers as frames and as files, one file for each format."""

from __future__ import annotations

import io
import json

import polars as pl
import pytest

from trajstore.errors import QueryError
from trajstore.store import query
from trajstore.store.store import Store

ASK = "SELECT i, 'a\"b' AS s, i / 2.0 AS f FROM range(3) t(i)"


def written(store: Store, kind: str, ask: str = ASK) -> bytes:
    sink = io.BytesIO()
    query.write(store, ask, sink, kind)
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


def test_frames_say_how_many_rows_there_are(store: Store) -> None:
    frame, rows = query.frame(store, "SELECT i FROM range(300000) t(i)", limit=3)
    assert frame["i"].to_list() == [0, 1, 2]
    assert rows == 300_000
    frame, rows = query.frame(store, "SELECT 1 AS i WHERE false")
    assert (frame.columns, rows) == (["i"], 0)


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_an_error_while_running_is_said(store: Store, kind: str) -> None:
    with pytest.raises(QueryError, match="Conversion Error"):
        written(store, kind, "SELECT ('x' || i)::INT FROM range(3) t(i)")
