"""Signatures of a store's files, which tell one state of them from another without reading any.

A file of a store is never changed in place: a new one takes its path. So its inode, size and time of change say which
it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from trajstore.store.disk import layout
from trajstore.store.files import coverage
from trajstore.version import __version__

FileState = tuple[int, int, int]
"""Inode, size and time of change (ns)."""
SliceKey = tuple[str, str, int]
"""(model, dataset, step)."""

_BESIDE = ("tokens", "groups", "models", "measures", "findings")
"""Folders of a store beside its slices."""


def file_state(path: str | os.PathLike[str]) -> FileState | None:
    """Return the state of a file, None where it is not there."""
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def slice_states(
    root: Path, models: Iterable[str] | None = None, datasets: Iterable[str] | None = None
) -> dict[SliceKey, FileState]:
    """Return the states of the slices of models on datasets, all by default."""
    wanted = None if datasets is None else set(datasets)
    states = {}
    for model in coverage.model_names(root) if models is None else models:
        for dataset in coverage.dataset_names(root, model):
            if wanted is None or dataset in wanted:
                for step in coverage.steps(root, model, dataset):
                    if state := file_state(layout.slice_path(root, model, dataset, step)):
                        states[model, dataset, step] = state
    return states


def folder_states(root: Path) -> dict[str, frozenset[tuple[str, FileState]]]:
    """Return the states of the files in each folder of a store beside its slices."""
    return {name: frozenset(_files(root / name, "")) for name in _BESIDE}


def etag(*parts: object) -> str:
    """Return an entity tag over what a reply is made of."""
    text = repr((__version__, *parts)).encode(errors="surrogatepass")
    return f'"{hashlib.sha256(text).hexdigest()[:32]}"'


def selection_state(root: Path, models: Iterable[str] | None, datasets: Iterable[str] | None) -> object:
    """Return the state of all that an answer about these models and datasets can be made of."""
    folders = folder_states(root)
    slices = slice_states(root, models, datasets)
    return sorted(slices.items()), sorted((name, sorted(files)) for name, files in folders.items())


def _files(folder: Path, below: str) -> Iterator[tuple[str, FileState]]:
    """The files in a folder and its subfolders, by their paths below it, with their states."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{below}{entry.name}/")
            elif state := file_state(entry.path):
                yield below + entry.name, state
