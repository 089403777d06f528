"""The streams between a command and the terminal: all that is printed as text goes through `trajstore.text.visible`.

Names, texts and error messages may come from somebody else's store, file or model, and must not steer a terminal.
Answers of queries as csv, json and parquet are written as bytes (`sys.stdout.buffer`) and keep what is there.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from trajstore.text import visible

_BAR = re.compile(r"\n*(?:\x1b\[A)*\Z|\r")
"""Characters with which a library's progress bar draws itself anew: the way up, or back to the start of the line."""


class VisibleStream:
    """A text stream that makes what is written to it visible, and is otherwise the stream behind it."""

    def __init__(self, behind: TextIO) -> None:
        self.behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def write(self, text: str) -> int:
        """Write a text, as `TextIO.write`."""
        start = bar.end() if (bar := _BAR.match(text)) else 0
        self.behind.write(text[:start] + visible(text[start:]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other."""
        for line in lines:
            self.write(line)


def make_visible() -> None:
    """From here on, stdout and stderr make visible what is written to them."""
    if not isinstance(sys.stdout, VisibleStream):
        sys.stdout = cast(TextIO, VisibleStream(sys.stdout))
    if not isinstance(sys.stderr, VisibleStream):
        sys.stderr = cast(TextIO, VisibleStream(sys.stderr))


@contextlib.contextmanager
def visible_streams() -> Iterator[None]:
    """Inside the block, stdout and stderr make visible what is written to them."""
    before = sys.stdout, sys.stderr
    make_visible()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def stream_behind(stream: TextIO) -> TextIO:
    """The stream itself, for what has been made visible already and is given its colours."""
    return stream.behind if isinstance(stream, VisibleStream) else stream
