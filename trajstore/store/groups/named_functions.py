"""Group functions that have a name of their own: those that come with trajstore, and those of installed packages.

A package names one in an entry point of the group `trajstore.groups`, as MODULE:FUNCTION. Runs none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from trajstore.errors import GroupError
from trajstore.plugins import OWN_PACKAGE, Plugin, find, plugins
from trajstore.store.groups import python_functions

OWN = {"not_english": "trajstore.groupfunctions.languages:not_english"}
"""MODULE:FUNCTION by name."""


@dataclass(frozen=True)
class NamedFunction:
    """A group function by its name."""

    name: str
    function: str
    """MODULE:FUNCTION."""
    package: str
    description: str = ""
    """First line of its docstring."""
    problem: str = ""
    """Why it cannot be used, as far as its file tells."""


def available() -> list[NamedFunction]:
    """All named group functions, trajstore's own first."""
    own = [Plugin("groups", name, function, OWN_PACKAGE) for name, function in OWN.items()]
    return [_described(plugin) for plugin in [*own, *plugins("groups")]]


def resolve(function: str) -> str:
    """The MODULE:FUNCTION that a name stands for; anything else as it is.

    Raises `PluginError` where several packages have the name.
    """
    if function in OWN:
        return OWN[function]
    if any(plugin.name == function for plugin in plugins("groups")):
        return find("groups", function).target
    return function


def _described(plugin: Plugin) -> NamedFunction:
    """The function with its docstring's first line, read from its file without running it."""
    try:
        description, problem = python_functions.first_line(plugin.target), ""
    except GroupError as error:
        description, problem = "", str(error)
    return NamedFunction(plugin.name, plugin.target, plugin.package, description, problem)
