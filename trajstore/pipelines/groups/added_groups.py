"""Groups that analyses add to a store, such as the tokens that follow a spike: their names, and all or none of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.arguments.spelling import option
from trajstore.errors import DamagedFile, GroupError
from trajstore.store.groups import writes

if TYPE_CHECKING:
    import polars as pl

    from trajstore.store.groups.writes import KeptGroup
    from trajstore.store.store import Store

ADDED = "Chosen by losses."
"""End of the descriptions of groups that analyses of losses add, whatever the names of the groups."""


def slug(name: str) -> str:
    """The name of a model or dataset as part of a group's: small letters, digits and `_`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def of_finding(kind: str, name: str) -> str:
    """Return the words by which a group's description names the finding that it is kept with."""
    return f"(the finding {name} of {kind})"


def require_groups_free(store: Store, names: Iterable[str], prefix: str, kind: str, finding: str) -> None:
    """Raise `GroupError` if a group of one of these names is there; `prefix` would make other names of them.

    One that was added for this very finding is let be: it is kept last, and whoever was killed before that has left it.
    """
    groups = store.groups
    taken = set(groups.names()) & set(names)
    own = of_finding(kind, finding)
    if taken := {name for name in taken if own not in groups.definition(name).description}:
        raise GroupError(
            f"There is a group {min(taken)!r} already, of other tokens for all that is known, and nothing was written. "
            f"To keep both, have the new names begin otherwise: {option('prefix', prefix)}. To put "
            f"these in its place: {option('replace', True)}"
        )


@dataclass(frozen=True)
class NewGroup:
    """A group that an analysis adds."""

    name: str
    sites: pl.DataFrame
    description: str


def add_groups(store: Store, new: Sequence[NewGroup], *, replace: bool = False) -> None:
    """Add groups of sites, all or none; one that is there already, just so, is left as it is.

    Raises `GroupError` where a name is taken by others, unless `replace`. Only whoever is killed between two groups
    leaves some of them, each of them whole: the same call again ends it.
    """
    with _all_or_none(store, [group.name for group in new]):
        for group in new:
            store.groups.add(group.name, group.sites, group.description, replace=replace)


@contextmanager
def _all_or_none(store: Store, names: Sequence[str]) -> Iterator[None]:
    """Groups of these names are what they were before, where the block fails; one whose files are damaged is not."""
    with ExitStack() as undo:
        for name in names:
            with suppress(DamagedFile):
                undo.callback(_put_back, store, name, writes.kept(store.path, name))
        yield
        undo.pop_all()


def _put_back(store: Store, name: str, group: KeptGroup | None) -> None:
    if writes.kept(store.path, name) == group:
        return
    if group is None:
        store.groups.drop(name)
    else:
        writes.put(store.path, group.definition, group.table, replace=True)
