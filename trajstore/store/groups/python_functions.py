"""Groups by a Python function, MODULE:FUNCTION, that says of each token of a context whether it is in the group.

The function gets one context's tokens as a Polars frame (dataset, context, position, token, text, item, item_position,
role; a row a token, position 0 included) and gives a mask, a bool for each row. Its module is looked for in the working
folder first. What is run is the file as it is now, whatever was imported before, so that the hash is of what was run.
Publishes nothing.
"""

from __future__ import annotations

import ast
import bisect
import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from trajstore.errors import GroupError, describe_error
from trajstore.progress import Progress, bar
from trajstore.store.files.datasets import Dataset
from trajstore.store.files.group_tables import Code, GroupSites

Function = Callable[[pl.DataFrame], Any]

_BATCH = 1 << 18
"""Tokens that are read at once."""


@dataclass(frozen=True)
class Source:
    """The file of a module."""

    path: Path
    text: bytes
    module: str
    package: bool
    """True for a package's __init__.py."""


def code_of(function: str) -> Code:
    """The hashes of MODULE:FUNCTION as its file is now; runs nothing of it. Raises `GroupError`."""
    module, name = _split(function)
    with _working_folder():
        source = _find(module)
    return _code(source, name)


def first_line(function: str) -> str:
    """The first line of the docstring of MODULE:FUNCTION, from its file; runs nothing of it. Raises `GroupError`."""
    module, name = _split(function)
    with _working_folder():
        source = _find(module)
    for statement in _statements(source):
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return (ast.get_docstring(statement) or "").partition("\n")[0]
    return ""


def load_function(function: str) -> tuple[Function, Code]:
    """The function of MODULE:FUNCTION, from its file as it is now; raises `GroupError`."""
    module, name = _split(function)
    with _working_folder():
        source = _find(module)
        ran = _run(source)
    known = sorted(key for key, value in vars(ran).items() if callable(value) and not key.startswith("_"))
    attribute = getattr(ran, name, None)
    if attribute is None:
        raise GroupError(
            f"There is no {name} in {source.path}; there is: {', '.join(known) or 'no function'}."
        )
    if not callable(attribute):
        raise GroupError(f"{function} is {type(attribute).__name__}, and not a function.")
    home = getattr(attribute, "__module__", module)
    if isinstance(attribute, type(_split)) and home != module:
        raise GroupError(
            f"{function} comes from {home}. Name it where it is defined: {home}:{attribute.__name__}"
        )
    return attribute, _code(source, name)


def find_sites(
    function: Function, name: str, datasets: Sequence[Dataset], progress: Progress
) -> list[GroupSites]:
    """The sites that a function called `name` finds in each context of these datasets.

    Raises `GroupError` naming dataset and context for a mask that is none, and for what the function raises.
    """
    with bar(progress, name, sum(dataset.n_contexts for dataset in datasets), "contexts"), _working_folder():
        return [_find_in(function, name, dataset, progress) for dataset in datasets]


def _find_in(function: Function, name: str, dataset: Dataset, progress: Progress) -> GroupSites:
    contexts, positions = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for context, frame in _frames(dataset):
        try:
            mask = function(frame)
        except (Exception, SystemExit) as error:
            raise GroupError(
                f"{name} failed on context {context} of {dataset.name}: {describe_error(error)}. Nothing was written."
            ) from error
        try:
            inside = np.flatnonzero(_mask(mask, frame.height)).astype(np.int32)
        except ValueError as error:
            raise GroupError(
                f"{name} gave {error} for context {context} of {dataset.name}, which has {frame.height} tokens; it "
                "must give a list, a numpy array or a Polars series of as many bools. Nothing was written."
            ) from None
        contexts.append(np.full(len(inside), context, np.int32))
        positions.append(inside)
        progress.advance(1, dataset.name)
    return GroupSites(dataset, np.concatenate(contexts), np.concatenate(positions))


