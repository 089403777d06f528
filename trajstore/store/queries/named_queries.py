"""Named queries: the files of `sql/queries/`, with parameters that are checked and bound, never pasted.

A file's header documents its parameters and columns in the forms of `headers`. Names of models, datasets and groups
are looked up before the query runs, so that a mistyped one is an error and no empty answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import get_args

from trajstore import sql_headers, sqlfiles
from trajstore.arguments.choices import Align
from trajstore.arguments.spelling import QueryParameter
from trajstore.errors import BadOption, MissingParameter, UnknownName, listed
from trajstore.schema import check_step
from trajstore.sql_headers import AnswerColumn, Parameter
from trajstore.store.disk import layout
from trajstore.store.files import coverage, findings
from trajstore.store.groups.groups import Groups
from trajstore.store.matrix.steps import resolve
from trajstore.store.session import Session

ABSENT = "null"
"""The default of a parameter that may be left out."""

Value = str | int | float | Sequence[str] | None
"""Value of a parameter, as text or as itself."""


@dataclass(frozen=True)
class NamedQuery:
    """One query of `sql/queries/`."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    columns: tuple[AnswerColumn, ...]
    """Of the answer, in order."""
    example: str
    """A command."""
    sql: str
    """The statement, its parameters as $name."""


@cache
def shipped() -> dict[str, NamedQuery]:
    """All of them, by name."""
    queries = {}
    for file in sqlfiles.load("queries"):
        header = sql_headers.parse(file.description)
        parts = (header.description, header.parameters, header.columns, header.example)
        queries[file.name] = NamedQuery(file.name, *parts, file.body)
    return queries


def find_query(name: str) -> NamedQuery:
    """The query of this name; raises `UnknownName`."""
    if name not in shipped():
        raise UnknownName("query", name, list(shipped()), "See what they do: trajstore query list")
    return shipped()[name]


def bind(
    session: Session, groups: Groups, query: NamedQuery, arguments: Mapping[str, Value]
) -> dict[str, Value]:
    """The value of each of a query's parameters, defaults included.

    Raises `MissingParameter`; `BadOption` for a value that cannot be read; `UnknownName` for a parameter that the query
    does not have, and `UnknownName` or `UnknownStep` for what the store does not have.
    """
    known = {parameter.name: parameter for parameter in query.parameters}
    if unknown := [name for name in arguments if name not in known]:
        raise UnknownName(f"parameter of the query {query.name}", unknown[0], list(known))
    values = {
        name: parameter.default if arguments.get(name) is None else arguments[name]
        for name, parameter in known.items()
    }
    if missing := {name: known[name].meaning for name, value in values.items() if value is None}:
        raise MissingParameter(f"The query {query.name}", missing)
    wanted = {
        name: value for name, value in values.items() if known[name].default != ABSENT or value != ABSENT
    }
    steps = {name for name in wanted if known[name].kind == "step"}
    bound = dict.fromkeys(known)
    bound |= {name: _read(session, groups, known[name], wanted[name]) for name in wanted.keys() - steps}
    if steps:
        slices = _slices(session, query, bound)
        bound |= {name: _step(session, known[name], wanted[name], slices) for name in steps}
    return bound


def _read(session: Session, groups: Groups, parameter: Parameter, value: Value) -> Value:
    """A value of any kind but a step."""
    match parameter.kind:
        case "models":
            return session.models(_several(value))
        case "datasets":
            hint = "Add one: trajstore dataset add NAME SOURCE --tokenizer T"
            return coverage.match(_several(value), session.dataset_names(), "dataset", hint)
        case "model":
            return _one_of(session.model_names(), parameter, value)
        case "dataset":
            return _one_of(session.dataset_names(), parameter, value)
        case "group":
            return groups.current(str(value)).name
        case "finding":
            return _one_of(findings.names(session.path), parameter, value)
        case "align" if value not in get_args(Align):
            raise _unreadable(parameter, value)
        case "integer" | "number":
            try:
                return int(str(value)) if parameter.kind == "integer" else float(str(value))
            except ValueError:
                raise _unreadable(parameter, value) from None
    return str(value)


def _unreadable(parameter: Parameter, value: Value) -> BadOption:
    return BadOption(QueryParameter(parameter.name), value, sql_headers.KINDS[parameter.kind])


def _several(value: Value) -> list[str]:
    """Names or globs: a text of them joined by commas, or a sequence."""
    if isinstance(value, str | int | float | None):
        return str(value).split(",")
    return [str(item) for item in value]


def _one_of(names: Sequence[str], parameter: Parameter, value: Value) -> str:
    if value not in names:
        raise UnknownName(parameter.kind, str(value), names)
    return str(value)


def _slices(session: Session, query: NamedQuery, bound: Mapping[str, Value]) -> list[tuple[str, str]]:
    """(model, dataset) of which a step must be one: those of the query's parameters, else all."""
    chosen = {"model": session.model_names(), "dataset": session.dataset_names()}
    for what in chosen:
        kinds = (what, f"{what}s")
        if named := [bound[parameter.name] for parameter in query.parameters if parameter.kind in kinds]:
            chosen[what] = [name for value in named for name in _several(value)]
    return [(model, dataset) for model in chosen["model"] for dataset in chosen["dataset"]]


def _step(session: Session, parameter: Parameter, value: Value, slices: Sequence[tuple[str, str]]) -> int:
    """A step that is there in one of the slices; `last` is the last of all."""
    text = str(value)
    if text.isdigit():
        step = check_step(int(text))
        if any(layout.slice_path(session.path, *pair, step).exists() for pair in slices):
            return step
    existing = [step for pair in slices for step in session.steps(*pair)]
    where = (
        f"{listed(sorted({model for model, _ in slices}))} on {listed(sorted({name for _, name in slices}))}"
    )
    chosen = resolve(text, existing, where, argument=QueryParameter(parameter.name))
    if len(chosen) != 1:
        raise BadOption(QueryParameter(parameter.name), text, "one step, or last")
    return chosen[0]
