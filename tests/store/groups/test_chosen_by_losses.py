"""A group says by whose losses it was chosen."""

from __future__ import annotations

import pytest

from trajstore.errors import UnknownName
from trajstore.store.groups.chosen_by_losses import selected_by
from trajstore.store.store import Store

SITES = "SELECT dataset, context, position"
A, B, BOTH = frozenset("a"), frozenset("b"), frozenset("ab")
NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("query", "models"),
    [
        (f"{SITES} FROM tokens WHERE text = 'a'", NOBODY),
        ("FROM groups.digits UNION FROM position_is(3)", NOBODY),
        (f"{SITES} FROM losses WHERE model = 'a' AND step = 8 AND loss > 5", A),
        (f"{SITES} FROM raw_losses WHERE model IN ('a', 'b', 'c') AND loss > 5", BOTH),
        (f"{SITES} FROM scores WHERE model = 'b' AND rank > 3", B),
        (f"{SITES} FROM loss_at(8) WHERE loss > 5", BOTH),
        (f"{SITES} FROM loss_at(8) WHERE loss > 5 AND model LIKE 'b%'", B),
        (f"{SITES} FROM loss_at(8) WHERE loss > 5 AND model GLOB '[a]*'", A),
        (f"{SITES} FROM stepwise(1, 8) AS s WHERE s.model = 'a' AND difference > 1", A),
        (f"{SITES} FROM losses WHERE model <> 'a' AND step = 8 AND loss > 5", BOTH),
        (f"{SITES} FROM losses WHERE NOT (model = 'a') AND step = 8 AND loss > 5", BOTH),
        (f"{SITES} FROM losses WHERE model NOT LIKE 'a%' AND step = 8 AND loss > 5", BOTH),
        (f"{SITES} FROM losses WHERE model = lower('A') AND step = 8 AND loss > 5", BOTH),
        (
            f"{SITES} FROM losses JOIN tokens USING (dataset, context, position) WHERE text LIKE '%' AND model = 'b'",
            B,
        ),
        ("FROM improved('a', 1, 8, 0.1)", A),
        ("FROM better('a', 'b', 8, 0.1)", BOTH),
        ("FROM models_disagree('*', 8, 0.1)", BOTH),
        ("FROM models_disagree('a,b', 8, 0.1)", BOTH),
        (f"WITH hard AS (FROM improved('b', 1, 8, 0.1)) {SITES} FROM hard WHERE position > 2", B),
        (f"{SITES} FROM tokens WHERE (dataset, context, position) IN (FROM improved('a', 1, 8, 0.1))", A),
    ],
)
def test_models_that_a_definition_names(planted: Store, query: str, models: frozenset[str]) -> None:
    planted.groups.add("learned", query)
    assert selected_by(planted, "learned") == models


def test_through_other_groups(planted: Store) -> None:
    planted.groups.add("of_a", "FROM improved('a', 1, 8, 0.1)")
    planted.groups.add("hard", f"{SITES} FROM losses WHERE step = 8 AND loss > 5")
    planted.groups.add("a_at_three", "FROM groups.of_a INTERSECT FROM position_is(3)")
    planted.groups.add("a_and_hard", "FROM groups.a_at_three UNION FROM groups.hard")
    assert selected_by(planted, "a_at_three") == A
    assert selected_by(planted, "a_and_hard") == BOTH, "hard names nobody, and so is of all"


def test_calls_of_macros(planted: Store) -> None:
    assert selected_by(planted, "improved('b', 1, 8, 0.1)") == B
    assert selected_by(planted, "position_is(3)") == NOBODY


def test_shipped_groups_are_chosen_by_nobody(planted: Store) -> None:
    assert {selected_by(planted, name) for name in planted.groups.names()} == {NOBODY}


def test_an_unknown_group(planted: Store) -> None:
    with pytest.raises(UnknownName, match="no group 'learnt'"):
        selected_by(planted, "learnt")
