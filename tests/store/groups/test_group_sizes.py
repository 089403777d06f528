"""Sizes of groups: counted once, kept, and counted anew where something under them changed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_dataset
from tests.store.conftest import B, add_letters
from trajstore.store import checks
from trajstore.store.groups import sizes as groupsizes
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore
    from trajstore.store.groups.groups import Group


def counts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The groups that are counted from now on."""
    done: list[str] = []
    real = groupsizes._count
    monkeypatch.setattr(groupsizes, "_count", lambda *args: (done.append(args[1]), real(*args))[1])
    return done


def test_sizes_are_counted_once(lettered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "bs": B,
        "on_bs": "FROM groups.bs WHERE position > 0",
        "hard": "SELECT dataset, context, position FROM losses WHERE loss > 1",
        "chance": "SELECT dataset, context, position FROM tokens WHERE random() < 2",
        "some": "SELECT dataset, context, position FROM tokens LIMIT 2",
        "by_file": f"SELECT 'd' AS dataset, context, position FROM '{lettered.path}/tokens/dataset=d/tokens.parquet'",
        "pivoted": "SELECT *, 0 AS position FROM (PIVOT tokens ON role IN ('x') GROUP BY context, dataset)",
    }
    for name, sql in own.items():
        lettered.groups.add(name, sql)
    expected = {each.name: each.sizes for each in lettered.groups.list()}
    assert expected["on_bs"] == {"d": 2}
    done = counts(monkeypatch)
    assert {each.name: each.sizes for each in lettered.groups.list()} == expected
    assert sorted(done) == ["by_file", "chance", "hard", "some"]
    assert all(not each.sizes for each in lettered.groups.list(sizes=False))
    done.clear()
    lettered.groups.add("bs", B.replace("'b'", "'c'"), replace=True)
    assert lettered.groups.show("on_bs").sizes == {"d": 2}
    assert {each.name: each.sizes for each in lettered.groups.list()}["bs"] == {"d": 2}
    assert "on_bs" in done, "it stands on what changed"
    done.clear()
    lettered.add_dataset("e", new_dataset([["b", "b"]]))
    sizes = {each.name: each.sizes for each in lettered.groups.list()}
    assert sizes["on_bs"] == {"d": 2}
    assert sizes["every_token"] == {"d": 6, "e": 2}
    lettered.drop_dataset("e")
    lettered.add_dataset("e", new_dataset([["c", "c", "c"]]))
    sizes = {each.name: each.sizes for each in lettered.groups.list()}
    assert (sizes["on_bs"], sizes["every_token"]) == ({"d": 2, "e": 2}, {"d": 6, "e": 3})


def test_only_the_new_dataset_is_counted_for_groups_that_come_with_trajstore(
    lettered: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is right only if each of them looks at a dataset by itself."""
    alone = {each.name: each.sizes for each in lettered.groups.list()}
    lettered.add_dataset(
        "e", new_dataset([["a", "b", "c", "b"], ["b", "c"], ["a", "b", "c", "b", "c"], ["In", " 1984"]])
    )
    shutil.rmtree(lettered.path / "cache")
    both = {each.name: each.sizes for each in lettered.groups.list()}
    assert {name: {"d": sizes["d"]} if "d" in sizes else {} for name, sizes in both.items()} == alone
    asked: list[object] = []
    real = groupsizes._count
    monkeypatch.setattr(groupsizes, "_count", lambda *args: (asked.append(args[2]), real(*args))[1])
    lettered.add_dataset("f", new_dataset([["x", "y"]]))
    lettered.groups.list()
    assert asked == [["f"]] * len(both)


@pytest.fixture(scope="module")
def counted(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Group]]:
    """(a store whose groups are counted, their list); to be copied."""
    with new_store(tmp_path_factory.mktemp("counted") / "store") as store:
        listed = add_letters(store).groups.list()
    return store.path, listed


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff", b'{"a": -1, "b": "c", "d": true}', None])
def test_the_cache_may_be_damaged_or_gone(
    counted: tuple[Path, list[Group]], store_path: Path, damage: bytes | None
) -> None:
    path, expected = counted
    shutil.copytree(path, store_path)
    cache = store_path / "cache" / "group_sizes.json"
    cache.unlink()
    if damage is None:
        cache.mkdir()
    else:
        cache.write_bytes(damage)
    with Store(store_path) as store:
        assert store.groups.list() == expected
        assert checks.check(store) == []


def test_a_group_that_no_longer_works_is_listed(lettered: Store) -> None:
    (lettered.path / "groups" / "gone.sql").write_text("FROM groups.nothing\n")
    failing = "CASE WHEN (SELECT count(*) FROM datasets) > 1 THEN error('two datasets') ELSE position END"
    lettered.groups.add("later", f"SELECT dataset, context, {failing} AS position FROM tokens")
    lettered.add_dataset("e", new_dataset([["a", "b"]]))
    listed = {each.name: each for each in lettered.groups.list()}
    assert "cannot be computed" in listed["gone"].problem
    assert "two datasets" in listed["later"].problem
    assert "two datasets" in lettered.groups.show("later").problem
    assert listed["every_token"].sizes == {"d": 6, "e": 2}
