"""Links in somebody else's store are not followed, and a user's own files are read and never written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pytest

import trajstore
from tests.conftest import ragged
from tests.faults.trust.conftest import (
    CANARY,
    OUTSIDE,
    SLICE,
    WITH_MAY_WRITE,
    WRITERS,
    contents,
    doctor,
    run,
    tree,
)
from trajstore.errors import DamagedFile, QueryError
from trajstore.store import lifecycle
from trajstore.store.disk import layout, temporaries
from trajstore.store.queries import query
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable


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
