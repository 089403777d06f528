"""Names of findings where none is given: what they are of, and a few digits that tell what else was asked for.

And of the groups that analyses add.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trajstore.errors import GroupError

if TYPE_CHECKING:
    from trajstore.store.store import Store


def finding_name(parts: Iterable[str], asked: object) -> str:
    """The parts and six digits of a hash of all that was asked for, which is JSON, joined by hyphens."""
    digits = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:6]
    return "-".join([*parts, digits])


def one_or_many(names: Sequence[str], what: str) -> str:
    """The name where there is one, else how many: `docs`, `3-datasets`."""
    return names[0] if len(names) == 1 else f"{len(names)}-{what}"


ADDED = "Chosen by losses."
"""How descriptions of groups end that analyses of losses add, whatever their names (--prefix)."""


def slug(name: str) -> str:
    """The name of a model or dataset as part of a group's: small letters, digits and `_`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def require_groups_free(store: Store, names: Iterable[str], prefix: str) -> None:
    """Raise `GroupError` if a group of one of these names is there; `prefix` would make other names of them."""
    if taken := set(store.groups.names()) & set(names):
        raise GroupError(
            f"There is a group {min(taken)!r} already, of other tokens for all that is known, and nothing was written. "
            f"To keep both, have the new names begin otherwise: --prefix {prefix}. To put these in its place: --replace"
        )
