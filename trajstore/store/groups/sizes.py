"""Numbers of tokens that groups have in each dataset, counted once: `STORE/cache/group_sizes.json`.

A group whose sites follow from the datasets' files and the definitions alone keeps its sizes under a hash of these; one
over losses is counted each time. The file holds nothing but numbers that can be counted again: it may be deleted at any
time, a damaged one counts as none, and where it cannot be written nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from trajstore.errors import DamagedFile, GroupError, QueryError, TrajstoreError, UnknownName
from trajstore.progress import SILENT, Progress
from trajstore.store.catalog import read_only
from trajstore.store.catalog.dependencies import Foundations
from trajstore.store.disk import layout
from trajstore.store.files import group_tables
from trajstore.store.groups.kept_tables import VIEWS, KeptTables, kept_tables
from trajstore.store.quoting import identifier, quoted
from trajstore.store.session import Session

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset

Sizes = dict[str, int]
"""Tokens by dataset; a dataset without any is left out."""


@dataclass(frozen=True)
class Counted:
    """The sizes of one group."""

    sizes: Sizes
    problem: str = ""
    """Why it could not be counted, or ""."""


def count(
    session: Session,
    names: Sequence[str],
    foundations: Foundations,
    progress: Progress = SILENT,
    *,
    ready: Callable[[str], object],
) -> dict[str, Counted]:
    """The sizes of groups, from the cache where it has them; `ready` is called with a group before it is counted."""
    datasets = {name: session.dataset(name) for name in session.dataset_names()}
    cache = _Cache(session.path, foundations, datasets)
    counted: dict[str, Counted] = {}
    for name in names:
        try:
            if (sizes := cache.known(name)) is not None:
                counted[name] = Counted(sizes)
        except DamagedFile as error:
            counted[name] = Counted({}, str(error))
    waiting = [name for name in names if name not in counted]
    if waiting:
        progress.start("counting", len(waiting), "groups")
    shipped = [name for name in waiting if name in foundations.shipped]
    unknown = {dataset for name in shipped for dataset in cache.unknown(name) or ()}
    with contextlib.ExitStack() as stack:
        stack.callback(cache.write)
        stack.callback(progress.stop)
        kept = _kept_tables(
            stack, session, shipped, foundations, [datasets[name] for name in sorted(unknown)]
        )
        for name in waiting:
            try:
                ready(name)
                sizes = _count(session, name, cache.unknown(name), kept if name in shipped else None)
            except (GroupError, UnknownName) as error:  # the latter where another job has dropped it
                counted[name] = Counted({}, str(error))
            else:
                cache.keep(name, sizes)
                counted[name] = Counted(cache.known(name) or sizes)
            progress.advance(1, name)
    return counted


_MOST_TOKENS = 1 << 21
"""Tokens of datasets beyond which each group reads for itself, since the tables would take too much memory."""


def _kept_tables(
    stack: contextlib.ExitStack,
    session: Session,
    groups: Sequence[str],
    foundations: Foundations,
    datasets: Sequence[Dataset],
) -> KeptTables | None:
    """Tables of what several of the groups read; None where there is nothing such, or it cannot be read.

    What cannot be read is then an error of each group that stands on it.
    """
    under = [foundations.all_under(name) for name in groups]
    views = [view for view in VIEWS if sum(view in keys for keys in under) > 1]
    if views and 0 < sum(dataset.n_tokens for dataset in datasets) <= _MOST_TOKENS:
        with contextlib.suppress(QueryError):
            return stack.enter_context(kept_tables(session, views, datasets))
    return None


def _count(
    session: Session,
    name: str,
    datasets: Sequence[str] | None,
    kept: KeptTables | None = None,
) -> Sizes:
    """A group's tokens by dataset, in these or all."""
    only = "" if datasets is None else f"WHERE dataset IN ({', '.join(map(quoted, datasets))})"
    ask = f"SELECT dataset, count(*) FROM groups.{identifier(name)} {only} GROUP BY dataset ORDER BY dataset"
    try:
        rows = session.sql(ask).fetchall() if kept is None else kept.execute(ask).fetchall()
        return {str(dataset): int(n) for dataset, n in rows}
    except (duckdb.Error, QueryError) as error:
        raise GroupError(f"The group {name!r} cannot be computed: {read_only.explained(error)}") from error


