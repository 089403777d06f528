"""Shapes of a store's tokens, from the losses to the finding, the command and charts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from tests.analysis.shapes.planted_curves import SHORT, planted
from tests.conftest import ragged
from trajstore.analysis.shapes.shapes import S_SHAPED, SHAPES, Shaper
from trajstore.analysis.statistics.ar1 import simulate
from trajstore.analysis.statistics.log_steps import Schedule
from trajstore.cli import app
from trajstore.errors import FindingExists, TrajstoreError
from trajstore.pipelines.shapes import agreement, shapes, shares
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from tests.conftest import NewStore
    from trajstore.pipelines.shapes import Shapes
    from trajstore.store.store import Store


pytestmark = pytest.mark.usefixtures("drawn_rho")


# From a store into a store


def shaped_store(
    store: Store, models: tuple[str, ...] = ("seed0", "seed1"), lengths: tuple[int, ...] = (9, 2, 5)
) -> Store:
    """Models on the dataset d whose tokens have planted shapes, the same for both but for some of seed1's."""
    dataset = store.add_dataset("d", ragged(lengths))
    schedule = Schedule.of(SHORT)
    losses, _ = planted(schedule, dataset.n_losses, 5, 0.05, 0.3)
    for number, model in enumerate(models):
        noise = 0.05 * simulate(len(SHORT), dataset.n_losses, 0.3, np.random.default_rng(number)).T
        curves = losses.copy()
        if number:
            curves[:, ::4] = np.roll(curves, 1, axis=1)[:, ::4]
        for step, row in zip(SHORT, np.maximum(curves + noise, 0), strict=True):
            store.append(model=model, dataset="d", step=step, losses=row.astype(np.float32))
    return store


def test_a_finding_is_what_the_shaper_says(store: Store) -> None:
    shaped_store(store)
    shaped = shapes(store, Selection(["d"], ["seed0"]), seed=3, limit=4 * len(SHORT) * 10)
    fitted = shaped.table("tokens")
    [(_, seen)] = shaped.tables()
    columns = ["model", "dataset", "context", "position", "shape", "midpoint", "drop"]
    assert seen.height == 10
    assert seen.select(columns).rows() == fitted.select(columns).head(10).rows()
    assert "first tokens" in shaped._repr_html_()
    assert shaped.keep("first") == "first"
    assert shaped.table("tokens").equals(fitted)
    matrix = store.matrix("d", "seed0")
    alone = Shaper(Schedule.of(SHORT), matrix.values, 3).fit(matrix.values)
    kept = store.sql("SELECT * EXCLUDE (finding) FROM shapes ORDER BY context, position").pl()
    assert kept.select("context", "position").equals(matrix.columns.select("context", "position"))
    assert kept.select(alone.columns).equals(alone)
    facts = store.finding("shapes", "first").facts
    assert facts["steps"] == {"seed0": {"d": SHORT}}
    assert facts["datasets"]["d"]["tokens_sha256"] == store.dataset("d").tokens_sha256
    with pytest.raises(FindingExists):
        shaped.keep("first")
    shapes(store, Selection(["d"])).keep("first", replace=True)
    assert store.sql("SELECT count(DISTINCT model) FROM shapes").fetchall() == [(2,)]


