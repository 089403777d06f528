"""Gives a model another name: its facts, losses and measures, and the facts of models whose parent it is.

The facts under the new name come first and say what the old name is, until all is done. Meanwhile a slice stands
under one name or the other, and is read there although its footer has the old one. Killed at any point, the same call
does the rest. Findings and groups that name the model are history or somebody's text, and stay as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from trajstore.errors import DamagedFile, ModelExists, RenamingUnfinished, UnknownName
from trajstore.progress import SILENT, Progress, bar
from trajstore.schema import META_KEY, check_name
from trajstore.store import passed_over
from trajstore.store.disk import catalog_lock, digests, footers, layout, parquet_files
from trajstore.store.files import coverage, measures, models, publish_slices


@dataclass(frozen=True)
class Renamed:
    """A finished renaming."""

    children: list[str]
    """Models whose parent it is, which name it anew."""
    damaged: list[Path]
    """Files under the new name that are not what was written, and have the old name in them still."""
    left: int
    """Slices under the old name, which a job has added meanwhile."""


def require_possible(root: Path, old: str, new: str) -> None:
    """Raise unless a model can have its name changed so, or the same renaming was cut short.

    `BadName`, `UnknownName`, `ModelExists`, `RenamingUnfinished`.
    """
    check_name("model", new)
    known = coverage.model_names(root)
    unfinished = {name: before for name in known if (before := models.old_name(root, name))}
    if unfinished.get(new) == old:
        return
    for name, before in unfinished.items():
        raise RenamingUnfinished(before, name)
    if old not in known:
        raise UnknownName("model", old, known, "See them all: trajstore model list")
    if new in known or measures.files(root, new):
        raise ModelExists(new)


def rename(root: Path, old: str, new: str, progress: Progress = SILENT) -> Renamed:
    """Rename a model, or finish what is left of that; raises as `require_possible`, and `DamagedFile` before it begins.

    No job may be scoring the model. The catalog's turn is held while folders and facts change, not while footers do.
    """
    with catalog_lock.turn(root):
        require_possible(root, old, new)
        # All of these are read before anything is written.
        own = models.whole(root, old) if layout.model_path(root, old).exists() else {}
        children = {name: models.whole(root, name) for name in models.children(root, old)}
        if models.old_name(root, new) != old:
            begun = models.encode_model({**own, "model": new, models.RENAMED_FROM: old})
            if not layout.publish(root, layout.model_path(root, new), begun):
                raise ModelExists(new)
        for name, facts in children.items():
            changed = models.encode_model({**facts, "parent": new})
            layout.publish(root, layout.model_path(root, name), changed, replace=True)
        _move(root, layout.losses_path(root, old), layout.losses_path(root, new))
        _move(root, measures.folder_of(root, old), measures.folder_of(root, new))
        layout.remove(root, layout.model_path(root, old))
    damaged = _change_footers(root, old, new, progress)
    with catalog_lock.turn(root):
        _finish(root, old, new)
        left = sum(len(coverage.steps(root, old, name)) for name in coverage.dataset_names(root, old))
        return Renamed(models.children(root, new), damaged, left)


def _move(root: Path, source: Path, target: Path) -> None:
    """Put a folder under its new name at once; what came since an earlier call moves file by file, where it is free."""
    if not layout.unlinked(source).is_dir():
        return
    if layout.unlinked(target).exists():
        layout.prune(target)
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise
        for path in sorted(file for file in source.rglob("*") if file.is_file()):
            place = target / path.relative_to(source)
            layout.make_folders(layout.unlinked(place.parent), root)
            with contextlib.suppress(FileExistsError):
                os.link(path, place)
                path.unlink()
        layout.prune(source)
    layout.sync_folder(target.parent)


def _change_footers(root: Path, old: str, new: str, progress: Progress) -> list[Path]:
    """Have the footers of a model's files name it anew; returns those that are damaged, which stay as they are."""
    slices = passed_over.kept(root, layout.losses_path(root, new).glob("*/*/slice.parquet"))
    paths = [*slices, *measures.files(root, new)]
    damaged = []
    with bar(progress, f"renaming {old}", len(paths), "files"):
        for path in paths:
            try:
                _change_footer(root, path, old, new)
            except FileNotFoundError:
                pass  # it was dropped meanwhile
            except DamagedFile:
                damaged.append(path)
            progress.advance(1, str(path.parent.relative_to(root)))
    return damaged


def _change_footer(root: Path, path: Path, old: str, new: str) -> None:
    """Have a file's footer name its model anew, if it has the old name; raises `DamagedFile`.

    And `OSError` where nothing can be written, as on a full disk: then the file is sound, and the renaming goes on once
    there is room.
    """
    with parquet_files.sound(path):
        metadata = pq.read_metadata(layout.plain(layout.unlinked(path))).metadata or {}
        facts = json.loads(metadata.get(META_KEY.encode(), b"{}"))
    if isinstance(facts, dict) and facts.get("model") == old:
        with publish_slices.held(path):
            with parquet_files.sound(path):
                made = footers.with_model(path.read_bytes(), new)
            layout.publish(root, path, memoryview(made), replace=True)


def _finish(root: Path, old: str, new: str) -> None:
    """Take the old name out of the new one's facts, or these away where the model had none."""
    if models.old_name(root, new) != old:  # the same call elsewhere was quicker
        return
    path = layout.model_path(root, new)
    facts = {key: value for key, value in models.whole(root, new).items() if key != models.RENAMED_FROM}
    if facts.keys() <= {"model", digests.JSON_FIELD}:
        path.unlink()
        layout.sync_folder(path.parent)
    else:
        layout.publish(root, path, models.encode_model(facts), replace=True)
