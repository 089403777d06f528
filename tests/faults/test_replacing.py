"""Findings and groups that analyses keep: replaced at once, and begun again by the command that was killed."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from typer.testing import CliRunner

import trajstore
from tests.helpers import killed
from trajstore.cli import app
from trajstore.errors import UnknownName
from trajstore.store import checks
from trajstore.store.disk import exchange, layout
from trajstore.store.files import findings
from trajstore.store.files.finding_tables import TABLES
from trajstore.store.matrix.export import save_matrix
from trajstore.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

KIND, NAME = "pca", "first"


def table(schema: pa.Schema, number: int) -> pa.Table:
    """A row that names a number wherever it can."""
    values = {pa.string(): "x", pa.list_(pa.float64()): [1.0]}
    return pa.table({field.name: [values.get(field.type, number)] for field in schema}).cast(schema)


def keep(store: Store, number: int, *, replace: bool) -> None:
    with store.add_finding(KIND, NAME, {"number": number}, replace=replace) as writer:
        for name, schema in TABLES[KIND].items():
            writer.add(name, table(schema, number))


def number_of(path: Path) -> int:
    """Of the finding, which all its tables have."""
    with trajstore.open(path) as store:
        found = store.finding(KIND, NAME)
        (number,) = {
            int(found.table(name)["component"][0])
            for name, schema in TABLES[KIND].items()
            if "component" in schema.names
        }
        assert found.facts["number"] == number
    return number


@pytest.fixture
def ready(store: Store) -> Path:
    """The path of a store with a finding."""
    keep(store, 1, replace=False)
    store.close()
    return store.path


def replace_exchanging(path: Path, _: Path) -> None:
    with trajstore.open(path) as store:
        keep(store, 2, replace=True)


def replace_setting_aside(path: Path, _: Path) -> None:
    """On a file system that cannot exchange names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "exchange", lambda *_: False)
        replace_exchanging(path, path)


def test_names_are_exchanged_at_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.mkdir()
        (path / "name").write_text(path.name)
    if not exchange.exchange(one, two):
        pytest.skip("this file system cannot exchange names")
    assert ((one / "name").read_text(), (two / "name").read_text()) == ("two", "one")
    with pytest.raises(FileNotFoundError):
        exchange.exchange(one, tmp_path / "none")


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("work", [replace_exchanging, replace_setting_aside])
def test_a_finding_whose_replacement_is_killed(
    ready: Path, tmp_path: Path, work: Callable[[Path, Path], None], every: int
) -> None:
    """Before each change of the file system: the old or the new is there, and the same again ends it."""
    for copy, was_killed in killed.before_each_change(ready, tmp_path, work, every=every, least=5):
        assert number_of(copy) in (1, 2)
        with trajstore.open(copy) as store:
            assert len(store.sql("SELECT DISTINCT finding FROM pca_components").fetchall()) == 1
        work(copy, copy)
        assert number_of(copy) == 2
        assert not (copy / layout.SET_ASIDE).exists()
        if not was_killed:
            with trajstore.open(copy) as store:
                assert checks.check(store, deep=True) == []
                store.drop_finding(KIND, NAME)
                with pytest.raises(UnknownName):
                    store.finding(KIND, NAME)


def test_a_finding_that_was_set_aside_is_not_back_after_it_was_dropped(ready: Path) -> None:
    """Its successor had come, and the writer died before it removed the old one."""
    shutil.copytree(
        findings.path_of(ready, KIND, NAME), ready / layout.SET_ASIDE / f"findings/kind={KIND}/finding={NAME}"
    )
    with trajstore.open(ready) as store:
        store.drop_finding(KIND, NAME)
        with pytest.raises(UnknownName):
            store.finding(KIND, NAME)


def test_nothing_is_put_back_through_a_link(ready: Path, tmp_path: Path) -> None:
    """In a store from somebody else, where it would be put out of the store."""
    outside = tmp_path / "outside"
    outside.mkdir()
    planted = ready / layout.SET_ASIDE / "findings/kind=theirs/finding=planted"
    planted.mkdir(parents=True)
    (ready / "findings/kind=theirs").symlink_to(outside)
    with trajstore.open(ready) as store:
        assert [each.name for each in store.findings()] == [NAME]
    assert list(outside.iterdir()) == []
    assert planted.is_dir()


def test_readers_find_it_meanwhile(ready: Path) -> None:
    if not exchange.exchange(ready / "tmp", ready / "groups"):
        pytest.skip("this file system cannot exchange names")
    exchange.exchange(ready / "tmp", ready / "groups")
    stop, failed = threading.Event(), []

    def look() -> None:
        folder = findings.path_of(ready, KIND, NAME)
        while not stop.is_set():
            if not folder.is_dir():
                failed.append("none")

    reader = threading.Thread(target=look)
    reader.start()
    try:
        with trajstore.open(ready) as store:
            for number in range(2, 30):
                keep(store, number, replace=True)
    finally:
        stop.set()
        reader.join()
    assert not failed
    assert number_of(ready) == 29
    assert list((ready / "tmp").iterdir()) == []


