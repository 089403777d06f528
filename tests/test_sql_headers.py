"""The forms of a header comment."""

from __future__ import annotations

import pytest

from trajstore import sql_headers
from trajstore.sql_headers import AnswerColumn, Parameter

TEXT = """What it
is.
$models models = *: models to look at
$late integer [position] = 500: the late position
$from_step step: the earlier step
-> model, dataset
-> mean, sd [nats]: of the loss: all of it
e.g. trajstore query x -p late=3"""


def test_every_form_is_read() -> None:
    found = sql_headers.parse(TEXT)
    assert found.description == "What it\nis."
    assert found.parameters == (
        Parameter("models", "models", "", "*", "models to look at"),
        Parameter("late", "integer", "position", "500", "the late position"),
        Parameter("from_step", "step", "", None, "the earlier step"),
    )
    assert found.columns == (
        AnswerColumn("model", "", ""),
        AnswerColumn("dataset", "", ""),
        AnswerColumn("mean", "nats", "of the loss: all of it"),
        AnswerColumn("sd", "nats", "of the loss: all of it"),
    )
    assert found.example == "trajstore query x -p late=3"


def test_a_plain_comment_is_all_description() -> None:
    text = "The losses at one step: FROM loss_at(512).\nCosts $5 -> nothing."
    assert sql_headers.parse(text) == sql_headers.Header(text, (), (), "")


@pytest.mark.parametrize(
    "line",
    ["$late integer 500: no sign", "$late whole: an unknown kind", "$late integer", "-> mean nats: x", "->"],
)
def test_a_line_that_nearly_has_a_form_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        sql_headers.parse(f"What it is.\n{line}")


@pytest.mark.parametrize(
    ("comment", "meaning", "unit"),
    [
        ("−log p, float32 [nats]", "−log p, float32", "nats"),
        ("stray bytes as <0xE2>", "stray bytes as <0xE2>", ""),
        ("a [b] c", "a [b] c", ""),
        ("", "", ""),
    ],
)
def test_units_stand_last(comment: str, meaning: str, unit: str) -> None:
    assert sql_headers.split_unit(comment) == (meaning, unit)
