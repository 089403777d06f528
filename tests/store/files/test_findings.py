"""Findings go in whole, come back in SQL and as frames, never change unawares, and are checked for damage."""

from __future__ import annotations

import json
import random
import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from trajstore.cli import app
from trajstore.errors import BadName, DamagedFile, FindingExists, UnknownName
from trajstore.store import checks
from trajstore.store.files import findings
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

COMPONENTS = pl.DataFrame(
    {"component": [1, 2], "variance": [3.0, 1.0], "ratio": [0.75, 0.25], "zeros": [0.0, 0.5]}
)
SCORES = pl.DataFrame({"step": [8, 8], "component": [1, 2], "score": [0.5, -0.5], "model": ["a", "a"]})
LOADINGS = pl.DataFrame(
    {
        "dataset": ["d"] * 3,
        "context": [0] * 3,
        "position": [1, 2, 3],
        "component": [1] * 3,
        "loading": [0.6, 0, 0.8],
    }
)
GRAM = pl.DataFrame({"model": ["a"], "step": [8], "products": [[0.25]]})
SLICES = pl.DataFrame({"model": ["a"], "step": [8], "dataset": ["d"], "loss_sha256": ["sha256:0"]})
FACTS = {"models": ["a"], "components": 2}


def add(store: Store, name: str = "first", *, scale: float = 1.0, replace: findings.Replace = False) -> None:
    with store.add_finding("pca", name, FACTS, replace=replace) as writer:
        writer.add("components", COMPONENTS)
        writer.add("scores", SCORES.with_columns(pl.col("score") * scale))
        writer.add("gram", GRAM)
        writer.add("slices", SLICES)
        with writer.stream("loadings") as put:
            put(LOADINGS.head(1))
            put(LOADINGS.tail(2))


def test_the_same_again_beside_a_damaged_one_says_what_is_damaged(store: Store) -> None:
    add(store)
    path = findings.path_of(store.path, "pca", "first") / "components.parquet"
    path.write_bytes(path.read_bytes().replace(b'"facts"', b'"fakts"'))
    with pytest.raises(DamagedFile, match="its footer lacks the facts of a finding"):
        add(store, replace="same")


def problems(store: Store, *, deep: bool = False) -> list[str]:
    return [problem.path for problem in checks.check(store, deep=deep)]


def test_an_empty_store_has_the_views(store: Store) -> None:
    for view in ("findings", "pca_components", "pca_scores", "pca_loadings"):
        assert store.sql(f"FROM {view}").fetchall() == []
    assert store.findings() == []


def test_what_goes_in_comes_back(planted: Store) -> None:
    add(planted)
    (found,) = planted.findings("pca")
    assert (found.kind, found.name, found.facts) == ("pca", "first", FACTS)
    assert found.table("components").rows() == COMPONENTS.rows()
    assert found.table("gram").rows() == GRAM.rows()
    assert found.table("loadings")["loading"].to_list() == pytest.approx([0.6, 0, 0.8])
    assert planted.finding("pca", "first") == found
    with pytest.raises(UnknownName, match="there is: components, scores"):
        found.table("shapes")
    assert planted.sql("SELECT kind, finding, facts ->> '$.components' FROM findings").fetchall() == [
        ("pca", "first", "2")
    ]
    assert planted.sql("FROM pca_scores ORDER BY component").fetchall() == [
        ("first", "a", 8, 1, 0.5),
        ("first", "a", 8, 2, -0.5),
    ]
    assert planted.sql("SELECT position FROM pca_loadings WHERE loading > 0.5 ORDER BY 1").fetchall() == [
        (1,),
        (3,),
    ]
    assert problems(planted, deep=True) == []


