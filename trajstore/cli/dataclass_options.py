"""Options of a command that are the fields of a dataclass of the library.

A field's default is the option's default, its type the option's type, and the line under it the option's help, in
which an argument in backticks is named as an option.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer


def option_name(field: str) -> str:
    """Return the option of an argument: `--batch-tokens` of `batch_tokens`."""
    return f"--{field.replace('_', '-')}"


def options_of(
    options: type, **shown: Mapping[str, Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command an option for each field, in the place of its parameter `options`.

    `shown` are what `typer.Option` takes beside name and help, by field: `steps={"metavar": "SPEC"}`.
    """
    lines, hints = field_lines(options), get_type_hints(options)
    parameters = []
    for field in fields(options):
        named = [option_name(field.name)] if hints[field.name] is bool else []
        option = typer.Option(*named, help=_help(lines[field.name]), **shown.get(field.name, {}))
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[_typed(hints[field.name]), option],
            )
        )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def call(**given: Any) -> None:
            own = {parameter.name: given.pop(parameter.name) for parameter in parameters}
            command(**given, options=options(**own))

        signature = inspect.signature(command, eval_str=True)
        order: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            order += parameters if parameter.name == "options" else [_keyword(parameter)]
        call.__signature__ = signature.replace(parameters=order)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in order}
        return call

    return decorate


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


def _keyword(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _help(line: str) -> str:
    return re.sub(r"`(\w+)`", lambda match: option_name(match[1]), line)


def _typed(hint: Any) -> Any:
    """The type of an option: a text where the field takes one among others, or several joined by commas."""
    kinds = get_args(hint) or (hint,)
    if get_origin(hint) is Literal or get_origin(hint) is Sequence:
        return str
    if str in kinds:
        return str | None if NoneType in kinds else str
    return hint
