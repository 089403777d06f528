"""A catalog is checked once in a process: as long as its file has the same bytes, and no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from trajstore.errors import DamagedFile
from trajstore.store.catalog import passed_checks, read_only
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from duckdb import DuckDBPyConnection


def test_the_same_bytes_are_checked_once_and_others_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[DuckDBPyConnection] = []
    check: Callable[[DuckDBPyConnection], None] = read_only.check_definitions

    def counted(connection: DuckDBPyConnection) -> None:
        checked.append(connection)
        check(connection)

    monkeypatch.setattr(read_only, "check_definitions", counted)
    monkeypatch.setattr(passed_checks, "_passed", set())
    for _ in range(2):
        with Store(store.path) as opened:
            opened.sql("FROM datasets")
    assert len(checked) == 1
    with duckdb.connect(store.path / "catalog.duckdb") as catalog:
        catalog.execute("CREATE MACRO avg(x) AS 0.5")
    for _ in range(2):
        with Store(store.path) as opened, pytest.raises(DamagedFile, match=r"its macro main\.avg"):
            opened.sql("FROM datasets")
    assert len(checked) == 3, "what did not pass is checked each time"


def test_a_file_has_no_hash_once_another_is_in_its_place_or_a_log_beside_it(store: Store) -> None:
    path = store.path / "catalog.duckdb"
    with passed_checks.opened(path) as file:
        assert file.sha256() is not None
        (log := path.with_name("catalog.duckdb.wal")).touch()
        assert file.sha256() is None
        log.unlink()
        (copy := path.with_name("copy")).write_bytes(path.read_bytes())
        copy.replace(path)
        assert file.sha256() is None
    with passed_checks.opened(store.path / "nothing") as file:
        assert file.sha256() is None
