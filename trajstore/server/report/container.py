"""One block of bytes for all that a report holds: a header in JSON, and parts that it points to; compressed."""

from __future__ import annotations

import gzip
import json
from typing import Any

_LENGTH_BYTES = 8
_LEVEL = 6


class Parts:
    """Parts of a block, one behind the other."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._end = 0

    def add(self, part: bytes) -> list[int]:
        """Add a part; returns its first byte behind the header, and its length."""
        place = [self._end, len(part)]
        self._parts.append(part)
        self._end += len(part)
        return place

    def packed(self, header: dict[str, Any]) -> bytes:
        """The header's length, the header and the parts, compressed by gzip; the same parts give the same bytes."""
        text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
        length = len(text).to_bytes(_LENGTH_BYTES, "little")
        return gzip.compress(b"".join([length, text, *self._parts]), _LEVEL, mtime=0)


def unpacked(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a block, and what its parts' places count into."""
    whole = gzip.decompress(data)
    end = _LENGTH_BYTES + int.from_bytes(whole[:_LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(whole[_LENGTH_BYTES:end])
    return header, whole[end:]
