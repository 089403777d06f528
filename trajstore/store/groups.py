"""Token groups: named sets of (dataset, context, position), each a view in the catalog's schema `groups`.

Some come with the store; others are added as a query. A definition is tried in a confined session before anything
is written, then its file is published, then the catalog's view follows.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from trajstore.errors import GroupError, QueryError, TrajstoreError, UnknownName
from trajstore.schema import check_group_name
from trajstore.store import catalog, groupfiles, layout, statements
from trajstore.store.groupfiles import Definition

if TYPE_CHECKING:
    from trajstore.store.datasets import Dataset
    from trajstore.store.store import Store

_COLUMNS = ("dataset", "context", "position")


@dataclass(frozen=True)
class Group:
    """A group of a store."""

    name: str
    description: str
    sql: str
    """Its query, as written."""
    shipped: bool
    """Whether it came with trajstore."""
    sizes: dict[str, int]
    """Tokens in each dataset."""


class Groups:
    """The groups of one store: `store.groups`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = groupfiles.signature(store.path)

    def __repr__(self) -> str:
        return f"Groups({', '.join(self.names())})"

    def names(self) -> builtins.list[str]:
        """All groups, sorted; reads files only."""
        return sorted({**groupfiles.shipped(), **groupfiles.own(self._store.path)})

    def list(self) -> builtins.list[Group]:
        """All groups with their size in each dataset."""
        return [self.show(name) for name in self.names()]

    def show(self, name: str) -> Group:
        """One group; raises `UnknownName`."""
        definition = self._current(name)
        view = catalog.identifier(name)
        rows = self._store.sql(
            f"SELECT dataset, count(*) FROM groups.{view} GROUP BY dataset ORDER BY dataset"
        )
        sizes = dict(_fetch(rows, name))
        return Group(name, definition.description, definition.sql, name in groupfiles.shipped(), sizes)

    def add(self, name: str, sql: str, description: str = "") -> Group:
        """Add a group from a query that gives dataset, context, position.

        Leading `--` lines of the query are its description where none is given. The same definition again changes
        nothing; another one under the same name raises `GroupError`, as does a query that does not run.
        """
        check_group_name(name)
        header, body = groupfiles.parse(sql)
        new = Definition(name, body, (description or header).strip())
        if name in groupfiles.shipped():
            raise GroupError(f"The group {name!r} comes with trajstore. Choose another name.")
        if name in self._store.relations():
            raise GroupError(
                f"{name!r} is the name of a table of the store, which groups stand on. Choose another."
            )
        if (other := groupfiles.own(self._store.path).get(name)) is not None:
            if other != new and (other.sql != new.sql or new.description):
                self._refuse(name, other.sql == new.sql)
            self._store.refresh()
            if self._has_view(name):
                return self.show(name)
            new = other  # whoever added it died before the catalog had it
        self._try(new)
        path, ours = layout.group_path(self._store.path, name), False
        try:
            with catalog.writing(self._store.path) as connection:
                # Whoever has the catalog has the definitions: another job may have added one since.
                if (other := groupfiles.own(self._store.path).get(name)) not in (None, new):
                    self._refuse(name, other is not None and other.sql == new.sql)
                groupfiles.create_view(connection, new)
                ours = layout.publish(self._store.path, path, new.text.encode())
        except BaseException:
            if ours:
                path.unlink(missing_ok=True)
            raise
        self._store.refresh()
        return self.show(name)

    @staticmethod
    def _refuse(name: str, only_words: bool) -> None:
        what = "description" if only_words else "definition"
        raise GroupError(
            f"There is a group {name!r} with another {what}. Drop it first: trajstore group drop {name}, or choose "
            "another name."
        )

    def drop(self, name: str) -> None:
        """Remove one of the store's own groups; raises `GroupError` if it is not, or others stand on it."""
        self.definition(name)
        if name in groupfiles.shipped():
            raise GroupError(f"The group {name!r} comes with trajstore and stays.")
        if users := self._users(name):
            raise GroupError(f"The group {name!r} is used by {', '.join(users)}. Drop those first.")
        with catalog.writing(self._store.path) as connection:
            connection.execute(f"DROP VIEW IF EXISTS groups.{catalog.identifier(name)}")
        # The file goes last: while it is there, the same call again ends what was cut short.
        layout.remove(self._store.path, layout.group_path(self._store.path, name))
        self._store.refresh()

    def members(self, name: str, dataset: Dataset) -> np.ndarray:
        """Rows of the dataset's tokens.parquet that are in the group, int64, ascending."""
        self._current(name)
        view, literal = catalog.identifier(name), catalog.quoted(dataset.name)
        rows = self._store.sql(f"SELECT context, position FROM groups.{view} WHERE dataset = {literal}")
        try:
            found = rows.fetchnumpy()
        except duckdb.Error as error:
            raise _broken(name, error) from error
        context = np.ma.filled(found["context"], -1).astype(np.int64)
        position = np.ma.filled(found["position"], -1).astype(np.int64)
        known = (context >= 0) & (context < dataset.n_contexts) & (position >= 0)
        known[known] &= position[known] < dataset.lengths[context[known]]
        if not known.all():
            at = int(np.flatnonzero(~known)[0])
            raise GroupError(
                f"The group {name!r} names context {context[at]}, position {position[at]} of {dataset.name}, "
                "which does not exist."
            )
        starts = np.cumsum(dataset.lengths) - dataset.lengths
        return np.sort(starts[context] + position)

    def definition(self, name: str) -> Definition:
        """A group's definition, read from its file alone; raises `UnknownName`."""
        known = {**groupfiles.shipped(), **groupfiles.own(self._store.path)}
        if name not in known:
            raise UnknownName("group", name, sorted(known), "Add one: trajstore group add NAME --sql QUERY")
        return known[name]

    def _current(self, name: str) -> Definition:
        """The group's definition, with its view in the session as the file has it now.

        Another process may have added or changed it since the session began, or died before the catalog had it.
        """
        if (seen := groupfiles.signature(self._store.path)) != self._seen:
            self._store.refresh()
            self._seen = seen
        definition = self.definition(name)
        if not self._has_view(name):
            try:
                self._store.define(definition)
            except (duckdb.Error, TrajstoreError) as error:
                raise _broken(name, error) from error
        return definition

    def _has_view(self, name: str) -> bool:
        """Whether the session has a view for the group."""
        there = f"SELECT 1 FROM duckdb_views() WHERE schema_name = 'groups' AND view_name = {catalog.quoted(name)}"
        return bool(self._store.sql(there).fetchall())

    def _users(self, name: str) -> builtins.list[str]:
        """Own groups whose query names this one's view."""
        with catalog.open_session(self._store.path) as session:
            others = [other for other in groupfiles.own(self._store.path) if other != name]
            bound = [other for other in others if _binds(session, other)]
            # A private copy of the catalog: without the view, those that stand on it no longer bind.
            session.execute(f"DROP VIEW IF EXISTS groups.{catalog.identifier(name)}")
            return [other for other in bound if not _binds(session, other)]

    def _try(self, group: Definition) -> None:
        """Run the definition in a confined session; raises `GroupError` with what is wrong."""
        try:
            relation = self._store.sql(group.sql)
        except TrajstoreError as error:
            raise GroupError(f"The group {group.name!r} was not added: {error}") from error
        if missing := [column for column in _COLUMNS if column not in relation.columns]:
            raise GroupError(
                f"The group {group.name!r} was not added: a definition gives the columns dataset, context, position; "
                f"this one gives {', '.join(relation.columns)} (without {', '.join(missing)})."
            )
        kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
        if wrong := [column for column in _COLUMNS[1:] if "INT" not in kinds[column]]:
            raise GroupError(
                f"The group {group.name!r} was not added: {wrong[0]} is {kinds[wrong[0]]}, and not a whole number."
            )
        session = catalog.open_session(self._store.path)
        with session:
            try:
                groupfiles.create_view(session, group)
                session.execute(f"SELECT count(*) FROM groups.{catalog.identifier(group.name)}")
                statements.check_definitions(session)
            except (duckdb.Error, QueryError) as error:
                raise GroupError(
                    f"The group {group.name!r} was not added: {statements.explained(error)}"
                ) from error


def _binds(session: duckdb.DuckDBPyConnection, name: str) -> bool:
    try:
        session.execute(f"SELECT 1 FROM groups.{catalog.identifier(name)} LIMIT 0")
    except duckdb.Error:
        return False
    return True


def _fetch(rows: duckdb.DuckDBPyRelation, name: str) -> list[tuple[str, int]]:
    try:
        return rows.fetchall()
    except duckdb.Error as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> GroupError:
    return GroupError(f"The group {name!r} cannot be computed: {statements.explained(error)}")
