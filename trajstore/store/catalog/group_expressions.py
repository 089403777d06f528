"""Expressions of groups: a group's name, a table macro's call, or several of them joined as sets.

`digits`, `position_is(500)`, `digits & position_is(500)`, `(digits | stopword) - hapax`: & takes the tokens of both, |
those of either, - those of the first without the second. Each becomes one query, in which names are quoted; nothing
is run here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from trajstore.errors import GroupError
from trajstore.store.files.group_files import Definition
from trajstore.store.quoting import identifier

_SIGNS = re.compile(r"[&|()~-]")
_NAME = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MOST_BRACKETS = 50
"""Brackets in brackets: each is a level of the query, of which DuckDB and Python stand only so many."""
_SET_OPERATIONS = {"&": "INTERSECT", "|": "UNION", "-": "EXCEPT"}


@dataclass(frozen=True)
class GroupExpression:
    """A set of tokens, as an expression of groups."""

    text: str
    """As written."""
    sql: str
    """A query that gives dataset, context, position."""
    names: tuple[str, ...]
    """Groups that it names, each once."""
    calls: tuple[str, ...]
    """Macro calls in it, each once."""

    @property
    def definition(self) -> Definition:
        """The query as a view of a session, under a name that no group may bear."""
        digits = hashlib.sha256(self.sql.encode()).hexdigest()[:16]
        return Definition(f"_{digits}", self.sql, f"Tokens of {self.text.strip()}.")


def parse(text: str) -> GroupExpression:
    """Read an expression; raises `GroupError` for a text that is none."""
    if not _SIGNS.search(text):
        return GroupExpression(text, _of_group(text), (text,), ())
    reader = _Reader(text)
    sql = reader.whole()
    return GroupExpression(text, sql, tuple(dict.fromkeys(reader.names)), tuple(dict.fromkeys(reader.calls)))


def is_name(text: str) -> bool:
    """Return whether this can be nothing but a group's name."""
    return not _SIGNS.search(text)


def is_call(text: str) -> bool:
    """Return whether this is a single macro call."""
    if is_name(text):
        return False
    try:
        return parse(text).calls == (text.strip(),)
    except GroupError:
        return False


def _of_group(name: str) -> str:
    return f"SELECT dataset, context, position FROM groups.{identifier(name)}"


@dataclass
class _Reader:
    """Reads an expression from left to right, and writes its query."""

    text: str
    at: int = 0
    names: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    depth: int = 0

    def whole(self) -> str:
        sql = self._operation()
        if self._sign():
            raise self._unreadable()
        return sql

    def _operation(self) -> str:
        """The query of operands that one sign joins."""
        sql = self._operand()
        joined_by = self._sign()
        if joined_by not in _SET_OPERATIONS:
            return sql
        while (sign := self._sign()) in _SET_OPERATIONS:
            if sign != joined_by:
                raise GroupError(
                    f"The group {self.text!r} has {joined_by} beside {sign} without brackets, which can be read in two "
                    f"ways. Put brackets around what belongs together, as in (a {joined_by} b) {sign} c."
                )
            self.at += 1
            sql = f"({sql}) {_SET_OPERATIONS[sign]} ({self._operand()})"
        return sql

    def _operand(self) -> str:
        """The query of a name, a call, or an expression in brackets."""
        if self._sign() == "(":
            if self.depth == _MOST_BRACKETS:
                raise GroupError(
                    f"The group {self.text[:40]!r}… has more than {_MOST_BRACKETS} brackets in each other. Keep a part "
                    "of it as a group of its own: trajstore group add NAME --from EXPRESSION"
                )
            self.at, self.depth = self.at + 1, self.depth + 1
            sql = self._operation()
            if self._sign() != ")":
                raise self._unreadable()
            self.at, self.depth = self.at + 1, self.depth - 1
            return sql
        name = _NAME.match(self.text, self.at)
        if name is None:
            raise self._unreadable()
        self.at = name.end()
        if self._sign() != "(":
            self.names.append(name[0])
            return _of_group(name[0])
        self.at = self._end_of_call()
        call = self.text[name.start() : self.at]
        self.calls.append(call)
        return f"SELECT dataset, context, position FROM {call}"

    def _sign(self) -> str:
        """The next sign that is no space, or "" at the end."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _end_of_call(self) -> int:
        """Return the end of the call whose bracket opens here: after the bracket that closes it, outside of quotes."""
        at, waiting = self.at, ""
        while at < len(self.text):
            sign = self.text[at]
            if quoted := _QUOTED.match(self.text, at):
                at = quoted.end()
                continue
            at += 1
            if sign in _CLOSING:
                waiting += _CLOSING[sign]
            elif waiting.endswith(sign):
                waiting = waiting[:-1]
                if not waiting:
                    return at
        raise self._unreadable()

    def _unreadable(self) -> GroupError:
        rest = self.text[self.at :].strip()
        where = f"at {rest!r}" if rest else "at its end"
        return GroupError(
            f"Cannot read the group {self.text!r} {where}. A group is a name, a macro's call such as position_is(500), "
            "or these joined by & (in both), | (in either), - (in the first alone) and brackets."
        )
