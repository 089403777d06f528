"""Groups of one's own: added, used, shown, dropped; and what is refused."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

import trajstore
from tests.conftest import new_dataset
from tests.forked import processes
from tests.store.conftest import add_letters
from trajstore.cli import app
from trajstore.errors import BadName, GroupError, StaleGroup, StoreUnusable, TrajstoreError, UnknownName
from trajstore.store import checks
from trajstore.store.catalog import catalog
from trajstore.store.groups import sizes as groupsizes
from trajstore.store.groups import trial
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import NewStore
    from trajstore.store.groups.groups import Group

B = "SELECT dataset, context, position FROM tokens WHERE text = 'b'"


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


def test_a_failed_catalog_leaves_no_file(lettered: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TrajstoreError("no catalog today")

    monkeypatch.setattr(catalog, "maintaining", fail)
    with pytest.raises(TrajstoreError, match="no catalog today"):
        lettered.groups.add("bs", B)
    assert list((lettered.path / "groups").iterdir()) == []


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


# From sites

SITES = {"dataset": ["d", "d", "d"], "context": [1, 0, 1], "position": [0, 3, 0]}


class Stream:
    """A table that offers Arrow's stream and nothing else."""

    def __arrow_c_stream__(self, schema: object = None) -> object:
        return pa.table(SITES).__arrow_c_stream__(schema)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame(SITES),
        pl.LazyFrame({**SITES, "note": [1, 2, 3]}),
        pd.DataFrame({**SITES, "loss": [0.5, 1, 2]}),
        pa.table(SITES),
        Stream(),
        pl.DataFrame(SITES, schema={"dataset": pl.Categorical, "context": pl.UInt8, "position": pl.Int16}),
    ],
    ids=["polars", "lazy", "pandas", "arrow", "stream", "types"],
)
def test_sites_of_frames(lettered: Store, frame: object) -> None:
    group = lettered.groups.add("mine", frame, "Mine.")
    assert (group.origin, group.sizes, group.description) == ("sites", {"d": 2}, "Mine.")
    assert lettered.sql("FROM groups.mine ORDER BY ALL").fetchall() == [("d", 0, 3), ("d", 1, 0)]
    assert lettered.groups.members("mine", lettered.dataset("d")).tolist() == [3, 4]
    assert checks.check(lettered, deep=True) == []


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_sites_of_files(lettered: Store, tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(SITES).with_columns(text=pl.lit("x"))
    path = tmp_path / f"sites.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    assert lettered.groups.add_sites("mine", path).sizes == {"d": 2}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"position": [0, 1, 9]},
            "Row 3 of the sites names context 1, position 9 of d, which does not exist",
        ),
        (
            {"context": [1, 2, -1]},
            "Row 2 of the sites names context 2, position 3 of d, which does not exist",
        ),
        ({"position": [0, -1, 9]}, "Row 2 of the sites names context 0, position -1"),
        ({"context": [1, None, 1]}, "Row 2 of the sites has no whole number for a context"),
        ({"dataset": ["d", "d", None]}, "Row 3 of the sites has no dataset"),
        ({"dataset": ["d", "e", "d"]}, "There is no dataset 'e' here"),
        ({"position": [0.0, 1.0, 1.5]}, "position is Float64, and not a whole number"),
        ({"position": None}, r"The frame gives dataset, context \(without position\)"),
    ],
)
def test_sites_that_cannot_be(lettered: Store, columns: dict[str, list[Any] | None], message: str) -> None:
    given = {name: values for name, values in (SITES | columns).items() if values is not None}
    with pytest.raises(TrajstoreError, match=message):
        lettered.groups.add("mine", pl.DataFrame(given))
    for nothing in (pl.DataFrame(SITES).clear(), 7):
        with pytest.raises(GroupError, match="There are no sites in it|this is a int"):
            lettered.groups.add("mine", nothing)
    assert list((lettered.path / "groups").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "s.csv",
            "dataset,context,position\nd,0,1\nd,0.5,1\n",
            "Row 2 of the sites has no whole number for a context",
        ),
        ("s.csv", "dataset,context\nd,0\n", r"s.csv gives dataset, context \(without position\)"),
        ("s.csv", "", r"\(without dataset, context, position\)"),
        ("s.parquet", "no", "s.parquet cannot be read as parquet"),
        ("s.txt", "", "sites are read from .csv and .parquet files"),
        ("none.csv", None, "There is no file"),
    ],
)
def test_files_of_no_sites(
    lettered: Store, tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(TrajstoreError, match=message):
        lettered.groups.add_sites("mine", tmp_path / name)


def test_sites_again(lettered: Store) -> None:
    first = lettered.groups.add("mine", pl.DataFrame(SITES), "Mine.")
    assert lettered.groups.add("mine", pl.DataFrame(SITES)[::-1]) == first
    with pytest.raises(GroupError, match="with another definition"):
        lettered.groups.add("mine", pl.DataFrame(SITES)[:1])
    with pytest.raises(GroupError, match="with another description"):
        lettered.groups.add("mine", pl.DataFrame(SITES), "Others.")
    assert lettered.groups.add("mine", pl.DataFrame(SITES)[:1], replace=True).sizes == {"d": 1}
    for replace in (False, True):
        with pytest.raises(GroupError, match="is how a kept table is read, and no definition"):
            lettered.groups.add("mine", "FROM kept_sites('mine')", replace=replace)
    assert lettered.groups.show("mine").sizes == {"d": 1}
    lettered.groups.drop("mine")
    assert list((lettered.path / "groups").iterdir()) == []


def test_sites_of_a_dataset_that_changed(lettered: Store) -> None:
    lettered.groups.add("mine", pl.DataFrame(SITES))
    lettered.drop_dataset("d", losses=True)
    lettered.add_dataset("d", new_dataset([["x", "y"], ["x", "y"]]))
    with pytest.warns(StaleGroup, match="d has changed.*trajstore group add mine --sites FILE --replace"):
        assert lettered.sql("FROM groups.mine").fetchall() == []
    assert lettered.groups.show("mine").stale == "d has changed"


# Replaced


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


# Sizes


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
