"""Files that users ask for (matrices, answers, plots, pages).

Their names are checked before long work, and they are written whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

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
    return target


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; takes its name when the block ends well, and vanishes when it does not."""
    temp = _hidden(path)
    try:
        with temp.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
    except OSError as error:
        raise BadTarget(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temp.unlink(missing_ok=True)


def write_together(files: Sequence[tuple[Path, bytes | memoryview]]) -> None:
    """Write files of which the last is worth nothing without the others; raises `BadTarget`.

    Nothing changes before all are on disk under other names. Then the old last file goes first and the new one comes
    last, so that it never stands beside what belongs to another.
    """
    temps = [_hidden(path) for path, _ in files]
    last, _ = files[-1]
    try:
        for temp, (_, data) in zip(temps, files, strict=True):
            with temp.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        last.unlink(missing_ok=True)
        for temp, (path, _) in zip(temps, files, strict=True):
            temp.replace(path)
    except OSError as error:
        raise BadTarget(f"Cannot write {last}: {error.strerror or error}.") from error
    finally:
        for temp in temps:
            temp.unlink(missing_ok=True)


def _hidden(path: Path) -> Path:
    """A name of its own beside the path."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def write_whole(path: Path, data: bytes | memoryview) -> Path:
    """Write a file, whole or not at all; raises `BadTarget`."""
    with whole_file(path) as file:
        file.write(data)
    return path