def test_a_finding_changes_only_on_purpose(planted: Store) -> None:
    add(planted)
    with pytest.raises(FindingExists, match="another name, or replace it"):
        add(planted, scale=2.0)
    assert planted.finding("pca", "first").table("scores")["score"].to_list() == [0.5, -0.5]
    add(planted, scale=2.0, replace=True)
    assert planted.finding("pca", "first").table("scores")["score"].to_list() == [1.0, -1.0]
    add(planted, "second")
    assert [each.name for each in planted.findings()] == ["first", "second"]
    planted.drop_finding("pca", "first")
    assert planted.sql("SELECT DISTINCT finding FROM pca_loadings").fetchall() == [("second",)]
    with pytest.raises(UnknownName, match="second"):
        planted.drop_finding("pca", "first")


def test_two_at_once_leave_one_whole(planted: Store) -> None:
    """Whoever ends second finds the name taken, and leaves nothing behind."""

    def add_during(scale: float) -> None:
        with planted.add_finding("pca", "first", FACTS) as writer:
            add(planted, scale=scale)
            writer.add("components", COMPONENTS)
            writer.add("scores", SCORES)
            writer.add("loadings", LOADINGS)
            writer.add("gram", GRAM)
            writer.add("slices", SLICES)

    with pytest.raises(FindingExists):
        add_during(2.0)
    assert planted.finding("pca", "first").table("scores")["score"].to_list() == [1.0, -1.0]
    assert list((planted.path / "tmp").iterdir()) == []


@pytest.mark.parametrize("written", [0, 2])
def test_what_ends_badly_leaves_nothing(planted: Store, written: int) -> None:
    def add_some() -> None:
        with planted.add_finding("pca", "first", FACTS) as writer:
            for table, rows in [("components", COMPONENTS), ("scores", SCORES)][:written]:
                writer.add(table, rows)
            if not written:
                raise RuntimeError("out of memory")

    with pytest.raises((RuntimeError, ValueError), match=r"out of memory|no table loadings"):
        add_some()
    assert planted.findings() == []
    assert list((planted.path / "tmp").iterdir()) == []
    assert {path.name for path in (planted.path / "findings").glob("*/*")} == {"finding=.empty"}


def test_names_are_checked(planted: Store) -> None:
    with pytest.raises(BadName):
        add(planted, "../../x")


def test_any_flipped_bit_is_found(planted: Store) -> None:
    add(planted)
    rng = random.Random(0)
    for path in sorted(planted.path.glob("findings/*/finding=first/*.parquet")):
        good = path.read_bytes()
        for _ in range(20):
            at, bit = rng.randrange(len(good)), 1 << rng.randrange(8)
            path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
            assert findings.finding_problem(path, deep=True) is not None
        assert problems(planted, deep=True) == [str(path.relative_to(planted.path))]
        path.write_bytes(good)
    assert problems(planted, deep=True) == []


def test_a_finding_under_anothers_name_is_named(planted: Store) -> None:
    add(planted)
    folder = planted.path / "findings" / "kind=pca"
    shutil.copytree(folder / "finding=first", folder / "finding=second")
    assert len(problems(planted)) == 5
    with pytest.raises(DamagedFile, match="under another's name"):
        planted.finding("pca", "second")
    (folder / "finding=second" / "notes.txt").touch()
    assert "findings/kind=pca/finding=second/notes.txt" in problems(planted)


def test_the_commands(planted: Store, tmp_path: Path) -> None:
    add(planted)
    run = CliRunner().invoke
    at = ["-s", str(planted.path)]
    listed = json.loads(run(app, ["finding", "list", "--json", *at]).stdout)
    assert [(each["kind"], each["finding"]) for each in listed] == [("pca", "first")]
    shown = json.loads(run(app, ["finding", "show", "pca", "first", "--json", *at]).stdout)
    assert shown["components"] == 2
    assert "models" in run(app, ["finding", "show", "pca", "first", *at]).stdout
    assert run(app, ["finding", "drop", "pca", "frist", *at]).exit_code == 1
    assert run(app, ["finding", "drop", "pca", "first", *at]).exit_code == 0
    assert planted.findings() == []
