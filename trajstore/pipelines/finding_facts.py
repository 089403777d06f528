"""Findings as analyses make them: default names, facts on what was read, and results that can be kept as findings.

A finding is known again by these facts: datasets by the hash of their tokens, columns by that of their sites, groups by
that of their definition.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl
import pyarrow as pa

from trajstore.display import Drawn
from trajstore.pipelines.slice_hashes import hash_columns
from trajstore.schema import is_name
from trajstore.store.catalog.dependencies import Foundations
from trajstore.store.catalog.group_expressions import is_call
from trajstore.store.files import findings
from trajstore.store.files.finding_tables import TABLES

if TYPE_CHECKING:
    from trajstore.store.files.finding_kinds import Tables
    from trajstore.store.files.findings import Replace
    from trajstore.store.matrix.matrix import Sites
    from trajstore.store.store import Store

_LONGEST = 40
"""Of a part of a name: a list of steps may be of any length, the name of a folder may not."""


@dataclass(frozen=True)
class Place:
    """The kind and name of a finding."""

    name: str
    replace: Replace
    """As `Store.add_finding` takes it."""

    @property
    def there(self) -> bool:
        """Return whether a finding that was made of the same request is there, and stays if it holds the same."""
        return self.replace == "same"


@dataclass(frozen=True)
class Request:
    """An analysis before it is computed: which finding it would make."""

    kind: str
    default_name: str
    """The name of a finding that is given none."""
    facts: Mapping[str, Any]
    """The part of the finding's facts that states the request, by which the same request is known again."""

    def place(self, store: Store, name: str | None = None, *, replace: bool = False) -> Place:
        """Return the place of its finding, to be asked before long work.

        Raises `FindingExists` where a finding of another request has the name, unless `replace`.
        """
        chosen = name or self.default_name
        if not replace and findings.is_there(store.path, self.kind, chosen, self.facts):
            return Place(chosen, "same")
        return Place(chosen, replace)


@dataclass(frozen=True, repr=False, kw_only=True)
class Result(Drawn):
    """The result of an analysis, which can be drawn, and kept as a finding of the store that it was computed from."""

    summaries: ClassVar[tuple[str, ...]]
    """The tables that a notebook shows."""
    store: Store = field(repr=False)
    request: Request = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    """Inputs and method, as its finding records them."""

    @property
    def schemas(self) -> Tables:
        """The columns of its finding's tables, by the tables' names."""
        return TABLES[self.request.kind]

    @abstractmethod
    def rows(self, table: str) -> Iterator[pl.DataFrame]:
        """The rows of one of its finding's tables, part by part."""

    def table(self, name: str) -> pl.DataFrame:
        """One of its finding's tables, by its name or that of its view in SQL; raises `UnknownName`."""
        table = findings.table_named(self.request.kind, self.schemas, name)
        schema = self.schemas[table]
        parts = [findings.converted(rows, schema) for rows in self.rows(table)]
        return pl.DataFrame(pa.concat_tables([schema.empty_table(), *parts]))

    def tables(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """The tables that a notebook shows."""
        for name in self.summaries:
            yield name, self.table(name)

    def keep(self, name: str | None = None, *, replace: Replace = False) -> str:
        """Keep it in its store as a finding, and return the finding's name.

        Raises `FindingExists` unless `replace`; with "same" one that holds the same is left as it is.
        """
        kept, kind = name or self.request.default_name, self.request.kind
        with self.store.add_finding(kind, kept, self.facts, replace=replace) as writer:
            for table in self.schemas:
                with writer.stream(table) as put:
                    for rows in self.rows(table):
                        put(rows)
        return kept


def finding_name(parts: Iterable[str], options: object) -> str:
    """The parts and six digits of a hash of all options, which are JSON, joined by hyphens.

    Of a part that cannot stand in a name, such as a group's expression, it takes the letters and digits.
    """
    digits = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:6]
    plain = [part if is_name(part) else name_part(part) for part in parts]
    return "-".join([*filter(None, plain), digits])


def one_or_many(names: Sequence[str], noun: str) -> str:
    """The name where there is one, else how many: `docs`, `3-datasets`."""
    return names[0] if len(names) == 1 else f"{len(names)}-{noun}"


def name_part(text: str, longest: int | None = _LONGEST) -> str:
    """A text as part of a finding's name, which may be empty: letters, digits, `.`, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text)[:longest].strip("-")


def facts_of_sites(sites: Iterable[Sites]) -> dict[str, dict[str, Any]]:
    """By dataset: the hash of its tokens, and how many and which of them are columns."""
    return {
        chosen.dataset.name: {
            "tokens_sha256": chosen.dataset.tokens_sha256,
            "columns": len(chosen.tokens),
            "columns_sha256": hash_columns(chosen),
        }
        for chosen in sites
    }


def group_hashes(store: Store, groups: Iterable[str | None]) -> dict[str, str]:
    """By group or expression: the hash of its definition and all that it stands on; a macro's call alone has none."""
    foundations = Foundations.of(store.path)
    return {
        group: foundations.sha256(group)
        for group in groups
        if group is not None and not is_call(group) and foundations.has(group)
    }


def group_hash(store: Store, group: str | None) -> str | None:
    """That of one group; none where there is no group."""
    return group_hashes(store, [group]).get(group or "")


def token_hashes(store: Store, datasets: Iterable[str]) -> dict[str, str]:
    """By dataset: the hash of its tokens; a name that the store has no dataset of, as a probe's, gives none."""
    known = store.dataset_names()
    return {name: store.dataset(name).tokens_sha256 for name in datasets if name in known}


def versions(*packages: str) -> dict[str, str]:
    """The versions of the packages that computed a finding."""
    return {package: str(importlib.import_module(package).__version__) for package in packages}
