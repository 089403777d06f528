"""Token groups: named sets of (dataset, context, position), each a view in the catalog's schema `groups`.

Some come with the store; others are added as a query, as sites, or as a Python function whose sites are kept as a
table. A definition is tried before anything is written. A table is stale when what it was made from has changed: it
keeps the sites that still stand for the tokens they were found at, and those who read it are warned.
"""

from __future__ import annotations

import builtins
import contextlib
import inspect
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import numpy as np

from trajstore.errors import DamagedFile, GroupError, StaleGroup, TrajstoreError, UnknownName
from trajstore.progress import SILENT, Progress
from trajstore.schema import check_group_name
from trajstore.store.catalog import group_expressions, read_only
from trajstore.store.catalog.dependencies import Foundations
from trajstore.store.disk import catalog_lock, layout
from trajstore.store.files import group_files, group_tables
from trajstore.store.files.group_files import Definition
from trajstore.store.files.group_tables import Code, GroupSites, TableFacts
from trajstore.store.groups import given_sites, named_functions, python_functions, trial, writes
from trajstore.store.groups import refresh as grouprefresh
from trajstore.store.groups import sizes as groupsizes
from trajstore.store.groups.kept_tables import KeptTables
from trajstore.store.groups.sizes import Counted
from trajstore.store.groups.writes import GroupTable
from trajstore.store.quoting import identifier, quoted
from trajstore.store.session import Session

if TYPE_CHECKING:
    from trajstore.store.files.datasets import Dataset

Origin = Literal["trajstore", "sql", "macro", "python", "sites"]
"""Origin of a group; groups of the origin trajstore come with the package."""

_CALL = re.compile(r"\s*(\w+)\s*\(.*\)\s*", re.DOTALL)


@dataclass(frozen=True)
class Group:
    """A group of a store."""

    name: str
    description: str
    sql: str
    """Its query, as written."""
    origin: Origin
    sha256: str
    """Hash of its query with all that this stands on, as `sha256:…`; "" where a table under it cannot be read."""
    made: str | None
    """When its file was written, or its table made, UTC; None for one that comes with trajstore."""
    code: Code | None
    """The Python function that found its sites."""
    depends_on: tuple[str, ...]
    """Names in its query: groups.NAME, views, MACRO()."""
    sizes: dict[str, int]
    """Tokens in each dataset; a dataset without any is left out."""
    stale: str = ""
    """Why it is not what would be found now, or ""."""
    problem: str = ""
    """Why it cannot be computed, or ""."""
    used_by: tuple[str, ...] = field(default=(), compare=False)
    """Own groups that stand on it; `list` does not look for them."""

    @property
    def shipped(self) -> bool:
        """Return whether it came with trajstore."""
        return self.origin == "trajstore"


