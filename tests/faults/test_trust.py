"""A store from somebody else: nothing in it reads or writes a file outside it, and what tries is refused by name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import polars as pl
import pytest
from typer.testing import Result

import trajstore
from tests.conftest import ragged
from tests.helpers import commands
from trajstore import scratch, sqlfiles
from trajstore.errors import DamagedFile, GroupError, QueryError, StoreTooOld, StoreUnusable, TrajstoreError
from trajstore.store import lifecycle
from trajstore.store.catalog import catalog
from trajstore.store.catalog import read_only as statements
from trajstore.store.disk import layout, temporaries
from trajstore.store.queries import query
from trajstore.store.quoting import quoted
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import NewStore

CANARY = "CANARY"
SLICE = "losses/model=a/dataset=d/step=8/slice.parquet"
SITES = "SELECT 'd' AS dataset, 0 AS context, 1 AS position"
WITH_MAY_WRITE = tuple(map(int, duckdb.__version__.split(".")[:1])) >= (2,)

OUTSIDE = "A query reads the store's own files and nothing else"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the store, which no command may show."""
    path = tmp_path / "outside" / "secret.csv"
    path.parent.mkdir()
    path.write_text(f"dataset,context,position\n{CANARY},0,1\n")
    return path


@pytest.fixture(scope="session")
def _made(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to copy: two models, two datasets, two steps, a group."""
    path = tmp_path_factory.mktemp("theirs") / "store"
    with new_store(path) as store:
        for name in ("d", "e"):
            dataset = store.add_dataset(name, ragged((9, 2, 30), seed=ord(name)))
            for model in ("a", "b"):
                for step in (0, 8):
                    losses = np.random.default_rng(step).gamma(2, 1, dataset.n_losses)
                    store.append(model=model, dataset=name, step=step, losses=losses)
        store.groups.add("mine", "FROM groups.digits")
    return path


@pytest.fixture
def theirs(_made: Path, store_path: Path) -> Path:
    """The path of a store that somebody else has made."""
    return Path(shutil.copytree(_made, store_path))


def doctor(path: Path, *statements: str) -> None:
    """Change the catalog with plain DuckDB, as its owner could."""
    with duckdb.connect(path / "catalog.duckdb") as connection:
        for statement in statements:
            connection.execute(statement)


def run(*words: object) -> Result:
    result = commands.run(*words)
    assert CANARY not in result.output
    return result


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# What a doctored catalog holds

READERS = {
    "absolute": "FROM read_csv('{secret}')",
    "as_text": "FROM read_text('{secret}')",
    "bare": "FROM '{secret}'",
    "dots": "FROM read_text('{store}/../outside/secret.csv')",
    "dots_by_variable": "FROM read_text(getvariable('store') || '/../outside/secret.csv')",
    "url": "FROM read_text('file://{secret}')",
    "folder": "FROM glob('{secret.parent}/*')",
    "sniffed": "FROM sniff_csv('{secret}')",
    "users": "FROM read_csv('/etc/passwd')",
    "environment": "FROM read_blob('/proc/self/environ')",
    "secrets": "FROM duckdb_secrets()",
}


def test_views_and_macros_of_a_doctored_catalog(theirs: Path, secret: Path) -> None:
    doctor(theirs, f"SET VARIABLE store = '{theirs}'", *(
        f"CREATE {what} AS {table} {body.format(secret=secret, store=theirs)}"
        for kind, body in READERS.items()
        for what, table in ((f"VIEW {kind}", ""), (f"MACRO {kind}_macro()", "TABLE"))
    ))  # fmt: skip
    asks = [f"FROM {name}" for kind in READERS for name in (kind, f"{kind}_macro()")]
    with trajstore.open(theirs) as store:
        for ask in asks:
            with pytest.raises(
                (QueryError, duckdb.Error), match=r"Permission Error|Secret Storage"
            ) as caught:
                store.sql(ask).fetchall()
            assert CANARY not in str(caught.value)
            with pytest.raises(GroupError, match="was not added"):
                store.groups.add("leak", f"SELECT *, 0 AS context, 1 AS position FROM ({ask})")
    assert OUTSIDE in run("sql", "FROM absolute", "-s", theirs).stderr


def test_views_named_like_ours_in_a_doctored_catalog(theirs: Path, secret: Path, tmp_path: Path) -> None:
    evil = f"SELECT dataset, context, position FROM read_csv('{secret}')"
    doctor(
        theirs,
        *(f"CREATE OR REPLACE VIEW {name} AS {evil}" for name in ("tokens", "raw_losses", "groups.mine")),
    )
    out = tmp_path / "m.npy"
    for words in (
        ["sql", "FROM tokens"],
        ["sql", "SELECT context FROM raw_losses"],
        ["sql", "SELECT context FROM raw_losses", "-o", tmp_path / "x.csv"],
        ["trajectory", "mine"],
        ["matrix", out, "-d", "d", "-g", "mine"],
    ):
        result = run(*words, "-s", theirs)
        assert result.exit_code == 1
        assert OUTSIDE in result.stderr
    # One bad group does not keep the others from being shown.
    for words, said in ((["group", "show", "mine"], OUTSIDE), (["group", "list"], "[problem]")):
        shown = run(*words, "-s", theirs)
        assert shown.exit_code == 0
        assert said in " ".join(shown.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "store"]
    assert run("matrix", out, "-d", "d", "-s", theirs).exit_code == 0, "what needs no view still works"
    assert run("rebuild", "-s", theirs).exit_code == 0
    assert run("sql", "SELECT count(*) FROM losses", "-s", theirs).exit_code == 0


def test_opening_touches_nothing_outside(theirs: Path, tmp_path: Path) -> None:
    """A view over a pipe that nobody writes: whoever opened it would hang, and be seen from its other end."""
    pipe = tmp_path / "pipe.csv"
    pipe.write_text("x\n1\n")
    doctor(theirs, f"CREATE VIEW evil AS FROM read_csv('{pipe}')")
    pipe.unlink()
    os.mkfifo(pipe)
    with trajstore.open(theirs) as store:
        assert store.sql("SELECT count(*) FROM tokens").fetchall()[0][0] > 0
        with pytest.raises(OSError, match="No such device or address"):
            os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("call", ["'{secret}'", "['{secret}']"])
def test_no_table_function_reads_outside(theirs: Path, secret: Path, call: str) -> None:
    """Whatever DuckDB has or will have that takes a path."""
    with trajstore.open(theirs) as store:
        names = store.sql(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table'"
        ).fetchall()
        assert len(names) > 50
        for (name,) in names:
            try:
                found = str(store.sql(f"FROM {name}({call.format(secret=secret)})").fetchall())
            except (TrajstoreError, duckdb.Error) as error:
                found = str(error)
            assert CANARY not in found, name


def test_a_catalog_of_another_kind_loads_no_extension(theirs: Path) -> None:
    (theirs / "catalog.duckdb").unlink()
    with sqlite3.connect(theirs / "catalog.duckdb") as connection:
        connection.execute("CREATE TABLE migrations (name)")
    connection.close()
    with pytest.raises(DamagedFile, match=r"not a valid DuckDB database file.*trajstore rebuild"):
        trajstore.open(theirs)


def test_no_macro_stands_in_for_our_own_checks(theirs: Path) -> None:
    """A catalog's macro of a system function's name would be found first."""
    fooled = '{"error":false,"statements":[{"node":{"type":"SELECT_NODE","modifiers":[]}}]}'
    doctor(theirs, f"CREATE MACRO json_serialize_sql(x) AS '{fooled}'")
    with (
        contextlib.closing(catalog.copied(theirs).connection) as session,
        pytest.raises(QueryError, match=r"query\(\) is refused"),
    ):
        statements.check_reading(session, "FROM query('SELECT 1')")


# What would be used in the place of DuckDB's functions and of the store's tables.
IN_PLACE_OF = {
    "function": ("CREATE MACRO avg(x) AS 0.5", "its macro main.avg bears the name of a function of DuckDB"),
    "letters": ('CREATE MACRO "REGEXP_Matches"(a, b) AS false', "its macro main.REGEXP_Matches bears"),
    "operator": ('CREATE MACRO "+"(a, b) AS 7', r"its macro main.\+ bears"),
    "table_function": (
        "CREATE MACRO read_parquet(a) AS TABLE SELECT 1 AS x",
        "its macro main.read_parquet bears",
    ),
    "among_groups": ("CREATE MACRO groups.avg(x) AS 0.5", "its macro groups.avg bears"),
    "elsewhere": ("CREATE SCHEMA mine; CREATE MACRO mine.sum(x) AS 0", "its macro mine.sum bears"),
    "ours_among_groups": (
        "CREATE MACRO groups.kept_sites(x) AS TABLE SELECT 1 AS y",
        "its macro groups.kept_sites is where nothing but groups may be",
    ),
    "table_among_groups": (
        "CREATE TABLE groups.tokens AS SELECT 1 AS x",
        "its table groups.tokens is where nothing but groups may be",
    ),
    "view_among_groups": (
        "CREATE VIEW groups.Losses AS SELECT 1 AS x",
        "its view groups.Losses bears the name of a view of the store",
    ),
}


@pytest.mark.parametrize("kind", IN_PLACE_OF)
def test_nothing_of_a_catalog_is_used_in_the_place_of_something_else(theirs: Path, kind: str) -> None:
    """Else each number could be another one, and no check would tell: a group's view looks in its own schema first."""
    statement, reason = IN_PLACE_OF[kind]
    doctor(theirs, statement)
    with trajstore.open(theirs) as store:
        with pytest.raises(DamagedFile, match=f"{reason}.*trajstore rebuild"):
            store.sql("SELECT avg(loss) FROM losses")
        with pytest.raises(DamagedFile, match=reason):
            store.groups.add("more", "FROM groups.mine")
    checked = run("check", "-s", theirs)
    assert checked.exit_code == 1
    assert re.search(reason, " ".join(checked.output.split()))
    assert run("rebuild", "-s", theirs).exit_code == 0
    assert run("check", "--deep", "-s", theirs).exit_code == 0


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["DROP VIEW losses", "CREATE TABLE losses AS SELECT 1 AS x"], "no losses"),
        (["CREATE OR REPLACE VIEW losses AS SELECT 1 AS x"], "its losses is not what"),
        (
            ["DROP VIEW groups.mine", "CREATE VIEW groups.mine AS SELECT 1 AS x"],
            "not what this group is defined as",
        ),
        (["CREATE OR REPLACE MACRO aligned({head}) AS TABLE {body}"], "its aligned is not what"),
        (["CREATE OR REPLACE MACRO loss_at(other) AS TABLE SELECT * FROM losses"], "its loss_at is not what"),
    ],
)
def test_what_stands_in_the_place_of_ours_is_named_by_check(
    theirs: Path, statements: list[str], told: str
) -> None:
    body = next(file.body for file in sqlfiles.load("macros") if file.name == "aligned").partition(
        "AS TABLE"
    )[2]
    doctored = [
        each.replace("{head}", "group_name, align := 'after'").replace("{body}", body) for each in statements
    ]
    doctor(theirs, f"SET VARIABLE store = '{theirs}'", *doctored)
    checked = run("check", "-s", theirs)
    assert (checked.exit_code, told in " ".join(checked.output.split())) == (1, True), checked.output


