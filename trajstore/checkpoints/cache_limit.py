"""A limit on the size of the Hub's cache: room for the next checkpoint is made by removing weights scored before.

Only weights that trajstore downloaded under a limit are ever removed, those downloaded first before others, and none
that a job is using. Both are kept in a small file for each revision beside the Hub client's own locks: a shared lock
on it says that the revision is in use, and its content that it may be removed. So jobs may share a cache, and what a
killed job left is removed by the next one, with downloads that ended half-way. Configuration and tokenizer stay, as
does a file that another revision shares. Loaded weights need no files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trajstore.checkpoints import hub
from trajstore.checkpoints.library_output import quiet
from trajstore.checkpoints.weight_files import weight_names
from trajstore.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Collection

    from trajstore.checkpoints.loading import Checkpoint

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([kKMGT])(i?)B?")
_PART = re.compile(r"(pytorch_)?model(-[0-9]+-of-[0-9]+)?\.(safetensors|bin)")
_ABANDONED_SECONDS = 600.0
"""Age of its last byte after which a download has died: the Hub's client gives up much sooner."""
_RECORD = ".trajstore"
_REMOVABLE = b"downloaded by trajstore under a cache limit\n"


def parse_size(size: str | int) -> int:
    """Return the bytes of `50GB`, `500 MB`, `1.5TB` or `40GiB`; a text without a unit raises `BadOption`."""
    if isinstance(size, int):
        return size
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        raise BadOption("cache_limit", size, "a size with MB, GB or TB (or MiB, GiB, TiB), as in 50GB")
    power = " KMGT".index(match[2].upper())
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def hold(checkpoint: Checkpoint) -> IO[bytes] | None:
    """Say that this process uses a revision, until the file given is closed.

    None for a local folder, and where the cache cannot be written to, so that nothing is removed from it either.
    """
    if checkpoint.commit is None:
        return None
    folder = hub.cache_folder(checkpoint.location)
    record = _locks() / folder.name / f"{checkpoint.commit}{_RECORD}"
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        file: IO[bytes] = record.open("ab")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:  # a file system without locks, where nothing is removed
        file.close()
        return None
    return file


class CacheLimit:
    """Keeps the Hub's cache at a size, as far as what trajstore downloaded allows."""

    def __init__(self, limit: int, needed: Collection[Checkpoint]) -> None:
        """`limit` in bytes; `needed` are the checkpoints that are still to be scored, which stay."""
        self._limit = limit
        self._needed = {checkpoint.commit for checkpoint in needed}

    def done_with(self, checkpoint: Checkpoint) -> None:
        """The checkpoint's weights may go."""
        self._needed.discard(checkpoint.commit)

    def make_room(self, needed: int) -> bool:
        """Remove what may go until this number of bytes fits below the limit; whether it does."""
        for record in self._removable():
            if used_bytes() + needed <= self._limit:
                return True
            _remove(record)
        return used_bytes() + needed <= self._limit

    def claim(self, held: IO[bytes] | None) -> None:
        """Note that a revision, held by `hold`, is about to be downloaded under the limit."""
        if held is not None:
            held.truncate(0)
            held.write(_REMOVABLE)
            held.flush()

    def _removable(self) -> list[Path]:
        """The records of revisions that may go, those downloaded first before others."""
        removable = []
        for record in _locks().glob(f"models--*/*{_RECORD}"):
            facts = record.stat()
            if facts.st_size and record.stem not in self._needed:
                removable.append((facts.st_mtime_ns, record))
        return [record for _, record in sorted(removable)]


def used_bytes() -> int:
    """Bytes of all files in the Hub's cache, those being downloaded too, each once."""
    total = 0
    for pattern in ("*--*/blobs/*", "blobs/*/*"):  # the second holds what repositories share
        for path in hub.cache().glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                facts = path.lstat()
                total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total


def _remove(record: Path) -> None:
    """Remove a revision's weights from the cache, unless a job is using them."""
    from huggingface_hub import DeleteCacheStrategy

    with record.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        # Not by way of scan_cache_dir, which leaves out a repository while one of its refs has nothing downloaded.
        repo = hub.cache() / record.parent.name
        snapshots = repo / "snapshots"
        weights = _weights(snapshots / record.stem)
        others = {_blob(path) for path in snapshots.glob("*/**/*") if path not in weights}
        with quiet():
            DeleteCacheStrategy(
                expected_freed_size=0,
                files=frozenset(weights),
                blobs=frozenset({_blob(path) for path in weights} - others - weights),
                refs=frozenset(),
                repos=frozenset(),
                snapshots=frozenset(),
                cache_dir=hub.cache(),
            ).execute()
        _remove_abandoned(repo / "blobs")
        file.truncate(0)


def _remove_abandoned(blobs: Path) -> None:
    """Remove what is left of downloads that died; no other goes on with it, since each has a name of its own."""
    for path in blobs.glob("*.incomplete"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _weights(snapshot: Path) -> set[Path]:
    """The files of a revision that hold its weights, or what is there of them."""
    file_names = {path.name for path in snapshot.glob("*")}
    names = weight_names(file_names) or [name for name in file_names if _PART.fullmatch(name)]
    return {snapshot / name for name in names}


def _blob(path: Path) -> Path:
    """Return the target of a link in a snapshot, itself a link where repositories share the file."""
    # Path.resolve() would follow the second link too, and Path.absolute() would keep '..'.
    return Path(os.path.abspath(path.parent / path.readlink())) if path.is_symlink() else path  # noqa: PTH100


def _locks() -> Path:
    """Return the folder of the Hub client's locks."""
    return hub.cache() / ".locks"
