"""A file that has no place in a store, or one damaged part of it, is named with its path, and the rest goes on."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.conftest import PLANTED_STEPS
from tests.helpers.commands import run
from trajstore.errors import PassedOver
from trajstore.schema import is_name, step_of
from trajstore.store import checks, passed_over
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("always::trajstore.errors.PassedOver")

SLICE = "losses/model=a/dataset=d/step=8/slice.parquet"

ODD = {
    "losses/model=a b": SLICE.replace("model=a", "model=a b"),
    "losses/model=a/dataset=d d": SLICE.replace("dataset=d", "dataset=d d"),
    "losses/model=a/dataset=d/step=²": SLICE.replace("step=8", "step=²"),
    "losses/model=a/dataset=d/step=08": SLICE.replace("step=8", "step=08"),
    "losses/model=a/dataset=d/step=-8": SLICE.replace("step=8", "step=-8"),
    "tokens/dataset=copy of d": "tokens/dataset=copy of d/tokens.parquet",
    "models/._m.json": "models/._m.json",
    "models/a b.json": "models/a b.json",
    "groups/My Group.sql": "groups/My Group.sql",
    "measures/model=a b": "measures/model=a b/step=8/noise.d.parquet",
    "findings/kind=pca/finding=a b": "findings/kind=pca/finding=a b/components.parquet",
}
"""The oddity at each path, and the file under it."""
READ_BY_SQL = {
    "models/a b.json",
    "losses/model=a b",
    "losses/model=a/dataset=d d",
    "losses/model=a/dataset=d/step=08",
}
"""Strays that SQL reads for all that, since a pattern of files cannot tell them from others."""


def plant_odd(store: Store, name: str) -> None:
    file = store.path / ODD[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    source = store.path / (SLICE if name.startswith("losses") else "tokens/dataset=d/tokens.parquet")
    if name.startswith(("losses", "tokens")):
        shutil.copy(source, file)
    else:
        file.write_bytes(b"\x00\x05\x16\x07 no text at all")


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_name_is_named_and_passed_over(planted: Store, tmp_path: Path, odd: str) -> None:
    plant_odd(planted, odd)
    here = ("-s", planted.path)
    status = run("status", *here)
    assert status.exit_code == 0
    assert f"Passed over for their names in {planted.path}: {odd}." in " ".join(status.stderr.split())
    assert len(json.loads(run("status", "--json", *here).stdout)) == 4  # two models on two datasets
    matrix = run("matrix", tmp_path / "m.npy", "-d", "d", *here)
    assert (matrix.exit_code, planted.steps("a", "d")) == (0, list(PLANTED_STEPS))
    check = run("check", "--json", *here)
    assert [each["path"] for each in json.loads(check.stdout)] == [ODD[odd]]
    assert run("drop", "-m", "a", "-d", "d", "--steps", "8", "--yes", *here).exit_code == 0
    if odd not in READ_BY_SQL:
        count = planted.sql("SELECT count(DISTINCT (model, dataset, step)) FROM losses").fetchall()
        assert count == [(4 * len(PLANTED_STEPS) - 1,)]
        assert planted.sql("SELECT count(*) FROM models").fetchall() == [(2,)]


def test_names_and_steps_as_a_store_writes_them() -> None:
    assert [step_of(label) for label in ("0", "12", str(2**63 - 1))] == [0, 12, 2**63 - 1]
    for label in ("", "²", "٣", "08", "-1", "+1", "1.0", " 1", "1_0", str(2**63)):
        assert step_of(label) is None, label
    assert [is_name(name) for name in ("a", "A.b-1", "null", "NULL", "._m", "a b", "")] == [True, True] + [
        False
    ] * 5


def test_all_files_of_a_store_have_their_place(planted: Store) -> None:
    planted.groups.add("mine", "FROM groups.digits")
    planted.publish_model(ModelFacts("a"))
    assert list(passed_over.odd_names(planted.path)) == []
    for path in planted.path.rglob("*"):
        assert not path.is_file() or passed_over.why(str(path.relative_to(planted.path))) is None, path


# one damaged part


def add_finding(store: Store, name: str) -> None:
    with store.add_finding("diff", name, {"of": "a"}) as writer:
        for table in ("groups", "tokens", "slices"):
            from trajstore.store.files.finding_tables import TABLES

            writer.add(table, pl.DataFrame(TABLES["diff"][table].empty_table()))


def test_one_damaged_finding_does_not_hide_the_others(planted: Store) -> None:
    for name in ("first", "second", "third"):
        add_finding(planted, name)
    first, second = (planted.path / f"findings/kind=diff/finding={name}" for name in ("first", "second"))
    (first / "groups.parquet").write_bytes(b"PAR1")
    (second / "tokens.parquet").unlink()
    with pytest.warns(PassedOver) as warned:
        assert [each.name for each in planted.findings()] == ["third"]
    assert len(warned) == 2
    listed = run("finding", "list", "--json", "-s", planted.path)
    assert [each["finding"] for each in json.loads(listed.stdout)] == ["third"]
    told = " ".join(listed.stderr.split())
    assert "finding=first/groups.parquet is damaged" in told
    assert "finding=second/tokens.parquet is damaged: it is not there" in told
    found = {problem.path: problem.what for problem in checks.check(planted)}
    assert found.keys() == {
        "findings/kind=diff/finding=first/groups.parquet",
        "findings/kind=diff/finding=second/tokens.parquet",
    }
    assert found["findings/kind=diff/finding=second/tokens.parquet"] == "it is not there"
    assert run("finding", "show", "diff", "second", "-s", planted.path).exit_code == 1
    assert run("finding", "drop", "diff", "second", "-s", planted.path).exit_code == 0


DAMAGED_PARTS = ["models/b.json", "tokens/dataset=e/tokens.parquet", "tokens/dataset=e/contexts.parquet"]


@pytest.mark.parametrize("part", DAMAGED_PARTS)
def test_audit_and_check_go_on_past_a_damaged_part(planted: Store, part: str) -> None:
    planted.publish_model(ModelFacts("b"))
    (planted.path / part).write_bytes(b"{")
    (planted.path / SLICE).write_bytes(b"PAR1")
    audit = run("audit", "--json", "-s", planted.path)
    found = [each for each in json.loads(audit.stdout) if each["finding"] == "damaged"]
    assert len(found) == 2, audit.stdout
    assert any(part.rpartition("/")[2] in each["what"] for each in found)
    assert any(each["steps"] == [8] and each["model"] == "a" for each in found)
    named = {each["path"] for each in json.loads(run("check", "--json", "-s", planted.path).stdout)}
    assert {part, SLICE} <= named
