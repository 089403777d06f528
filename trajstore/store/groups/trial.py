"""Trials of group definitions in sessions of their own, and which groups stand on another.

Such a session is a private copy of the catalog, so that nothing that is tried is seen by anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from trajstore.errors import GroupError, QueryError, TrajstoreError
from trajstore.store.catalog import catalog, group_views, read_only
from trajstore.store.files import group_files
from trajstore.store.files.group_files import Definition
from trajstore.store.groups.given_sites import COLUMNS, lacking
from trajstore.store.quoting import identifier
from trajstore.store.session import Session


def users(root: Path, name: str) -> list[str]:
    """Return the store's own groups that would not work without a group.

    DuckDB is asked, without the group's view: parse trees show neither a PIVOT's tables nor what macros of the user's
    own read, and cannot tell a text from the group that it is the name of.
    """
    others = [other for other in group_files.own(root) if other != name]
    if not others:
        return []
    with catalog.open_session(root) as session:
        bound = [other for other in others if _binds(session, other)]
        session.execute(f"DROP VIEW IF EXISTS groups.{identifier(name)}")
        return [other for other in bound if not _binds(session, other)]


def tried(session: Session, group: Definition, users: Sequence[Definition]) -> dict[str, int]:
    """A definition's tokens by dataset, counted in a session in which those that use it are bound as well.

    Raises `GroupError` saying what is wrong.
    """
    _check_columns(session, group)
    with catalog.open_session(session.path) as trial:
        view = f"groups.{identifier(group.name)}"
        try:
            group_views.create_view(trial, group)
            read_only.check_views(trial)
            ask = f"SELECT dataset, count(*) FROM {view} GROUP BY dataset ORDER BY dataset"
            sizes = {str(dataset): int(n) for dataset, n in trial.execute(ask).fetchall()}
        except (duckdb.Error, QueryError) as error:
            raise GroupError(
                f"The group {group.name!r} was not added: {read_only.explained(error)}"
            ) from error
        if broken := group_views.create_views(trial, users):
            names = ", ".join(user.name for user, _ in broken)
            raise GroupError(
                f"The group {group.name!r} was not replaced: {names} would no longer work: {broken[0][1]}"
            )
    return sizes


def draft(session: Session, text: str) -> Definition:
    """A query as a group of this session alone, to be looked at before it is added; raises `GroupError`."""
    description, query = group_files.parse(text)
    _check_columns(session, Definition("draft", query, description))
    group = Definition("_draft", query, description)  # no group's name begins so
    try:
        session.define([group])
    except (duckdb.Error, TrajstoreError) as error:
        raise GroupError(f"The draft cannot be computed: {read_only.explained(error)}") from error
    return group


def _check_columns(session: Session, group: Definition) -> None:
    """Raise `GroupError` unless a query gives a group's columns."""
    try:
        relation = session.sql(group.sql)
    except TrajstoreError as error:
        raise GroupError(f"The group {group.name!r} was not added: {error}") from error
    if problem := lacking(relation.columns):
        raise GroupError(
            f"The group {group.name!r} was not added: a definition gives the columns dataset, context, position; "
            f"this one gives {problem}."
        )
    kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
    if wrong := [column for column in COLUMNS[1:] if "INT" not in kinds[column]]:
        raise GroupError(
            f"The group {group.name!r} was not added: {wrong[0]} is {kinds[wrong[0]]}, and not a whole number."
        )


def _binds(session: duckdb.DuckDBPyConnection, name: str) -> bool:
    try:
        session.execute(f"SELECT 1 FROM groups.{identifier(name)} LIMIT 0")
    except duckdb.Error:
        return False
    return True
