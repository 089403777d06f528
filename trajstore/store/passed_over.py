"""Names of files and folders that no part of a store has, for which readers pass them over; nothing is removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from trajstore.schema import EMPTY, GROUP_NAME, is_name, is_stand_in, step_of

Fits = Callable[[str], bool]


def _keyed(key: str, fits: Fits) -> Fits:
    """Return whether a folder is named `key=VALUE`, with a value that fits."""
    return lambda name: name.startswith(f"{key}=") and fits(name[len(key) + 1 :])


def _is_key(name: str) -> bool:
    """Return whether a hive key has this value: a name, or that of files without rows."""
    return name == EMPTY or is_name(name)


def _ends(fits: Fits, *suffixes: str) -> Fits:
    """Return whether a file has a name that fits and one of these endings."""
    return lambda name: any(name.endswith(suffix) and fits(name.removesuffix(suffix)) for suffix in suffixes)


def _is_group(name: str) -> bool:
    return GROUP_NAME.fullmatch(name) is not None


def _is_measure(name: str) -> bool:
    computation, _, dataset = name.partition(".")
    return _is_group(computation) and ("." not in name or is_name(dataset))


def _is_group_file(name: str) -> bool:
    if name.startswith("."):  # a definition that waits for its view
        return _ends(_is_group, ".new")(name[1:])
    return _ends(_is_group, ".sql", ".parquet")(name)


_MODEL, _DATASET = _keyed("model", _is_key), _keyed("dataset", _is_key)
_STEP = _keyed("step", lambda label: step_of(label) is not None)

_LEVELS: Mapping[str, tuple[Fits, ...]] = {
    "losses": (_MODEL, _DATASET, _STEP, lambda name: name == "slice.parquet"),
    "tokens": (_DATASET, lambda name: name in ("tokens.parquet", "contexts.parquet")),
    "models": (_ends(lambda name: is_name(name) or name == f"model={EMPTY}", ".json"),),
    "measures": (_MODEL, _STEP, _ends(_is_measure, ".parquet")),
    "findings": (_keyed("kind", _is_group), _keyed("finding", _is_key), _ends(_is_group, ".parquet")),
    "groups": (_is_group_file,),
}
"""Tests of the names of folders and files in a store, level by level."""


def why(inside: str) -> str | None:
    """Why a file at this path inside a store has no place in it, or None."""
    top, *parts = inside.split("/")
    levels = _LEVELS.get(top)
    if levels is None or not parts:
        return None
    for part, fits in zip(parts, levels, strict=False):
        if not fits(part):
            folder = part != parts[-1]
            passed_over = f"no folder of a store is named {part!r}, and it is passed over"
            return passed_over if folder else "it is a stray file"
    return None if len(parts) == len(levels) else "it is a stray file"


def kept(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Return the paths inside a store that readers do not pass over, sorted; files without rows they do."""
    inside = {path: str(path.relative_to(root)) for path in paths}
    return sorted(path for path, name in inside.items() if why(name) is None and not is_stand_in(name))


def odd_names(root: Path) -> Iterator[str]:
    """Paths inside a store of files and folders that are passed over for their names; looks into no step's folder."""
    for top, levels in _LEVELS.items():
        yield from _odd(root / top, top, levels[:3])


def _odd(folder: Path, inside: str, levels: tuple[Fits, ...]) -> Iterator[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda item: item.name):
            if not levels[0](entry.name):
                yield f"{inside}/{entry.name}"
            elif levels[1:]:
                yield from _odd(folder / entry.name, f"{inside}/{entry.name}", levels[1:])
