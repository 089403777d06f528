"""Files that users ask for (matrices, answers, plots, pages).

Their names are checked before long work, and they are written whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from trajstore import leftovers
from trajstore.errors import BadTarget


def check_target(path: Path | str, suffixes: Sequence[str]) -> Path:
    """The path, if a file of one of these suffixes can be written there; raises `BadTarget`."""
    target = Path(path)
    if target.suffix.lower() not in suffixes:
        raise BadTarget(
            f"Cannot tell what to write from the name {target.name!r}: it must end in {' or '.join(suffixes)}."
        )
    if not target.parent.is_dir():
        raise BadTarget(
            f"There is no folder {target.parent} to write {target.name} in. "
            f"Make it with: mkdir -p {target.parent}"
        )
    if target.is_dir():
        raise BadTarget(
            f"{target} is a folder; give the name of a file that ends in {' or '.join(suffixes)}."
        )
    _check_writable(target)
    return target


def check_new_folder(path: Path | str) -> Path:
    """The path, if a folder can be made there; raises `BadTarget`."""
    target = Path(path)
    if target.name in ("", ".."):
        raise BadTarget(
            f"A folder is made anew, and {target} has no name of its own. Give the name of a new folder."
        )
    if not target.parent.is_dir():
        raise BadTarget(
            f"There is no folder {target.parent} to make {target.name} in. "
            f"Make it with: mkdir -p {target.parent}"
        )
    empty = target.is_dir() and next(target.iterdir(), None) is None
    if os.path.lexists(target) and (target.is_symlink() or not empty):
        raise BadTarget(f"{target} is there already. Give the name of a new folder, or remove it first.")
    _check_writable(target)
    return target


def check_room(target: Path, size: int) -> None:
    """Raise `BadTarget` where the disk of what is to be written has fewer bytes free."""
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise BadTarget(
            f"{target} takes {size:,} bytes at least, and {free:,} are free there. Free the disk, or choose less."
        )


def _check_writable(target: Path) -> None:
    """Raise `BadTarget` where nothing can be written beside a path, as in a closed folder or on a full disk."""
    with _writing(target), _part(target) as (_, file):
        file.write(bytes(_BLOCK))
        file.flush()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; takes its name when the block ends well, and vanishes when it does not."""
    with _writing(path), _part(path) as (temp, file):
        yield file
        file.flush()
        os.fsync(file.fileno())
        temp.replace(path)


def write_together(files: Sequence[tuple[Path, bytes | memoryview]]) -> None:
    """Write files of which the last is worth nothing without the others; raises `BadTarget`.

    Nothing changes before all are on disk under other names. Then the old last file goes first and the new one comes
    last, so that it never stands beside what belongs to another.
    """
    last, _ = files[-1]
    with _writing(last), contextlib.ExitStack() as stack:
        parts = [stack.enter_context(_part(path)) for path, _ in files]
        for (_, file), (_, data) in zip(parts, files, strict=True):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        last.unlink(missing_ok=True)
        for (temp, _), (path, _) in zip(parts, files, strict=True):
            temp.replace(path)


@contextlib.contextmanager
def _part(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A hidden file beside a path, to be renamed to it once it is written; gone otherwise.

    It is locked while it is written, which tells the next writer in the folder those of processes that were killed.
    """
    leftovers.sweep(path.parent, f".*{_PART}")
    while True:
        temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}")
        file = temp.open("xb")
        if leftovers.hold(file.fileno(), temp):
            break
        file.close()
    try:
        with file:
            yield temp, file
    finally:
        temp.unlink(missing_ok=True)


_PART = ".trajstore-part"
_BLOCK = 4096
"""Bytes for which a disk that is full has no room."""


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise `BadTarget` for what the system refuses while something is written to a path."""
    try:
        yield
    except OSError as error:
        raise BadTarget(f"Cannot write {path}: {error.strerror or error}.") from error


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; takes its name when the block ends well, and vanishes when it does not."""
    leftovers.sweep(path.parent, f".*{_PART}")
    with _writing(path):
        temp, descriptor = leftovers.new_folder(path.parent, f".{path.name}.", _PART)
        try:
            yield temp
            temp.rename(path)  # fails where something has come to be there, but for an empty folder
        finally:
            shutil.rmtree(temp, ignore_errors=True)
            os.close(descriptor)


def write_whole(path: Path, data: bytes | memoryview) -> Path:
    """Write a file, whole or not at all; raises `BadTarget`."""
    with whole_file(path) as file:
        file.write(data)
    return path
