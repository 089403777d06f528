"""The names in a query are seen from its parse tree."""

from __future__ import annotations

import duckdb
import pytest

from trajstore.store.catalog import parse_trees

QUERY = """
    WITH mine AS (FROM groups.Digits)
    SELECT upper(text) FROM mine JOIN main.tokens USING (context) WHERE lower(model) LIKE 'tiny%' AND loss > 3
"""


def test_relations_and_functions_are_named_and_ctes_are_not() -> None:
    names = parse_trees.names(QUERY)
    assert names.relations == {"groups.digits", "tokens"}
    assert {"upper", "lower"} <= names.functions
    assert names.readable


def test_a_pivot_has_no_tree() -> None:
    assert not parse_trees.names("PIVOT raw_losses ON step USING avg(loss)").readable


def test_texts_are_told_from_numbers_and_columns() -> None:
    texts = {parse_trees.text_of(node) for node in parse_trees.objects(parse_trees.tree_of(QUERY))}
    assert texts == {"tiny%", None}


@pytest.mark.parametrize(("column", "named"), [("model", True), ("loss", True), ("step", False)])
def test_columns_are_seen_at_any_depth(column: str, named: bool) -> None:
    assert parse_trees.names_column(parse_trees.tree_of(QUERY), column) is named


def test_what_stands_above_is_handed_down() -> None:
    tree = {"a": [{"b": {"c": {}}}, {}]}
    depths = [depth for _, depth in parse_trees.walk(tree, 0, lambda _, above: above + 1)]
    assert sorted(depths) == [1, 2, 2, 3, 4]


def test_kinds_and_calls_are_read_of_a_tree_too_deep_for_json() -> None:
    deep = "SELECT " + "(1 + " * 400 + "Abs(1)" + ")" * 400
    with duckdb.connect() as connection:
        tree = parse_trees.serialized(connection, deep)
    assert parse_trees.query_kinds(tree) == {"SELECT_NODE"}
    assert parse_trees.called(tree) == {"abs"}
