"""Coverage: the slices that are there, read from their paths; only the overview looks into files, for partial ones."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trajstore.errors import DamagedFile, UnknownName
from trajstore.schema import is_name, step_of
from trajstore.store.disk import layout
from trajstore.store.files import datasets, slices


@dataclass(frozen=True)
class Coverage:
    """The slices of one model on one dataset."""

    model: str
    dataset: str
    steps: list[int]
    """Steps that are there."""
    missing: list[int]
    """Steps that this model has on another dataset."""
    partial: list[int]
    """Steps among `steps` whose slice has some contexts only."""
    bytes: int
    """On disk."""


def model_names(root: Path) -> list[str]:
    """Models that have a slice or facts of their own, sorted by name."""
    with_facts = {path.stem for path in root.glob("models/*.json") if is_name(path.stem)}
    return sorted(with_facts | set(_values(root / "losses", "model")))


def dataset_names(root: Path, model: str) -> list[str]:
    """Datasets on which a model has slices."""
    return sorted(_values(root / "losses" / f"model={model}", "dataset"))


def steps(root: Path, model: str, dataset: str) -> list[int]:
    """Steps of the slices of a model on a dataset, sorted."""
    return list(sizes_of(root, model, dataset))


def slices_on(root: Path, dataset: str) -> list[tuple[str, str, int]]:
    """(model, dataset, step) of all slices on a dataset; raises `UnknownName`."""
    if dataset not in (known := datasets.names(root)):
        raise UnknownName("dataset", dataset, known)
    return [(model, dataset, step) for model in model_names(root) for step in steps(root, model, dataset)]


def overview(root: Path) -> list[Coverage]:
    """Coverage of every model on every dataset of the store."""
    return [entry for model in model_names(root) for entry in of_model(root, model)]


def of_model(root: Path, model: str) -> list[Coverage]:
    """Coverage of one model on every dataset of the store, but of probes, which are measured, only on scored ones."""
    rows = []
    scored = dataset_names(root, model)
    names = [name for name in datasets.names(root) if name not in scored and not _is_probe(root, name)]
    per_dataset = {dataset: sizes_of(root, model, dataset) for dataset in sorted([*names, *scored])}
    every = {step for sizes in per_dataset.values() for step in sizes}
    for dataset, sizes in per_dataset.items():
        partial = [
            step for step in sizes if not slices.is_complete(layout.slice_path(root, model, dataset, step))
        ]
        missing = sorted(every.difference(sizes))
        rows.append(Coverage(model, dataset, list(sizes), missing, partial, sum(sizes.values())))
    return rows


def _is_probe(root: Path, name: str) -> bool:
    with contextlib.suppress(DamagedFile, FileNotFoundError):
        return datasets.read_dataset(root, name).is_probe
    return False


def match(patterns: str | Sequence[str] | None, names: Iterable[str], kind: str, hint: str = "") -> list[str]:
    """The names meant by globs or names, in the order of `names`; None means all. Raises `UnknownName`."""
    known = list(names)
    if patterns is None:
        return known
    wanted = [patterns] if isinstance(patterns, str) else list(patterns)
    chosen: set[str] = set()
    for pattern in wanted:
        hits = fnmatch.filter(known, pattern)
        if not hits:
            raise UnknownName(kind, pattern, known, hint)
        chosen.update(hits)
    return [name for name in known if name in chosen]


def sizes_of(root: Path, model: str, dataset: str) -> dict[int, int]:
    """Bytes of the slices of a model on a dataset by step, in order."""
    return {step: facts.st_size for step, (_, facts) in files_of(root, model, dataset).items()}


def files_of(root: Path, model: str, dataset: str) -> dict[int, tuple[str, os.stat_result]]:
    """The path of each slice of a model on a dataset, and what the system says of the file, by step, in order."""
    folder = os.fspath(layout.slice_path(root, model, dataset, 0).parent.parent)
    files = {}
    for label in _values(folder, "step"):
        if (step := step_of(label)) is not None:
            path = f"{folder}/step={label}/slice.parquet"
            try:
                files[step] = (path, os.stat(path))  # noqa: PTH116 - of thousands, for each request of a page
            except OSError as error:  # it may have been dropped meanwhile, or be a link that leads nowhere
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
    return dict(sorted(files.items()))


def _values(folder: str | Path, key: str) -> list[str]:
    """The values of the hive folders `key=value` in a folder that may not exist; others than names are passed over."""
    try:
        with os.scandir(folder) as entries:
            values = [entry.name[len(key) + 1 :] for entry in entries if entry.name.startswith(f"{key}=")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [value for value in values if is_name(value)]
