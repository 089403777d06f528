"""Groups of one's own: added, used, shown, dropped; and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import new_dataset

import trajstore
from trajstore.errors import BadName, GroupError, TrajstoreError, UnknownName
from trajstore.store import catalog

if TYPE_CHECKING:
    from trajstore.store.store import Store

B = "SELECT dataset, context, position FROM tokens WHERE text = 'b'"


@pytest.fixture
def lettered(store: Store) -> Store:
    made = store.add_dataset("d", new_dataset([["a", "b", "c", "b"], ["b", "c"]]))
    store.append(model="m", dataset="d", step=0, losses=[float(n) for n in range(made.n_losses)])
    return store


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
    with pytest.raises(GroupError, match="another definition. Drop it first: trajstore group drop bs"):
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

    monkeypatch.setattr(catalog, "writing", fail)
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
    real = lettered.groups._try

    def late(group: object) -> None:
        real(group)  # type: ignore[arg-type]
        with trajstore.open(lettered.path) as other:
            other.groups.add("bs", B + " AND position > 1")

    monkeypatch.setattr(lettered.groups, "_try", late)
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
