"""Groups that stand on other groups, whatever their names: the catalog is made anew from their files in any order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

import trajstore
from trajstore.errors import GroupError
from trajstore.store import checks, lifecycle
from trajstore.store.catalog import dependencies
from trajstore.store.files.group_files import Definition
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

B = "SELECT dataset, context, position FROM tokens WHERE text = 'b'"


def views(path: Path) -> set[str]:
    with trajstore.open(path) as store:
        found = store.sql("SELECT view_name FROM duckdb_views() WHERE schema_name = 'groups'").fetchall()
    return {name for (name,) in found}


def write_chain(path: Path, names: Sequence[str]) -> None:
    """The files of groups of which each but the first stands on the one before."""
    sql = B
    for name in names:
        (path / "groups" / f"{name}.sql").write_text(f"{sql}\n")
        sql = f"FROM groups.{name} WHERE position < 9"


def test_a_catalog_is_made_anew_whatever_the_names(lettered: Store) -> None:
    names = [[f"{letter}_{''.join(order)}" for letter in order] for order in itertools.permutations("abcd")]
    for chain in names:
        write_chain(lettered.path, chain)
    lettered.close()
    lifecycle.rebuild(lettered.path)
    assert views(lettered.path) >= set(itertools.chain(*names))
    with trajstore.open(lettered.path) as store:
        assert store.groups.show(names[-1][-1]).sizes == {"d": 3}
        assert checks.check(store, deep=True) == []


def test_what_else_makes_views_from_files(lettered: Store, tmp_path: Path) -> None:
    write_chain(lettered.path, ("z", "y", "x"))
    with trajstore.open(lettered.path) as store:
        found = store.sql("FROM groups.x", files=[tmp_path]).fetchall()
        assert sorted(found) == [("d", 0, 1), ("d", 0, 3), ("d", 1, 0)]
    (lettered.path / "catalog.duckdb").unlink()
    with Store.create(lettered.path) as store:
        assert store.groups.show("x").sizes == {"d": 3}
        store.groups.add("z", "FROM groups.every_token", replace=True)
        assert store.groups.show("x").sizes == {"d": 6}


def test_a_session_makes_what_a_group_stands_on_as_well(lettered: Store) -> None:
    """Another job, ended before the catalog had them, has left their files."""
    write_chain(lettered.path, ("z", "m", "a"))
    assert lettered.groups.show("a").sizes == {"d": 3}


@pytest.mark.parametrize(
    "sql",
    [
        "WITH z AS (FROM groups.z) SELECT * FROM z",
        "SELECT * FROM tokens WHERE (dataset, context, position) IN (FROM groups.z)",
        "SELECT dataset, context, position FROM tokens SEMI JOIN groups.Z USING (dataset, context, position)",
        "FROM aligned('z')",
        "FROM query_table('groups.' || 'z')",
        "SELECT dataset, context, 1 AS position FROM (PIVOT groups.z ON position IN (1) USING count(*))",
    ],
)
def test_ways_to_stand_on_a_group(lettered: Store, sql: str) -> None:
    """Also those that the parse tree of the query does not show."""
    lettered.groups.add("z", B)
    lettered.groups.add("a", sql)
    lifecycle.rebuild(lettered.path)
    assert views(lettered.path) >= {"a", "z"}


def test_a_name_that_is_mentioned_is_not_stood_on() -> None:
    """A word like a group's name decides only where nothing else does."""
    groups = [
        Definition("the", "FROM groups.a", ""),
        Definition("a", "SELECT dataset, context, position FROM tokens WHERE text = 'the'", ""),
        Definition("b", "SELECT dataset, context, position FROM tokens", "Not the group a."),
    ]
    assert [group.name for group in dependencies.ordered(groups)] == ["b", "a", "the"]


def test_groups_that_stand_on_each_other_are_named(lettered: Store) -> None:
    write_chain(lettered.path, ("one", "two"))
    (lettered.path / "groups" / "one.sql").write_text("FROM groups.two\n")
    (lettered.path / "groups" / "user.sql").write_text("FROM groups.two\n")
    with pytest.raises(
        GroupError, match="'one' stands on itself, by way of two. Mend or remove one of their"
    ):
        lifecycle.rebuild(lettered.path)


def test_the_cause_is_named_and_not_what_follows_from_it(lettered: Store) -> None:
    write_chain(lettered.path, ("z", "a"))
    (lettered.path / "groups" / "z.sql").write_text("FROM nowhere\n")
    with pytest.raises(GroupError, match=r"The group 'z' in .* no longer works: .*nowhere"):
        lifecycle.rebuild(lettered.path)
