"""The things that a group's definition stands on: other groups, macros and views; and a hash over all of it.

Seen from the parse trees of the definitions in files: nothing is run, and the same files give the same hash with every
version of DuckDB. What a user has put into the catalog beside them is not known here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from trajstore import sqlfiles
from trajstore.errors import GroupError, UnknownName
from trajstore.store.catalog import group_expressions, parse_trees
from trajstore.store.files import group_files, group_tables
from trajstore.store.files.group_files import Definition

_TOKENS = {"tokens", "contexts", "datasets"}
"""Views of the datasets' own files, on which every other thing about tokens stands."""

# Functions whose value is another at another time, or that read what no definition names.
_UNSTEADY = re.compile(
    r"random|setseed|\w*uuid\w*|now|today|current_\w+|get_current_\w+|transaction_timestamp|txid_current|getvariable|"
    r"nextval|currval|query|query_table|glob|sniff_csv|(?:read|parquet|duckdb|pragma)_\w+"
)
_UNSTEADY_WORDS = re.compile(r"\b(?:sample|tablesample|limit)\b", re.IGNORECASE)

_MACRO = re.compile(
    r"MACRO\s+\w+\s*\([^)]*\)\s+AS\s+(?P<table>TABLE\s+)?(?P<query>.*)", re.IGNORECASE | re.DOTALL
)
_VIEW = re.compile(
    r"CREATE OR REPLACE VIEW\s+(?P<name>\w+)\s+AS\s+(?P<query>.*?)(?:;\s*(?=COMMENT\b|CREATE\b)|\Z)",
    re.DOTALL,
)
_LITERAL = re.compile(r"'([a-z][a-z0-9_]*)'")


@dataclass(frozen=True)
class Foundations:
    """The definitions that a store's groups stand on, as their files are now."""

    root: Path
    """The store's."""
    definitions: Mapping[str, Definition]
    """Shipped and own, by name."""
    shipped: frozenset[str]
    """Names of those that come with trajstore."""

    @classmethod
    def of(cls, root: Path) -> Foundations:
        """Read the store's definitions; raises `DamagedFile`."""
        shipped, own = group_files.shipped(), group_files.own(root)
        return cls(root, {**shipped, **own}, frozenset(shipped.keys() - own.keys()))

    def definition(self, name: str) -> Definition:
        """A group's definition; raises `UnknownName`."""
        if name not in self.definitions:
            hint = "Add one: trajstore group add NAME --sql QUERY"
            raise UnknownName("group", name, sorted(self.definitions), hint)
        return self.definitions[name]

    def has(self, group: str) -> bool:
        """Return whether a group is there, or all those that an expression names."""
        return all(name in self.definitions for name in group_expressions.parse(group).names)

    def with_expression(self, text: str) -> Foundations:
        """These and an expression of groups, which is known by its text."""
        expression = Definition(text, group_expressions.parse(text).sql, "")
        return replace(self, definitions={**self.definitions, text: expression})

    def direct(self, name: str) -> list[str]:
        """Return the keys that a group's query names: groups.NAME, views and MACRO(), sorted."""
        named = parse_trees.names(self.definitions[name].sql)
        macros = {f"{function}()" for function in named.functions if function in _macros()}
        known = {relation for relation in named.relations if relation in _views() or self._group(relation)}
        return sorted(known | macros)

    def all_under(self, name: str, *, through_groups: bool = True) -> set[str]:
        """The keys of all that a group stands on at any remove, itself included: groups.NAME, views and MACRO().

        Without `through_groups`, what it stands on only by way of another group is left out.
        """
        first = f"groups.{name}"
        keys: set[str] = set()
        waiting = [first]
        while waiting:
            key = waiting.pop()
            if key not in keys:
                keys.add(key)
                if through_groups or key == first or not self._group(key):
                    waiting += self._next(key)
        return keys

    def tables_under(self, name: str) -> list[str]:
        """Groups kept as a table on which a group stands, itself included if it is one; sorted."""
        return [group.name for group in self.groups_under(name) if group.is_table]

    def groups_under(self, name: str) -> list[Definition]:
        """The definitions of a group and of the groups that it stands on at any remove, by name."""
        under = {self._group(key) for key in self.all_under(name)}
        return [self.definitions[group] for group in sorted(under) if group]

    def sha256(self, name: str) -> str:
        """`sha256:…` of a group's query with all that it stands on; its description is left out.

        It may be an expression of groups. Raises `DamagedFile` where a table under it cannot be read.
        """
        if not group_expressions.is_name(name) and name not in self.definitions:
            return self.with_expression(name).sha256(name)
        digest = hashlib.sha256()
        for key in sorted(self.all_under(name)):
            digest.update(f"{key}\0{self._text(key)}\0".encode())
        return f"sha256:{digest.hexdigest()}"

    def only_tokens(self, name: str) -> bool:
        """Return whether a group's sites follow from the datasets' files and the definitions alone."""
        for key in self.all_under(name) - _TOKENS:
            if (group := self._group(key)) and self.definitions[group].is_table:
                continue
            query = self._query(key)
            if query is None or _UNSTEADY_WORDS.search(query):
                return False
            named = parse_trees.names(query)
            called = named.functions - {callee.removesuffix("()") for callee in self._next(key)}
            if not named.readable or any(_UNSTEADY.fullmatch(function) for function in called):
                return False
        return True

    def _group(self, key: str) -> str:
        """The group of a key groups.NAME that is there, or ""."""
        schema, _, name = key.partition(".")
        return name if schema == "groups" and name in self.definitions else ""

    def _next(self, key: str) -> Iterator[str]:
        query = self._query(key)
        if (
            query is None
            or key in _TOKENS
            or ((group := self._group(key)) and self.definitions[group].is_table)
        ):
            return
        named = parse_trees.names(query)
        yield from named.relations
        yield from (f"{function}()" for function in named.functions if function in _macros())
        # A macro may make a group's name of what it is given.
        yield from (f"groups.{group}" for group in _LITERAL.findall(query) if group in self.definitions)

    def _query(self, key: str) -> str | None:
        """A definition's query, or None for what no file defines."""
        if group := self._group(key):
            return self.definitions[group].sql
        return _macros().get(key.removesuffix("()")) if key.endswith("()") else _views().get(key)

    def _text(self, key: str) -> str:
        """Return the text that stands for a definition in the hash."""
        group = self._group(key)
        if group and self.definitions[group].is_table:
            made = group_tables.read_table(self.root, group)
            return made.sites_sha256 + "".join(part.tokens_sha256 for part in made.parts.values())
        return self._query(key) or ""


