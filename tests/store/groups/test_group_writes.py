"""Groups that are replaced, that several processes write, and whose writing fails."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import trajstore
from tests.helpers.forked import processes
from tests.store.conftest import SITES, B
from trajstore.errors import GroupError, StoreUnusable, TrajstoreError, UnknownName
from trajstore.store import checks
from trajstore.store.catalog import catalog
from trajstore.store.groups import trial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trajstore.store.store import Store


def test_replacing_says_who_follows(lettered: Store) -> None:
    lettered.groups.add("bs", B)
    lettered.groups.add("later_bs", "FROM groups.bs WHERE position > 1")
    lettered.groups.add("latest", "FROM groups.later_bs WHERE context = 0")
    changed = lettered.groups.add(
        "bs", B.replace("'b'", "'c'").replace("context,", "context::BIGINT AS context,"), replace=True
    )
    assert changed.used_by == ("later_bs", "latest")
    with trajstore.open(lettered.path) as other:
        assert other.sql("FROM groups.latest").fetchall() == [("d", 0, 2)]
        assert other.groups.show("later_bs").sizes == {"d": 1}
        assert checks.check(other) == []
    sites = lettered.groups.add("bs", pl.DataFrame(SITES), replace=True)
    assert sites.used_by == ("later_bs", "latest")
    assert lettered.sql("FROM groups.latest").fetchall() == [("d", 0, 3)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("FROM groups.latest", "was not added: .*recursi"),
        ("FROM groups.bs WHERE position > 0", "was not added: .*recursi"),
        ("SELECT dataset, context FROM tokens", "without position"),
    ],
)
def test_replacing_with_what_cannot_be(lettered: Store, sql: str, message: str) -> None:
    lettered.groups.add("bs", B)
    lettered.groups.add("latest", "FROM groups.bs WHERE position > 1")
    with pytest.raises(GroupError, match=f"(?s){message}"):
        lettered.groups.add("bs", sql, replace=True)
    assert lettered.groups.show("bs").sizes == {"d": 3}
    assert lettered.groups.show("latest").sizes == {"d": 1}
    assert checks.check(lettered) == []


def test_a_replacement_that_fails_puts_back_what_was(
    lettered: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lettered.groups.add("bs", B)
    before = (lettered.path / "groups" / "bs.sql").read_bytes()
    real = catalog.transaction
    left = 1  # the view is replaced in one transaction

    @contextlib.contextmanager
    def full(connection: Any) -> Iterator[None]:
        nonlocal left
        left -= 1
        with real(connection):
            yield
            if not left:
                raise StoreUnusable("the disk is full")

    monkeypatch.setattr(catalog, "transaction", full)
    with pytest.raises(StoreUnusable, match="the disk is full"):
        lettered.groups.add("bs", pl.DataFrame(SITES), replace=True)
    monkeypatch.undo()
    assert (lettered.path / "groups" / "bs.sql").read_bytes() == before
    assert [path.name for path in (lettered.path / "groups").iterdir()] == ["bs.sql"]
    assert list((lettered.path / "tmp").iterdir()) == []
    with trajstore.open(lettered.path) as other:
        assert other.groups.show("bs").sizes == {"d": 3}


def test_another_process_s_groups_are_current(lettered: Store) -> None:
    with trajstore.open(lettered.path) as other:
        other.groups.add("bs", B)
        assert lettered.groups.show("bs").sizes == {"d": 3}
        other.groups.drop("bs")
        other.groups.add("bs", B + " AND position > 1")
        other.groups.add("on_bs", "FROM groups.bs")
    assert lettered.groups.show("on_bs").sizes == {"d": 1}
    assert lettered.groups.show("bs").sizes == {"d": 1}
    assert lettered.matrix("d", group="bs").columns.height == 1


def test_a_writer_killed_between_file_and_view_harms_nothing(lettered: Store) -> None:
    (lettered.path / "groups" / "bs.sql").write_text(B + "\n")
    assert lettered.groups.show("bs").sizes == {"d": 3}
    assert "bs" in [group.name for group in lettered.groups.list()]
    lettered.groups.drop("bs")
    assert "bs" not in lettered.groups.names()


def test_racing_definitions_have_one_winner(lettered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another job adds the name between our look and our write."""
    real = trial.tried

    def late(*group: Any) -> dict[str, int]:
        monkeypatch.setattr(trial, "tried", real)
        with trajstore.open(lettered.path) as other:
            other.groups.add("bs", B + " AND position > 1")
        return real(*group)

    monkeypatch.setattr(trial, "tried", late)
    with pytest.raises(GroupError, match="another definition"):
        lettered.groups.add("bs", B)
    assert lettered.groups.show("bs").sizes == {"d": 1}


def test_a_failed_catalog_leaves_no_file(lettered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TrajstoreError("no catalog today")

    monkeypatch.setattr(catalog, "maintaining", fail)
    with pytest.raises(TrajstoreError, match="no catalog today"):
        lettered.groups.add("bs", B)
    assert list((lettered.path / "groups").iterdir()) == []


def test_a_group_that_another_job_drops_while_it_is_added_is_described(
    lettered: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trial.users

    def after_another_drops(root: Path, name: str) -> list[str]:
        monkeypatch.setattr(trial, "users", real)
        with trajstore.open(root) as other:
            other.groups.drop(name)
        return real(root, name)

    monkeypatch.setattr(trial, "users", after_another_drops)
    assert lettered.groups.add("common", "FROM groups.digits").sql == "FROM groups.digits"
    with pytest.raises(UnknownName):
        lettered.groups.show("common")


def test_two_processes_add_one_name(lettered: Store) -> None:
    path = lettered.path
    workers = [processes.Process(target=_add_race, args=(path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers].count(0) == 1
    assert sorted(worker.exitcode or 0 for worker in workers) == [0, 3, 3, 3]
    won = [worker.exitcode for worker in workers].index(0)
    with trajstore.open(path) as store:
        assert store.sql("FROM groups.raced").fetchall() == [("d", 0, won)]
        assert checks.check(store, deep=True) == []


def _add_race(path: Path, number: int) -> None:
    with trajstore.open(path) as store:
        try:
            store.groups.add("raced", pl.DataFrame({"dataset": ["d"], "context": [0], "position": [number]}))
        except GroupError:
            sys.exit(3)
