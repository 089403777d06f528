"""Texts and names as SQL writes them, where a value cannot be bound: in the definition of a view or a setting."""

from __future__ import annotations


def quoted(text: str) -> str:
    """A text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
