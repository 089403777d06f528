"""Texts of tokens, joined for reading, and cells of tables.

A token may be half a character. Its stray bytes stand in its text as `<0xE2>`, one escape a byte, so that
nothing is lost; joining pieces puts the bytes of neighbouring tokens back together.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def escape_stray_bytes(data: bytes) -> str:
    """Bytes as text: whole UTF-8 characters as they are, every other byte as `<0xNN>`."""
    shown = data.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in shown)


def piece_bytes(piece: str) -> bytes:
    """The bytes a piece stands for, its `<0xNN>` escapes undone."""
    out = bytearray()
    end = 0
    for match in _BYTE.finditer(piece):
        out += piece[end : match.start()].encode()
        out.append(int(match[1], 16))
        end = match.end()
    return bytes(out + piece[end:].encode())


def join_pieces(pieces: Iterable[str]) -> str:
    """The text of a run of tokens; bytes that belong together are one character again."""
    return escape_stray_bytes(b"".join(map(piece_bytes, pieces)))


def join_around(before: Sequence[str], piece: str, after: Sequence[str]) -> tuple[str, str, str]:
    """The texts before, of and after a token among its neighbours: a character is its own if it holds a byte of it."""
    sides = [b"".join(map(piece_bytes, side)) for side in (before, [piece], after)]
    start, end = len(sides[0]), len(sides[0]) + len(sides[1])
    characters = b"".join(sides).decode("utf-8", errors="surrogateescape")
    widths = (1 if "\udc80" <= each <= "\udcff" else len(each.encode()) for each in characters)
    ends = list(accumulate(widths, initial=0))  # where each character begins, and the last one ends
    first, last = bisect_right(ends, start) - 1, bisect_left(ends, end)
    return _written(characters[:first]), _written(characters[first:last]), _written(characters[last:])


def _written(characters: str) -> str:
    return escape_stray_bytes(characters.encode("utf-8", errors="surrogateescape"))


_SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}

# Control characters, and those that take no place or turn the direction of what follows.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SIGNS.get(found[0]) or (chr(0x2400 + code) if code < 0x20 else f"<U+{code:04X}>")


def shown(cell: Any) -> str:
    """A cell as text: whitespace and what has no sign visible, floats with five digits, nothing for null."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.5g}"
    if isinstance(cell, str):
        return _UNSEEN.sub(_sign, cell)
    return str(cell)