def ordered(groups: Iterable[Definition]) -> list[Definition]:
    """Groups in an order in which each comes after those of them that it stands on, by name where that leaves a choice.

    Raises `GroupError` where some stand on each other.
    """
    waiting = {group.name.lower(): group for group in sorted(groups, key=lambda group: group.name)}
    needed = {name: _named_groups(group, waiting.keys()) for name, group in waiting.items()}
    # Of a PIVOT there is no tree, and a macro may make a group's name of what it is given: any word may be one.
    perhaps = {
        name: set(re.findall(r"\w+", group.sql.lower())) & waiting.keys() - {name}
        for name, group in waiting.items()
    }
    done: list[Definition] = []
    while waiting:
        ready = [name for name in waiting if not needed[name] & waiting.keys()]
        if not ready:
            raise _circle(sorted(waiting), needed)
        name = min(ready, key=lambda name: len(perhaps[name] & waiting.keys()))
        done.append(waiting.pop(name))
    return done


def _named_groups(group: Definition, names: Set[str]) -> set[str]:
    named = (relation.partition(".") for relation in parse_trees.names(group.sql).relations)
    return {name for schema, _, name in named if schema == "groups"} & names


def _circle(names: Sequence[str], needed: Mapping[str, set[str]]) -> GroupError:
    name, way = names[0], [""]
    while name not in way:
        way.append(name)
        name = min(needed[name] & set(names))
    circle = way[way.index(name) :]
    return GroupError(
        f"The group {circle[0]!r} stands on itself"
        + (f", by way of {', '.join(circle[1:])}" if circle[1:] else "")
        + ". Mend or remove one of their files in the store's folder groups, then run the command again."
    )


@cache
def _macros() -> dict[str, str]:
    queries = {}
    for file in sqlfiles.load("macros"):
        match = _MACRO.search(file.body)
        assert match is not None, file.name
        queries[file.name] = match["query"] if match["table"] else f"SELECT {match['query']}"
    return queries


@cache
def _views() -> dict[str, str]:
    queries = {}
    for file in sqlfiles.load("views"):
        for match in _VIEW.finditer(file.body):
            queries[match["name"]] = match["query"]
    return queries