class _Cache:
    """Sizes by key: a hash of the definition with all it stands on, and of what it is counted in."""

    def __init__(self, root: Path, foundations: Foundations, datasets: Mapping[str, Dataset]) -> None:
        self._root, self._foundations, self._datasets = root, foundations, datasets
        self._path = root / "cache" / "group_sizes.json"
        self._sizes = self._read()
        self._fresh: dict[str, int] = {}
        self._known_keys: dict[str, dict[str, str] | None] = {}
        state = "".join(f"{name}\0{dataset.files_sha256}\0" for name, dataset in sorted(datasets.items()))
        self._state = hashlib.sha256(state.encode()).hexdigest()

    def known(self, name: str) -> Sizes | None:
        """A group's sizes, or None where one of them is not known."""
        if self._foundations.definitions[name].is_table:
            parts = group_tables.read_table(self._root, name).parts
            here = {
                dataset: parts[dataset].sites
                for dataset, facts in self._datasets.items()
                if dataset in parts and parts[dataset].tokens_sha256 == facts.tokens_sha256
            }
            return {dataset: n for dataset, n in here.items() if n}
        keys = self._keys(name)
        if keys is None or any(key not in self._sizes for key in keys.values()):
            return None
        return {dataset: n for dataset, key in keys.items() if (n := self._sizes[key])}

    def unknown(self, name: str) -> list[str] | None:
        """Datasets in which a group is still to be counted; None for all, since none are kept."""
        keys = self._keys(name)
        return None if keys is None else [dataset for dataset, key in keys.items() if key not in self._sizes]

    def keep(self, name: str, sizes: Sizes) -> None:
        """Take up sizes in the datasets that were unknown."""
        keys = self._keys(name) or {}
        new = {key: sizes.get(dataset, 0) for dataset, key in keys.items() if key not in self._sizes}
        self._sizes |= new
        self._fresh |= new

    def write(self) -> None:
        """Keep what is new, beside what others have kept meanwhile that still stands for something."""
        if not self._fresh:
            return
        current: set[str] = set()
        for name in self._foundations.definitions:
            with contextlib.suppress(TrajstoreError):
                current |= set((self._keys(name) or {}).values())
        kept = {key: n for key, n in (self._read() | self._fresh).items() if key in current}
        with contextlib.suppress(OSError, TrajstoreError):
            entries = {key: [n, _hash(key, str(n))] for key, n in kept.items()}
            layout.publish(self._root, self._path, json.dumps(entries, indent=0).encode(), replace=True)

    def _keys(self, name: str) -> dict[str, str] | None:
        """The key of each dataset's size, or None for a group whose sizes are not kept."""
        if name not in self._known_keys:
            self._known_keys[name] = self._make_keys(name)
        return self._known_keys[name]

    def _make_keys(self, name: str) -> dict[str, str] | None:
        definition = self._foundations.definitions[name]
        if definition.is_table or not self._foundations.only_tokens(name):
            return None
        stem, shipped = self._foundations.sha256(name), name in self._foundations.shipped
        # What comes with trajstore looks at each dataset by itself; another definition may compare datasets.
        return {
            dataset: _hash(stem, facts.files_sha256 if shipped else self._state + dataset)
            for dataset, facts in self._datasets.items()
        }

    def _read(self) -> dict[str, int]:
        """Return the sizes in the file; none where it is not there, damaged, or no file."""
        try:
            entries = json.loads(layout.plain(layout.unlinked(self._path)).read_bytes())
        except (OSError, ValueError, RecursionError, TrajstoreError):
            return {}
        if not isinstance(entries, dict):
            return {}
        return {key: entry[0] for key, entry in entries.items() if _is_of(key, entry)}


def _is_of(key: str, entry: object) -> bool:
    """Return whether an entry is the size that was kept under this key: it carries a hash of both."""
    match entry:
        case [int(n), str(both)] if type(n) is int and n >= 0:
            return both == _hash(key, str(n))
    return False


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
