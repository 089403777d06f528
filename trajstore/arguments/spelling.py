"""The spelling of arguments in messages: Python's, unless a front end that is at work has its own.

The library says `option("batch_tokens", 512)`, which reads `batch_tokens=512` in Python and `--batch-tokens 512` from
the command line, whose spelling is in `trajstore.cli.option_spelling`. Imports nothing of trajstore.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class QueryParameter(str):
    """The name of a named query's parameter."""

    __slots__ = ()


class Spelling:
    """The spelling of arguments in Python."""

    def name(self, argument: str) -> str:
        """Return an argument's name by itself."""
        return argument

    def advised(self, argument: str, value: object) -> str:
        """Return an argument with a value that it can be given; a text in capitals stands for any."""
        shown = value if isinstance(value, str) and value.isupper() else repr(value)
        return f"{argument}={shown}"

    def given(self, argument: str, value: object) -> str:
        """Return an argument with the value that it was given."""
        return f"{argument}={value!r}"


_current = [Spelling()]
_here: ContextVar[Spelling | None] = ContextVar("spelling", default=None)


def option(argument: str, value: object = None) -> str:
    """Return an argument by name, or with a value that it can be given, in the spelling of who is spoken to."""
    return current().name(argument) if value is None else current().advised(argument, value)


def as_given(argument: str, value: object) -> str:
    """Return an argument with the value that it was given, in the spelling of who is spoken to."""
    return current().given(argument, value)


def current() -> Spelling:
    """Return the spelling of who is spoken to."""
    return _here.get() or _current[-1]


def speaks_python() -> bool:
    """Return whether messages are for somebody who calls the library."""
    return type(current()) is Spelling


@contextmanager
def spelled(spelling: Spelling) -> Iterator[None]:
    """Inside the block, messages are in this spelling, in all threads."""
    _current.append(spelling)
    try:
        yield
    finally:
        _current.pop()


@contextmanager
def spelled_here(spelling: Spelling) -> Iterator[None]:
    """Inside the block, messages of this thread are in this spelling, whatever that of the others is."""
    before = _here.set(spelling)
    try:
        yield
    finally:
        _here.reset(before)