# groups that an analysis keeps


def run(path: Path, *words: str) -> None:
    result = CliRunner().invoke(app, [*words, "-s", str(path)])
    assert result.exit_code == 0, result.output


def compare(path: Path, _: Path) -> None:
    run(
        path,
        "compare",
        "a",
        "b",
        "-d",
        "d",
        "--keep",
        "--no-groups",
        "--resamples",
        "100",
        "--outliers",
        "0.3",
    )


def spikes(path: Path, _: Path) -> None:
    run(
        path,
        "spikes",
        "-m",
        "a",
        "-d",
        "d",
        "--window",
        "4:8:16",
        "--keep",
        "--no-enrich",
        "--tau",
        "0.01",
    )


def balance(path: Path, _: Path) -> None:
    run(path, "group", "balance", "odd", "even", "--on", "frequency")


def kept(path: Path) -> dict[str, object]:
    """Groups and findings of a store, by name."""
    with trajstore.open(path) as store:
        own = {group.name: group.sizes for group in store.groups.list() if not group.shipped}
        return {**own, **{f"{each.kind}/{each.name}": "" for each in store.findings()}}


@pytest.mark.parametrize(
    ("work", "every"),
    [
        *((work, 11) for work in (compare, spikes)),
        *(
            pytest.param(work, 1, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])
            for work in (compare, spikes, balance)
        ),
    ],
)
def test_an_analysis_that_is_killed_while_it_keeps_its_groups(
    planted: Store, tmp_path: Path, work: Callable[[Path, Path], None], every: int
) -> None:
    for name, odd in (("odd", 1), ("even", 0)):
        planted.groups.add(name, f"FROM tokens WHERE position % 2 = {odd}")
    planted.close()
    calm = Path(shutil.copytree(planted.path, tmp_path / "calm"))
    work(calm, calm)
    expected = kept(calm)
    assert len(expected) >= 4
    for copy, was_killed in killed.before_each_change(planted.path, tmp_path, work, every=every, first=every):
        if not was_killed:
            assert kept(copy) == expected
            return
        assert kept(copy).items() <= expected.items()
        work(copy, copy)
        assert kept(copy) == expected
        with trajstore.open(copy) as store:
            assert checks.check(store) == []


def test_a_group_of_another_finding_is_not_taken_for_a_beginning(planted: Store) -> None:
    planted.close()
    compare(planted.path, planted.path)
    words = ["compare", "a", "b", "-d", "d", "--keep", "--outliers", "0.2", "-s", str(planted.path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "of other tokens for all that is known" in result.stderr


# other publications of several parts


def export(place: Path, _: Path) -> None:
    with trajstore.open(place / "store") as store:
        save_matrix(store.matrix("d"), place / "m.npy")


def refresh(place: Path, _: Path) -> None:
    """A group whose function has changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        (place / "mine.py").write_text("def first(tokens):\n    return tokens['position'] == 1\n")
        with trajstore.open(place / "store") as store:
            store.groups.refresh(["found"])


def state(place: Path) -> dict[str, object]:
    """Return what an export has written, and a store's groups, without what no two runs share."""
    with trajstore.open(place / "store") as store:
        found = {group.name: group.sizes for group in store.groups.list() if not group.shipped}
        damaged = [str(problem) for problem in checks.check(store, deep=True)]
    exported = {path.name: path.read_bytes() for path in place.glob("m.*")}
    return {**found, **exported, "damaged": damaged}


@pytest.mark.parametrize(
    ("work", "every"),
    [
        (export, 4),
        *(
            pytest.param(work, 1, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])
            for work in (export, refresh)
        ),
    ],
)
def test_what_is_killed_is_ended_by_the_same_again(
    planted: Store, tmp_path: Path, work: Callable[[Path, Path], None], every: int
) -> None:
    begin = tmp_path / "begin"
    begin.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(begin)
        (begin / "mine.py").write_text("def first(tokens):\n    return tokens['position'] == 0\n")
        planted.groups.add_python("found", "mine:first")
    planted.groups.add("plain", "FROM groups.digits")
    planted.close()
    planted.path.rename(begin / "store")
    calm = Path(shutil.copytree(begin, tmp_path / "calm"))
    work(calm, calm)
    expected = state(calm)
    assert expected["damaged"] == []
    for copy, was_killed in killed.before_each_change(begin, tmp_path, work, every=every):
        if not was_killed:
            assert state(copy) == expected
            return
        work(copy, copy)
        assert state(copy) == expected
        assert not list(copy.glob(".*")), "no half of an export"