def test_a_group_file_of_the_name_of_a_view(theirs: Path) -> None:
    (theirs / "groups" / "tokens.sql").write_text("SELECT 'd' AS dataset, 0 AS context, 1 AS position\n")
    rebuilt = run("rebuild", "-s", theirs)
    assert rebuilt.exit_code == 1
    assert "defines a group of the name of a view of the store" in " ".join(rebuilt.output.split())


def tree(text: str) -> str:
    """A statement as DuckDB's JSON, in an SQL literal: a function runs such a text wherever it stands."""
    with duckdb.connect() as connection:
        found = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [text]).fetchall()
    return quoted(found[0][0])


WRITES = "WITH w AS (COPY (SELECT 1) TO '{to}') FROM w" if WITH_MAY_WRITE else "SELECT 1"

# What a catalog may not hold: each could write inside the store, where DuckDB itself would let it.
DOCTORED = {
    "view": "CREATE VIEW evil AS FROM json_execute_serialized_sql({tree})",
    "quoted": 'CREATE VIEW "an evil AS one" (x, "y z") AS SELECT 1, y FROM (FROM '
    '"JSON_execute_serialized_sql"({tree})) t(y)',
    "deep": "CREATE VIEW evil AS WITH w AS MATERIALIZED (SELECT (SELECT count(*) FROM "
    "system.main.json_execute_serialized_sql({tree})) AS n) SELECT n FROM w",
    "ours": "CREATE OR REPLACE VIEW raw_losses AS FROM json_execute_serialized_sql({tree})",
    "group": "CREATE OR REPLACE VIEW groups.mine AS FROM json_execute_serialized_sql({tree})",
    "table_macro": "CREATE MACRO evil() AS TABLE FROM json_execute_serialized_sql({tree})",
    "macro": "CREATE MACRO evil() AS (SELECT count(*) FROM json_execute_serialized_sql({tree}))",
    "operator": 'CREATE MACRO "+"(a, b) AS (SELECT count(*) FROM json_execute_serialized_sql({tree}))',
    "by_text": "CREATE VIEW evil AS FROM query('SELECT 1')",
    "by_argument": "CREATE MACRO evil(q) AS TABLE FROM query(q)",
    "pointer": "CREATE VIEW evil AS FROM checkpoint()",
}


