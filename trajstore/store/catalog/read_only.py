"""The guard that lets a statement, or a definition in a catalog, read and do nothing else.

DuckDB lets a session write wherever it may read, and some of its functions run a text as SQL. So what a statement does
is seen from its parse tree before it runs, and all views and macros of a catalog are looked through before any of them
is used. What is seen of a catalog is what DuckDB says of it: against a file forged to mislead DuckDB itself, nothing
here helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import duckdb

from trajstore import sqlfiles
from trajstore.arguments.spelling import speaks_python
from trajstore.errors import QueryError, shortened
from trajstore.store.catalog import parse_trees
from trajstore.store.quoting import quoted

_READING_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}

# Of DuckDB's own table functions. Others run a text as SQL, change settings, write files or take a pointer.
_READING_FUNCTIONS = re.compile(
    r"(duckdb|parquet|pragma|read)_\w+|generate_series|glob|icu_calendar_names|json_each|json_tree|"
    r"pg_timezone_names|query_table|range|repeat|repeat_row|sniff_csv|summary|test_all_types|test_vector_types|"
    r"unnest|which_secret"
)
_refused: set[str] = set()
"""The others' names, once they are known."""

_WRITING_WORDS = {
    *("alter", "attach", "call", "copy", "create", "delete", "detach", "drop", "execute", "export", "import"),
    *("insert", "install", "load", "merge", "pragma", "truncate", "update", "vacuum"),
}
_READING_STARTS = {"desc", "describe", "from", "pivot", "pivot_wider", "select", "show", "summarize", "with"}

# Comments that could be read in two ways do not match, so that what stands behind them is refused.
_SPACE = r"(?:[ \t\r\n]|--[^\n\r]*\r?\n|/\*(?:(?!/\*|\*/).)*\*/)*"
_EXPLAIN = re.compile(rf"{_SPACE}EXPLAIN\b(?:{_SPACE}ANALYZE\b)?(?P<query>.*)", re.IGNORECASE | re.DOTALL)
_OPTIONS = re.compile(rf"{_SPACE}\([\w\s,']*\)(?P<query>.*)", re.DOTALL)
_START = re.compile(rf"(?:{_SPACE}\()*{_SPACE}(\w*)", re.DOTALL)

# A view as DuckDB prints it: a name without quotes has word characters only.
_NAME = r'(?:"(?:[^"]|"")*"|\w+)'
_VIEW = re.compile(
    rf"CREATE VIEW {_NAME}(?:\.{_NAME})* (?:\({_NAME}(?:, {_NAME})*\) )?AS (?P<query>.*);", re.DOTALL
)


