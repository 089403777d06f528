"""Whose losses a group was chosen by: the models that its definition names.

The mean loss of tokens that were chosen by a model's losses says less of that model than of tokens chosen otherwise:
part of what it shows is the choice. Seen from definitions; no loss is read. What a user has put into the catalog beside
them is not known here, nor is that a table of sites or a finding was made from losses.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from trajstore import sql_headers, sqlfiles
from trajstore.store.catalog import expressions
from trajstore.store.catalog.dependencies import Foundations
from trajstore.store.files import coverage
from trajstore.store.session import Session

if TYPE_CHECKING:
    import duckdb


_LOSSES = {"raw_losses", "scores"}
"""Views over the slices' files, on which every other thing about losses stands."""

_OTHER_THAN = {"COMPARE_NOTEQUAL", "COMPARE_NOT_IN", "COMPARE_DISTINCT_FROM", "OPERATOR_NOT"}
_LIKE = {"~~", "~~*", "!~~", "!~~*"}
_GLOB = "~~~"


@dataclass(frozen=True)
class _Text:
    """A string in a definition."""

    pattern: str
    """Names or globs joined by commas where `is_glob`, else a name."""
    is_glob: bool = False
    other_than: bool = False
    """Whether what it matches is left out, and something else meant."""

    def matches(self, models: list[str]) -> set[str]:
        """The models it names."""
        if not self.is_glob:
            return {self.pattern} & set(models)
        return {
            name for part in self.pattern.split(",") for name in models if fnmatch.fnmatchcase(name, part)
        }


def selected_by(session: Session, group_name: str) -> frozenset[str]:
    """Models of the store by whose losses a group is defined, directly or through macros and other groups.

    `group_name` may also be an expression, such as improved('m', 0, 8, 1.0). None for what reads no losses; all models
    where a definition reads losses and names no model, or those it leaves out. Raises `UnknownName`, `DamagedFile`.
    """
    foundations = Foundations.of(session.path)
    if expressions.is_name(group_name):
        foundations.definition(group_name)
    else:
        foundations = foundations.with_expression(group_name)
    models = coverage.model_names(session.path)
    found: set[str] = set()
    for key in foundations.all_under(group_name):
        name = key.removeprefix("groups.")
        if name == key or name not in foundations.definitions or foundations.definitions[name].is_table:
            continue
        if _LOSSES & foundations.all_under(name, through_groups=False):
            found |= _named(session.connection(), foundations.definitions[name].sql, models)
    return frozenset(found)


def _named(connection: duckdb.DuckDBPyConnection, query: str, models: list[str]) -> set[str]:
    """The models that a query names, or all of them."""
    # The full name, since a catalog can hold a macro of the short one.
    serialized = connection.execute("SELECT system.main.json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    found: set[str] = set()
    for text in _texts(json.loads(str(serialized[0][0]))):
        hits = text.matches(models)
        if hits and text.other_than:
            return set(models)
        found |= hits
    return found or set(models)


def _texts(node: Any, is_glob: bool = False, other_than: bool = False) -> Iterator[_Text]:
    """The strings in a part of a parse tree."""
    if isinstance(node, list):
        for each in node:
            yield from _texts(each, is_glob, other_than)
    if not isinstance(node, dict):
        return
    if node.get("class") == "CONSTANT":
        if (text := _string(node)) is not None:
            yield _Text(text, is_glob, other_than)
        return
    function = str(node.get("function_name", "")).lower()
    other_than = other_than or node.get("type") in _OTHER_THAN or function.startswith("!~~")
    if function in _LIKE and _is_of_models(node):
        yield from (
            replace(text, pattern=text.pattern.replace("%", "*").replace("_", "?"), is_glob=True)
            for text in _texts(list(node.values()), True, other_than)
        )
        return
    if function:
        is_glob = function in _macros_of_several() or (function == _GLOB and _is_of_models(node))
    yield from _texts(list(node.values()), is_glob, other_than)


def _string(constant: dict[str, Any]) -> str | None:
    """The value of a constant if it is a text, in the forms of DuckDB 2 and 1."""
    if "literal" in constant:
        literal = constant["literal"]
        return str(literal["text"]) if literal.get("kind") == "STRING" else None
    value = constant["value"]
    return str(value["value"]) if value["type"]["id"] == "VARCHAR" and not value["is_null"] else None


def _is_of_models(node: Any) -> bool:
    """Whether a part of a parse tree names a column called model."""
    if isinstance(node, dict):
        names = node.get("column_names") or [""]
        return str(names[-1]).lower() == "model" or _is_of_models(list(node.values()))
    return isinstance(node, list) and any(map(_is_of_models, node))


@cache
def _macros_of_several() -> frozenset[str]:
    """Macros of which one parameter takes several models."""
    return frozenset(
        file.name
        for file in sqlfiles.load("macros")
        if any(each.kind == "models" for each in sql_headers.parse(file.description).parameters)
    )
