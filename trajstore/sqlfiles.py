"""The SQL that ships with trajstore: finds the files of `sql/` and `migrations/` and reads their headers.

In a wheel they lie inside the package; in a checkout (editable install or none) they lie beside it.
A file's leading `--` lines are its documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class SqlFile:
    """One shipped SQL file."""

    name: str
    """The file's stem."""
    description: str
    """The header comment, its lines joined by newlines, without the dashes."""
    text: str
    """The whole file."""

    @property
    def body(self) -> str:
        """The statement without the header comment and the closing semicolon."""
        return split_header(self.text)[1]


def split_header(text: str) -> tuple[str, str]:
    """(header comment without dashes, the rest without its closing semicolon)."""
    # Only line feeds end a line: a literal may hold any other character, and keeps it.
    lines = text.strip(" \t\r\n").split("\n")
    n = 0
    while n < len(lines) and lines[n].startswith("--"):
        n += 1
    header = "\n".join(line.removeprefix("--").strip() for line in lines[:n])
    return header, "\n".join(lines[n:]).strip(" \t\r\n").removesuffix(";").strip(" \t\r\n")


def folder(name: str) -> Path:
    """The folder `sql` or `migrations`: inside the package if it is there, else beside it."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


@cache
def load(kind: str) -> tuple[SqlFile, ...]:
    """The files of `sql/KIND` (views, macros, groups), by name; `migrations` gives the numbered ones."""
    base = folder("migrations") if kind == "migrations" else folder("sql") / kind
    files = []
    for path in sorted(base.glob("*.sql")):
        text = path.read_bytes().decode()
        files.append(SqlFile(path.stem, split_header(text)[0], text))
    if not files:
        raise FileNotFoundError(f"no SQL files in {base}: the installation is incomplete")
    return tuple(files)


@cache
def view_names() -> frozenset[str]:
    """Names of the views that come with trajstore, which neither a group nor a kind of findings may bear."""
    return frozenset(
        name for file in load("views") for name in re.findall(r"CREATE OR REPLACE VIEW (\w+)", file.text)
    )
