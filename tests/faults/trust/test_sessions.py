"""A session on somebody else's store has locked settings, writes nothing, and adds only groups that read."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest

import trajstore
from tests.faults.trust.conftest import CANARY, SITES, SLICE, WITH_MAY_WRITE, WRITERS, contents, doctor, run
from trajstore import scratch
from trajstore.errors import GroupError, QueryError, StoreUnusable
from trajstore.store import lifecycle
from trajstore.store.catalog import catalog

if TYPE_CHECKING:
    from collections.abc import Callable


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
