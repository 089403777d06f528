"""Texts of tokens, joined for reading, and cells of tables.

A token may be half a character. Its stray bytes stand in its text as `<0xE2>`, one escape a byte, so that
nothing is lost; joining pieces puts the bytes of neighbouring tokens back together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def escape_stray_bytes(data: bytes) -> str:
    """Bytes as text: whole UTF-8 characters as they are, every other byte as `<0xNN>`."""
    shown = data.decode("utf-8", errors="surrogateescape")
    return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in shown)


def _piece_bytes(piece: str) -> bytes:
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
    return escape_stray_bytes(b"".join(map(_piece_bytes, pieces)))


def shown(cell: Any) -> str:
    """A cell as text: whitespace visible, floats with five significant digits, nothing for null."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.5g}"
    if isinstance(cell, str):
        return cell.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")
    return str(cell)
