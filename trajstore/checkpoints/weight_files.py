"""The files of a checkpoint: which of them hold the weights that transformers loads, and whether they are whole.

Reads bytes only; loads no torch.
"""

from __future__ import annotations

import json
import re
import stat
from typing import TYPE_CHECKING, Any

from trajstore.display import count
from trajstore.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""A folder that has one of these has a tokenizer."""
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    "tokenizer_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)

INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

_KINDS = (("model", "safetensors"), ("pytorch_model", "bin"))


_LONGEST_HEADER = 100_000_000
"""Bytes of a safetensors header, as its readers limit it."""


def weight_names(names: Iterable[str]) -> list[str]:
    """The files, of a folder's, that transformers takes the weights from, sorted; none if some are not there.

    In its order of preference: one safetensors file, its shards, one .bin file, its shards.
    """
    file_names = set(names)
    for stem, suffix in _KINDS:
        if f"{stem}.{suffix}" in file_names:
            return [f"{stem}.{suffix}"]
        if f"{stem}.{suffix}.index.json" in file_names:
            pattern = re.compile(rf"{stem}-[0-9]+-of-([0-9]+)\.{suffix}")
            shards = {name: int(match[1]) for name in file_names if (match := pattern.fullmatch(name))}
            return sorted(shards) if set(shards.values()) == {len(shards)} else []
    return []


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights; raises `CheckpointError` where there are none.

    So it does where the folder holds anything that a reader would wait for, or read without end.
    """
    check_all_regular(folder)
    try:
        names = weight_names(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}.") from error
    if not names:
        raise CheckpointError(
            f"{folder} holds no weights, or not all: expected model.safetensors, or all its shards and their "
            "index, or pytorch_model.bin in the same way. Download or save that checkpoint again."
        )
    return [folder / name for name in names]


def check_all_regular(folder: Path) -> None:
    """Raises `CheckpointError` where a folder holds a pipe, socket or device, or a link to one."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}.") from error
    for entry in entries:
        check_regular(entry)


def check_regular(path: Path) -> None:
    """Raises `CheckpointError` where a path, its links followed, is a pipe, socket, device or file of the system's."""
    try:
        mode = path.stat().st_mode
        of_system = path.is_symlink() and path.resolve().is_relative_to("/proc")
    except OSError:  # a link to nothing, which whoever reads it says
        return
    if of_system or (not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)):
        raise CheckpointError(
            f"{path} is a pipe, socket or device and no file: reading it might never end. Remove it, or download or "
            "save that checkpoint again."
        )


def safetensors_header(file: Path) -> dict[str, Any] | None:
    """Return the header of a safetensors file, with an entry for each tensor; None where it is cut off or is none."""
    with file.open("rb") as start:
        length = int.from_bytes(start.read(8), "little")
        if length > min(_LONGEST_HEADER, file.stat().st_size):
            return None
        raw = start.read(length)
    try:
        header = json.loads(raw)
        return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    except (ValueError, AttributeError, RecursionError):
        return None


def safetensors_end(file: Path, header: dict[str, Any]) -> int | None:
    """Bytes that a safetensors file has by its header; None where that does not say."""
    with file.open("rb") as start:
        length = int.from_bytes(start.read(8), "little")
    try:
        return 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    except (LookupError, TypeError):
        return None


def check_not_cut_off(files: Iterable[Path]) -> None:
    """Raises `CheckpointError` for a safetensors file that is shorter than its start says."""
    for file in files:
        size = file.stat().st_size
        if file.suffix == ".safetensors" and (length := _least_length(file)) is not None and size < length:
            raise CheckpointError(
                f"{file} cannot be read: it is cut off, with {count(size, 'byte')} of at least {length:,}. Download or "
                "save that checkpoint again."
            )


def _least_length(file: Path) -> int | None:
    """Bytes that a safetensors file must have, by its header or the header's length; None where its start is none."""
    if (header := safetensors_header(file)) is not None:
        return safetensors_end(file, header)
    with file.open("rb") as start:
        first = start.read(8)
    length = int.from_bytes(first, "little")
    return 8 + length if length <= _LONGEST_HEADER or len(first) < 8 else None
