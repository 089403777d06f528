"""A doctored catalog of somebody else's store reads and writes no file outside, and what tries is refused by name."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from pathlib import Path

import duckdb
import pytest

import trajstore
from tests.faults.trust.conftest import CANARY, OUTSIDE, SLICE, WITH_MAY_WRITE, contents, doctor, run, tree
from trajstore import sqlfiles
from trajstore.errors import DamagedFile, GroupError, QueryError, StoreTooOld, TrajstoreError
from trajstore.store import lifecycle
from trajstore.store.catalog import catalog
from trajstore.store.catalog import read_only as statements

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
