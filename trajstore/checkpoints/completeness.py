"""Checks that a checkpoint's folder is complete: the configuration and all files of weights, in their full length.

A safetensors file says in its header how long it is, an index which shards there are, and a .bin file is a zip archive,
whose directory stands at its end. What is still being written elsewhere in the folder shows between two looks.
Reads headers and folder entries only; loads no torch.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import TYPE_CHECKING

from trajstore.checkpoints.weight_files import (
    INDEX_FILES,
    check_all_regular,
    safetensors_end,
    safetensors_header,
    weight_files,
)
from trajstore.errors import CheckpointError, listed

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "checkpoint-is-incomplete.txt"
"""File that transformers' Trainer puts into a checkpoint's folder while it saves after a signal to end."""

Look = frozenset[tuple[str, int, int]]
"""Contents of a folder: (name, bytes, time of change in ns) of each file."""


def look(folder: Path) -> Look:
    """Return the files in a folder as they are now; raises `OSError` where it is gone."""
    with os.scandir(folder) as entries:
        facts = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in facts)


def why_incomplete(folder: Path) -> str | None:
    """Return what of a checkpoint is missing, cut off or cannot be read, or None."""
    try:
        if (folder / MARKER).exists():
            return f"it holds {MARKER}: the Trainer is saving it, or was stopped while it was"
        check_all_regular(folder)
        if not (folder / "config.json").exists():
            return "it has no config.json"
        _json(folder / "config.json")
        files = weight_files(folder)
        for name in INDEX_FILES:
            if (folder / name).exists() and (problem := _index_problem(folder / name)):
                return problem
        return next((f"{file.name} is cut off" for file in files if not _has_full_length(file)), None)
    except CheckpointError as error:
        return str(error)
    except OSError as error:  # as where it goes away meanwhile
        return f"it cannot be read ({error.strerror})"
    except ValueError:
        return "config.json is cut off"


def _index_problem(index: Path) -> str | None:
    """Return why an index of shards cannot be followed, or None."""
    try:
        shards = set(_json(index)["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{index.name} is cut off"
    missing = sorted(shard for shard in shards if not (index.parent / shard).exists())
    return f"{listed(missing, 3)} of {index.name} missing" if missing else None


def _has_full_length(file: Path) -> bool:
    """Return whether a file of weights is as long as it says; a .bin that is no zip archive does not say."""
    if file.suffix == ".safetensors":
        header = safetensors_header(file)
        return header is not None and safetensors_end(file, header) == file.stat().st_size
    with file.open("rb") as start:
        magic = start.read(2)
    return zipfile.is_zipfile(file) if magic == b"PK" else bool(magic)


def _json(file: Path) -> dict[str, dict[str, str]]:
    """A file's JSON object; raises `ValueError` where it is none."""
    value = json.loads(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} holds no object")
    return value
