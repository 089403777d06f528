"""Names, types and limits of the on-disk format: the one place where they are written down.

Columns and words are those of the README's glossary. Losses are nats, float32; `position` is the 0-based
index of the predicted token, so position 0 has no loss and no row.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable

from trajstore.errors import BadName, DeviceError

FORMAT = 1
"""Version of the files' layout, written into every footer."""

CATALOG = "catalog.duckdb"
CATALOG_STORAGE = "v1.5.0"
"""DuckDB's storage version for the catalog: the oldest that DuckDB 1.5 opens as well as 2.x."""

META_KEY = "trajstore"
"""Footer key whose value is the file's own facts as JSON."""
DIGEST_KEY = "trajstore.file_sha256"
"""Footer key whose value is the digest of the whole file, taken with the digest's own 64 digits as zeros."""

LOWEST_LOSS = {"float32": -1e-3, "bfloat16": -0.2, "float16": -2e-2}
"""Lowest loss (nats) that rounding explains, by dtype of the forward pass; anything below is an error."""
HIGHEST_LOSS = 2 * 65504.0
"""Highest loss (nats): what logits can span that float16 holds; anything above is an error."""

PASS_COLUMNS = {"rank": "int32", "entropy": "float32"}
"""Columns that may be kept beside a loss, with their dtypes: the number of entries of the vocabulary that have a higher
logit than the token (0 is the top), and the entropy of the predicted distribution, nats."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
EMPTY = ".empty"
"""In place of the name of a model, dataset or finding, which it cannot be: the key of files without rows, of which a
view needs one."""
_STEP = re.compile(r"0|[1-9][0-9]{0,18}")
GROUP_NAME = re.compile(r"[a-z][a-z0-9_]*")


def is_name(text: str) -> bool:
    """Return whether a model, dataset or finding may bear this name."""
    return NAME.fullmatch(text) is not None and text.lower() != "null"


def is_stand_in(path: str | os.PathLike[str]) -> bool:
    """Return whether a path, or a part of one, leads to files without rows, which no list of what is there has."""
    return f"={EMPTY}" in os.fspath(path)


def step_of(label: str) -> int | None:
    """The step that a folder's label names as this store writes it, or None."""
    return int(label) if _STEP.fullmatch(label) and int(label) < 2**63 else None


def check_name(kind: str, name: str) -> str:
    """The name of a model or dataset, if it can be one; raises `BadName`.

    `null` is refused in any case of letters, since hive partitioning reads it as no value at all.
    """
    if not is_name(name):
        raise BadName(
            kind,
            name,
            "letters, digits, '.', '_' and '-' only, starting with a letter or digit, and not 'null'",
        )
    return name


def check_step(step: object) -> int:
    """A step, if it can be one: an integer of any kind from 0 to 2⁶³ − 1; raises `BadName`."""
    try:
        number = -1 if isinstance(step, bool) else operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise BadName("step", str(step), "a whole number from 0 on")
    return number


def check_group_name(name: str) -> str:
    """The name of a group, if it can be one; raises `BadName`."""
    if not GROUP_NAME.fullmatch(name):
        raise BadName(
            "group",
            name,
            "small letters, digits and '_' only, starting with a letter, so that SQL needs no quotes",
        )
    return name


def check_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns, each once, in the order of `PASS_COLUMNS`; raises `DeviceError` for an unknown one."""
    wanted = set(columns)
    if unknown := sorted(wanted.difference(PASS_COLUMNS)):
        raise DeviceError(
            f"There is no column {unknown[0]!r} beside the loss; there is: {', '.join(PASS_COLUMNS)}."
        )
    return tuple(name for name in PASS_COLUMNS if name in wanted)