def check_reading(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise `QueryError` unless a text is one statement that reads, and DuckDB's error where it is none at all.

    Nothing is run.
    """
    if explains := _EXPLAIN.fullmatch(query):
        _check_explained(connection, explains["query"])
        return
    kinds = [statement.type for statement in extracted(connection, query)]
    if kinds == [duckdb.StatementType.SELECT]:
        _check_select(connection, query)
    elif kinds in _PIVOTS:
        _check_pivot(connection, query)
    elif len(kinds) != 1:
        raise QueryError(f"One statement at a time: this text has {len(kinds)}.")
    else:
        raise _refusal(str(kinds[0]).rpartition(".")[2])


_PIVOTS = (
    [duckdb.StatementType.MULTI],
    [duckdb.StatementType.CREATE, duckdb.StatementType.SELECT],  # before DuckDB 2.0
)


def extracted(connection: duckdb.DuckDBPyConnection, text: str) -> list[duckdb.Statement]:
    """The statements in a text; raises `QueryError` for one that cannot be told, and DuckDB's error."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"The query is not UTF-8 text (character {error.start + 1}).") from error
    try:
        statements = connection.extract_statements(text)
        _ = [statement.type for statement in statements]
        return statements
    except (
        ValueError
    ) as error:  # of a kind that DuckDB's own Python package does not know, such as UPDATE EXTENSIONS
        start = _START.match(text)
        raise _refusal(start[1].upper() if start else "this") from error


def _check_explained(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Raise `QueryError` unless what follows EXPLAIN reads, be the brackets it may begin with options or not.

    EXPLAIN ANALYZE runs what it explains, and plain EXPLAIN whatever tells DuckDB the columns of an answer.
    """
    readings = [text, options["query"]] if (options := _OPTIONS.fullmatch(text)) else [text]
    parsed = False
    for reading in readings:
        try:
            has_statement = bool(extracted(connection, reading))
        except duckdb.Error:
            continue
        if has_statement:
            check_reading(connection, reading)
            parsed = True
    if not parsed:
        raise QueryError("What stands after EXPLAIN cannot be read as a statement.")


def _check_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise `QueryError` for a SELECT that writes: since DuckDB 2.0, WITH may hold COPY, INSERT, UPDATE and DELETE."""
    tree = parse_trees.serialized(connection, query)
    kinds = parse_trees.query_kinds(tree)
    if writing := sorted(kinds - _READING_NODES):
        raise _refusal(writing[0].partition("_")[0])
    if not kinds:
        raise QueryError("This statement cannot be read as a SELECT.")
    if calls := sorted(parse_trees.called(tree) & _refused_functions(connection)):
        raise QueryError(f"Sessions only read; {calls[0]}() is refused, since it could do more than that.")


def _check_pivot(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise `QueryError` for several statements in one that are not a query with a PIVOT, or may do more than read.

    A PIVOT that finds its columns in the data makes a temporary type of them first, and DuckDB gives no tree of that.
    """
    start = _START.match(query)
    word = start[1].lower() if start else ""
    if word not in _READING_STARTS:
        raise _refusal(word.upper() or "this")
    if words := _suspect(connection, query):
        raise QueryError(
            f"A PIVOT that finds its columns in the data is refused where its text has the word {words[0]!r}. Name the "
            "columns: PIVOT … ON column IN (value, …)."
        )


def check_definitions(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise `QueryError` naming a view, macro or trigger, DuckDB's own aside, that may do more than read.

    And what would be used in the place of something else: a macro with the name of a function or operator of DuckDB's,
    and what the schema `groups` holds beside groups, since a group's view looks for names there first. Nothing of a
    catalog is run.
    """
    functions = _functions(connection)  # once, since it takes longest
    _check_texts(connection, [*_macros(functions), *_triggers(connection)])
    _check_macro_names(functions)
    check_views(connection)


def check_views(connection: duckdb.DuckDBPyConnection) -> None:
    """As `check_definitions`, where nothing but views and tables has been made since that was called."""
    views = list(_views(connection))
    _check_texts(connection, views)
    ask = "SELECT database_name, schema_name, table_name FROM system.main.duckdb_tables()"
    for database, schema, name in connection.execute(ask).fetchall():
        if schema == "groups" and database not in _DUCKDBS:
            raise QueryError(f"its table {schema}.{name} is where nothing but groups may be")
    for _, view, _ in views:
        schema, _, name = view.partition(".")
        if schema == "groups" and name.lower() in sqlfiles.view_names():
            raise QueryError(f"its view {view} bears the name of a view of the store, on which groups stand")


def _check_texts(connection: duckdb.DuckDBPyConnection, definitions: Iterable[tuple[str, str, str]]) -> None:
    """Raise `QueryError` for a definition (kind, name, text) that may do more than read."""
    for kind, name, text in definitions:
        if text and not _suspect(connection, text):
            continue
        try:
            check_reading(connection, text)
        except (QueryError, duckdb.Error) as error:
            raise QueryError(f"its {kind} {name} may do more than read: {str(error).rstrip('.')}") from error


def _check_macro_names(functions: list[_Function]) -> None:
    """Raise `QueryError` for a macro that bears the name of something else and would be used in its place."""
    of_duckdb = {name.lower() for database, _, name, _, _ in functions if database == "system"}
    for database, schema, name, _, _ in functions:
        if database in _DUCKDBS:
            continue
        if name.lower() in of_duckdb:
            raise QueryError(
                f"its macro {schema}.{name} bears the name of a function of DuckDB, which it replaces"
            )
        if schema == "groups":
            raise QueryError(f"its macro {schema}.{name} is where nothing but groups may be")


_DUCKDBS = ("system", "temp")
"""Databases without anything of a catalog's."""


def _views(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    """("view", name, query) of each; the whole text, if it is not as DuckDB prints a view."""
    ask = "SELECT database_name, schema_name, view_name, sql FROM system.main.duckdb_views()"
    for database, schema, name, sql in connection.execute(ask).fetchall():
        if database not in _DUCKDBS:
            match = _VIEW.fullmatch(sql or "")
            yield "view", f"{schema}.{name}", match["query"] if match else sql or ""


_Function = tuple[str, str, str, str, str | None]
"""Database, schema, name, kind and definition of a function or macro."""


def _macros(functions: list[_Function]) -> Iterator[tuple[str, str, str]]:
    for database, schema, name, kind, text in functions:
        if database not in _DUCKDBS:
            yield "macro", f"{schema}.{name}", f"SELECT {text}" if kind == "macro" else text or ""


def _triggers(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, str]]:
    try:
        triggers = connection.execute(
            "SELECT schema_name, trigger_name, sql FROM system.main.duckdb_triggers()"
        ).fetchall()
    except duckdb.CatalogException:  # before DuckDB 2.0
        return
    for schema, name, sql in triggers:
        yield "trigger", f"{schema}.{name}", sql or ""


def _suspect(connection: duckdb.DuckDBPyConnection, text: str) -> list[str]:
    """Words of a text without which it can only read: those of statements, and names of functions that are refused."""
    return sorted(set(re.findall(r"\w+", text.lower())) & (_WRITING_WORDS | _refused_functions(connection)))


def _refused_functions(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Names of DuckDB's table functions that may do more than read."""
    if not _refused:
        _functions(connection)
    return _refused


def _functions(connection: duckdb.DuckDBPyConnection) -> list[_Function]:
    """All functions and macros; takes 10 to 30 ms."""
    ask = (
        "SELECT database_name, schema_name, function_name, function_type, macro_definition "
        "FROM system.main.duckdb_functions()"
    )
    functions = connection.execute(ask).fetchall()
    _refused.update(
        name
        for database, _, name, kind, _ in functions
        if database == "system" and kind == "table" and not _READING_FUNCTIONS.fullmatch(name)
    )
    return functions


def _refusal(kind: str) -> QueryError:
    return QueryError(
        f"Sessions only read; {kind} is refused. Losses are added by trajstore score, groups by trajstore group "
        "add, and a result is written to a file by: trajstore sql QUERY -o FILE"
    )


_NO_COLUMN = re.compile(
    r'Referenced column "([^"]+)"|does not have a column named "([^"]+)"|Column "([^"]+)" does not exist'
)


_NO_STAND_IN = re.compile(
    r"No files found that match the pattern.*\b(losses|tokens|models|measures|findings)/", re.DOTALL
)


def explained(error: Exception) -> str:
    """DuckDB's words for an error, cut where they are many, and what they mean here."""
    text = shortened(str(error))
    if isinstance(error, duckdb.PermissionException):
        text += (
            "\nA query reads the store's own files and nothing else (trajstore check finds symbolic links, which count "
            "as what they point to). Open a folder of your own files to it with: trajstore sql --files DIR (in Python "
            "files=[DIR])"
        )
    elif isinstance(error, duckdb.CatalogException) and speaks_python() and "able with name" in text:
        text += (
            "\nA query sees no variables of Python. Offer it a frame by a name: store.register('mine', frame), then "
            "FROM mine"
        )
    elif isinstance(error, duckdb.BinderException) and (column := _NO_COLUMN.search(text)):
        name = column[1] or column[2] or column[3]
        if f'"{name}"' in text[column.end() :]:  # in the line that DuckDB shows of the query
            text += f"\nIn double quotes it is a column; a text stands in single quotes: {quoted(name)}"
        text += "\nThe columns of a table: trajstore schema NAME"
    elif isinstance(error, duckdb.IOException) and "slice.parquet" in text and "No such file" in text:
        text += "\nA slice was removed while the query read it. Ask again."
    elif isinstance(error, duckdb.IOException) and _NO_STAND_IN.search(text):
        text += "\nThe files without rows that the views need are gone. Put them back: trajstore rebuild"
    return text