def _mask(mask: Any, n: int) -> np.ndarray:
    """A mask as bool (n,); raises `ValueError` saying what it is where it is none."""
    if isinstance(mask, pl.Series):
        if mask.dtype != pl.Boolean:
            raise ValueError(f"a series of {mask.dtype}")
        if mask.null_count():
            raise ValueError("a series with nulls")
        values = mask.to_numpy()
    elif isinstance(mask, list | np.ndarray):
        if isinstance(mask, list) and not all(isinstance(value, bool | np.bool_) for value in mask):
            odd = next(value for value in mask if not isinstance(value, bool | np.bool_))
            raise ValueError(f"a list that holds {type(odd).__name__}")
        values = np.asarray(mask, dtype=bool) if isinstance(mask, list) else mask
        if values.dtype != bool:
            raise ValueError(f"an array of {values.dtype}")
        if values.ndim != 1:
            raise ValueError(f"an array of {values.ndim} dimensions")
    else:
        raise ValueError(type(mask).__name__)
    if len(values) != n:
        raise ValueError(f"{len(values)} values")
    return values


def _frames(dataset: Dataset) -> Iterator[tuple[int, pl.DataFrame]]:
    """Each context of a dataset with its tokens; some contexts are read at once."""
    dataset.check()
    tokens = pl.scan_parquet(dataset.folder / "tokens.parquet", hive_partitioning=False)
    label = pl.lit(dataset.name).alias("dataset")
    offsets = dataset.offsets.tolist()
    first = 0
    while first < dataset.n_contexts:
        begin = offsets[first]
        last = max(first + 1, bisect.bisect_right(offsets, begin + _BATCH) - 1)
        batch = tokens.slice(begin, offsets[last] - begin).select(label, pl.all()).collect()
        for context in range(first, last):
            yield context, batch.slice(offsets[context] - begin, offsets[context + 1] - offsets[context])
        first = last


def _split(function: str) -> tuple[str, str]:
    """(module, name) of MODULE:FUNCTION; raises `GroupError`."""
    module, _, name = function.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise GroupError(
            f"{function!r} names no function. It takes MODULE:FUNCTION, as in mygroups:rhymes for the function rhymes "
            "in mygroups.py, in the working folder or installed, or a name that trajstore group list --available shows."
        )
    return module, name


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    """Imports look in the working folder first, as `python -m` does."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _find(module: str) -> Source:
    """A module's file, found as an import finds it but without running anything; raises `GroupError`."""
    importlib.invalidate_caches()
    places: Sequence[str] | None = None
    parts = module.split(".")
    spec = None
    for depth in range(len(parts)):
        name = ".".join(parts[: depth + 1])
        specs = (finder.find_spec(name, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((candidate for candidate in specs if candidate is not None), None)
        if spec is None:
            raise GroupError(
                f"There is no module {name!r} here. It is looked for in the working folder, {Path.cwd()}, and among "
                "what is installed."
            )
        places = spec.submodule_search_locations
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise GroupError(f"The module {module} has no Python file, whose hash would say when it has changed.")
    path = Path(spec.origin)
    try:
        return Source(path, path.read_bytes(), module, path.name == "__init__.py")
    except OSError as error:
        raise GroupError(f"{path} cannot be read ({error.strerror}).") from error


def _run(source: Source) -> ModuleType:
    """A module of its own from a file's text; an imported one of its name stays what it is."""
    made = ModuleType(source.module)
    made.__file__ = str(source.path)
    made.__package__ = source.module if source.package else source.module.rpartition(".")[0]
    if source.package:
        made.__path__ = [str(source.path.parent)]
    before = sys.modules.get(source.module)
    try:
        if parent := source.module.rpartition(".")[0]:
            importlib.import_module(parent)
        before = sys.modules.get(source.module)
        sys.modules[source.module] = made
        exec(compile(source.text, str(source.path), "exec"), made.__dict__)  # noqa: S102
    except (Exception, SystemExit) as error:  # a module that ends the process would end it without a word
        raise GroupError(f"{source.path} cannot be imported: {describe_error(error)}") from error
    finally:
        if before is None:
            sys.modules.pop(source.module, None)
        else:
            sys.modules[source.module] = before
    return made


def _code(source: Source, name: str) -> Code:
    """The hashes of a module's file and of a function's lines in it."""
    own = ""
    for statement in _statements(source):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            lines = source.text.splitlines(keepends=True)
            first = min([statement.lineno, *(decorator.lineno for decorator in statement.decorator_list)])
            own = _hash(b"".join(lines[first - 1 : statement.end_lineno]))
    return Code(f"{source.module}:{name}", _hash(source.text), own)


def _statements(source: Source) -> list[ast.stmt]:
    try:
        return ast.parse(source.text).body
    except (SyntaxError, ValueError) as error:
        raise GroupError(f"{source.path} cannot be imported: {error}") from error


def _hash(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
