"""Models by whose losses a group was chosen: those that its definition names.

The mean loss of tokens that were chosen by a model's losses says less of that model than of tokens chosen otherwise:
part of what it shows is the choice. Seen from definitions; no loss is read. What a user has put into the catalog beside
them is not known here, nor is that a table of sites or a finding was made from losses.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from functools import cache

from trajstore import sql_headers, sqlfiles
from trajstore.store.catalog import group_expressions, parse_trees
from trajstore.store.catalog.dependencies import Foundations
from trajstore.store.files import coverage
from trajstore.store.session import Session

_LOSSES = {"raw_losses", "scores"}
"""Views over the slices' files, on which every other thing about losses stands."""

_OTHER_THAN = {"COMPARE_NOTEQUAL", "COMPARE_NOT_IN", "COMPARE_DISTINCT_FROM", "OPERATOR_NOT"}
_LIKE = {"~~", "~~*", "!~~", "!~~*"}
_GLOB = "~~~"


@dataclass(frozen=True)
class _Text:
    """The meaning of a string in a definition."""

    is_glob: bool = False
    """Names or globs joined by commas, else a name."""
    is_like: bool = False
    """A pattern of LIKE."""
    other_than: bool = False
    """True if its matches are left out, and something else meant."""

    def matches(self, text: str, models: list[str]) -> set[str]:
        """The models that a string names."""
        if self.is_like:
            text = text.replace("%", "*").replace("_", "?")
        elif not self.is_glob:
            return {text} & set(models)
        return {name for part in text.split(",") for name in models if fnmatch.fnmatchcase(name, part)}


def selected_by(session: Session, group_name: str) -> frozenset[str]:
    """Models of the store by whose losses a group is defined, directly or through macros and other groups.

    `group_name` may also be an expression, such as improved('m', 0, 8, 1.0). None for what reads no losses; all models
    where a definition reads losses and names no model, or those it leaves out. Raises `UnknownName`, `DamagedFile`.
    """
    foundations = Foundations.of(session.path)
    if group_expressions.is_name(group_name):
        foundations.definition(group_name)
    else:
        foundations = foundations.with_expression(group_name)
    models = coverage.model_names(session.path)
    chosen_by: set[str] = set()
    for key in foundations.all_under(group_name):
        name = key.removeprefix("groups.")
        if name == key or name not in foundations.definitions or foundations.definitions[name].is_table:
            continue
        if _LOSSES & foundations.all_under(name, through_groups=False):
            chosen_by |= _named(foundations.definitions[name].sql, models)
    return frozenset(chosen_by)


def _named(query: str, models: list[str]) -> set[str]:
    """The models that a query names, or all of them."""
    named: set[str] = set()
    for node, text in parse_trees.walk(parse_trees.tree_of(query), _Text(), _inherit):
        if (value := parse_trees.text_of(node)) is not None:
            hits = text.matches(value, models)
            if hits and text.other_than:
                return set(models)
            named |= hits
    return named or set(models)


def _inherit(node: parse_trees.Node, above: _Text) -> _Text:
    """Return how the strings in an object of a parse tree are meant."""
    function = str(node.get("function_name", "")).lower()
    is_glob, of_models = above.is_glob, False
    if function:
        of_models = parse_trees.names_column(node, "model")
        is_glob = function in _macros_of_several() or (function == _GLOB and of_models)
    return _Text(
        is_glob,
        above.is_like or (function in _LIKE and of_models),
        above.other_than or node.get("type") in _OTHER_THAN or function.startswith("!~~"),
    )


@cache
def _macros_of_several() -> frozenset[str]:
    """Macros of which one parameter takes several models."""
    return frozenset(
        file.name
        for file in sqlfiles.load("macros")
        if any(parameter.kind == "models" for parameter in sql_headers.parse(file.description).parameters)
    )
