"""Header comments of macros and named queries: parameters, columns with their units, an example.

After the description a header may have lines of three forms, which are the only ones that begin as they do:

    $name KIND [unit] = default: meaning      a parameter; without `= default` it must be given
    -> name, name [unit]: meaning             columns of the answer; a column of the store's views needs no meaning
    e.g. trajstore query …                    an example

KIND is one of `KINDS`. The meaning of a view's column ends with its unit in square brackets, if it has one.
Reads texts and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KINDS = {
    "models": "names or globs of models, joined by commas",
    "datasets": "names or globs of datasets, joined by commas",
    "model": "the name of a model",
    "dataset": "the name of a dataset",
    "group": "the name of a group",
    "finding": "the name of a finding",
    "align": "predict (the tokens themselves) or after (those that follow them)",
    "step": "a step of a checkpoint",
    "integer": "a whole number",
    "number": "a number",
    "text": "a text",
    "list": "a list",
}
"""Kinds of parameters, in words."""

_PARAMETER = re.compile(r"\$(\w+) ([a-z]+)(?: \[([^\]]+)\])?(?: = (\S+))?: (.+)")
_COLUMNS = re.compile(r"-> (\w+(?:, \w+)*)(?: \[([^\]]+)\])?(?:: (.+))?")
_EXAMPLE = re.compile(r"e\.g\. (.+)")
_UNIT = re.compile(r"(.*?)(?: \[([^\]]+)\])?", re.DOTALL)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a macro or a named query."""

    name: str
    kind: str
    """One of `KINDS`."""
    unit: str
    """"" where it has none."""
    default: str | None
    """As it would be typed; None where it must be given."""
    meaning: str


@dataclass(frozen=True)
class AnswerColumn:
    """One column of an answer."""

    name: str
    unit: str
    """"" where it has none."""
    meaning: str
    """"" for a column of the store's views, which explain it."""


@dataclass(frozen=True)
class Header:
    """A header comment, read."""

    description: str
    """Text before the lines of a form."""
    parameters: tuple[Parameter, ...]
    columns: tuple[AnswerColumn, ...]
    example: str
    """A command, or ""."""


def parse(text: str) -> Header:
    """Read a header comment (its lines without dashes); raises `ValueError` for a line that has none of the forms."""
    words: list[str] = []
    parameters: list[Parameter] = []
    columns: list[AnswerColumn] = []
    example = ""
    for line in text.splitlines():
        if line.startswith("$"):
            parameters.append(_parameter(line))
        elif line.startswith("->"):
            columns += _columns(line)
        elif match := _EXAMPLE.fullmatch(line):
            example = match[1]
        else:
            words.append(line)
    return Header("\n".join(words).strip(), tuple(parameters), tuple(columns), example)


def _parameter(line: str) -> Parameter:
    match = _PARAMETER.fullmatch(line)
    if not match or match[2] not in KINDS:
        raise ValueError(
            f"{line!r} is not $name KIND [unit] = default: meaning, with KIND one of {', '.join(KINDS)}"
        )
    name, kind, unit, default, meaning = match.groups()
    return Parameter(name, kind, unit or "", default, meaning)


def _columns(line: str) -> list[AnswerColumn]:
    match = _COLUMNS.fullmatch(line)
    if not match:
        raise ValueError(f"{line!r} is not -> name, name [unit]: meaning")
    return [AnswerColumn(name, match[2] or "", match[3] or "") for name in match[1].split(", ")]


def split_unit(comment: str) -> tuple[str, str]:
    """(meaning, unit) of a column's comment, whose unit stands last in square brackets."""
    match = _UNIT.fullmatch(comment)
    assert match is not None
    return match[1], match[2] or ""
