"""The places of things in a store, and how a file gets there: whole, or not at all.

A file is written to `STORE/tmp/`, fsynced, and published by a hard link, which fails if the name exists. So two
writers can race, and a reader never sees half a file. A store may come from somebody else, so nothing is read or
written through a symbolic link inside it. This module knows paths and bytes, not their meaning.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from trajstore.errors import DamagedFile, StoreUnusable
from trajstore.schema import EMPTY, check_name, check_step
from trajstore.store.disk import temporaries
from trajstore.store.disk.exchange import exchange

TEMPORARIES = "tmp"
"""Folder of files that are being written."""


def slice_path(root: Path, model: str, dataset: str, step: int) -> Path:
    """Path of the slice of one checkpoint on one dataset: the slice's primary key."""
    check_name("model", model)
    check_name("dataset", dataset)
    return root / f"losses/model={model}/dataset={dataset}/step={check_step(step)}/slice.parquet"


def losses_path(root: Path, model: str) -> Path:
    """Folder of a model's slices."""
    return root / "losses" / f"model={check_name('model', model)}"


def dataset_path(root: Path, dataset: str) -> Path:
    """Folder of a dataset's tokens."""
    return root / "tokens" / f"dataset={check_name('dataset', dataset)}"


def model_path(root: Path, model: str) -> Path:
    """File of a model's own facts."""
    return root / "models" / f"{check_name('model', model)}.json"


def group_path(root: Path, name: str) -> Path:
    """File of a group's definition; `name` has been checked."""
    return root / "groups" / f"{name}.sql"


def is_linked(path: Path) -> bool:
    """Return whether a symbolic link stands on the way to a path, of which the last parts need not exist."""
    # Path.absolute() would keep '..', and Path.resolve() follows links.
    place = os.path.abspath(path)  # noqa: PTH100
    if ".." in path.parts:
        return os.path.realpath(path) != place
    # In a third of the time of realpath, for which readers of thousands of slices would wait.
    while len(place) > 1:
        if os.path.islink(place):  # noqa: PTH114
            return True
        place = os.path.dirname(place)  # noqa: PTH120
    return False


def unlinked(path: Path) -> Path:
    """The path of something in a store, if no symbolic link leads there; raises `DamagedFile`."""
    if is_linked(path):
        raise DamagedFile(
            path,
            "a symbolic link leads there, which may lead out of the store and is not followed",
            "Put in its place what it points to, if it is yours (a link to the whole store is fine)",
        )
    return path


def plain(path: Path) -> Path:
    """The path of something that is there, if it is a file and no link, folder, pipe, socket or device.

    Whoever reads a pipe waits for a writer. Raises `DamagedFile` or `FileNotFoundError`.
    """
    if kind := strange(path.lstat().st_mode):
        raise DamagedFile(
            path, f"it is {kind} where a file should be", "Remove it: trajstore did not make it"
        )
    return path


def strange(mode: int) -> str:
    """Return a noun for something of this mode, "" for a file."""
    nouns = [name for is_kind, name in _KINDS if is_kind(mode)]
    return nouns[0] if nouns else "a device"


_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, ""),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def check_small_files(root: Path) -> None:
    """Raise `DamagedFile` for a pipe, socket or device among what views read beside slices: takes a millisecond."""
    for table in root.glob("groups/*.parquet"):
        # DuckDB takes a link for what it points to, and refuses it; a table that is gone was another job's to drop.
        with contextlib.suppress(FileNotFoundError):
            if not table.is_symlink():
                plain(table)
    for name in ("tokens", "models", "findings", f"losses/model={EMPTY}", f"measures/model={EMPTY}"):
        _check_plain(root / name)


def _check_plain(folder: Path) -> None:
    """Raise `DamagedFile` for the first pipe, socket or device in a folder, at any depth."""
    waiting: list[Path | str] = [folder]  # no recursion, which a deep folder would exhaust
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                    with contextlib.suppress(FileNotFoundError):
                        plain(Path(entry.path))


def check_large_files(root: Path) -> None:
    """The same for slices, 4 µs each, and for measures."""
    _check_plain(root / "measures")
    for folder in root.glob("losses/model=*/dataset=*"):
        for step in os.listdir(folder):  # noqa: PTH208 - as texts, since there may be many
            path = f"{folder}/{step}/slice.parquet"
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                mode = os.lstat(path).st_mode
                if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                    plain(Path(path))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path, root: Path) -> None:
    """Create `folder` with its parents up to `root`, each made durable in its parent, though others remove them."""
    while folder != root and not folder.is_dir():
        make_folders(folder.parent, root)
        try:
            folder.mkdir()
            sync_folder(folder.parent)
        except FileExistsError:
            if not folder.is_dir():
                raise
        except FileNotFoundError:
            if not root.is_dir():
                raise


def temporary(root: Path, suffix: str) -> Path:
    """A new path in `STORE/tmp/` that nobody else uses."""
    return temporaries.new_path(unlinked(root / TEMPORARIES), suffix)


@contextlib.contextmanager
def written(root: Path, data: bytes | memoryview, suffix: str) -> Iterator[Path]:
    """A temporary file holding `data`, fsynced, with the mode the umask gives; gone afterwards."""
    path = temporary(root, suffix)
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def publish(root: Path, path: Path, data: bytes | memoryview, *, replace: bool = False) -> bool:
    """Put a file under its final name, whole and durable; True if it is ours, False if the name was taken.

    With `replace`, an atomic rename over whatever is there.
    """
    with written(root, data, path.suffix) as temp:
        while True:
            make_folders(unlinked(path.parent), root)
            try:
                if replace:
                    temp.replace(path)
                elif not _link(temp, path):
                    return False
                break
            except FileNotFoundError:
                # Whoever removed the last file of a folder has removed the folder since it was made.
                if not temp.exists():
                    raise
        with contextlib.suppress(FileNotFoundError):  # it may have been removed again
            sync_folder(path.parent)
    return True


