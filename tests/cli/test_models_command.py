"""The models of a store: listed, shown, and renamed whole, whatever ends the renaming."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import trajstore
from tests.conftest import ragged
from tests.faults.test_replacing import table
from tests.helpers import killed
from tests.helpers.commands import run
from trajstore.errors import (
    BadName,
    DamagedFile,
    ModelExists,
    RenamingUnfinished,
    TrajstoreError,
    UnknownName,
)
from trajstore.store import checks
from trajstore.store import rename as renaming
from trajstore.store.disk import footers, layout
from trajstore.store.files import models
from trajstore.store.files.finding_tables import TABLES
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts
from trajstore.store.files.slices import Provenance
from trajstore.store.store import Store

if TYPE_CHECKING:
    from tests.conftest import NewStore

STEPS = (0, 8, 512)
MADE = Provenance(weights="sha256:ab", time="2026-01-01T00:00:00+00:00")


def fill(store: Store, name: str) -> Path:
    """Give a store a model of this name with all that can be of one, a child of it, and models beside it."""
    store.add_dataset("d", ragged((9, 2, 30)))
    store.add_dataset("e", ragged((5, 6), seed=1))
    rng = np.random.default_rng(0)
    for model in (name, "by-losses"):
        for on in "de":
            losses = rng.gamma(3, 1, (len(STEPS), store.dataset(on).n_losses)).astype(np.float32)
            for number, step in enumerate(STEPS[: 3 if on == "d" else 2]):
                kept = {"entropy": losses[number] / 2} if on == "d" and step == 8 else None
                store.append(
                    model=model, dataset=on, step=step, losses=losses[number], provenance=MADE, columns=kept
                )
    one = np.ones(store.dataset("e").lengths[1] - 1)
    store.append(model=name, dataset="e", step=512, losses=one, contexts=[1], provenance=MADE)
    store.publish_model(ModelFacts(name, family="gpt_neox", n_params=70, n_layer=2, seed=3))
    store.publish_model(ModelFacts("child", n_params=9, parent=name))
    store.add_measures(
        "noise", [Measure("noise", 0.5), Measure("noise_max", 2.0)], model=name, step=8, dataset="d"
    )
    store.add_measures("size", [Measure("size", 70.0)], model=name, step=0)
    return store.path


@pytest.fixture
def full(store: Store) -> Store:
    fill(store, "old")
    return store


def everything(path: Path) -> dict[str, bytes]:
    """The bytes of each file that models have."""
    files = [each for kind in ("losses", "measures", "models") for each in (path / kind).rglob("*")]
    return {str(each.relative_to(path)): each.read_bytes() for each in files if each.is_file()}


def keep_finding(store: Store, name: str, facts: dict[str, Any]) -> None:
    with store.add_finding("pca", name, facts) as writer:
        for each, schema in TABLES["pca"].items():
            writer.add(each, table(schema, 1))


def test_a_row_a_model(full: Store) -> None:
    rows = json.loads(run("model", "list", "--json", "-s", full.path).stdout)
    assert [row["model"] for row in rows] == ["child", "old", "by-losses"], "by parameters, unknown ones last"
    size = sum(
        len(data) for name, data in everything(full.path).items() if "=old/" in name and "models" not in name
    )
    assert rows[1] == {
        "model": "old",
        "family": "gpt_neox",
        "n_params": 70,
        "n_layer": 2,
        "seed": 3,
        "datasets": {"d": 3, "e": 3},
        "steps": 3,
        "first": 0,
        "last": 512,
        "bytes": size,
    }
    assert (rows[0]["datasets"], rows[0]["first"], rows[0]["bytes"]) == ({}, None, 0)
    assert (rows[2]["family"], rows[2]["datasets"]) == (None, {"d": 3, "e": 2})
    text = run("model", "list", "-s", full.path).stdout
    assert text.split("\n")[0].split() == [
        *("model", "family", "n_params", "n_layer", "seed", "datasets", "steps", "first", "last", "size")
    ]
    assert "d (3), e (2)" in text


@pytest.mark.filterwarnings("always::trajstore.errors.PassedOver")
def test_a_model_with_damaged_facts_is_listed(full: Store) -> None:
    (full.path / "models/old.json").write_text("{")
    result = run("model", "list", "--json", "-s", full.path)
    assert result.exit_code == 0
    assert "old.json is damaged" in result.stderr
    assert {row["model"] for row in json.loads(result.stdout)} == {"old", "child", "by-losses"}
    assert run("model", "show", "by-losses", "-s", full.path).exit_code == 0
    assert run("model", "rename", "by-losses", "new", "--yes", "-s", full.path).exit_code == 0


def test_no_models(store: Store) -> None:
    assert json.loads(run("model", "list", "--json", "-s", store.path).stdout) == []
    assert "n_params" in run("model", "list", "-s", store.path).stdout


def test_all_there_is_of_a_model(full: Store) -> None:
    keep_finding(full, "of-it", {"models": ["old", "by-losses"]})
    keep_finding(full, "by-table", {})
    keep_finding(full, "nested", {"slices": {"d": {"old": 3}}})
    keep_finding(full, "other", {"models": ["older"]})
    full.groups.add("plain", "FROM groups.digits", "of old")
    full.groups.add(
        "rising", "SELECT dataset, context, position FROM losses WHERE model IN ('by-losses', 'old')"
    )
    full.groups.add("older", "SELECT dataset, context, position FROM losses WHERE model = 'old-2'")
    shown = json.loads(run("model", "show", "old", "--json", "-s", full.path).stdout)
    assert {key: shown[key] for key in ("model", "family", "n_params", "n_layer", "seed")} == {
        "model": "old",
        "family": "gpt_neox",
        "n_params": 70,
        "n_layer": 2,
        "seed": 3,
    }
    assert "repo" not in shown
    assert [(line["dataset"], line["steps"], line["partial"]) for line in shown["coverage"]] == [
        ("d", list(STEPS), []),
        ("e", list(STEPS), [512]),
    ]
    assert shown["measures"] == [
        {"measure": "noise", "dataset": "d", "steps": 1, "values": 1},
        {"measure": "noise_max", "dataset": "d", "steps": 1, "values": 1},
        {"measure": "size", "dataset": None, "steps": 1, "values": 1},
    ]
    assert (shown["children"], shown["groups"]) == (["child"], ["rising"])
    assert shown["findings"] == ["pca nested", "pca of-it"]
    named_in_tables = json.loads(run("model", "show", "by-losses", "--json", "-s", full.path).stdout)
    assert named_in_tables["findings"] == ["pca of-it"]
    text = run("model", "show", "old", "-s", full.path).stdout
    for words in ("n_params", "child", "pca nested, pca of-it", "rising", "noise_max", "partial"):
        assert words in text
    assert "repo" not in text


def test_a_model_that_only_a_findings_table_names(full: Store) -> None:
    full.publish_model(ModelFacts("x"))
    keep_finding(full, "by-table", {})
    assert full.model_mentions("x").findings == [("pca", "by-table")]


def test_an_unknown_model_is_answered_with_near_names(full: Store) -> None:
    for words in (["show", "by-loses"], ["rename", "by-loses", "new", "--yes"]):
        result = run("model", *words, "-s", full.path)
        assert result.exit_code == 1
        assert "There is no model 'by-loses' here" in result.stderr
        assert "Did you mean by-losses?" in result.stderr


def test_renamed_is_as_if_it_had_been_named_so_from_the_start(
    full: Store, new_store: NewStore, tmp_path: Path
) -> None:
    twin_path = tmp_path / "twin"
    with new_store(twin_path) as twin:
        fill(twin, "a-much-longer.name" * 6)
    before = full.matrix(["d", "e"], "old", missing="nan").values
    done = full.rename_model("old", "a-much-longer.name" * 6)
    assert (done.children, done.damaged, done.left) == (["child"], [], 0)
    assert everything(full.path) == everything(twin_path)
    assert list((full.path / "tmp").iterdir()) == []
    assert checks.check(full, deep=True) == []
    after = full.matrix(["d", "e"], "a-much*", missing="nan")
    np.testing.assert_array_equal(before, after.values)
    assert full.sql("SELECT parent FROM models WHERE model = 'child'").fetchall() == [
        ("a-much-longer.name" * 6,)
    ]
    assert full.sql("SELECT count(*) FROM losses WHERE model = 'old'").fetchall() == [(0,)]


def test_a_model_without_facts_is_renamed(full: Store) -> None:
    full.rename_model("by-losses", "new")
    assert full.model("new") is None
    assert full.scored("new") == {"new": {"d": list(STEPS), "e": list(STEPS[:2])}}
    assert sorted(full.model_names()) == ["child", "new", "old"]
    assert checks.check(full, deep=True) == []


def test_a_model_with_facts_alone_is_renamed(full: Store) -> None:
    full.rename_model("child", "new")
    assert full.model("new") == ModelFacts("new", n_params=9, parent="old")
    assert full.model("child") is None
    assert checks.check(full, deep=True) == []


def test_it_asks_and_names_what_stays(full: Store) -> None:
    keep_finding(full, "kept", {"models": ["old"]})
    full.groups.add("rising", "SELECT dataset, context, position FROM losses WHERE model = 'old'")
    words = ["model", "rename", "old", "new", "-s", full.path]
    result = run(*words, stdin="n\n")
    assert result.exit_code == 1
    assert "Rename old to new (6 slices) and the parent of child?" in result.stderr
    assert "Findings that go on naming old, as they were made: pca kept" in result.stderr
    assert "Groups whose SQL names old, to be given anew: rising" in result.stderr
    assert "old" in full.model_names()
    result = run(*words, stdin="y\n")
    assert result.exit_code == 0
    assert "Renamed old to new." in result.stderr
    assert full.finding("pca", "kept").facts == {"models": ["old"]}
    quiet = run("-q", "model", "rename", "new", "old", "--yes", "-s", full.path)
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_names_that_are_taken_or_cannot_be(full: Store) -> None:
    before = everything(full.path)
    for new in ("by-losses", "child", "old"):
        with pytest.raises(ModelExists, match=f"There is a model '{new}' already. Nothing was renamed"):
            full.rename_model("old", new)
    full.add_measures("noise", [Measure("noise", 1.0)], model="measured", step=1)
    with pytest.raises(ModelExists):
        full.rename_model("old", "measured")
    layout.remove_folder(full.path, full.path / "measures/model=measured")
    for new in ("../x", "null", "a b", ""):
        with pytest.raises(BadName):
            full.rename_model("old", new)
    with pytest.raises(UnknownName):
        full.rename_model("../x", "new")
    assert everything(full.path) == before


@pytest.mark.parametrize("damaged", ["old", "child"])
def test_damaged_facts_stop_it_before_it_begins(full: Store, damaged: str) -> None:
    path = full.path / f"models/{damaged}.json"
    path.write_text(path.read_text().replace('"n_params": ', '"n_params": 1'))
    before = everything(full.path)
    with pytest.raises(DamagedFile):
        full.rename_model("old", "new")
    assert everything(full.path) == before


def test_a_damaged_slice_stays_damaged(full: Store) -> None:
    """It is not sealed anew, which would hide what is wrong with it."""
    path = layout.slice_path(full.path, "old", "d", 8)
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    result = run("model", "rename", "old", "new", "--yes", "-s", full.path)
    assert result.exit_code == 0
    there = layout.slice_path(full.path, "new", "d", 8)
    assert f"Warning: {there} is damaged and still has the name old in it" in result.stderr
    assert there.read_bytes() == data
    problems = checks.check(full, deep=True)
    assert [problem.path for problem in problems] == ["losses/model=new/dataset=d/step=8/slice.parquet"]
    with pytest.raises(ValueError, match="not those that were written"):
        footers.with_model(bytes(data), "new")


def test_a_full_disk_makes_no_slice_damaged(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The renaming stays unfinished, since what still has the old name would not be read after it."""
    before = full.matrix("d", "old").values
    publish = layout.publish

    def full_disk(root: Path, path: Path, data: Any, **more: Any) -> bool:
        if path.suffix == ".parquet":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return publish(root, path, data, **more)

    with monkeypatch.context() as patch:
        patch.setattr(layout, "publish", full_disk)
        result = run("model", "rename", "old", "new", "--yes", "-s", full.path)
    assert result.exit_code == 1
    assert "free the disk" in result.stderr
    np.testing.assert_array_equal(full.matrix("d", "new").values, before)
    assert run("model", "rename", "old", "new", "--yes", "-s", full.path).exit_code == 0
    assert checks.check(full, deep=True) == []


