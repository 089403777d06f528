"""Entity tags: nothing that has changed since is answered by 304, whatever it was that changed and wherever it lies."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.conftest import NewStore, new_dataset, plant
from tests.server.conftest import ADDRESS
from trajstore.analysis.components.methods import Method
from trajstore.pipelines.components.pca import pca
from trajstore.schema import CATALOG
from trajstore.server.app import create_app
from trajstore.server.sessions import RequestStore
from trajstore.server.signatures import folder_contents
from trajstore.store.catalog import catalog
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store

MODULE = "def first(tokens):\n    return tokens['position'] == {position}\n"
SITES = "SELECT dataset, context, position FROM tokens WHERE position = {position}"


@pytest.fixture(scope="module")
def _ready(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ready") / "store"
    with new_store(path) as store:
        plant(store, [0, 1])
        store.groups.add("mine", SITES.format(position=1), "The first.")
        pca(store, Selection(["d"], ["a"]), Method(components=1)).keep("p")
        store.add_dataset("bare", new_dataset([["a", "b", "c"]]))
    return path


@pytest.fixture
def copied(_ready: Path, tmp_path: Path) -> Path:
    return shutil.copytree(_ready, tmp_path / "store")


def redefine(path: Path) -> None:
    with Store(path) as store:
        store.groups.add("mine", SITES.format(position=2), "The second.", replace=True)


def replace_finding(path: Path) -> None:
    with Store(path) as store:
        pca(store, Selection(["d"], ["b"]), Method(components=1)).keep("p", replace=True)


def replace_texts(path: Path) -> None:
    with Store(path) as store:
        store.drop_dataset("bare")
        store.add_dataset("bare", new_dataset([["a", "b", "d"]]))


def replace_losses(path: Path) -> None:
    with Store(path) as store:
        losses = store.slice_losses("a", "e", 1) + 1
        store.append(model="a", dataset="e", step=1, losses=losses, replace=True)


@pytest.mark.parametrize(
    ("change", "addresses"),
    [
        (
            redefine,
            (
                "groups.json",
                "group-sizes.json",
                "group-examples.json?group=mine",
                "trajectories.json?groups=mine&datasets=d",
                "cube/curves.json?groups=mine&datasets=d",
                "token_groups.json?dataset=d&context=2",
                "component-scores.json?group=mine&datasets=d&models=a&components=1",
                "box-groups.json?one=a@0&other=a@1&dataset=d",
            ),
        ),
        (
            replace_finding,
            (
                "findings.json",
                "finding.json?kind=pca&finding=p&table=scores",
                "components.json",
                "component-tokens.json?finding=p",
                "token_findings.json?dataset=d&context=2&position=1",
            ),
        ),
        (
            replace_texts,
            ("context.json?dataset=bare&context=0", "find.json?dataset=bare&text=c"),
        ),
        (
            replace_losses,
            ("token_differences.json?datasets=d&dataset=e&context=0&models=a",),
        ),
    ],
)
def test_what_was_replaced_is_sent_again(
    copied: Path, change: Callable[[Path], None], addresses: tuple[str, ...]
) -> None:
    with TestClient(create_app(copied), base_url=ADDRESS) as client:
        before = [client.get(f"/api/{address}") for address in addresses]
        change(copied)
        for address, old in zip(addresses, before, strict=True):
            assert old.status_code == 200, old.text
            fresh = client.get(f"/api/{address}", headers={"if-none-match": old.headers["etag"]})
            assert fresh.status_code == 200, address
            assert fresh.json() != old.json(), address


def test_a_macro_of_ones_own_that_a_group_stands_on_is_looked_at(copied: Path) -> None:
    """It lies in the catalog alone."""

    def define(position: int) -> None:
        with duckdb.connect(copied / CATALOG) as shell:
            shell.execute(f"SET VARIABLE store = '{copied}'")
            shell.execute(f"CREATE OR REPLACE MACRO chosen() AS TABLE {SITES.format(position=position)}")

    define(1)
    with Store(copied) as store:
        store.groups.add("of_mine", "FROM chosen()")
    address = "/api/cube/curves.json?groups=of_mine&datasets=d&models=a"
    with TestClient(create_app(copied), base_url=ADDRESS) as client:
        old = client.get(address)
        define(2)
        fresh = client.get(address, headers={"if-none-match": old.headers["etag"]})
        assert fresh.status_code == 200
    with Store(copied) as store:
        expected = store.sql(
            "SELECT step, avg(loss::DOUBLE) FROM losses WHERE model = 'a' AND dataset = 'd' AND position = 2 "
            "GROUP BY step ORDER BY step"
        ).fetchall()
    frame = pl.DataFrame(fresh.json()).select("step", "mean").rows()
    assert [mean for _, mean in frame] == pytest.approx([mean for _, mean in expected])


def test_a_catalog_that_changes_while_it_is_taken_up_is_taken_up_next(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = catalog.copied

    def changed_behind(*arguments: Any, **more: Any) -> Any:
        taken = take(*arguments, **more)
        monkeypatch.undo()
        with duckdb.connect(copied / CATALOG) as shell:
            shell.execute("CREATE VIEW mine AS SELECT 1 AS one")
        return taken

    monkeypatch.setattr(catalog, "copied", changed_behind)
    with RequestStore(copied) as store:
        store.settle()
        assert store.sql("FROM mine").fetchall() == [(1,)]


def test_nothing_is_waited_for_in_a_pipe(copied: Path) -> None:
    os.mkfifo(copied / "groups" / "pipe.sql")
    tags = threading.Thread(target=folder_contents, args=[copied], daemon=True)
    tags.start()
    tags.join(10)
    assert not tags.is_alive()


def test_a_python_group_whose_module_has_changed_is_told(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module lies outside the store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tagged_module", raising=False)
    module = tmp_path / "tagged_module.py"
    module.write_text(MODULE.format(position=1))
    with Store(copied) as store:
        store.groups.add_python("found", "tagged_module:first")
    with TestClient(create_app(copied), base_url=ADDRESS) as client:
        old = client.get("/api/group-sizes.json")
        again = client.get("/api/group-sizes.json", headers={"if-none-match": old.headers["etag"]})
        assert again.status_code == 304
        module.write_text(MODULE.format(position=2))
        fresh = client.get("/api/group-sizes.json", headers={"if-none-match": old.headers["etag"]})
        assert fresh.status_code == 200
        problems = {row["problem"] for row in fresh.json() if row["group"] == "found"}
        assert problems == {"tagged_module:first has changed"}
