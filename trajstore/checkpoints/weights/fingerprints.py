"""Fingerprints of files of weights. No file is read for one twice while it stays as it is.

A file in the Hub's cache bears its sha256 as the name of its blob. That of another large file is kept in the user's
cache folder, by its path, size, times and inode: a line a file, so that several processes may add theirs at once and a
damaged line costs no more than reading that file again. Nothing is written into a run's folder. Loads no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SMALLEST_KEPT = 1 << 20
"""Bytes; a smaller file is hashed sooner than looked up."""
_FILE = "weights.jsonl"
_MOST_LINES = 20_000
_UNSETTLED_NS = 2_000_000_000
"""A file changed so lately may change again without its times telling."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileState(NamedTuple):
    """State of a file, which tells that it is still the one that was read."""

    path: str
    """With all links followed."""
    size: int
    changed: int
    """Time of the last change of its bytes, ns."""
    inode_changed: int
    """Time of the last change of its bytes, name or rights, ns, which no program can set back."""
    inode: int


def file_state(path: Path) -> FileState:
    """Return the state of a file as it is now."""
    facts = path.stat()
    return FileState(
        os.path.realpath(path), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino
    )


def fingerprint(files: Iterable[Path]) -> str:
    """`sha256:…` of the lines "SHA256␠␠NAME" of the files in order of name.

    The same as `sha256sum model*.safetensors | sha256sum` in the checkpoint's folder.
    """
    return combined({path.name: file_sha256(path) for path in files})


def combined(digests: Mapping[str, str]) -> str:
    """Return the fingerprint of files by their names and their sha256."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes, which are read only where it is not known."""
    if (known := known_sha256(path)) is not None:
        return known
    begun, before = time.time_ns(), file_state(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    keep_sha256(path, before, begun, digest)
    return digest


def known_sha256(path: Path) -> str | None:
    """Return a file's sha256 where its name in the Hub's cache or an earlier job tells it; None elsewhere."""
    place = path
    while place.is_symlink():  # a blob may itself be a link, to what repositories share
        place = place.parent / place.readlink()
        if place.parent.name == "blobs" and _SHA256.fullmatch(place.name):
            return place.name
    state = file_state(path)
    return None if state.size < SMALLEST_KEPT else _kept().get(state)


def keep_sha256(path: Path, before: FileState, begun: int, digest: str) -> None:
    """Keep the sha256 of a file, unless it may have changed since its reading began.

    That was at the time `begun`, in ns, when the file was in the state `before`.
    """
    settled = begun - max(before.changed, before.inode_changed) > _UNSETTLED_NS
    if before.size < SMALLEST_KEPT or not settled or file_state(path) != before:
        return
    _kept()[before] = digest
    # The line break comes first, so that a line cut short by a full disk spoils no other.
    line = b"\n" + json.dumps([*before, digest]).encode()
    with contextlib.suppress(
        OSError, RuntimeError
    ):  # no home, no room, no right to write: it is read again then
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


_lock = threading.Lock()
_by_place: dict[Path, dict[FileState, str]] = {}
"""Digests in the file, read once a process for each place of it."""


def _kept() -> dict[FileState, str]:
    """The digests kept, by the state of their files; none where the file cannot be read."""
    with _lock:
        try:
            place = _place()
        except RuntimeError:  # no home
            place = Path()
        if place not in _by_place:
            _by_place[place] = _read(place)
        return _by_place[place]


def _place() -> Path:
    """The file in the user's cache folder; raises `RuntimeError` where the user has no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trajstore" / _FILE


def _read(place: Path) -> dict[FileState, str]:
    """The digests in a file, the last ones of too many; lines that are none are passed over."""
    try:
        lines = place.read_bytes().split(b"\n") if place.is_file() else []
    except OSError:
        return {}
    kept = {}
    too_many = len(lines) > _MOST_LINES
    for line in lines[-(_MOST_LINES // 2) :] if too_many else lines:
        with contextlib.suppress(ValueError, TypeError):
            *state, digest = json.loads(line)
            if len(state) == len(FileState._fields) and _SHA256.fullmatch(digest):
                kept[FileState(*state)] = digest
    if too_many:
        _shorten(place, kept)
    return kept


def _shorten(place: Path, kept: Mapping[FileState, str]) -> None:
    """Put a file of these digests alone in its place."""
    new = place.with_name(f"{place.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        new.write_bytes(b"".join(b"\n" + json.dumps([*state, sha]).encode() for state, sha in kept.items()))
        new.replace(place)
