"""Signatures of a store's files, which tell what they hold; of a slice without reading its losses.

A Parquet file carries a digest of itself at its end, which a copy of the store has too; a text, which one may edit, is
read. Inode, size and time of change say when a file is to be looked at again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.errors import DamagedFile
from trajstore.schema import is_stand_in
from trajstore.store.disk import digests, layout
from trajstore.store.files import coverage
from trajstore.version import __version__

if TYPE_CHECKING:
    from trajstore.store.store import Store

FileState = tuple[int, int, int]
"""Inode, size and time of change (ns)."""
Content = str | FileState
"""The digest of a file, or its state where it carries none."""
SliceKey = tuple[str, str, int]
"""(model, dataset, step)."""

_BESIDE = ("tokens", "groups", "models", "measures", "findings")
"""Folders of a store beside its slices."""


def file_state(path: str | os.PathLike[str]) -> FileState | None:
    """Return the state of a file, None where it is not there."""
    try:
        return state_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def state_of(facts: os.stat_result) -> FileState:
    """Return the state of a file of which the system says this."""
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def slice_contents(
    root: Path, models: Iterable[str] | None = None, datasets: Iterable[str] | None = None
) -> dict[SliceKey, Content]:
    """Return what the slices of models on datasets hold, of all by default."""
    wanted = None if datasets is None else set(datasets)
    contents = {}
    for model in coverage.model_names(root) if models is None else models:
        for dataset in coverage.dataset_names(root, model):
            if wanted is None or dataset in wanted:
                for step, (path, facts) in coverage.files_of(root, model, dataset).items():
                    contents[model, dataset, step] = _content(path, state_of(facts))
    return contents


def folder_contents(root: Path) -> dict[str, dict[str, Content]]:
    """Return what the files hold in each folder of a store beside its slices, by their paths in it."""
    return {name: dict(_files(root / name, "")) for name in _BESIDE}


def etag(*parts: object) -> str:
    """Return an entity tag over what a reply is made of."""
    text = repr((__version__, *parts)).encode(errors="surrogatepass")
    return f'"{hashlib.sha256(text).hexdigest()[:32]}"'


def selection_contents(store: Store, models: Iterable[str] | None, datasets: Iterable[str] | None) -> object:
    """Return what all files hold of which an answer about these models and datasets can be made.

    Of the catalog that is what the session has taken up, with which it answers, and not what the file holds by now.
    """
    folders = folder_contents(store.path)
    slices = slice_contents(store.path, models, datasets)
    files = sorted((name, sorted(files.items())) for name, files in folders.items())
    return store.catalog_sha256, sorted(slices.items()), files


def _files(folder: Path, below: str) -> Iterator[tuple[str, Content]]:
    """The files in a folder and its subfolders, by their paths below it, with what they hold."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if is_stand_in(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{below}{entry.name}/")
            elif state := file_state(entry.path):
                yield below + entry.name, _content(entry.path, state)


def _content(path: str, state: FileState) -> Content:
    return _of_state(path, state) if _first_state(path, state[0]).of(state) else state


class _FirstState:
    """The state in which a file was first seen. One in another state since was changed in place, which trajstore never
    does: the digest that it carries may be that of what it held before.
    """

    def __init__(self) -> None:
        self._state: FileState | None = None

    def of(self, state: FileState) -> bool:
        """Return whether the file is still in that state."""
        self._state = self._state or state
        return self._state == state


@functools.lru_cache(maxsize=1 << 17)
def _first_state(path: str, inode: int) -> _FirstState:  # noqa: ARG001
    return _FirstState()


@functools.lru_cache(maxsize=1 << 17)
def _of_state(path: str, state: FileState) -> Content:
    """Return what a file holds; it is read once for each state of the file."""
    file = Path(path)
    try:
        layout.plain(file)  # whoever reads a pipe waits, and a link may lead to a device without an end
        if file.suffix == ".parquet":
            return digests.carried(file) or state
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (OSError, DamagedFile):
        return state
