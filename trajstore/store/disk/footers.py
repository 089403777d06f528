"""The footer of a sealed Parquet file, changed without a look at the rows before it."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from trajstore.schema import META_KEY
from trajstore.store.disk import digests

_MAGIC = b"PAR1"
# Thrift's compact protocol: a text is its length, seven bits a byte, and its bytes; 0x18 says that one follows.
_KEY = b"\x18" + bytes([len(META_KEY)]) + META_KEY.encode() + b"\x18"


def with_model(data: bytes, model: str) -> bytearray:
    """A file's bytes with another model in its facts, sealed anew; the rows are the same bytes.

    Raises `ValueError` for bytes that are not those that were written.
    """
    if not data.endswith(_MAGIC) or not digests.is_sealed(data):
        raise ValueError(digests.CHANGED)
    length = int.from_bytes(data[-8:-4], "little")
    rows, footer = data[: -8 - length], data[-8 - length : -8]
    if footer.count(_KEY) != 1:
        raise ValueError("its footer lacks facts")
    at = footer.index(_KEY) + len(_KEY)
    start, size = _length(footer, at)
    text = json.dumps({**json.loads(footer[start : start + size]), "model": model}).encode()
    changed = footer[:at] + _encoded(len(text)) + text + footer[start + size :]
    made = bytearray(rows + changed + len(changed).to_bytes(4, "little") + _MAGIC)
    digests.seal(memoryview(made))
    if (pq.read_metadata(pa.BufferReader(made)).metadata or {}).get(META_KEY.encode()) != text:
        raise ValueError("its footer is of another make")
    return made


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return the start of a text whose length stands here, and that length."""
    size = shift = 0
    while True:
        size |= (data[at] & 0x7F) << shift
        if not data[at] & 0x80:
            return at + 1, size
        at, shift = at + 1, shift + 7


def _encoded(length: int) -> bytes:
    """A length as Thrift writes it."""
    out = bytearray()
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length])
