"""Additions of other packages, by Python's entry points: measures, group functions, importers and analyses.

A package names in its metadata what it adds, as MODULE:ATTRIBUTE. The names are read without importing the package; it
is imported when something of it is used, so that a broken one is in the way of nothing else.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from trajstore.arguments.suggestions import nearest
from trajstore.errors import TrajstoreError, listed, shortened
from trajstore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["measures", "groups", "importers", "analyses"]

_NOUNS: dict[Kind, str] = {
    "measures": "measure",
    "groups": "group function",
    "importers": "importer",
    "analyses": "analysis",
}
OWN_PACKAGE = f"trajstore {__version__}"


class PluginError(TrajstoreError):
    """Something of another package that there is not, that two packages add, or that cannot be used."""


@dataclass(frozen=True)
class Plugin:
    """One thing that an installed package adds."""

    kind: Kind
    name: str
    target: str
    """MODULE:ATTRIBUTE."""
    package: str
    """Name and version."""

    def load(self) -> Any:
        """Import it; raises `PluginError` where that fails."""
        module, _, attribute = self.target.partition(":")
        try:
            return reduce(getattr, attribute.split("."), importlib.import_module(module))
        except (Exception, SystemExit) as error:
            raise self.problem(
                f"cannot be loaded ({type(error).__name__}: {shortened(str(error))})"
            ) from error

    def problem(self, reason: str) -> PluginError:
        """Return the error that says why it cannot be used."""
        return PluginError(f"The {_NOUNS[self.kind]} {self.name} of the package {self.package} {reason}.")


def plugins(kind: Kind) -> list[Plugin]:
    """Return the additions of a kind by all installed packages, by name; imports none of them."""
    from importlib.metadata import entry_points

    points = [
        Plugin(
            kind, point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "?"
        )
        for point in entry_points(group=f"trajstore.{kind}")
    ]
    return sorted(points, key=lambda plugin: (plugin.name, plugin.package))


def find(kind: Kind, name: str, own: Iterable[str] = ()) -> Plugin:
    """The one of a name; raises `PluginError` where there is none, or several packages have it.

    `own` are trajstore's own names of the kind, for the message.
    """
    every = plugins(kind)
    named = [plugin for plugin in every if plugin.name == name]
    if len(named) > 1:
        raise PluginError(
            f"Several packages have a {_NOUNS[kind]} {name}: {listed(plugin.package for plugin in named)}. "
            "Uninstall all but one."
        )
    if not named:
        names = sorted({*own, *(plugin.name for plugin in every)})
        raise PluginError(
            f"There is no {_NOUNS[kind]} {name!r}; there is: {listed(names)}.{nearest(name, names)}"
        )
    return named[0]
