"""Migrations: each with its ledger row, frozen once released, from the oldest on."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import duckdb
import pytest

from trajstore import sqlfiles
from trajstore.sqlfiles import SqlFile
from trajstore.store.catalog import catalog, migrate
from trajstore.store.lifecycle import migrate_store, migrations
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

FROZEN = {
    "0001_catalog": "4607d091df3a01c7179a93fb94b9a052602bec364fb039466e89e66e43afaa87",
    "0002_digests": "3c6ba371b0fdc539bc0bb539be3dc9040c27ce0ff5bc9b4a2db253b601a8a643",
    "0003_stand_ins": "6dc521d612aa4342969c5a2b45fe0846f67b98bb048beb45e4dd9a2b6dd2f2af",
}


def test_released_migrations_never_change() -> None:
    found = {
        file.name: hashlib.sha256(file.text.encode()).hexdigest() for file in sqlfiles.load("migrations")
    }
    assert found == FROZEN


def test_names_are_numbered_without_gaps() -> None:
    names = [file.name for file in sqlfiles.load("migrations")]
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert all(re.fullmatch(r"\d{4}_[a-z_]+", name) for name in names)


def test_listing_changes_nothing(store: Store) -> None:
    store.close()
    before = (store.path / "catalog.duckdb").read_bytes()
    lines = migrations(store.path)
    assert [line.name for line in lines] == [*FROZEN, migrate.DEFINITIONS]
    assert all(line.applied_at for line in lines)
    assert (store.path / "catalog.duckdb").read_bytes() == before


def test_migrating_twice_does_nothing(store: Store) -> None:
    assert migrate_store(store.path) == []


@pytest.fixture
def with_second(monkeypatch: pytest.MonkeyPatch) -> list[SqlFile]:
    """A second migration, whose text a test sets."""
    extra: list[SqlFile] = []
    real = sqlfiles.load
    monkeypatch.setattr(
        sqlfiles, "load", lambda kind: (*real(kind), *(extra if kind == "migrations" else ()))
    )
    return extra


def test_a_migration_and_its_ledger_row_are_one(store: Store, with_second: list[SqlFile]) -> None:
    store.close()
    with_second.append(SqlFile("0004_notes", "", "CREATE TABLE notes (note VARCHAR); SELECT error('no')"))
    with pytest.raises(duckdb.Error, match="no"):
        migrate_store(store.path)
    lines = {line.name: line.applied_at for line in migrations(store.path)}
    assert lines["0004_notes"] is None
    with_second[0] = SqlFile("0004_notes", "", "CREATE TABLE notes (note VARCHAR)")
    assert migrate_store(store.path) == ["0004_notes"]
    with Store(store.path) as again:
        assert again.sql("FROM notes").columns == ["note"]


def test_from_the_oldest_with_rows(store_path: Path, planted: Store, with_second: list[SqlFile]) -> None:
    """A store as the first version made it, with a group, opens after migrating."""
    planted.groups.add("mine", "FROM groups.digits")
    planted.close()
    (store_path / "catalog.duckdb").unlink()
    with catalog.creating(store_path, store_path / "catalog.duckdb") as connection:
        assert migrate.migrate(connection, store_path) == [
            *FROZEN,
            migrate.DEFINITIONS,
        ]
    with_second.append(SqlFile("0004_notes", "", "CREATE TABLE notes (note VARCHAR)"))
    assert migrate_store(store_path) == ["0004_notes"]
    with Store(store_path) as store:
        assert "mine" in store.groups.names()
        assert store.sql("SELECT count(*) FROM groups.mine").fetchall() == [(0,)]


def test_definitions_are_taken_anew_when_they_change(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.close()
    real = sqlfiles.load

    def changed(kind: str) -> tuple[SqlFile, ...]:
        if kind != "groups":
            return real(kind)
        return (
            *real(kind),
            SqlFile("odd", "Odd positions.", "-- Odd positions.\nFROM tokens WHERE position % 2 = 1"),
        )

    monkeypatch.setattr(sqlfiles, "load", changed)
    assert migrate_store(store.path) == [migrate.DEFINITIONS]
    with Store(store.path) as again:
        assert again.groups.show("odd").description == "Odd positions."
