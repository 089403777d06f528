"""Each analysis as one function of the package: its result is what the command prints, draws and keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import trajstore
from tests.conftest import plant
from trajstore import Comparison, Interval, Selection
from trajstore.analysis.components.methods import Method
from trajstore.analysis.spikes.tokens import Tolerance
from trajstore.cli import app
from trajstore.errors import FindingExists, UnknownName
from trajstore.pipelines.comparison.result import Question
from trajstore.pipelines.differences.differences import DifferenceMethod
from trajstore.pipelines.spikes import Search
from trajstore.store.files.finding_tables import TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.pipelines.finding_facts import Result
    from trajstore.store.store import Store

pytestmark = pytest.mark.usefixtures("drawn_rho")
STEPS = (0, 1, 2, 4, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181, 256, 362, 512)
FEW = Interval(resamples=100)
SEARCH = Search((8, 32, 128), tolerance=Tolerance(0.1), interval=FEW)
KEPT: dict[str, tuple[Callable[[Store], Any], str]] = {
    "pca": (
        lambda store: trajstore.pca(
            store, Selection(["d", "e"], ["a"], group="first_half"), Method(components=3)
        ),
        "pca -d d -d e -m a -g first_half --components 3",
    ),
    "spikes": (
        lambda store: trajstore.spikes(store, Selection("d", "a"), search=SEARCH),
        "spikes -d d -m a --window 8:32:128 --tau 0.1 --resamples 100",
    ),
    "shapes": (
        lambda store: trajstore.shapes(store, Selection("d", steps="1:"), "first_half"),
        "shapes -d d --steps 1: -g first_half",
    ),
    "phases": (
        lambda store: trajstore.phases(store, "first_half", Selection("d", ["a"]), interval=FEW),
        "phases first_half -d d -m a --resamples 100",
    ),
    "compare": (
        lambda store: trajstore.compare(
            store, ["a", "b"], Question(outliers=0.05, interval=FEW), Selection(["d"], steps="log")
        ),
        "compare a b -d d --steps log --outliers 0.05 --resamples 100",
    ),
    "diff": (
        lambda store: trajstore.diff(
            store,
            Selection("d", steps="64"),
            ["first_half"],
            models=("a", "b"),
            how=DifferenceMethod(top=1000, interval=FEW),
        ),
        "diff models a b -d d --steps 64 -g first_half --resamples 100",
    ),
}


@pytest.fixture
def long(store: Store) -> trajstore.Store:
    """A planted store with as many steps as every analysis takes."""
    return trajstore.open(plant(store, STEPS).path)


def run(store: Store, words: str, *more: str) -> tuple[str, str]:
    done = CliRunner().invoke(app, [*words.split(), *more, "-s", str(store.path)])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


@pytest.mark.parametrize("kind", KEPT)
def test_what_python_keeps_is_what_the_command_keeps(
    long: trajstore.Store, kind: str, tmp_path: Path
) -> None:
    """Under the same name, with the same facts and tables: the command says of it that it is the same."""
    analyse, command = KEPT[kind]
    found: Result = analyse(long)
    assert long.findings() == [], "nothing is kept before .keep()"
    tables = {table: found.table(table) for table in TABLES[kind]}
    name = found.keep()
    (kept,) = long.findings()
    assert (kept.kind, kept.name) == (kind, name)
    assert kept.facts == json.loads(json.dumps(dict(found.facts)))
    for table, rows in tables.items():
        assert rows.equals(kept.table(table)), table
    assert any(rows.height for rows in tables.values())
    with pytest.raises(FindingExists):
        found.keep()
    printed, said = run(long, command, "--json")
    assert json.loads(printed)["finding"] == name
    assert f"There already, and the same: the finding {name}" in said
    assert found.keep(replace=True) == name
    assert found.keep("other") == "other"
    with pytest.raises(UnknownName, match=f"table of a {kind} finding"):
        found.table("nothing")
    listed = {row["finding"]: row["of"] for row in json.loads(run(long, "finding list", "--json")[0])}
    assert listed.keys() == {name, "other"}
    of_models, _, rest = listed[name].partition(" on ")
    assert "a" in of_models.split(", ")
    assert rest.startswith("d")
    assert f"<b>{type(found).__name__}</b>" in found._repr_html_()
    found.plot(tmp_path / "python.html")
    run(long, command, "--name", "drawn", "--plot", str(tmp_path / "command.html"))
    drawn = [chart.title for chart in found.charts()]
    pages = [(tmp_path / f"{by}.html").read_text(encoding="utf-8") for by in ("python", "command")]
    assert drawn
    assert all(json.dumps(title)[1:-1] in page or title in page for title in drawn for page in pages)


def test_a_trajectory_is_that_of_the_command(long: trajstore.Store) -> None:
    found = trajstore.trajectory(long, ["first_half"], Selection("d"), Comparison(minus="second_half"), FEW)
    words = "trajectory first_half -d d --minus second_half --resamples 100"
    assert json.loads(run(long, words, "--json")[0]) == found.frame.to_dicts()
    assert found.table("curves").height == found.frame.height == 2 * len(STEPS)
    assert trajstore.trajectories(long, ["first_half"], Selection("d")).height == 2 * len(STEPS)


def test_an_audit_is_that_of_the_command(long: trajstore.Store) -> None:
    assert trajstore.audit(long) == []
    long.append(model="b", dataset="d", step=600, losses=long.slice_losses("b", "d", 512))
    found = trajstore.audit(long)
    done = CliRunner().invoke(app, ["audit", "--json", "-s", str(long.path)])
    assert json.loads(done.stdout) == json.loads(json.dumps([vars(one) for one in found]))
    assert found.table("findings").rows(named=True)[0]["steps"] == list(found[0].steps) == [512, 600]
    assert repr(found) == "Audit(1 finding)"
    long.append(model="few", dataset="d", step=8, losses=long.slice_losses("a", "d", 8) * 0.9)
    (sentence,) = trajstore.audit(long, "few").unseen
    assert sentence.startswith("With fewer than")
    assert sentence in CliRunner().invoke(app, ["audit", "-m", "few", "-s", str(long.path)]).stderr


def test_what_cannot_be_asked_is_refused(long: trajstore.Store) -> None:
    with pytest.raises(trajstore.errors.TrajstoreError, match="not of both"):
        trajstore.diff(long, models=("a", "b"), prompts=("d", "e"))
    with pytest.raises(UnknownName, match="no dataset 'f'"):
        trajstore.pca(long, Selection("f"))
