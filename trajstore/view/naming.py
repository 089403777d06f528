"""Names of findings where none is given: what they are of, and a few digits that tell what else was asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence


def finding_name(parts: Iterable[str], asked: object) -> str:
    """The parts and six digits of a hash of all that was asked for, which is JSON, joined by hyphens."""
    digits = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:6]
    return "-".join([*parts, digits])


def one_or_many(names: Sequence[str], what: str) -> str:
    """The name where there is one, else how many: `docs`, `3-datasets`."""
    return names[0] if len(names) == 1 else f"{len(names)}-{what}"
