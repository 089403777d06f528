"""«Unigram first» of planted measures of models: the answers, their finding, and the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import trajstore
from tests.conftest import NewStore
from tests.helpers.tiny_models import random_dataset
from trajstore.cli import app
from trajstore.errors import BadOption, NothingChosen, NotMeasured
from trajstore.store import checks
from trajstore.store.files.measures import Measure
from trajstore.store.files.models import ModelFacts
from trajstore.store.store import Store

BOTH = trajstore.Selection(models=["a", "b"])
STEPS = [0, *(2**k for k in range(10)), *range(1000, 20_001, 1000)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Iterator[Store]:
    """In model a KL falls, then rises while energy of layer 2 falls, and that rises again; in b nothing moves."""
    store = new_store(tmp_path_factory.mktemp("unigram") / "store")
    store.add_dataset("d", random_dataset([4, 4]))
    for model in ("a", "b"):
        store.publish_model(ModelFacts(model))
        for step in STEPS:
            place, moves = np.log2(max(step, 0.5)), model == "a"
            fallen, risen, again = (1 / (1 + np.exp(-3 * (place - at))) for at in (4, 9, 13))
            kl = 5 - moves * (4.7 * fallen - 3 * risen)
            rows = [
                Measure("kl_unigram", value, params={"direction": direction})
                for direction, value in (("model||counts", kl), ("counts||model", 3.0))
            ]
            store.add_measures("kl_unigram", rows, model=model, step=step, dataset="d")
            energy = 2.5 - moves * (risen - 0.4 * again)
            rows = [
                Measure("interaction_energy", 2.0, layer=1),
                Measure("interaction_energy", energy, layer=2),
            ]
            store.add_measures("interaction_energy", rows, model=model, step=step, dataset="d")
    with store:
        yield store


def test_the_three_phases_and_their_finding(measured: Store) -> None:
    found = trajstore.unigram_first(measured, BOTH)
    assert found.table("phases")["answer"].to_list() == ["seen"] * 3 + ["not seen"] * 3
    ends = found.frame.filter(model="a").select("from_step", "to_step").rows()
    assert ends[0][1] == ends[1][0]
    assert ends[1][1] == ends[2][0]
    assert ends[2][1] in STEPS[-2:]
    assert set(found.frame["layer"]) == {2}
    found.keep("u")
    rows = measured.sql("SELECT * EXCLUDE finding FROM unigram_first WHERE finding = 'u' ORDER BY ALL").pl()
    assert rows.rows() == found.frame.sort(found.frame.columns).select(rows.columns).rows()
    assert measured.finding("unigram_first", "u").facts["models"] == ["a", "b"]
    assert checks.check(measured, deep=True) == []
    assert [len(chart.panels[0].series) for chart in found.charts()] == [6, 6]


def test_layer_and_direction_are_as_asked(measured: Store) -> None:
    assert set(trajstore.unigram_first(measured, BOTH, layer=1).frame["answer"][1:]) == {"not seen"}
    other = trajstore.unigram_first(measured, BOTH, direction="counts||model").frame
    assert set(other["answer"]) == {"not seen"}
    assert set(other["direction"]) == {"counts||model"}
    with pytest.raises(BadOption, match="counts"):
        trajstore.unigram_first(measured, BOTH, direction="both")  # type: ignore[arg-type]
    with pytest.raises(NothingChosen, match="layer 1, 2"):
        trajstore.unigram_first(measured, BOTH, layer=7)


def test_models_that_lack_a_measure(measured: Store) -> None:
    measured.add_dataset("e", random_dataset([4]))
    measured.publish_model(ModelFacts("c"))
    measured.add_measures(
        "interaction_energy", [Measure("interaction_energy", 2.0, layer=1)], model="c", step=0, dataset="e"
    )
    with pytest.raises(NotMeasured, match="trajstore measure kl_unigram"):
        trajstore.unigram_first(measured, trajstore.Selection(models="c"))
    few = [Measure("kl_unigram", 1.0, params={"direction": "model||counts"})]
    measured.add_measures("kl_unigram", few, model="c", step=0, dataset="d")
    with pytest.raises(NothingChosen, match="trajstore measure kl_unigram,interaction_energy"):
        trajstore.unigram_first(measured, trajstore.Selection(models="c"))


def test_the_command(measured: Store, tmp_path: Path) -> None:
    words = ["unigram-first", "-m", "a", "-s", str(measured.path)]
    run = CliRunner().invoke
    done = run(app, words)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("seen") == 3
    assert "KL: model||counts, in nats. Energy: of layer 2, before the final norm." in done.stderr
    assert "FROM unigram_first WHERE finding = 'a-" in done.stderr
    done = run(app, [*words, "--json", "--steps", "0:512"])
    assert done.exit_code == 0, done.output
    phases = json.loads(done.stdout)["phases"]
    assert [phase["answer"] for phase in phases] == ["cannot tell"] * 3
    assert phases[0]["reason"] == "11 checkpoints have both measures, and it takes 20"
    done = run(app, [*words, "--plot", str(tmp_path / "unigram.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "unigram.png").stat().st_size > 10_000
