"""Whether a checkpoint's folder is complete: the configuration and all files of weights, each in its full length.

A safetensors file says in its header how long it is, an index which shards there are, and a .bin file is a zip archive,
whose directory stands at its end. What is still being written elsewhere in the folder shows between two looks.
Reads headers and folder entries only; loads no torch.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING

from trajstore.errors import CheckpointError, listed
from trajstore.scoring.weightfiles import INDEX_FILES, weight_files

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "checkpoint-is-incomplete.txt"
"""What transformers' Trainer puts into a checkpoint's folder while it saves after a signal to end."""

_LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, as its readers limit it."""

Look = frozenset[tuple[str, int, int]]
"""What a folder holds: (name, bytes, time of change in ns) of each file."""


def look(folder: Path) -> Look:
    """The files in a folder as they are now; raises `OSError` where it is gone."""
    with os.scandir(folder) as entries:
        facts = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return frozenset((name, each.st_size, each.st_mtime_ns) for name, each in facts)


def why_incomplete(folder: Path) -> str | None:
    """What of a checkpoint is missing or cut off, or None; raises `OSError` where it goes away meanwhile."""
    if (folder / MARKER).exists():
        return f"it holds {MARKER}: the Trainer is saving it, or was stopped while it was"
    try:
        _json(folder / "config.json")
    except FileNotFoundError:
        return "it has no config.json"
    except ValueError:
        return "config.json is cut off"
    try:
        files = weight_files(folder)
    except CheckpointError as error:
        return str(error)
    for name in INDEX_FILES:
        if (folder / name).exists() and (problem := _index_problem(folder / name)):
            return problem
    return next((f"{file.name} is cut off" for file in files if not _has_full_length(file)), None)


def _index_problem(index: Path) -> str | None:
    """Why an index of shards cannot be followed, or None."""
    try:
        shards = set(_json(index)["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{index.name} is cut off"
    missing = sorted(shard for shard in shards if not (index.parent / shard).exists())
    return f"{listed(missing, 3)} of {index.name} missing" if missing else None


def _has_full_length(file: Path) -> bool:
    """Whether a file of weights is as long as it says; a .bin that is no zip archive does not say."""
    if file.suffix == ".safetensors":
        return _safetensors_length(file) == file.stat().st_size
    with file.open("rb") as start:
        magic = start.read(2)
    return zipfile.is_zipfile(file) if magic == b"PK" else bool(magic)


def _safetensors_length(file: Path) -> int | None:
    """Bytes that a safetensors file has by its header; None where the header is cut off or is none."""
    with file.open("rb") as start:
        length = int.from_bytes(start.read(8), "little")
        if length > _LONGEST_HEADER:
            return None
        raw = start.read(length)
    try:
        header = json.loads(raw)
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _json(file: Path) -> dict[str, dict[str, str]]:
    """A file's JSON object; raises `ValueError` where it is none."""
    value = json.loads(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} holds no object")
    return value