class Groups:
    """The groups of one store: `store.groups`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._warned: set[str] = set()
        self._known: tuple[frozenset[tuple[str, int, int]], Foundations] | None = None

    def __repr__(self) -> str:
        return f"Groups({', '.join(self.names())})"

    def names(self) -> builtins.list[str]:
        """All groups, sorted; reads files only."""
        return sorted({**group_files.shipped(), **group_files.own(self._session.path)})

    def list(self, *, sizes: bool = True, progress: Progress = SILENT) -> builtins.list[Group]:
        """All groups with their size in each dataset, or with `sizes` False without.

        Sizes that were counted before are not counted again, unless they depend on losses. One that cannot be computed
        says so in `problem`.
        """
        foundations = self._foundations()
        names = sorted(foundations.definitions)
        counted: dict[str, Counted] = {}
        if sizes:
            counted = groupsizes.count(self._session, names, foundations, progress, ready=self.current)
        return [self._describe(name, foundations, counted.get(name, Counted({}))) for name in names]

    def show(self, name: str) -> Group:
        """One group, with the groups that stand on it; raises `UnknownName`."""
        foundations = self._foundations()
        foundations.definition(name)
        counted = groupsizes.count(self._session, [name], foundations, ready=self.current)[name]
        return self._describe(name, foundations, counted, trial.users(self._session.path, name))

    def add(self, name: str, definition: str | Any, description: str = "", *, replace: bool = False) -> Group:
        """Add a group from a query that gives dataset, context, position, or from a frame of sites that has them.

        Leading `--` lines of a query are its description where none is given. A frame is Polars, pandas, Arrow or
        anything with `__arrow_c_stream__`; its other columns are left aside, and a site that does not exist raises
        `GroupError`. The same definition again changes nothing; another one under the same name raises `GroupError`
        unless `replace`, as does a query that does not run, or without which the groups that stand on it would not.
        """
        self._check_free(name)
        if not isinstance(definition, str):
            sites = given_sites.check_sites(given_sites.frame_of(definition), self._session.dataset)
            return self._add_table(name, description, sites, None, every=False, replace=replace)
        header, body = group_files.parse(definition)
        new = Definition(name, body, (description or header).strip())
        if new.is_table:
            raise GroupError(
                f"{body} is how a kept table is read, and no definition. Give its sites: trajstore group add NAME "
                "--sites FILE, or --python MODULE:FUNCTION"
            )
        other = group_files.own(self._session.path).get(name)
        if other is not None and not replace:
            writes.refuse_another(self._session.path, other, new, None)
            new = other
        # Whoever was killed may have left no view, another one, or a table that nothing reads any more.
        left_over = group_tables.path_of(self._session.path, name).exists()
        left_over |= name in group_files.announced(self._session.path)
        if other != new or left_over or not self._is_current(name):
            users = trial.users(self._session.path, name) if other is not None else []
            sizes = trial.tried(self._session, new, [self.definition(user) for user in users])
            writes.put(self._session.path, new, None, replace=replace)
            self._session.refresh()
            return self._added(name, sizes)
        return self._added(name)

    def add_macro(self, name: str, call: str, description: str = "", *, replace: bool = False) -> Group:
        """Add a group from a table macro with its arguments, such as `position_is(499)`, or an expression of groups.

        The call is its description where none is given. Raises as `add`.
        """
        try:
            expression = group_expressions.parse(call)
        except GroupError:
            expression = None
        if expression is None or group_expressions.is_name(call):
            raise GroupError(
                f"{call!r} is no macro with its arguments, such as position_is(499), and no groups joined, such as "
                "digits & position_is(499). A query is given with: trajstore group add NAME --sql QUERY"
            )
        match = _CALL.fullmatch(call)
        if match is None or not group_expressions.is_call(call):
            self.check(call)
            return self.add(name, expression.sql, description or call.strip(), replace=replace)
        macros = "FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal"
        rows = self._session.sql(f"SELECT DISTINCT function_name {macros}").fetchall()
        known = sorted(str(macro) for (macro,) in rows)
        if match[1].lower() not in known:
            raise UnknownName("macro", match[1], known, "See what they do: trajstore schema")
        return self.add(name, f"FROM {call.strip()}", description or call.strip(), replace=replace)

    def add_sites(
        self, name: str, file: str | os.PathLike[str], description: str = "", *, replace: bool = False
    ) -> Group:
        """Add a group from a .csv or .parquet file of sites, as `add` does from a frame; raises also `BadSource`."""
        return self.add(name, given_sites.read_sites(Path(file)), description, replace=replace)

    def add_python(
        self,
        name: str,
        function: str,
        description: str = "",
        *,
        datasets: Sequence[str] | None = None,
        replace: bool = False,
        progress: Progress = SILENT,
    ) -> Group:
        """Add a group from MODULE:FUNCTION, or a named function, run over each context of these datasets, or of all.

        The function gets one context's tokens as a Polars frame (dataset, context, position, token, text, item,
        item_position, role; a row a token, position 0 included) and returns a list, numpy array or Polars series of as
        many bools. The module is looked for in the working folder first. Its docstring's first paragraph is the
        description where none is given. Raises `GroupError` for what the function raises or gives that is no mask, and
        as `add`; then nothing is written. See `refresh` for what makes it stale.
        """
        self._check_free(name)
        run, code = python_functions.load_function(named_functions.resolve(function))
        names = self._session.dataset_names() if datasets is None else dict.fromkeys(datasets)
        chosen = [self._session.dataset(dataset) for dataset in names]
        description = description.strip() or (inspect.getdoc(run) or "").partition("\n\n")[0]
        if not replace and (made := self._table(name)) is not None and made.code == code:
            digests = {dataset: part.files_sha256 for dataset, part in made.parts.items()}
            same = {dataset.name: dataset.files_sha256 for dataset in chosen} == digests
            if same and made.every_dataset == (datasets is None) and made.description == description:
                return self._added(name)
        sites = python_functions.find_sites(run, name, chosen, progress)
        return self._add_table(name, description, sites, code, every=datasets is None, replace=replace)

    def refresh(
        self, names: Sequence[str] | None = None, *, progress: Progress = SILENT
    ) -> builtins.list[str]:
        """Find anew what is stale of groups by a Python function, all by default; returns those that were.

        A group is stale when its module's file or one of its datasets (tokens, texts, roles) is not what it was, or
        when a dataset came later and it was made for all of them. If the code changed all datasets are run over again,
        else only those that changed or came. Raises `GroupError` for a group of another kind, and as `add_python`.
        """
        own = group_files.own(self._session.path)
        every = [
            name
            for name, definition in own.items()
            if definition.is_table and self._made(name).code is not None
        ]
        datasets = self._datasets()
        done = []
        for name in every if names is None else dict.fromkeys(names):
            if name not in every:
                self.definition(name)
                raise GroupError(
                    f"The group {name!r} is not found by a Python function, so there is nothing to find anew. Sites "
                    "that were given are put in place of others with: trajstore group add --sites FILE --replace"
                )
            if grouprefresh.refresh(self._session.path, name, self._made(name), datasets, progress):
                done.append(name)
                self._warned.discard(name)
        return done

    def stale(self) -> dict[str, str]:
        """Why each group that is kept as a table is not what would be found now, by name; "" where it is."""
        stale = {}
        for name, definition in group_files.own(self._session.path).items():
            if definition.is_table:
                with contextlib.suppress(DamagedFile):
                    stale[name] = self._why_stale(name)
        return stale

    def drop(self, name: str) -> None:
        """Remove one of the store's own groups; raises `GroupError` if it is not, or others stand on it."""
        with catalog_lock.turn(self._session.path):
            cut_short = name not in self.names() and group_tables.path_of(self._session.path, name).exists()
            if not cut_short:
                self.definition(name)
            if name in group_files.shipped():
                raise GroupError(f"The group {name!r} comes with trajstore and stays.")
            if not cut_short and (users := trial.users(self._session.path, name)):
                raise GroupError(f"The group {name!r} is used by {', '.join(users)}. Drop those first.")
            writes.remove(self._session.path, name)
        self._session.refresh()

    def members(self, group: str, dataset: Dataset, kept: KeptTables | None = None) -> np.ndarray:
        """Rows of the dataset's tokens.parquet that are in a group, or in an expression of groups; int64, ascending.

        With `kept`, those in what the tables have of the dataset.

        Raises as `current`, and `GroupError` where the group cannot be computed, or stands on a table that was made
        when the dataset had other tokens.
        """
        view = self.current(group).name
        for name in group_expressions.parse(group).names:
            self._require_same_tokens(name, dataset)
        here = f"groups.{identifier(view)} WHERE dataset = {quoted(dataset.name)}"
        ask = f"SELECT context, position FROM {here}"
        try:
            columns = (self._session.sql(ask) if kept is None else kept.execute(ask)).fetchnumpy()
        except duckdb.Error as error:
            raise _broken(group, error) from error
        context = np.ma.filled(columns["context"], -1).astype(np.int64)
        position = np.ma.filled(columns["position"], -1).astype(np.int64)
        known = dataset.has_sites(context, position)
        if not known.all():
            at = int(np.flatnonzero(~known)[0])
            raise GroupError(
                f"The group {group!r} names context {context[at]}, position {position[at]} of {dataset.name}, "
                "which does not exist."
            )
        return np.sort(dataset.tokens_at(context, position))

    def _require_same_tokens(self, name: str, dataset: Dataset) -> None:
        """Raise `GroupError` where a group stands on a table that was made when the dataset had other tokens."""
        for table in self._foundations().tables_under(name):
            made = self._made(table)
            part = made.parts.get(dataset.name)
            if part is not None and part.tokens_sha256 != dataset.tokens_sha256:
                mend = grouprefresh.mend(table, made)
                raise GroupError(f"The group {name!r} was made when {dataset.name} had other tokens. {mend}")

    def check(self, *groups: str) -> None:
        """Raise `UnknownName`, `GroupError` or `QueryError` for what is no group and no expression of groups."""
        read = [group_expressions.parse(group) for group in groups]
        for name in (name for expression in read for name in expression.names):
            self.definition(name)
        for call in (call for expression in read for call in expression.calls):
            if problem := given_sites.lacking(self._session.sql(f"FROM {call}").columns):
                raise GroupError(
                    f"{call} is no group: one gives the columns dataset, context, position; this gives {problem}."
                )

    def description(self, group: str) -> str:
        """A group's description, or that of an expression; raises `UnknownName` and `GroupError`."""
        of_name = group_expressions.is_name(group)
        return (self.definition(group) if of_name else group_expressions.parse(group).definition).description

    def definition(self, name: str) -> Definition:
        """A group's definition, read from its file alone; raises `UnknownName`."""
        return self._foundations().definition(name)

    def current(self, group: str) -> Definition:
        """The definition of a group, with its view in the session as the file has it now: to call before it is queried.

        Another process may have added or changed it since the session began, or died before the catalog had it. Warns
        of what is stale under it. An expression of groups gets a view of its own in this session alone. Raises
        `UnknownName`, `DamagedFile`, and `GroupError` where it no longer works; for an expression also as `check`.
        """
        if group_expressions.is_name(group):
            return self._current(group)
        self.check(group)
        expression = group_expressions.parse(group)
        for name in expression.names:
            self._current(name)
        if expression.definition.name not in self._session.views_of_groups():
            try:
                self._session.define([expression.definition])
            except (duckdb.Error, TrajstoreError) as error:
                raise _broken(group, error) from error
        return expression.definition

    def _current(self, name: str) -> Definition:
        self._session.follow_groups()
        definition = self.definition(name)
        if name not in (views := self._session.views_of_groups()):
            try:
                under = self._foundations().groups_under(name)
                self._session.define([group for group in under if group.name not in views])
            except (duckdb.Error, TrajstoreError) as error:
                raise _broken(name, error) from error
        for table in self._foundations().tables_under(name):
            self._warn(table)
        return definition

    def notice(self, query: str) -> None:
        """Warn of the stale groups that a query names; takes next to nothing where no group is kept as a table."""
        if any(file.endswith(".parquet") for file, _, _ in group_files.signature(self._session.path)):
            foundations = self._foundations()
            for name in foundations.definitions.keys() & set(re.findall(r"\w+", query)):
                for table in foundations.tables_under(name):
                    self._warn(table)

    # adding

    def _check_free(self, name: str) -> None:
        """Raise `BadName` or `GroupError` for a name that no group of one's own may bear."""
        check_group_name(name)
        if name in group_files.shipped():
            raise GroupError(f"The group {name!r} comes with trajstore. Choose another name.")
        if name in self._session.relations():
            raise GroupError(
                f"{name!r} is the name of a table of the store, which groups stand on. Choose another."
            )

    def _add_table(
        self,
        name: str,
        description: str,
        sites: builtins.list[GroupSites],
        code: Code | None,
        *,
        every: bool,
        replace: bool,
    ) -> Group:
        new = Definition(name, group_files.table_query(name), description.strip())
        table = GroupTable(
            *group_tables.encode_table(name, new.description, sites, code, every_dataset=every)
        )
        other = group_files.own(self._session.path).get(name)
        if other is not None and not replace:
            writes.refuse_another(self._session.path, other, new, table)
            if self._is_current(name) and not self._why_stale(name):
                return self._added(name)
            new = other
        writes.put(self._session.path, new, table, replace=replace)
        self._session.refresh()
        return self._added(name)

    def _added(self, name: str, sizes: dict[str, int] | None = None) -> Group:
        """A group after it was put in place, with its sizes if they are known."""
        self._warned.discard(name)
        try:
            if sizes is None:
                return self.show(name)
            foundations = self._foundations()  # read once, since another job may drop the group at any time
            foundations.definition(name)
        except UnknownName as error:
            raise GroupError(
                f"The group {name!r} was added, and another job has dropped it meanwhile."
            ) from error
        users = trial.users(self._session.path, name)
        return self._describe(name, foundations, Counted(sizes), users)

    def _is_current(self, name: str) -> bool:
        """Return whether the catalog has a view for a group now."""
        self._session.refresh()
        return name in self._session.views_of_groups()

    # what there is

    def _describe(
        self, name: str, foundations: Foundations, counted: Counted, users: Sequence[str] = ()
    ) -> Group:
        definition, made = foundations.definitions[name], None
        problem = counted.problem
        try:
            made = self._made(name) if definition.is_table else None
            sha256 = foundations.sha256(name)
            stale = "; ".join(filter(None, map(self._why_stale, foundations.tables_under(name))))
        except DamagedFile as error:
            sha256, stale, problem = "", "", problem or str(error)
        call = _CALL.fullmatch(definition.sql.removeprefix("FROM "))
        origin: Origin = "sql"
        when = None
        if name in foundations.shipped:
            origin = "trajstore"
        elif definition.is_table:
            origin = "sites" if made is None or made.code is None else "python"
            when = made.time if made else None
        else:
            origin = "macro" if call and definition.sql.startswith("FROM ") else "sql"
            with contextlib.suppress(FileNotFoundError):  # another job has dropped it
                changed = layout.group_path(self._session.path, name).stat().st_mtime
                when = datetime.fromtimestamp(changed, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return Group(
            name,
            made.description if made else definition.description,
            definition.sql,
            origin,
            sha256,
            when,
            made.code if made else None,
            tuple(foundations.direct(name)),
            counted.sizes,
            stale,
            problem,
            tuple(users),
        )

    # tables

    def _made(self, name: str) -> TableFacts:
        return group_tables.read_table(self._session.path, name)

    def _table(self, name: str) -> TableFacts | None:
        """Return how a group's table was made, or None for one that is not kept as a table, or is not there."""
        definition = group_files.own(self._session.path).get(name)
        return self._made(name) if definition is not None and definition.is_table else None

    def _foundations(self) -> Foundations:
        """Return what the groups stand on, read anew when one of their files has changed."""
        seen = group_files.signature(self._session.path)
        if self._known is None or self._known[0] != seen:
            self._known = seen, Foundations.of(self._session.path)
        return self._known[1]

    def _datasets(self) -> dict[str, Dataset]:
        return {name: self._session.dataset(name) for name in self._session.dataset_names()}

    def _why_stale(self, name: str) -> str:
        """Return why a table is not what would be found now, or ""."""
        return grouprefresh.why_stale(self._made(name), self._datasets())

    def _warn(self, name: str) -> None:
        """Warn of a stale table, once in a session."""
        if name not in self._warned and (why := self._why_stale(name)):
            self._warned.add(name)
            mend = grouprefresh.mend(name, self._made(name))
            warnings.warn(StaleGroup(name, why, mend), stacklevel=4)


def _broken(name: str, error: Exception) -> GroupError:
    return GroupError(f"The group {name!r} cannot be computed: {read_only.explained(error)}")