def test_definitions_that_could_write_are_refused(theirs: Path) -> None:
    good = (theirs / "catalog.duckdb").read_bytes()
    for kind, statement in DOCTORED.items():
        (theirs / "catalog.duckdb").write_bytes(good)
        doctor(theirs, statement.format(tree=tree(WRITES.format(to=theirs / SLICE))))
        before = contents(theirs)
        with trajstore.open(theirs) as store:
            refused = r"its (view|macro) .*(evil|mine|raw_losses|\+).* may do more than read: .* is refused"
            with pytest.raises(DamagedFile, match=refused + ".*trajstore rebuild"):
                store.sql("SELECT 1")
        assert contents(theirs) == before, kind


def test_a_doctored_catalog_writes_nothing_in_its_store(theirs: Path, tmp_path: Path) -> None:
    """It is refused before anything in it is used, and made anew; what needs nothing of it goes on meanwhile."""
    doctor(theirs, DOCTORED["group"].format(tree=tree(WRITES.format(to=theirs / SLICE))))
    before = contents(theirs)
    for words in (
        ["sql", "FROM losses"],
        ["group", "list"],
        ["group", "add", "more", "--sql", "FROM groups.mine"],
        ["group", "drop", "mine"],
        ["migrate"],
        ["migrate", "--list"],
        ["matrix", tmp_path / "m.npy", "-d", "d", "-g", "mine"],
    ):
        result = run(*words, "-s", theirs)
        assert result.exit_code == 1, words
        assert "catalog.duckdb is damaged: its view groups.mine may do more than read" in result.stderr, words
    result = run("check", "-s", theirs)
    assert (result.exit_code, "catalog.duckdb" in result.stdout) == (1, True)
    for words in (["status"], ["matrix", tmp_path / "m.npy", "-d", "d"]):
        assert run(*words, "-s", theirs).exit_code == 0, words
    assert contents(theirs) == before
    assert run("rebuild", "-s", theirs).exit_code == 0
    assert run("sql", "FROM groups.mine", "-s", theirs).exit_code == 0
    assert run("check", "-s", theirs).exit_code == 0


def test_a_table_whose_reading_runs_something(theirs: Path) -> None:
    """An operator of a computed column may be a macro, and tables are read before macros are looked for."""
    good = (theirs / "catalog.duckdb").read_bytes()
    computed = "CREATE TABLE later (sha256 VARCHAR, trajstore VARCHAR, n INT GENERATED ALWAYS AS (length(sha256) + 1))"
    ours = ("DROP TABLE definitions", "ALTER TABLE later RENAME TO definitions")
    evil = f'CREATE MACRO "+"(a, b) AS (SELECT count(*) FROM json_execute_serialized_sql({tree("SELECT 1")}))'
    for changes, reason in (
        ((computed, *ours), "its table definitions has a column that is computed"),
        ((computed, *ours, evil), "(cannot use subquery|is computed)"),
        ((computed, evil), "(cannot use subquery|may do more than read)"),
        (("ALTER TABLE definitions RENAME sha256 TO other",), "sha256"),
    ):
        (theirs / "catalog.duckdb").write_bytes(good)
        doctor(theirs, *changes)
        with (
            pytest.raises(DamagedFile, match=f"{reason}.*trajstore rebuild"),
            trajstore.open(theirs) as store,
        ):
            store.sql("SELECT 1")


