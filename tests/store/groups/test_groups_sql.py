"""The groups that come with the store, each on a few hand-written tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_dataset
from tests.store.groups import test_groups_frequency, test_groups_repetition, test_groups_text
from trajstore import sqlfiles

if TYPE_CHECKING:
    from trajstore.store.store import Store

CASES: dict[str, tuple[list[str], list[int]]] = {
    "every_token": (["a", " b", "\n"], [0, 1, 2]),
    "the": (["The", " the", " then", "the", " The", " other", "\nthe", "THE"], [0, 1, 3, 4, 6, 7]),
    "digits": (["1", " 23", "4a", ".5", " ", "a1", "\n7", "٣"], [0, 1, 6]),
    "punctuation": (
        [".", " (", "->", "a.", "<0xE2>", "«", "_", "$", "\n", "1", ",\n"],
        [0, 1, 2, 5, 6, 7, 10],
    ),
    "whitespace_led": ([" in", "in", " ", "  x", "\nin", " 1", " i"], [0, 5, 6]),
    "newline": (["\n", " ", ".\n\n", "\\n", "a\nb"], [0, 2, 4]),
    "first_half": (["a", "b", "c", "d", "e"], [0, 1, 2]),
    "second_half": (["a", "b", "c", "d", "e"], [3, 4]),
    "repeated_token": (["a", "b", "a", "c", "b", "a"], [2, 4, 5]),
    # At 4 b follows a as at 1; at 8 x follows a as at 6; at 9 a follows x as at 7; at 10 the last a was followed by x.
    "induction_bigram": (["a", "b", "c", "a", "b", "a", "x", "a", "x", "a", "b"], [4, 8, 9]),
}


def members(store: Store, name: str, dataset: str = "d") -> list[tuple[int, int]]:
    query = f"SELECT context, position FROM groups.{name} WHERE dataset = '{dataset}' ORDER BY ALL"
    return store.sql(query).fetchall()


def test_every_shipped_group_has_a_case() -> None:
    others = (test_groups_frequency, test_groups_repetition, test_groups_text)
    tested = set(CASES).union(*(module.SHIPPED for module in others))
    assert {file.name for file in sqlfiles.load("groups")} == tested


@pytest.mark.parametrize("name", CASES)
def test_shipped_group(store: Store, name: str) -> None:
    tokens, expected = CASES[name]
    store.add_dataset("d", new_dataset([tokens]))
    assert [position for _, position in members(store, name)] == expected


@pytest.mark.parametrize("name", ["repeated_token", "induction_bigram"])
def test_contexts_and_datasets_are_apart(store: Store, name: str) -> None:
    """Occurrences in another context or dataset do not count."""
    store.add_dataset("d", new_dataset([["a", "b", "c"], ["a", "b"]]))
    store.add_dataset("e", new_dataset([["a", "b"]]))
    assert members(store, name) == []
    assert members(store, name, "e") == []


def test_runs_of_one_token_are_induction(store: Store) -> None:
    store.add_dataset("d", new_dataset([["a", "a", "a", "b"]]))
    assert members(store, "induction_bigram") == [(0, 2)]


def test_descriptions_are_kept_as_comments(store: Store) -> None:
    comments = store.sql(
        "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'groups'"
    ).fetchall()
    assert dict(comments) == {file.name: file.description for file in sqlfiles.load("groups")}
    assert dict(comments)["digits"] == store.groups.show("digits").description
    assert min(len(comment) for _, comment in comments) > 20
