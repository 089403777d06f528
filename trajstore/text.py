"""Texts of tokens, joined for reading, cells of tables, and reasons why a file cannot be read.

A token may be half a character. Its stray bytes stand in its text as `<0xE2>`, one escape a byte, so that
nothing is lost; joining pieces puts the bytes of neighbouring tokens back together.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from trajstore.errors import shortened

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_STRAY = "<0x"
_LONGEST_CHARACTER = 4


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
    widths = (1 if "\udc80" <= character <= "\udcff" else len(character.encode()) for character in characters)
    ends = list(accumulate(widths, initial=0))  # where each character begins, and the last one ends
    first, last = bisect_right(ends, start) - 1, bisect_left(ends, end)
    return _written(characters[:first]), _written(characters[first:last]), _written(characters[last:])


def _written(characters: str) -> str:
    return escape_stray_bytes(characters.encode("utf-8", errors="surrogateescape"))


def join_shared(texts: Sequence[str]) -> dict[int, str]:
    """Return the text to show where neighbouring tokens share a character's bytes: all of it for the first, nothing for
    the rest.

    The shortest run of tokens, at most four, whose stray bytes all come together counts as sharing.
    """
    whole: dict[int, str] = {}
    first = 0
    while first < len(texts):
        length = _shared(texts[first : first + _LONGEST_CHARACTER])
        if length > 1:
            whole[first] = join_pieces(texts[first : first + length])
            whole.update(dict.fromkeys(range(first + 1, first + length), ""))
        first += length
    return whole


def _shared(texts: Sequence[str]) -> int:
    """Return the number of these tokens, from the first, that make whole characters only together; 1 if none do."""
    for length in range(2, len(texts) + 1):
        if not all(_STRAY in text for text in texts[:length]):
            break
        if _STRAY not in join_pieces(texts[:length]):
            return length
    return 1


_SIGNS = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}

# Control characters, and those that take no place or turn the direction of what follows.
_STEERING = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_UNSEEN = re.compile(
    f"[{_STEERING}\xad\u180e\u200b-\u200d\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_UNSEEN_IN_LINES = re.compile(r"(?![\n\t])" + _UNSEEN.pattern)
_STEERING_IN_JSON = re.compile(r"(?!\n)" + f"[{_STEERING}]")


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a path that is not UTF-8
        return f"<0x{code - 0xDC00:02X}>"
    return _SIGNS.get(match[0]) or (chr(0x2400 + code) if code < 0x20 else f"<U+{code:04X}>")


def visible(text: str) -> str:
    """A text to print, of one line or several: nothing in it steers a terminal, and what has no sign is visible."""
    return _UNSEEN_IN_LINES.sub(_sign, text)


def visible_json(text: str) -> str:
    """JSON of the same value in which characters that steer a terminal are escaped."""
    return _STEERING_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shown(cell: Any) -> str:
    """A cell as text: whitespace and what has no sign visible, floats with five digits, nothing for null."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.5g}"
    return _UNSEEN.sub(_sign, str(cell))


_NOT_AN_INTEGER = re.compile(r"invalid literal for int\(\) with base 10: (.*)")


def describe_file_error(error: Exception) -> str:
    """Describe an error of a file, in our own words where Python's and numpy's are for programmers."""
    text = str(error).partition("\n")[0].rstrip(".")
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text: byte 0x{error.object[error.start]:02X} at {error.start} cannot be read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "pickle" in text or "magic string" in text:
        return "it is not an array as numpy.save writes one"
    if (
        isinstance(error, EOFError)
        or "cannot reshape array" in text
        or "mmap length" in text
        or "array header" in text
    ):
        return "it ends before its array does, or is no array"
    if match := _NOT_AN_INTEGER.fullmatch(text):
        return f"{match[1]} is no whole number"
    return shortened(text) or type(error).__name__