@pytest.mark.skipif(not WITH_MAY_WRITE, reason="DuckDB before 2.0 has no triggers")
def test_a_trigger_is_refused(theirs: Path) -> None:
    shutil.move(theirs / "catalog.duckdb", theirs / "tmp" / "old.duckdb")
    with duckdb.connect() as connection:
        for statement in (
            f"ATTACH '{theirs}/tmp/old.duckdb' AS old",
            f"ATTACH '{theirs}/catalog.duckdb' AS new (STORAGE_VERSION 'v2.0.0')",
            "COPY FROM DATABASE old TO new",
            "CREATE TABLE new.other (a INT)",
            "CREATE TRIGGER e AFTER INSERT ON new.definitions FOR EACH STATEMENT INSERT INTO new.other VALUES (1)",
        ):
            connection.execute(statement)
    with pytest.raises(DamagedFile, match=r"its trigger main\.e may do more than read: .*CREATE is refused"):
        lifecycle.migrate_store(theirs)


def test_views_instead_of_the_ledger(theirs: Path) -> None:
    """A view of a table's name, in a catalog whose table of that name lies in another schema."""
    doctor(
        theirs,
        "CREATE SCHEMA aside",
        "CREATE TABLE aside.migrations AS FROM migrations",
        "DROP TABLE migrations",
        f"CREATE VIEW migrations AS FROM json_execute_serialized_sql({tree('SELECT 1')})",
    )
    with pytest.raises(StoreTooOld):
        trajstore.open(theirs)
    with pytest.raises(DamagedFile, match="its view main.migrations may do more than read"):
        lifecycle.migrate_store(theirs)


OWN_DEFINITIONS = [
    "CREATE VIEW own AS SELECT text, 'copy of query(1)' AS \"insert\" FROM tokens WHERE text = ' update'",
    'CREATE MACRO "copy"(a, b := 2) AS a + b',
    "CREATE MACRO of_text(t) AS TABLE SELECT * FROM tokens WHERE text = t AND t <> 'DELETE FROM x'",
    "CREATE VIEW pivoted AS FROM (PIVOT tokens ON position IN (0, 1) USING count(*) GROUP BY dataset)",
    "CREATE VIEW lists AS SELECT list_transform([1], lambda x: x + 1) AS l, {'load': 1} AS s, INTERVAL 1 DAY AS i",
    "CREATE VIEW ranked AS SELECT *, sum(item) OVER (ORDER BY position ROWS 1 PRECEDING) AS n FROM tokens QUALIFY n>1",
    "CREATE VIEW joined AS FROM tokens POSITIONAL JOIN range(3) ASOF JOIN (SELECT 1 AS i) x ON range >= x.i",
    "CREATE VIEW counted AS WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) FROM r",
    "CREATE VIEW sampled AS SELECT COLUMNS('d.*') FROM tokens USING SAMPLE 3",
    "CREATE TABLE own_table (x INT, y INT GENERATED ALWAYS AS (x + 1), CHECK (x > 0))",
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE SEQUENCE numbers",
]


def test_definitions_of_ones_own_that_only_read_stay(theirs: Path) -> None:
    doctor(theirs, f"SET VARIABLE store = '{theirs}'", *OWN_DEFINITIONS)
    with trajstore.open(theirs) as store:
        for name in ("own", "pivoted", "lists", "ranked", "joined", "counted", "sampled", "own_table"):
            store.sql(f"FROM {name}").fetchall()
        assert store.sql("SELECT \"copy\"(1), nextval('numbers')").fetchall() == [(3, 1)]
        assert store.sql("FROM of_text(' w1')").fetchall() != []
        store.groups.add("more", "FROM groups.mine")


# Looked at one by one: what each reads is what a session may read anyway.
KNOWN_TO_READ = re.findall(
    r"\w+",
    """
duckdb_approx_database_count duckdb_available_metrics duckdb_columns duckdb_connection_count duckdb_constraints
duckdb_coordinate_systems duckdb_databases duckdb_dependencies duckdb_dialects duckdb_eviction_queues
duckdb_extension_repositories duckdb_extensions duckdb_external_file_cache duckdb_external_resource_types
duckdb_external_resources duckdb_functions duckdb_grammar_extensions duckdb_indexes duckdb_keywords
duckdb_log_contexts duckdb_logs duckdb_memory duckdb_optimizers duckdb_prepared_statements duckdb_schemas
duckdb_secret_type_parameters duckdb_secret_types duckdb_secrets duckdb_sequences duckdb_settings
duckdb_table_sample duckdb_tables duckdb_temporary_files duckdb_triggers duckdb_types duckdb_variables duckdb_views
generate_series glob icu_calendar_names json_each json_tree parquet_bloom_probe parquet_file_metadata
parquet_full_metadata parquet_kv_metadata parquet_metadata parquet_scan parquet_schema pg_timezone_names
pragma_collations pragma_database_size pragma_metadata_info pragma_platform pragma_show pragma_storage_info
pragma_table_info pragma_user_agent pragma_version query_table range read_blob read_csv read_csv_auto read_duckdb
read_json read_json_auto read_json_objects read_json_objects_auto read_ndjson read_ndjson_auto read_ndjson_objects
read_ndjson_objects_auto read_parquet read_single_csv_file read_single_json_file read_single_parquet_file read_text
repeat repeat_row sniff_csv summary test_all_types test_vector_types unnest which_secret
""",
)


def test_every_table_function_is_known_to_read_or_refused(theirs: Path) -> None:
    """A DuckDB that has a new one fails here, until somebody has looked at it."""
    with catalog.open_session(theirs) as session:
        found = session.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table'"
        ).fetchall()
        refused = statements._refused_functions(session)
    names = {name for (name,) in found}
    assert names - refused <= set(KNOWN_TO_READ)
    assert refused >= {"query", "json_execute_serialized_sql", "checkpoint", "arrow_scan", "pandas_scan"}


# The session

SETTINGS = ["memory_limit = '1TB'", "temp_directory = '/'", "enable_external_access = true", "threads = 64"]


