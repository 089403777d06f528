"""Brushes asked over HTTP: the same as the losses, and made once."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

from trajstore.pipelines import loss_cube
from trajstore.server.panes import cube
from trajstore.store.store import Store


def test_a_brush_is_answered_from_a_cube_that_is_made_once(
    client: TestClient, served_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def counted(*arguments: object) -> object:
        made.append(arguments)
        return loss_cube.loss_cells(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cube, "loss_cells", counted)
    of = "models=a*&datasets=d&groups=first_half,every_token"
    frames = [
        pl.read_ipc_stream(io.BytesIO(client.get(f"/api/cube/{name}&{of}").content))
        for name in ("curves.arrow?low=8&high=9", "curves.arrow?low=0", "density.arrow?first=2&last=8")
    ]
    assert len(made) == 1
    with Store(served_path) as store:
        expected = store.sql(
            "SELECT avg(loss::DOUBLE) FROM losses SEMI JOIN groups.first_half USING (dataset, context, position) "
            "WHERE model = 'a' AND dataset = 'd' AND step = 4"
        ).fetchall()
    brushed, whole, density = frames
    assert whole.filter(group="first_half", step=4)["mean"].item() == pytest.approx(expected[0][0])
    assert 7.9 < brushed["mean"].min() <= brushed["mean"].max() < 9.1  # type: ignore[operator]
    assert density.group_by("group").agg(pl.col("share").sum())["share"].to_list() == pytest.approx([1, 1])


def test_expressions_of_groups_may_hold_commas(client: TestClient) -> None:
    groups = ["hapax", "matching('a,b;') | first_half"]
    rows = client.get("/api/cube/curves.json", params={"groups": ",".join(groups), "models": "a"}).json()
    assert {row["group"] for row in rows} == set(groups)


def test_a_brush_of_what_is_not_there_says_so(client: TestClient) -> None:
    assert client.get("/api/cube/curves.json?groups=no_such_group").status_code == 404
    assert client.get("/api/cube/density.json?first=3&last=3").status_code == 400
