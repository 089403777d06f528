"""Options of a command that are the fields of dataclasses.

A field's default is the option's default, its type the option's type, and the line under it the option's help, in
which an argument in backticks is named as an option.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer


def option_name(field: str) -> str:
    """Return the option of an argument: `--batch-tokens` of `batch_tokens`."""
    return f"--{field.replace('_', '-')}"


@dataclass(frozen=True)
class Only:
    """Some fields of a dataclass, in another order than its own: `Annotated[Selected, Only("model dataset")]`."""

    fields: str


def dataclass_options(**shown: Mapping[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command an option for each field of its parameters that are dataclasses.

    The options stand in the parameter's place; the command is given the dataclass. A field that is
    `Annotated[…, typer.Option(…)]` is that option; of any other, type, help and default are the field's. `shown` is,
    by field, what to change in its `typer.Option`, its `names`, or its default: `steps={"metavar": "SPEC"}`.
    """

    return lambda command: _WithOptions(command, shown)


@dataclass(frozen=True)
class _Options:
    """The parameters of a command, some of which make its dataclasses."""

    parameters: list[inspect.Parameter]
    blocks: dict[str, tuple[type, list[str]]]
    """Dataclass and its fields that are options, by the parameter that it is given as."""


class _WithOptions:
    """A command with the options for its dataclasses, which are made when they are first looked at."""

    def __init__(self, command: Callable[..., None], shown: Mapping[str, Mapping[str, Any]]) -> None:
        names = ("__module__", "__name__", "__qualname__", "__doc__")
        functools.update_wrapper(self, command, assigned=names)
        self._command, self._shown = command, shown

    @functools.cached_property
    def _options(self) -> _Options:
        blocks: dict[str, tuple[type, list[str]]] = {}
        order: list[inspect.Parameter] = []
        for parameter in inspect.signature(self._command, eval_str=True).parameters.values():
            kind, *details = get_args(parameter.annotation) or (parameter.annotation,)
            if is_dataclass(kind) and isinstance(kind, type):
                chosen = [detail.fields.split() for detail in details if isinstance(detail, Only)]
                own = _parameters(kind, self._shown)
                blocks[parameter.name] = kind, chosen[0] if chosen else list(own)
                order += [own[name] for name in blocks[parameter.name][1]]
            else:
                order.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        if unknown := set(self._shown) - {name for _, own in blocks.values() for name in own}:
            name = self._command.__name__
            raise TypeError(f"{name} takes no field {', '.join(sorted(unknown))}")
        return _Options(order, blocks)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.Signature(self._options.parameters)

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {parameter.name: parameter.annotation for parameter in self._options.parameters}

    def __call__(self, **values: Any) -> None:
        made = {
            name: kind(**{field: values.pop(field) for field in own})
            for name, (kind, own) in self._options.blocks.items()
        }
        self._command(**values, **made)


def _parameters(kind: type, shown: Mapping[str, Mapping[str, Any]]) -> dict[str, inspect.Parameter]:
    """The parameter of a command for each field of a dataclass, by name."""
    hints, parameters = get_type_hints(kind, include_extras=True), {}
    for field in fields(kind):
        changed = dict(shown.get(field.name, {}))
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        default = changed.pop("default", default)
        hint = hints[field.name]
        if get_origin(hint) is Annotated:
            hint, option = get_args(hint)
            option = copy.copy(option)
            vars(option).update(changed)
        else:
            hint, option = get_args(typed_option(field.name, hint, field_lines(kind)[field.name], **changed))
        parameters[field.name] = inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option]
        )
    return parameters


def typed_option(field: str, hint: Any, text: str, *, names: Sequence[str] = (), **settings: Any) -> Any:
    """The `Annotated[TYPE, typer.Option(…)]` of an argument of this type, `text` being its help."""
    named = names or ([option_name(field)] if hint is bool else [])
    return Annotated[_typed(hint), typer.Option(*named, help=_help(text), **settings)]


@functools.cache
def field_lines(kind: type) -> dict[str, str]:
    """Return the text under each field of a dataclass, as one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    lines = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            lines[field.target.id] = " ".join(str(below.value.value).split())
    return lines


def _help(line: str) -> str:
    return re.sub(r"`(\w+)`", lambda match: option_name(match[1]), line)


def _typed(hint: Any) -> Any:
    """The type of an option: a text where the field takes one among others, or several joined by commas.

    Texts, one each time that the option is given, where the field takes values by name.
    """
    kinds = get_args(hint) or (hint,)
    if get_origin(hint) is Mapping:
        return list[str]
    if get_origin(hint) is Literal or get_origin(hint) is Sequence:
        return str
    if str in kinds:
        return str | None if NoneType in kinds else str
    return hint