def test_settings_are_locked(theirs: Path) -> None:
    with catalog.open_session(theirs) as session:
        for setting in SETTINGS:
            with pytest.raises(duckdb.Error, match=r"locked|Cannot"):
                session.execute(f"SET {setting}")
        limit, spill = session.execute(
            "SELECT current_setting('memory_limit'), current_setting('temp_directory')"
        ).fetchall()[0]
    assert re.fullmatch(r"[\d.]+ [MGT]iB", limit)
    private = Path(spill).parent
    assert private.is_absolute()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not Path(spill).exists()


def test_a_folder_for_spilling_that_is_open_to_others_is_refused(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "_mine", {})
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"trajstore-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(StoreUnusable, match="is not a folder of yours alone.*TMPDIR"):
        trajstore.open(theirs)


def test_a_store_opens_where_nothing_can_be_spilled(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(scratch, "_mine", {})
    monkeypatch.setattr(scratch.tempfile, "gettempdir", none)
    with trajstore.open(theirs) as store:
        assert store.sql("SELECT current_setting('temp_directory')").fetchall() == [("",)]


WRITERS = [
    "COPY tokens TO '{to}'",
    "EXPLAIN ANALYZE COPY tokens TO '{to}'",
    "explain  analyze\nCOPY (SELECT 1) TO '{to}'",
    "EXPLAIN ANALYZE /* */ COPY (SELECT 1) TO '{to}'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{to}'",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
    "EXPLAIN ANALYZE DROP VIEW tokens",
    "WITH w AS (COPY (SELECT 1) TO '{to}') FROM w",
    "EXPLAIN ANALYZE WITH w AS (COPY (SELECT 1) TO '{to}') FROM w",
    "SELECT 1 UNION ALL (WITH w AS (COPY (SELECT 1) TO '{to}') SELECT 2)",
    "WITH w AS (DELETE FROM migrations RETURNING name) FROM w",
    "WITH w AS (INSERT INTO migrations VALUES ('x', now()) RETURNING name) FROM w",
    "FROM query('WITH w AS (COPY (SELECT 1) TO ''{to}'') FROM w')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM Enable_Logging(storage = 'file', storage_path = '{to}')",
    "FROM enable_profiling(format = 'json', save_location = '{to}.json')",
    "ATTACH '{to}'",
    "EXPORT DATABASE '{to}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '1TB'",
    "SET VARIABLE store = '/'",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CREATE SECRET s (TYPE http)",
    "EXPLAIN (FORMAT JSON) COPY tokens TO '{to}'",
    "EXPLAIN (ANALYZE, FORMAT 'json') COPY (SELECT 1) TO '{to}'",
    "EXPLAIN ANALYZE EXPLAIN ANALYZE COPY (SELECT 1) TO '{to}'",
    "EXPLAIN SELECT 1; COPY (SELECT 1) TO '{to}'",
    "EXPLAIN FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "/* /* */ EXPLAIN SELECT 1 -- */ */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{to}'",
    "-- \rEXPLAIN ANALYZE COPY (SELECT 1) TO '{to}' /*\nEXPLAIN SELECT 1 -- */",
    "EXPLAIN",
    "PIVOT tokens ON position USING count(*); COPY (SELECT 1) TO '{to}'",
    "PIVOT (WITH w AS (COPY (SELECT 1 AS x) TO '{to}') FROM w) ON x USING count(*)",
    "PIVOT (WITH w AS (COPY (SELECT 1 AS x) TO '{to}') FROM w) ON x IN (1) USING count(*)",
    "PIVOT (FROM query('SELECT 1 AS x')) ON x USING count(*)",
    "COPY (PIVOT tokens ON position USING count(*)) TO '{to}'",
    "EXPLAIN ANALYZE COPY (PIVOT tokens ON position USING count(*)) TO '{to}'",
    "CREATE TABLE p AS PIVOT tokens ON position USING count(*)",
    "SUMMARIZE (WITH w AS (COPY (SELECT 1) TO '{to}') FROM w)",
    "DESCRIBE FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM (DESCRIBE FROM query('SELECT 1'))",
    "SELECT (SELECT count(*) FROM checkpoint())",
    "FROM arrow_scan(1, 2, 3)",
]


def test_no_statement_writes(theirs: Path) -> None:
    """Inside the store DuckDB itself would let it: the folder is open to the session, for reading and writing."""
    before = contents(theirs)
    with trajstore.open(theirs) as store:
        for statement in WRITERS:
            with pytest.raises(QueryError):
                store.sql(statement.format(to=theirs / SLICE)).fetchall()
            assert contents(theirs) == before, statement
        assert store.sql("SELECT count(*) FROM tokens").fetchall()[0][0] > 0


READING = [
    "-- why\nEXPLAIN SELECT 1",
    "explain analyze FROM tokens",
    "EXPLAIN\nANALYZE (SELECT 1)",
    "WITH a AS (SELECT 1 AS x), b AS MATERIALIZED (FROM a) FROM b UNION ALL FROM a",
    "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r WHERE i < 3) FROM r",
    "/* why */ EXPLAIN -- so\r\n SELECT 'COPY'",
    "EXPLAIN (FORMAT JSON) SELECT 1",
    "EXPLAIN (ANALYZE, FORMAT 'json') (FROM tokens)",
    "EXPLAIN (SELECT 1) UNION (SELECT 2)",
    "EXPLAIN (FROM tokens) UNION FROM tokens",
    "DESCRIBE tokens",
    "DESCRIBE SELECT text FROM tokens",
    "DESC raw_losses",
    "SUMMARIZE tokens",
    "SUMMARIZE SELECT step FROM raw_losses",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "FROM (SHOW TABLES)",
    "FROM tokens SELECT text WHERE position = 1",
    "FROM tokens POSITIONAL JOIN range(3)",
    "PIVOT tokens ON position IN (0, 1) USING count(*) GROUP BY dataset",
    "pivot tokens ON position USING count(*) GROUP BY dataset",
    "(PIVOT tokens ON dataset USING count(*) GROUP BY position) ORDER BY ALL",
    "-- why\nFROM (PIVOT tokens ON dataset USING count(*))",
    "WITH p AS (PIVOT tokens ON dataset USING count(*)) SELECT CASE WHEN d > 0 THEN d ELSE e END FROM p",
    "SELECT * FROM tokens PIVOT (count(*) FOR dataset IN ('d', 'e') GROUP BY position)",
    "UNPIVOT contexts ON context, n_tokens INTO NAME fact VALUE number",
    "SUMMARIZE (PIVOT tokens ON dataset USING count(*))",
    "VALUES (1)",
    "SELECT 'COPY x TO y', 'query(1)', '\"type\":\"COPY_QUERY_NODE\",\"modifiers\":'",
    "FROM trajectory('every_token')",
    "-- a comment\nSELECT 1; -- and another",
]


def test_what_reads_is_not_refused(theirs: Path) -> None:
    with trajstore.open(theirs) as store:
        for query in READING:
            assert store.sql(query).fetchall(), query
        wide = store.sql(
            "PIVOT tokens ON dataset USING count(*) GROUP BY position ORDER BY position"
        ).fetchall()
        assert wide[0] == (0, 3, 3)


def test_a_pivot_whose_text_tells_too_little(theirs: Path) -> None:
    with trajstore.open(theirs) as store:
        with pytest.raises(QueryError, match=r"the word 'copy'. Name the columns: PIVOT"):
            store.sql("PIVOT (FROM tokens WHERE text <> ' copy') ON dataset USING count(*)")
        store.sql("PIVOT (FROM tokens WHERE text <> ' copy') ON dataset IN ('d') USING count(*)").fetchall()


@pytest.mark.skipif(not WITH_MAY_WRITE, reason="DuckDB before 2.0 gives no rows for it")
def test_a_pivot_explained(theirs: Path) -> None:
    with trajstore.open(theirs) as store:
        for how in ("", "ANALYZE", "(FORMAT JSON)"):
            assert store.sql(f"EXPLAIN {how} PIVOT tokens ON dataset USING count(*)").fetchall()


# Groups

BAD_GROUPS = {
    "reads": f"{SITES} FROM read_csv('{{secret}}')",
    "reads_by_dots": "SELECT 'd' AS dataset, 0 AS context, 1 AS position FROM read_text(getvariable('store') || "
    "'/../outside/secret.csv')",
    "several": f"{SITES}; COPY tokens TO '{{to}}'",
    "closes": f"{SITES}); COPY (SELECT 1) TO '{{to}}'; SELECT (1",
    "closes_drop": f"{SITES}); DROP TABLE migrations; --",
    "closes_on": f"{SITES}) t, read_csv('{{secret}}') u; --",
    "writes": "COPY tokens TO '{to}'",
    "with_writes": f"WITH w AS (COPY (SELECT 1) TO '{{to}}') {SITES} FROM w",
    "explains": "EXPLAIN ANALYZE COPY tokens TO '{to}'",
    "attaches": "ATTACH '{to}'",
    "installs": "INSTALL httpfs",
    "loads": "LOAD httpfs",
    "sets": "SET VARIABLE store = '/'",
    "getenv": "SELECT getenv('HOME') AS dataset, 0 AS context, 1 AS position",
    "query": "FROM query('SELECT 1 AS dataset, 2 AS context, 3 AS position')",
    "open_comment": f"{SITES} /* ",
    "open_string": f"{SITES} WHERE 'x",
}


def test_a_group_that_does_more_than_read_the_store_is_not_added(theirs: Path, secret: Path) -> None:
    before = contents(theirs)
    with trajstore.open(theirs) as store:
        for kind, text in BAD_GROUPS.items():
            with pytest.raises(GroupError, match="'bad' was not added") as caught:
                store.groups.add("bad", text.format(secret=secret, to=theirs / SLICE))
            assert CANARY not in str(caught.value)
            assert contents(theirs) == before, kind


def test_planted_group_files_are_refused(theirs: Path, secret: Path, tmp_path: Path) -> None:
    """They are refused when the catalog is made anew, when it is migrated, and beside the user's own files."""
    doctor(theirs, "UPDATE definitions SET sha256 = 'of another version'")
    (tmp_path / "own").mkdir()
    planted = theirs / "groups" / "bad.sql"
    uses: list[Callable[[], object]] = [
        lambda: lifecycle.rebuild(theirs),
        lambda: lifecycle.migrate_store(theirs),
        lambda: lifecycle.session_with_files(theirs, [tmp_path / "own"]),
    ]
    named = r"The group 'bad' in .*/groups no longer works.*(?s:.)*Mend or remove that file"
    for number, (kind, text) in enumerate(BAD_GROUPS.items()):
        planted.write_text(f"-- An innocent group.\n{text.format(secret=secret, to=theirs / SLICE)}\n")
        before = contents(theirs)
        with pytest.raises(GroupError, match=named) as caught:
            uses[number % len(uses)]()
        assert CANARY not in str(caught.value)
        assert contents(theirs) == before, kind
    planted.unlink()
    lifecycle.rebuild(theirs)
    with trajstore.open(theirs) as store:
        assert "mine" in store.groups.names()


def test_a_group_under_a_name_that_sql_would_read_otherwise(theirs: Path) -> None:
    (theirs / "groups" / 'x" AS SELECT 1; DROP TABLE migrations; --.sql').write_text("FROM groups.digits")
    lifecycle.rebuild(theirs)
    trajstore.open(theirs).close()


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", None])
def test_a_group_that_is_no_text(theirs: Path, data: bytes | None) -> None:
    bad = theirs / "groups" / "bad.sql"
    if data is None:
        bad.mkdir()
    else:
        bad.write_bytes(data)
    what = "it is a folder where a file should be" if data is None else "it cannot be read as text"
    assert f"groups/bad.sql is damaged: {what}" in run("group", "list", "-s", theirs).stderr
    assert "bad.sql" in run("check", "-s", theirs).stdout


# Links


def link_out(path: Path, outside: Path) -> Path:
    """Move a file or folder out of the store and leave a link to it; returns where it is now."""
    moved = outside / f"moved-{path.name}"
    shutil.move(path, moved)
    path.symlink_to(moved)
    return moved


PLANTED_LINKS = {
    "slice": SLICE,
    "step": "losses/model=a/dataset=d/step=8",
    "model": "losses/model=a",
    "tokens": "tokens/dataset=d/tokens.parquet",
    "contexts": "tokens/dataset=d/contexts.parquet",
    "dataset": "tokens/dataset=d",
}


@pytest.mark.parametrize("kind", PLANTED_LINKS)
def test_nothing_is_read_or_written_through_a_link(theirs: Path, secret: Path, kind: str) -> None:
    link_out(theirs / PLANTED_LINKS[kind], secret.parent)
    outside = contents(secret.parent)
    view = {"contexts": "contexts", "tokens": "tokens", "dataset": "tokens"}.get(kind, "raw_losses")
    uses: list[Callable[[Store], object]] = [lambda store: store.matrix("d", "a", steps=[8])]
    if view == "raw_losses":
        uses += [lambda store: store.slice_facts("a", "d", 8)]
    else:
        uses += [lambda store: store.dataset("d"), lambda store: store.add_dataset("d", ragged((5, 6)))]
    if kind in ("step", "model"):
        ones = [1.0] * 38
        uses += [
            lambda store: store.append(model="a", dataset="d", step=8, losses=ones, replace=True),
            lambda store: store.drop([("a", "d", 8)]),
        ]
    with trajstore.open(theirs) as store:
        for use in uses:
            with pytest.raises(DamagedFile, match="a symbolic link leads there"):
                use(store)
    assert OUTSIDE in run("sql", f"FROM {view}", "-s", theirs).stderr
    result = run("check", "--deep", "--quarantine", "-s", theirs)
    assert result.exit_code == 1
    assert PLANTED_LINKS[kind] in result.stdout
    assert "symbolic link" in result.stdout
    assert contents(secret.parent) == outside


def test_a_linked_slice_is_dropped_or_replaced_and_not_what_it_points_to(theirs: Path, secret: Path) -> None:
    link_out(theirs / SLICE, secret.parent)
    outside = contents(secret.parent)
    with trajstore.open(theirs) as store:
        store.drop([("a", "d", 8)])
        store.append(model="a", dataset="d", step=8, losses=[1.0] * 38)
    assert contents(secret.parent) == outside


def test_new_slices_do_not_follow_a_link(theirs: Path, secret: Path) -> None:
    (theirs / "losses" / "model=new").symlink_to(secret.parent)
    (theirs / "tokens" / "dataset=new").symlink_to(secret.parent / "nothing")
    outside = contents(secret.parent)
    with trajstore.open(theirs) as store:
        values = [1.0] * store.dataset("d").n_losses
        with pytest.raises(DamagedFile, match="a symbolic link leads there"):
            store.append(model="new", dataset="d", step=0, losses=values)
        with pytest.raises(DamagedFile, match="a symbolic link leads there"):
            store.add_dataset("new", ragged((5, 6)))
    assert contents(secret.parent) == outside


def test_facts_and_groups_are_not_read_through_links(theirs: Path, secret: Path) -> None:
    facts = secret.with_name("facts.json")
    facts.write_text(f'{{"model": "b", "repo": "{CANARY}"}}')
    (theirs / "models" / "b.json").symlink_to(facts)
    (theirs / "groups" / "leak.sql").symlink_to(secret)
    for words in (
        ["status"],
        ["group", "list"],
        ["group", "show", "leak"],
        ["check"],
        ["rebuild"],
        ["migrate"],
    ):
        run(*words, "-s", theirs)
    assert "a symbolic link leads there" in run("group", "show", "leak", "-s", theirs).stderr
    with trajstore.open(theirs) as store:
        with pytest.raises(DamagedFile, match="a symbolic link leads there"):
            store.model("b")
        with pytest.raises((QueryError, duckdb.Error), match="Permission Error"):
            store.sql("FROM models").fetchall()
    found = run("check", "-s", theirs).stdout
    assert "models/b.json" in found
    assert "groups/leak.sql" in found


@pytest.mark.parametrize(
    "name", ["catalog.duckdb", "catalog.duckdb.wal", "losses", "tokens", "models", "groups", "tmp"]
)
def test_a_store_with_a_part_elsewhere_is_not_opened(theirs: Path, secret: Path, name: str) -> None:
    """Least of all tmp/, whose old files are removed."""
    victim = secret.parent / "victim"
    if (theirs / name).exists():
        shutil.move(theirs / name, victim)
    else:
        victim.write_bytes(b"a log")
    (theirs / name).symlink_to(victim)
    os.utime(secret, (0, 0))
    outside = contents(secret.parent)
    opened: list[Callable[[Path], object]] = [
        trajstore.open,
        Store.create,
        lifecycle.rebuild,
        lifecycle.migrate_store,
        lifecycle.migrations,
    ]
    for work in opened:
        with pytest.raises(DamagedFile, match="a symbolic link leads there"):
            work(theirs)
    assert contents(secret.parent) == outside


def test_old_links_in_tmp_are_removed_and_not_followed(theirs: Path, secret: Path) -> None:
    (theirs / "tmp" / "old").symlink_to(secret.parent)
    os.utime(theirs / "tmp" / "old", (0, 0), follow_symlinks=False)
    assert temporaries.sweep(theirs / layout.TEMPORARIES) == 1
    assert secret.exists()


def test_nothing_is_moved_away_through_a_link(theirs: Path, secret: Path) -> None:
    (theirs / SLICE).write_bytes(b"damaged")
    (theirs / "damaged").mkdir()
    (theirs / "damaged" / "losses").symlink_to(secret.parent)
    outside = contents(secret.parent)
    result = run("check", "--deep", "--quarantine", "-s", theirs)
    assert "a symbolic link leads there" in result.stderr
    assert contents(secret.parent) == outside
    assert (theirs / SLICE).exists()


def test_a_link_to_the_whole_store_is_fine(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(theirs)
    with trajstore.open(tmp_path / "elsewhere") as store:
        assert store.matrix("d").values.shape[0] == 4
        store.append(model="c", dataset="d", step=0, losses=[1.0] * store.dataset("d").n_losses)
        assert store.sql("SELECT count(*) FROM raw_losses WHERE model = 'c'").fetchall()[0][0] > 0


# The user's own files


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's, with a table to join; the current folder is the one above."""
    folder = tmp_path / "notes"
    folder.mkdir()
    pl.DataFrame({"text": [" w1", " w2", "nothing"], "note": [10, 20, 30]}).write_csv(folder / "words.csv")
    monkeypatch.chdir(tmp_path)
    return folder


JOIN = "SELECT note, count(*) AS n FROM {} JOIN tokens USING (text) GROUP BY note ORDER BY note"


@pytest.mark.parametrize("table", ["'notes/words.csv'", "'{own}/words.csv'", "read_csv('./notes/*.csv')"])
def test_own_files_can_be_joined(theirs: Path, own: Path, table: str) -> None:
    query = JOIN.format(table.format(own=own))
    with trajstore.open(theirs) as store:
        expected = store.sql(
            "SELECT CASE text WHEN ' w1' THEN 10 ELSE 20 END AS note, count(*) FROM tokens "
            "WHERE text IN (' w1', ' w2') GROUP BY note ORDER BY note"
        ).fetchall()
        assert store.sql(query, files=["notes"]).fetchall() == expected
        with pytest.raises(QueryError, match="trajstore sql --files DIR"):
            store.sql(query)
    result = run("sql", query, "--files", own, "-s", theirs, "--format", "json")
    assert [(row["note"], row["n"]) for row in json.loads(result.stdout)] == expected


def test_several_folders_and_groups(theirs: Path, own: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    pl.DataFrame({"i": [1]}).write_parquet(tmp_path / "more" / "i.parquet")
    query = "SELECT i, note FROM 'more/i.parquet', 'notes/words.csv' WHERE note = 10"
    words = ["sql", query, "--files", "notes", "--files", "more", "-s", theirs, "--format", "json"]
    assert json.loads(run(*words).stdout) == [{"i": 1, "note": 10}]
    with trajstore.open(theirs) as store:
        assert (
            store.sql("FROM groups.mine", files=[own]).fetchall() == store.sql("FROM groups.mine").fetchall()
        )


def test_files_beside_the_folder_stay_closed(theirs: Path, own: Path, secret: Path) -> None:
    (own / "link.csv").symlink_to(secret)
    (own.parent / "notes2").mkdir()
    shutil.copy(secret, own.parent / "notes2")
    for table in ("notes/../outside/secret.csv", "notes/link.csv", "notes2/secret.csv", secret):
        result = run("sql", f"FROM '{table}'", "--files", "notes", "-s", theirs)
        assert result.exit_code == 1
        assert OUTSIDE in result.stderr


def test_own_files_are_never_written(theirs: Path, own: Path) -> None:
    before = contents(own), contents(theirs)
    with lifecycle.session_with_files(theirs, [own]) as session:
        for statement in WRITERS:
            with pytest.raises(QueryError):
                query.select(session, statement.format(to=own / "words.csv")).fetchall()
    assert (contents(own), contents(theirs)) == before


@pytest.mark.skipif(not WITH_MAY_WRITE, reason="DuckDB before 2.0 has no COPY in WITH")
def test_a_doctored_catalog_has_no_say_beside_own_files(theirs: Path, own: Path) -> None:
    """A view that runs a text as SQL could write wherever the session can reach; it is not taken from the catalog."""
    target = own / "words.csv"
    literal = tree(f"WITH w AS (COPY (SELECT 1) TO '{target}') FROM w")
    doctor(
        theirs,
        f"CREATE VIEW evil AS FROM json_execute_serialized_sql({literal})",
        f"CREATE OR REPLACE VIEW raw_losses AS FROM json_execute_serialized_sql({literal})",
        f"CREATE OR REPLACE VIEW groups.mine AS FROM json_execute_serialized_sql({literal})",
    )
    before = contents(own)
    with trajstore.open(theirs) as store:
        assert store.sql("SELECT count(*) FROM raw_losses", files=[own]).fetchall() == [(8 * 38,)]
        assert store.sql("FROM groups.mine", files=[own]).fetchall() == []
        with pytest.raises(QueryError, match="evil"):
            store.sql("FROM evil", files=[own])
        with pytest.raises(DamagedFile, match="may do more than read"):
            store.sql("FROM evil")
    assert contents(own) == before


def test_a_folder_of_files_that_is_not_there(theirs: Path) -> None:
    result = run("sql", "SELECT 1", "--files", "nowhere", "-s", theirs)
    assert result.exit_code == 1
    assert "There is no folder" in result.stderr
    assert "--files takes the folder" in result.stderr