def ensure(root: Path, path: Path, data: bytes) -> None:
    """Put a file under its name unless it is there with these bytes; whoever looks finds no gap between two versions.

    Raises `DamagedFile` where a link or no file is in its place.
    """
    with contextlib.suppress(FileNotFoundError):
        if plain(unlinked(path)).read_bytes() == data:
            return
    publish(root, path, data, replace=True)


@contextlib.contextmanager
def restoring(root: Path, path: Path) -> Iterator[None]:
    """Put back what is at a path now, a file or nothing, if the block fails; for writers that take turns."""
    before = temporary(root, path.suffix)
    with contextlib.suppress(FileNotFoundError):
        os.link(path, before)
    try:
        yield
    except BaseException:
        if before.exists():
            before.replace(path)
        else:
            path.unlink(missing_ok=True)
        raise
    finally:
        before.unlink(missing_ok=True)


def _link(temp: Path, path: Path) -> bool:
    """Give a file its final name; False if another file has it."""
    try:
        os.link(temp, path)
    except FileExistsError:
        # Over NFS a lost reply makes the client try again and find its own link.
        return path.exists() and temp.samefile(path)
    return True


def publish_folder(root: Path, folder: Path, files: dict[str, bytes]) -> bool:
    """Put a folder of files under its final name at once; False if a folder with files is there."""
    with temporary_folder(root) as temp:
        for name, data in files.items():
            (temp / name).write_bytes(data)
        return move_folder(root, temp, folder)


@contextlib.contextmanager
def temporary_folder(root: Path) -> Iterator[Path]:
    """A folder in `STORE/tmp/`, gone afterwards unless it has been moved."""
    temp = temporary(root, "")
    temp.mkdir()
    try:
        yield temp
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def move_folder(root: Path, temp: Path, folder: Path, *, replace: bool = False) -> bool:
    """Put a folder of files, durable, under its final name at once; False if a folder with files is there.

    With `replace` the two exchange their names, and the old one is gone with the temporary folder. Where a file system
    cannot do that, the old one is set aside first, from where `put_back` takes it if the new one never comes.
    """
    for path in temp.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(temp)
    make_folders(unlinked(folder).parent, root)
    while True:
        try:
            temp.rename(folder)  # fails on a folder that is not empty
            break
        except OSError:
            if not folder.exists() or not temp.exists():
                raise
            if not replace:
                return False
        with contextlib.suppress(FileNotFoundError):  # another job has removed it
            if exchange(temp, folder):
                break
            _set_aside(root, folder)
        make_folders(folder.parent, root)
    sync_folder(folder.parent)
    forget_aside(root, folder)
    return True


SET_ASIDE = ".replaced"
"""Where a folder waits, under its path in the store, while another takes its place."""


def _set_aside(root: Path, folder: Path) -> None:
    """Move a folder out of its place, instead of what a writer that died has left there."""
    forget_aside(root, folder)
    aside = root / SET_ASIDE / folder.relative_to(root)
    make_folders(aside.parent, root)
    folder.rename(aside)
    sync_folder(aside.parent)


def forget_aside(root: Path, folder: Path) -> None:
    """Remove what was set aside of a folder."""
    aside = root / SET_ASIDE / folder.relative_to(root)
    if aside.exists():
        remove_folder(root, aside)
        prune(root / SET_ASIDE)


def put_back(root: Path) -> None:
    """Put folders back that a writer set aside and died before their successors came, where that is allowed."""
    for aside in (root / SET_ASIDE).glob("*/*/*"):
        folder = root / aside.relative_to(root / SET_ASIDE)
        if not folder.exists() and not is_linked(aside) and not is_linked(folder):
            with contextlib.suppress(OSError):  # its successor has come, or nothing may be written here
                folder.parent.mkdir(parents=True, exist_ok=True)
                aside.rename(folder)
                prune(root / SET_ASIDE)


def remove(root: Path, path: Path) -> None:
    """Remove a file, and the folders above it that are empty then, up to the store's own."""
    unlinked(path.parent)
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder.parent == root:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def remove_folder(root: Path, folder: Path) -> None:
    """Remove a folder with all that is in it: first from its place, at once, then from the disk."""
    unlinked(folder)
    temp = temporary(root, "")
    with contextlib.suppress(FileNotFoundError):  # another job has removed it
        folder.rename(temp)
        sync_folder(folder.parent)
        shutil.rmtree(temp, ignore_errors=True)


def prune(folder: Path) -> None:
    """Remove the empty folders in a folder, at any depth, and itself if nothing is left in it."""
    for inside, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(inside).rmdir()


def check_links(root: Path) -> None:
    """Raise `StoreUnusable` where the file system has no hard links, on which publication rests."""
    first, second = temporary(root, ".try"), temporary(root, ".try")
    try:
        first.touch()
        os.link(first, second)
    except OSError as error:
        raise StoreUnusable(
            f"The file system under {root} has no hard links ({error.strerror}); trajstore publishes a file by "
            "linking it, so that a slice is there whole or not at all. Choose a folder on another file system."
        ) from error
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
