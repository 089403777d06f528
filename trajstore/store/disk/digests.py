"""Digests: each file of a store carries the sha256 of itself, so that any changed bit is found.

It is taken with its own 64 digits as zeros, and patched in before publication. In Parquet it stands in the footer, in a
model's JSON as the last field, in a group's definition as the last line, a comment.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.errors import DamagedFile
from trajstore.schema import DIGEST_KEY
from trajstore.store.disk import layout

ZEROS = "0" * 64
"""Placeholder of a digest while it is computed."""

CHANGED = "its bytes are not those that were written (digest of the file)"
"""Problem of a file that has another digest."""
MISSING = "it carries no digest of itself, so that a change in it would not be seen"
"""Problem of a file that has no digest."""
CUT_OFF = "it is cut off, or no Parquet file: the mark with which every such file ends is not there"
"""Problem of a Parquet file without its end, and so without a digest."""

JSON_FIELD = "sha256"

# How near to a file's end its digest stands.
_WITHIN = 1 << 14
_BLOCK = 1 << 20
_MAGIC = b"PAR1"
_JSON = re.compile(rb'"sha256": "([0-9a-f]{64})"\n\}\n\Z')
_SQL = re.compile(rb"(?:\A|\n)-- sha256 of this file: ([0-9a-f]{64})\n\Z")
# As one's own editor may leave it.
_LINE = re.compile(r"^-- sha256 of this file:[^\n]*\s*\Z", re.MULTILINE)
# Thrift's compact protocol: after the key, the value's field has a header byte and a length byte (64).
_KEY = DIGEST_KEY.encode() + b"\x18\x40"


def _in_parquet(data: bytes) -> int | None:
    at = data.rfind(_KEY)
    return None if at < 0 or at + len(_KEY) + 64 > len(data) else at + len(_KEY)


def _in_text(pattern: re.Pattern[bytes]) -> Callable[[bytes], int | None]:
    def place(data: bytes) -> int | None:
        match = pattern.search(data)
        return match.start(1) if match else None

    return place


_PLACES: Mapping[str, Callable[[bytes], int | None]] = {
    ".parquet": _in_parquet,
    ".json": _in_text(_JSON),
    ".sql": _in_text(_SQL),
}


def _place(data: bytes | memoryview, suffix: str) -> int | None:
    skipped = max(0, len(data) - _WITHIN)
    at = _PLACES[suffix](bytes(data[skipped:]))
    return None if at is None else skipped + at


def seal(data: memoryview, suffix: str = ".parquet") -> None:
    """Patch a file's digest in, over the zeros or the older digest in its place."""
    at = _place(data, suffix)
    if at is None:
        raise ValueError("no place for the digest")
    data[at : at + 64] = ZEROS.encode()
    data[at : at + 64] = hashlib.sha256(data).hexdigest().encode()


def is_sealed(data: bytes) -> bool:
    """Return whether a Parquet file's bytes are those that were published."""
    return _problem(io.BytesIO(data), ".parquet") is None


def sealed(text: str, suffix: str) -> bytes:
    """A JSON object or a group's definition, ended by a line feed, as the bytes of its file with their digest."""
    if suffix == ".json":
        body = text.rstrip().removesuffix("}").rstrip()
        text = f'{body},\n "{JSON_FIELD}": "{ZEROS}"\n}}\n'
    else:
        text = f"{text}-- sha256 of this file: {ZEROS}\n"
    data = bytearray(text.encode())
    seal(memoryview(data), suffix)
    return bytes(data)


def without_line(text: str) -> str:
    """A group's definition without its last line, if that holds a digest."""
    return _LINE.sub("", text)


def parquet(tables: pa.Table | Sequence[pa.Table], metadata: Mapping[str, str] | None = None) -> bytes:
    """A small table as the bytes of a Parquet file with its digest; of several tables each is a row group."""
    parts = [tables] if isinstance(tables, pa.Table) else tables
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink, parts[0].schema, compression="zstd", write_page_checksum=True, store_schema=False
    ) as writer:
        for part in parts:
            writer.write_table(part)
        writer.add_key_value_metadata({**(metadata or {}), DIGEST_KEY: ZEROS})
    data = sink.getbuffer()
    seal(data)
    return bytes(data)


def carried(path: Path) -> str | None:
    """The digest that a file carries, be it right or wrong, or None; reads the file's end alone."""
    with path.open("rb") as file:
        at = _find(file, path.suffix)
        if at is None:
            return None
        file.seek(at)
        return file.read(64).decode("ascii", "replace")


def problem(path: Path) -> str | None:
    """`CHANGED`, `CUT_OFF`, `MISSING`, or None for a file as it was written; reads all of it, a block at a time."""
    with path.open("rb") as file:
        return _problem(file, path.suffix)


def _problem(file: BinaryIO, suffix: str) -> str | None:
    at = _find(file, suffix)
    if at is None:
        return CUT_OFF if suffix == ".parquet" and not _has_end(file) else MISSING
    file.seek(0)
    digest = hashlib.sha256()
    left = at
    while left and (block := file.read(min(left, _BLOCK))):
        digest.update(block)
        left -= len(block)
    written = file.read(64)
    digest.update(ZEROS.encode())
    while block := file.read(_BLOCK):
        digest.update(block)
    return None if digest.hexdigest().encode() == written else CHANGED


def fault(path: Path, read: Callable[[], object], *, deep: bool) -> str | None:
    """The fault of a file, or None: what `read` raises, and with `deep` first whether its bytes are as written."""
    try:
        if deep and (changed := problem(layout.plain(path))):
            return changed
        read()
    except DamagedFile as error:
        return error.reason
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None


def _has_end(file: BinaryIO) -> bool:
    file.seek(max(0, file.seek(0, 2) - len(_MAGIC)))
    return file.read() == _MAGIC


def _find(file: BinaryIO, suffix: str) -> int | None:
    skipped = max(0, file.seek(0, 2) - _WITHIN)
    file.seek(skipped)
    at = _PLACES[suffix](file.read())
    return None if at is None else skipped + at