@pytest.fixture(scope="module")
def many(new_store: NewStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with several tokens of each shape, and their finding `first`."""
    with new_store(tmp_path_factory.mktemp("many") / "store") as store:
        yield shaped_store(store, lengths=(9, 2, 30, 17, 5, 40))


@pytest.fixture(scope="module")
def of_many(many: Store) -> Shapes:
    shaped = shapes(many, Selection("d"))
    shaped.keep("first")
    return shaped


@pytest.mark.usefixtures("of_many")
def test_shares_and_agreement_are_those_of_the_table(many: Store) -> None:
    store = many
    table = store.sql("FROM shapes").pl()
    found = shares(store, "first", ["every_token", "first_half"])
    assert found["group"].to_list() == ["every_token"] * 2 + ["first_half"] * 2
    row = found.filter(group="every_token", model="seed1").row(0, named=True)
    mine = table.filter(model="seed1")
    assert row["tokens"] == mine.height
    for shape in SHAPES:
        assert row[shape] == pytest.approx((mine["shape"] == shape).mean())
    s = mine.filter(pl.col("shape").is_in(S_SHAPED))
    assert (row["s_shaped"], row["midpoint"]) == pytest.approx(
        (s.height / mine.height, s["midpoint"].median())
    )
    assert row["fall"] == pytest.approx(s["drop"].median())
    assert row["final"] == pytest.approx(mine["final"].median())
    halves = store.dataset("d").lengths
    (half,) = found.filter(group="first_half", model="seed0")["tokens"]
    assert half == sum(-(-n // 2) - 1 for n in halves.tolist())

    pair = agreement(store, "first").row(0, named=True)
    both = table.filter(model="seed0").join(mine, on=["context", "position"])
    a, b = both["shape"].to_numpy(), both["shape_right"].to_numpy()
    assert (pair["a"], pair["b"], pair["tokens"]) == ("seed0", "seed1", both.height)
    assert pair["agreement"] == pytest.approx((a == b).mean())
    assert pair["kappa"] == pytest.approx(cohen_kappa_score(a, b))
    in_both = np.isin(a, S_SHAPED) & np.isin(b, S_SHAPED)
    assert pair["s_shaped"] == in_both.sum() > 5
    places = np.log2(both.select("midpoint", "midpoint_right").to_numpy()[in_both])
    assert pair["correlation"] == pytest.approx(np.corrcoef(places.T)[0, 1])
    assert pair["distance"] == pytest.approx(np.median(np.abs(places[:, 0] - places[:, 1])))


def test_groups_and_alignment_choose_the_tokens(store: Store) -> None:
    shaped_store(store, ("seed0",))
    shaped = shapes(store, Selection(["d"], align="after"), ["first_half", "hapax"])
    shaped.keep("some")
    union = "(SELECT * FROM aligned('first_half', align := 'after') UNION FROM aligned('hapax', align := 'after'))"
    left = store.sql(f"SELECT count(*) FROM shapes ANTI JOIN {union} USING (dataset, context, position)")
    assert left.fetchall() == [(0,)]
    assert (shaped.shares()["tokens"] > 0).all()
    assert shaped.request.default_name.startswith("d-2-groups-")


def test_the_command(store: Store, tmp_path: Path) -> None:
    shaped_store(store)

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["shapes", "-s", str(store.path), *words])

    few = run("-d", "d", "--steps", "log")
    assert (few.exit_code, "--steps" in few.output) == (0, False), few.output
    assert run("-d", "d", "--steps", "0:64").exit_code == 1
    assert len(store.findings("shapes")) == 1, "nothing is kept of what failed"
    store.groups.add("nobody", "SELECT dataset, context, position FROM tokens WHERE position < 0")
    flat = np.ones(store.dataset("d").n_losses, np.float32)
    for step in range(3):
        store.append(model="new", dataset="d", step=step, losses=flat)
    assert "shapes, which takes 10: new on d (3)." in run("-d", "d", "-m", "new").stderr
    left = run("-d", "d", "--name", "left", "--steps", "0:512")
    assert left.exit_code == 0, left.output
    assert "shapes, which takes 10: new on d (3); left out." in left.stderr
    store.drop([("new", "d", step) for step in range(3)])
    half = run("-d", "d", "-g", "nobody", "-g", "first_half", "--steps", "log")
    assert half.exit_code == 0, half.output
    assert "nobody has no token with a loss in d, and is left out." in half.stderr
    told = run("-d", "d", "--name", "first", "--json", "--plot", str(tmp_path / "shapes.html"))
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)
    assert [row["model"] for row in answer["shares"]] == ["seed0", "seed1"]
    assert answer["agreement"][0]["tokens"] == store.dataset("d").n_losses
    page = (tmp_path / "shapes.html").read_text()
    assert "An example of each shape: all tokens of d, seed0, seed1" in page
    again = run("-d", "d", "--name", "first")
    assert (again.exit_code, "There already, and the same" in again.output) == (0, True)
    other = run("-d", "d", "--name", "first", "--seed", "1")
    assert (other.exit_code, "--replace" in other.output) == (1, True)
    table = run("-d", "d", "-m", "seed0", "-g", "first_half", "-g", "second_half", "--name", "halves").stdout
    assert [line.split()[:2] for line in table.splitlines()[:3]] == [
        ["group", "model"],
        ["first_half", "seed0"],
        ["second_half", "seed0"],
    ]


def test_charts(many: Store, of_many: Shapes) -> None:
    """The examples are the clearest tokens of all models; the shares reach what the table has, over all steps."""
    store = many
    with pytest.raises(TrajstoreError, match="keep them first"):
        shapes(store, Selection("d")).charts()
    found = of_many.shares()
    examples, shown, midpoints = of_many.charts()
    assert all(
        chart.title.endswith(": all tokens of d, seed0, seed1") for chart in (examples, shown, midpoints)
    )
    table = store.sql("FROM shapes WHERE shape <> 'undecided'").pl()
    clearest = table.sort("delta_bic").group_by("shape").last()
    assert len(examples.panels) == clearest.height
    for row in clearest.iter_rows(named=True):
        ending = f"at {row['context']}:{row['position']} · {row['model']}"
        (panel,) = (each for each in examples.panels if each.title.startswith(row["shape"].replace("_", " ")))
        assert panel.title.endswith(ending)
        matrix = store.matrix("d", row["model"])
        site = (matrix.columns["context"] == row["context"]) & (matrix.columns["position"] == row["position"])
        assert panel.series[0].y == pytest.approx(matrix.values[:, site.to_numpy()][:, 0].tolist())
        assert panel.series[1].y[-1] == pytest.approx(row["final"], abs=0.02)
    assert {panel.title.rsplit(" · ")[-1] for panel in examples.panels} == {"seed0", "seed1"}
    row = found.filter(model="seed1").row(0, named=True)
    of_seed1 = shown.panels[0].series[1]
    assert of_seed1.y == pytest.approx([100 * row[shape] for shape in SHAPES])
    assert shown.names == tuple(shape.replace("_", " ") for shape in SHAPES)
    curve = midpoints.panels[0].series[1]
    assert (curve.x[0], curve.x[-1]) == (SHORT[0], SHORT[-1])
    assert (curve.y[0], curve.y[-1]) == pytest.approx((0, 100 * row["s_shaped"]))
    half = np.interp(50 * row["s_shaped"], curve.y, curve.x)
    assert half == pytest.approx(row["midpoint"], rel=0.1)
    assert midpoints.axis().log


def test_the_benchmark_is_of_right_answers() -> None:
    from benchmarks.shapes import ours, scipys

    assert ours(64).tokens == 64
    assert scipys(6).seconds > 0
