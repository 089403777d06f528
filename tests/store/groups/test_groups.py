"""Groups of one's own: added, used, shown, dropped; and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.conftest import new_dataset
from tests.store.conftest import SITES, B
from trajstore.cli import app
from trajstore.errors import BadName, GroupError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store


def test_add_use_show_drop(lettered: Store) -> None:
    added = lettered.groups.add("bs", f"-- The letter b.\n-- Twice.\n{B};")
    assert (added.description, added.sizes) == ("The letter b.\nTwice.", {"d": 3})
    assert lettered.sql("SELECT context, position FROM groups.bs ORDER BY ALL").fetchall() == [
        (0, 1),
        (0, 3),
        (1, 0),
    ]
    with trajstore.open(lettered.path) as other:
        assert other.groups.show("bs") == added
    lettered.groups.drop("bs")
    with pytest.raises(UnknownName, match="There is no group 'bs'"):
        lettered.groups.show("bs")
    assert not (lettered.path / "groups" / "bs.sql").exists()


def test_groups_over_losses_and_groups(lettered: Store) -> None:
    lettered.groups.add("hard", "SELECT dataset, context, position FROM losses WHERE loss > 1")
    lettered.groups.add("bs", B)
    both = lettered.groups.add("hard_bs", "FROM groups.hard INTERSECT FROM groups.bs")
    assert both.sizes == {"d": 1}
    either = lettered.groups.add("hard_or_bs", "FROM groups.hard UNION ALL FROM groups.bs")
    assert either.sizes == {"d": 4}, "each token counts once"


def test_the_same_again_changes_nothing(lettered: Store) -> None:
    first = lettered.groups.add("bs", B, "The letter b.")
    assert lettered.groups.add("bs", B, "The letter b.") == first
    with pytest.raises(GroupError, match="another definition.* drop it first: trajstore group drop bs"):
        lettered.groups.add("bs", B + " AND position > 0")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT context, position FROM tokens", r"this one gives context, position \(without dataset\)"),
        ("SELECT nothing FROM tokens", "was not added: Binder Error"),
        ("FROM groups.nothing", "was not added: Catalog Error"),
        ("DELETE FROM tokens", "Sessions only read; DELETE is refused"),
        ("SELECT 1; SELECT 2", "One statement at a time"),
        ("SELECT dataset, context, position FROM tokens, read_csv('/etc/passwd')", "Permission Error"),
        ("SELECT dataset, context, (text || 'x')::INT AS position FROM tokens", "Conversion Error"),
        ("", "One statement at a time: this text has 0"),
    ],
)
def test_definitions_that_cannot_be(lettered: Store, sql: str, message: str) -> None:
    with pytest.raises(GroupError, match=message):
        lettered.groups.add("bad", sql)
    assert "bad" not in lettered.groups.names()
    assert list((lettered.path / "groups").iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "..", "Upper", "a-b", "1a", "a b", ""])
def test_names_that_sql_would_have_to_quote(lettered: Store, name: str) -> None:
    with pytest.raises(BadName, match="cannot be a group name"):
        lettered.groups.add(name, B)


def test_shipped_groups_stay(lettered: Store) -> None:
    with pytest.raises(GroupError, match="comes with trajstore"):
        lettered.groups.drop("digits")
    with pytest.raises(GroupError, match="comes with trajstore. Choose another name"):
        lettered.groups.add("digits", B)


def test_a_group_in_use_is_not_dropped(lettered: Store) -> None:
    lettered.groups.add("bs", B)
    lettered.groups.add("later_bs", "FROM groups.bs WHERE position > 1")
    with pytest.raises(GroupError, match="'bs' is used by later_bs"):
        lettered.groups.drop("bs")
    lettered.groups.drop("later_bs")
    lettered.groups.drop("bs")


@pytest.mark.parametrize(
    "place",
    ["7 AS context, 0 AS position", "0 AS context, 4 AS position", "0 AS context, NULL::INT AS position"],
)
def test_places_that_do_not_exist(lettered: Store, place: str) -> None:
    lettered.groups.add("ghosts", f"SELECT 'd' AS dataset, {place}")
    with pytest.raises(GroupError, match="names context .* of d, which does not exist"):
        lettered.matrix("d", group="ghosts")


def test_the_loss_of_a_surname_and_the_loss_after_it(lettered: Store) -> None:
    """The published curve of "surnames" tested token k and read loss k+1: the loss after the surname."""
    lettered.groups.add("bs", B)
    # losses: context 0 → positions 1, 2, 3 are 0, 1, 2; context 1 → position 1 is 3
    predict = lettered.matrix("d", group="bs")
    assert predict.values.tolist() == [[0, 2]]
    assert predict.columns["text"].to_list() == ["b", "b"]
    after = lettered.matrix("d", group="bs", align="after")
    assert after.values.tolist() == [[1, 3]]
    assert after.columns["text"].to_list() == ["c", "c"]


def test_an_unknown_group_lists_near_ones(lettered: Store) -> None:
    with pytest.raises(
        UnknownName, match="There is no group 'digit' here.*Did you mean digits.*trajstore group add"
    ):
        lettered.matrix("d", group="digit")


@pytest.mark.parametrize("name", ["tokens", "losses", "contexts", "migrations"])
def test_a_group_cannot_hide_a_table(lettered: Store, name: str) -> None:
    with pytest.raises(GroupError, match="is the name of a table of the store"):
        lettered.groups.add(name, B)


@pytest.mark.parametrize("literal", ["\u2028", "\x0c", "\x85", "a\rb"])
def test_literals_are_kept_to_the_letter(store: Store, literal: str) -> None:
    store.add_dataset("d", new_dataset([["\n", literal, "x"]]))
    store.groups.add("odd", f"SELECT dataset, context, position FROM tokens WHERE text = '{literal}'")
    with trajstore.open(store.path) as other:
        assert other.groups.members("odd", other.dataset("d")).tolist() == [1]


def test_places_are_whole_numbers(lettered: Store) -> None:
    with pytest.raises(GroupError, match="context is DECIMAL.* not a whole number"):
        lettered.groups.add("half", "SELECT dataset, context + 0.5 AS context, position FROM tokens")


def test_relations_outlive_a_refresh(lettered: Store) -> None:
    relation = lettered.sql("SELECT count(*) FROM tokens")
    lettered.groups.add("bs", B)
    assert relation.fetchall() == [(6,)]


# From macros


def test_from_a_macro(lettered: Store) -> None:
    group = lettered.groups.add_macro("second", "position_is(1)")
    assert (group.sql, group.origin, group.sizes) == ("FROM position_is(1)", "macro", {"d": 2})
    assert group.description == "position_is(1)"
    assert group.depends_on == ("position_is()",)
    named = lettered.groups.add_macro("bc", " matching('b|c', part := NULL) ", "Letters.")
    assert (named.description, named.sizes) == ("Letters.", {"d": 5})
    joined = lettered.groups.add_macro("joined", "position_is(1) & bc")
    assert joined.sizes == {"d": lettered.sql("FROM groups.bc WHERE position = 1").pl().height}
    assert joined.depends_on == ("groups.bc", "position_is()")
    lettered.groups.drop("joined")
    with pytest.raises(UnknownName, match="There is no macro 'positon_is' here.*Did you mean position_is"):
        lettered.groups.add_macro("x", "positon_is(1)")
    for call in ("position_is", "position_is(1", "SELECT 1", ""):
        with pytest.raises(GroupError, match="is no macro with its arguments"):
            lettered.groups.add_macro("x", call)
    with pytest.raises(GroupError, match="was not added: Binder Error"):
        lettered.groups.add_macro("x", "position_is()")
    assert sorted(path.name for path in (lettered.path / "groups").iterdir()) == ["bc.sql", "second.sql"]


def test_a_macro_that_gives_one_column_too_few(lettered: Store) -> None:
    with pytest.raises(GroupError, match=r"gives model, dataset, step, .*\(without context, position\)"):
        lettered.groups.add_macro("x", "trajectory('digits')")


def test_hash_of_a_definition_with_all_it_stands_on(lettered: Store) -> None:
    """Equal for equal queries, whatever the description; another where anything under it is another."""
    lettered.groups.add("bs", B)
    lettered.groups.add("on_bs", "FROM groups.bs", "One.")
    lettered.groups.add("on_digits", "FROM groups.digits")
    before = {each.name: each.sha256 for each in lettered.groups.list(sizes=False)}
    assert len(set(before.values())) == len(before)
    lettered.groups.add("on_bs", "FROM groups.bs", "Another.", replace=True)
    lettered.groups.add("bs", B + " AND true", replace=True)
    after = {each.name: each.sha256 for each in lettered.groups.list(sizes=False)}
    assert {name for name in before if before[name] != after[name]} == {"bs", "on_bs"}


def test_show_says_what_it_stands_on(lettered: Store) -> None:
    lettered.groups.add(
        "bs",
        "WITH digits AS (FROM position_is(1)) FROM groups.digits UNION FROM digits SEMI JOIN contexts USING (context)",
    )
    lettered.groups.add("on_bs", "FROM groups.bs")
    group = lettered.groups.show("bs")
    assert group.depends_on == ("contexts", "groups.digits", "position_is()")
    assert group.used_by == ("on_bs",)
    assert group.made is not None
    assert lettered.groups.show("digits").made is None


def test_commands(lettered: Store, tmp_path: Path) -> None:
    def run(*words: object) -> Result:
        result = CliRunner().invoke(app, [*map(str, words), "-s", str(lettered.path)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    assert run("group", "add", "second", "--from", "position_is(1)").exit_code == 0
    pl.DataFrame(SITES).write_csv(tmp_path / "s.csv")
    assert "mine: 2 in d" in run("group", "add", "mine", "--sites", tmp_path / "s.csv").stderr
    assert run("group", "add", "on_mine", "--sql", "FROM groups.mine").exit_code == 0
    for words in ([], ["--sql", B, "--from", "position_is(1)"]):
        assert run("group", "add", "x", *words).exit_code == 2
    refused = run("group", "add", "mine", "--sql", B)
    assert (refused.exit_code, "--replace" in refused.stderr) == (1, True)
    replaced = run("group", "add", "mine", "--sql", B, "--replace")
    assert "used by on_mine, which follow it" in replaced.stderr
    found = json.loads(run("group", "list", "--json").stdout)
    assert {each["group"]: each["sizes"] for each in found}["on_mine"] == {"d": 3}
    bare = run("group", "list", "--no-sizes")
    assert "counting" not in bare.stderr
    assert bare.stdout.splitlines()[0].split() == ["group", "description"]
    shown = json.loads(run("group", "show", "mine", "--json").stdout)
    assert (shown["origin"], shown["used_by"], shown["depends_on"]) == ("sql", ["on_mine"], ["tokens"])
    text = run("group", "show", "second").stdout
    assert "origin:     macro" in text
    assert "stands on:  position_is()" in text


def test_users_are_groups_that_would_not_work_without_one(planted: Store) -> None:
    sites = "SELECT 'd' AS dataset, context, position"
    planted.groups.add("third", "SELECT dataset, context, position FROM tokens WHERE position = 3")
    planted.groups.add("pivoted", f"{sites} FROM (PIVOT groups.third ON dataset IN ('d') USING count(*))")
    planted.groups.add("on_pivoted", "FROM groups.pivoted WHERE context > 1")
    planted.groups.add("same_word", "SELECT dataset, context, position FROM tokens WHERE text = 'third'")
    assert planted.groups.show("third").used_by == ("on_pivoted", "pivoted")
    with pytest.raises(GroupError, match="'third' is used by on_pivoted, pivoted"):
        planted.groups.drop("third")
