"""Suggestions for names that were mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str:
    """« Did you mean …?» for a mistyped name, or nothing; of names that are all like it only the nearest."""
    known = list(names)
    if any(sign in name for sign in "*?["):  # a glob, which is no name mistyped
        return ""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if len(close) == len(known):
        close = close[:1]
    return f" Did you mean {' or '.join(close)}?" if close else ""
