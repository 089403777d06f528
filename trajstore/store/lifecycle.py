"""Making a store, and keeping its catalog: create, migrate, rebuild.

All that the catalog holds follows from the store's files and from this version's definitions, so it can be made anew at
any time. It is made aside and put in place whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import duckdb

from trajstore.arguments.spelling import option
from trajstore.errors import QueryError, StoreNotFound, StoreUnusable
from trajstore.schema import CATALOG
from trajstore.store import stand_ins
from trajstore.store.catalog import catalog, group_views, migrate
from trajstore.store.catalog.migrate import Migration
from trajstore.store.disk import catalog_lock, layout, temporaries
from trajstore.store.files import add_digests

_FOLDERS = ("tokens", "losses", "models", "groups", layout.TEMPORARIES)
_OURS = {
    CATALOG,
    f"{CATALOG}.wal",
    catalog_lock.FILE,
    *_FOLDERS,
    *stand_ins.OLD,
    "measures",
    "findings",
    "damaged",
    "cache",
    layout.SET_ASIDE,
}

StorePath = str | os.PathLike[str]


def checked(path: StorePath) -> Path:
    """A store's absolute path, links resolved.

    Raises `StoreUnusable` for one that a glob would misread, `DamagedFile` where a part of it lies behind a link.
    """
    root = Path(path).expanduser().resolve()
    if not is_utf8(root):
        raise StoreUnusable(f"{root} cannot hold a store: the path is not UTF-8, which DuckDB wants.")
    # A folder above the store named key=value would be read as a column of every row.
    if set("*?[]{}'\"\n\\=").intersection(str(root)):
        raise StoreUnusable(
            f"{root} cannot hold a store: the path has one of = * ? [ ] {{ }} \\ or a quote in it."
        )
    if root.exists() and not root.is_dir():
        raise StoreUnusable(f"{root} is a file; a store is a folder.")
    for name in _OURS:
        layout.unlinked(root / name)
    for name in (CATALOG, f"{CATALOG}.wal"):
        with contextlib.suppress(FileNotFoundError):
            layout.plain(root / name)
    return root


def is_utf8(path: Path) -> bool:
    """Return whether a path can be written as UTF-8: the operating system lets it be any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def existing(path: StorePath) -> Path:
    """The absolute path of a store that is there, or of the one in a folder's `store`; raises `StoreNotFound`."""
    root = _or_inside(checked(path), CATALOG)
    if not (root / CATALOG).is_file():
        raise StoreNotFound(path)
    return root


def _or_inside(root: Path, part: str) -> Path:
    """A store's path, or that of its subfolder `store` where that has the part of a store and the folder has not."""
    inside = root / "store"
    return checked(inside) if not (root / part).exists() and (inside / part).exists() else root


def create(path: StorePath) -> Path:
    """Make a store, or the catalog of one that lost it; one that is there is left as it is."""
    root = checked(path)
    root.mkdir(parents=True, exist_ok=True)
    if not (root / CATALOG).exists():
        if foreign := sorted({entry.name for entry in root.iterdir()} - _OURS):
            raise StoreUnusable(
                f"{root} holds other things ({', '.join(foreign[:5])}); a store wants a folder of its own. "
                "Nothing was changed."
            )
        layout.check_links(root)
        for name in _FOLDERS:
            (root / name).mkdir(exist_ok=True)
        with catalog_lock.turn(root):
            if not (root / CATALOG).exists():  # another job may have made it
                _put_catalog(root)
    return root


def rebuild(path: StorePath) -> Path:
    """Make a store's catalog anew from its files, whatever state the old one is in."""
    root = _or_inside(checked(path), "losses")
    if not (root / "losses").is_dir():
        raise StoreNotFound(path)
    with catalog_lock.turn(root):
        _put_catalog(root)
    return root


def session_with_files(root: Path, folders: Sequence[StorePath]) -> duckdb.DuckDBPyConnection:
    """A session that may also read the user's files in these folders; raises `QueryError` for one that is not there.

    Its views are this version's own and its groups come from their files: nothing of the catalog is run where files
    beside the store are in reach.
    """
    places = [Path(folder).expanduser().resolve() for folder in folders]
    if odd := [str(place) for place in places if not is_utf8(place)]:
        raise QueryError(f"The path {odd[0]} is not UTF-8, which DuckDB wants. Move your files elsewhere.")
    if absent := [str(place) for place in places if not place.is_dir()]:
        raise QueryError(
            f"There is no folder {absent[0]}; {option('files')} takes the folder that holds your files."
        )
    layout.check_small_files(root)
    connection = catalog.empty_session(root, places)
    try:
        migrate.migrate(connection, root)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate_store(path: StorePath) -> list[str]:
    """Bring a store's catalog up to this version; returns what was applied."""
    root = existing(path)
    stand_ins.put(root)
    add_digests.add_digests(root)
    with catalog.maintaining(root) as connection:
        # Groups get digests once their views are made, so only those that work.
        done = migrate.migrate(connection, root, lambda: add_digests.add_group_digests(root))
        group_views.take_back(connection, root)
    stand_ins.remove_old(root)
    temporaries.sweep(layout.unlinked(root / layout.TEMPORARIES))
    return done


def migrations(path: StorePath) -> list[Migration]:
    """Return the applied and the pending migrations of a store's catalog; changes nothing."""
    with catalog.open_session(existing(path)) as session:
        return migrate.history(session)


def _put_catalog(root: Path) -> None:
    """Make a catalog aside and publish it whole, in the place of one that is there."""
    stand_ins.put(root)
    add_digests.add_digests(root)
    fresh = layout.temporary(root, ".duckdb")
    try:
        with catalog.creating(root, fresh) as connection:
            migrate.migrate(connection, root)
        add_digests.add_group_digests(root)  # of those that work
        with catalog_lock.put_aside(root):
            # A log left by a writer that died belongs to the old catalog, and would be played into the new one.
            (root / f"{CATALOG}.wal").unlink(missing_ok=True)
            layout.publish(root, root / CATALOG, fresh.read_bytes(), replace=True)
        group_views.forget_announced(root)
        stand_ins.remove_old(root)
    finally:
        fresh.unlink(missing_ok=True)
