"""Suggestions for names that were mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_AS_NEAR = 0.05
"""Names that are less like a mistyped one than the nearest is, by this share of their letters, are not meant."""


def nearest(name: str, names: Iterable[str]) -> str:
    """« Did you mean …?» for a mistyped name, or nothing; several names only where they are about as near."""
    if any(sign in name for sign in "*?["):  # a glob, which is no name mistyped
        return ""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    likeness = [difflib.SequenceMatcher(None, known, name).ratio() for known in close]
    meant = [known for known, like in zip(close, likeness, strict=True) if like > likeness[0] - _AS_NEAR]
    return f" Did you mean {' or '.join(meant)}?" if meant else ""
