"""The command line's spelling of the library's arguments: `--batch-tokens 512` for `batch_tokens=512`."""

from __future__ import annotations

from collections.abc import Mapping

from trajstore.arguments.spelling import QueryParameter, Spelling

_NAMES = {
    "datasets": "--dataset",
    "models": "--model",
    "groups": "GROUP",
    "n": "-n",
    "p": "-p",
    "parameters": "--param",
}
"""Arguments whose option is not their name with two dashes before it."""


class CommandLineSpelling(Spelling):
    """The spelling of arguments as options."""

    def __init__(self, **names: str) -> None:
        """`names` are options of one command that are not their argument's name: `columns="--map"`."""
        self._names = {**_NAMES, **names}

    def name(self, argument: str) -> str:
        """Return an option's name."""
        if isinstance(argument, QueryParameter):
            return f"-p {argument}"
        return self._names.get(argument) or f"--{argument.replace('_', '-')}"

    def advised(self, argument: str, value: object) -> str:
        """Return an option with its value, or alone where that is whether it is given."""
        name = self.name(argument)
        if value is True:
            return name
        if isinstance(value, Mapping):
            return " ".join(f"{name} {key}={held}" for key, held in value.items())
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        is_placeholder = isinstance(value, str) and value.isupper()
        return (
            f"{name}={value}"
            if isinstance(argument, QueryParameter) and is_placeholder
            else f"{name} {value}"
        )

    def given(self, argument: str, value: object) -> str:
        """Return an option with the text that was typed behind it."""
        return f"{self.name(argument)} {str(value)!r}"