class Interrupted(Exception):
    pass


def interrupt(store: Store, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
    """Begin to rename old to new, and stop after so many footers."""

    def stopping(root: Path, path: Path, old: str, new: str) -> None:
        nonlocal after
        after -= 1
        if after < 0:
            raise Interrupted
        change(root, path, old, new)

    change = renaming._change_footer
    with monkeypatch.context() as patch:
        patch.setattr(renaming, "_change_footer", stopping)
        with pytest.raises(Interrupted):
            store.rename_model("old", "new")


def test_half_renamed_it_is_read_and_named_by_check(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = full.matrix("d", "old").values
    measured = full.measures("old").drop("model")
    interrupt(full, monkeypatch, after=2)
    assert "old" not in full.model_names()
    np.testing.assert_array_equal(full.matrix("d", "new").values, before)
    assert full.measures("new").drop("model").equals(measured)
    assert full.slice_facts("new", "d", 512).model == "new"
    (problem,) = checks.check(full, deep=True)
    assert problem.what == "the renaming of old to new is not finished"
    assert problem.mend == "trajstore model rename old new"
    for old, new in (("new", "newer"), ("old", "newer"), ("by-losses", "old")):
        with pytest.raises(RenamingUnfinished, match="Finish it: trajstore model rename old new"):
            full.rename_model(old, new)
    assert run("model", "rename", "old", "new", "--yes", "-s", full.path).exit_code == 0
    assert checks.check(full, deep=True) == []
    assert models.old_name(full.path, "new") is None


def test_a_slice_under_a_name_that_was_never_its_own_is_refused(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(full, monkeypatch)
    foreign = layout.slice_path(full.path, "new", "d", 9)
    foreign.parent.mkdir()
    shutil.copy(layout.slice_path(full.path, "by-losses", "d", 8), foreign)
    with pytest.raises(DamagedFile, match="under another's name"):
        full.slice_losses("new", "d", 9)


def test_slices_that_a_job_adds_after_an_interruption_come_along(
    full: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(full, monkeypatch)
    losses = np.full(full.dataset("d").n_losses, 2.0)
    for step in (8, 1000):
        full.append(model="old", dataset="d", step=step, losses=losses)
    result = run("model", "rename", "old", "new", "--yes", "-s", full.path)
    assert full.steps("new", "d") == [*STEPS, 1000]
    assert full.steps("old", "d") == [8], "that of new stays as it was"
    assert "1 slice came under old meanwhile, so a job is scoring it" in result.stderr
    assert "trajstore drop -m old" in result.stderr
    assert checks.check(full, deep=True) == []


def rename(path: Path, _: Path) -> None:
    with trajstore.open(path) as store:
        try:
            store.rename_model("old", "new")
        except UnknownName:
            assert "new" in store.model_names(), "all was done when it was killed"


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_anywhere_the_same_again_ends_it(full: Store, tmp_path: Path, every: int) -> None:
    losses = full.matrix(["d", "e"], "old", missing="nan").values
    full.close()
    calm = Path(shutil.copytree(full.path, tmp_path / "calm"))
    rename(calm, calm)
    expected = everything(calm)
    for copy, was_killed in killed.before_each_change(full.path, tmp_path, rename, every=every, least=40):
        if not was_killed:
            assert everything(copy) == expected
            return
        with trajstore.open(copy) as store:
            name = "old" if store.steps("old", "d") else "new"
            there = store.matrix(["d", "e"], name, missing="nan")
            np.testing.assert_array_equal(there.values, losses)
            assert (
                len(store.scored(["old", "new"] if {"old", "new"} <= {*store.model_names()} else name)[name])
                == 2
            )
            assert sum(bool(store.steps(each, "e")) for each in ("old", "new")) == 1, "one name or the other"
        rename(copy, copy)
        assert everything(copy) == expected
        with trajstore.open(copy) as store:
            assert checks.check(store, deep=True) == []


def test_two_at_once_end_the_same_renaming(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = renaming._finish

    def both(root: Path, old: str, new: str) -> None:
        monkeypatch.setattr(renaming, "_finish", finish)
        with Store(root) as second:
            second.rename_model(old, new)
        finish(root, old, new)

    monkeypatch.setattr(renaming, "_finish", both)
    assert full.rename_model("old", "new").damaged == []
    assert full.model("new") == ModelFacts("new", family="gpt_neox", n_params=70, n_layer=2, seed=3)
    assert checks.check(full, deep=True) == []


def test_a_folder_that_a_drop_left_empty_is_no_obstacle(full: Store) -> None:
    full.drop(full.chosen_slices("by-losses"), ["by-losses"])
    full.rename_model("old", "by-losses")
    assert full.steps("by-losses", "d") == list(STEPS)
    with pytest.raises(TrajstoreError):
        full.rename_model("old", "by-losses")
