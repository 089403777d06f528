"""Phases: planted changes, turns and falls are found, with intervals that cover them; cuts against all ways to cut."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import ragged
from trajstore.analysis.phases.change_points import find_changes
from trajstore.analysis.phases.phases import Curve, Event, Settings, events, induction
from trajstore.analysis.statistics.ar1 import simulate
from trajstore.analysis.statistics.bootstrap import Interval
from trajstore.analysis.statistics.log_steps import Schedule
from trajstore.cli import app
from trajstore.errors import BadOption, TrajstoreError, UnknownName
from trajstore.pipelines.phases import CurveOptions, Induction, phases
from trajstore.store import checks
from trajstore.store.files.measures import Measure
from trajstore.store.matrix.selection import Selection
from trajstore.store.store import Store
from trajstore.view.figures.phases import phase_charts

PYTHIA = np.array([0, *(2**k for k in range(10)), *range(1000, 60_001, 1000)])
DEMO = np.array(
    [0, 1, 2, 4, 8, 16, 32, 64, 128, 181, 256, 304, 362, 395, 431, 512, 558, 609, 724, 1024, 1448]
)


def curve(steps: np.ndarray, values: np.ndarray, resampled: np.ndarray | None = None) -> Curve:
    return Curve("group", "model", "d", steps, values, resampled)


def of_kind(found: list[Event], kind: str) -> list[Event]:
    return [event for event in found if event.kind == kind]


@pytest.mark.parametrize("kind", ["kink", "jump"])
def test_a_change_is_found_and_covered(kind: str) -> None:
    """One change of a known place in noise with ρ = 0.5: intervals of 95 % cover it in nine of ten curves."""
    rng = np.random.default_rng(2)
    places = Schedule.of(PYTHIA).places
    at = 30
    later = np.arange(len(places)) >= at
    base = np.where(later, places[at] - places, 0.0) if kind == "kink" else np.where(later, -1.0, 0.0)
    right = covered = 0
    for noise in simulate(len(places), 25, 0.5, rng):
        found = of_kind(events(curve(PYTHIA, base + 0.03 * noise), Settings(draws=200)), "change")
        right += len(found) == 1
        covered += any(event.low <= PYTHIA[at] <= event.high for event in found)
        assert all(event.low < event.step <= event.high for event in found)
    assert right >= 23
    assert covered >= 23


def test_intervals_hold_the_neighbouring_checkpoints() -> None:
    values = np.where(np.arange(len(DEMO)) >= 12, 1.0, 5.0)
    found = events(curve(DEMO, values, np.tile(values, (100, 1))))
    (change,) = of_kind(found, "change")
    assert (change.step, change.low, change.high) == (362, 304, 395)
    (fall,) = of_kind(found, "fastest_fall")
    assert (fall.step, fall.low, fall.high) == (362, 304, 362)
    assert of_kind(found, "fastest_rise") == of_kind(found, "minimum") == []


def test_turns() -> None:
    """A valley and a hill; resampled texts move the valley by one checkpoint to the left in a tenth of cases."""
    shape = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 1.5, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0.5])
    other = shape.copy()
    other[7] = 0.9
    resampled = np.vstack([np.tile(shape, (90, 1)), np.tile(other, (10, 1))])
    found = events(curve(DEMO, shape, resampled))
    (valley,) = of_kind(found, "minimum")
    assert (valley.step, valley.low, valley.high, valley.value) == (128, 32, 181, 1.0)
    (hill,) = of_kind(found, "maximum")
    assert (hill.step, hill.low, hill.high) == (431, 395, 512)


def test_turns_that_other_texts_do_not_show_are_none() -> None:
    shape = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 1.5, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0.5])
    falling = np.linspace(9, 0, len(shape))
    resampled = np.vstack([np.tile(shape, (80, 1)), np.tile(falling, (20, 1))])
    found = events(curve(DEMO, shape, resampled))
    assert of_kind(found, "minimum") == of_kind(found, "maximum") == []


def test_the_fastest_fall_is_by_doubling() -> None:
    """Late neighbours lie close by doublings: noise there is no fast fall."""
    places = Schedule.of(PYTHIA).places
    fall = 8 / (1 + np.exp(3 * (places - 5.5)))
    late = 0.05 * np.where(np.arange(len(places)) % 2, 1, -1) * (places > 12)
    (found,) = of_kind(events(curve(PYTHIA, fall + late)), "fastest_fall")
    assert (found.low, found.step, found.high) == (32, 64, 64)


def test_a_fall_in_a_wide_gap_is_slower_than_the_same_in_a_narrow_one() -> None:
    """1.5 nats from 64 to 128 are 1.5 a doubling, 1 nat from 256 to 362 is 2."""
    values = 5 - 1.5 * (DEMO >= 128) - 1.0 * (DEMO >= 362)
    (found,) = of_kind(events(curve(DEMO, values)), "fastest_fall")
    assert found.step == 362
    rise = 5 + 1.5 * (DEMO >= 128) + 1.0 * (DEMO >= 362)
    (found,) = of_kind(events(curve(DEMO, rise)), "fastest_rise")
    assert found.step == 362


def bump(steps: np.ndarray, step: float, depth: float) -> np.ndarray:
    """A fall by `depth` around a step, within half a doubling."""
    places = np.log2(np.maximum(steps, 0.5))
    fallen: np.ndarray = -depth / (1 + np.exp(-25 * (places - np.log2(step))))
    return fallen


def test_the_induction_bump_is_where_both_fall() -> None:
    """Each falls elsewhere too, and more; both at once only around step 390."""
    rng = np.random.default_rng(3)
    score = bump(DEMO, 390, 3) + bump(DEMO, 6, 20)
    repeated = 9 + bump(DEMO, 390, 4) + bump(DEMO, 100, 20)
    noise = 0.05 * rng.normal(size=(2, 200, 1))
    found = induction(curve(DEMO, score, score + noise[0]), curve(DEMO, repeated, repeated + noise[1]))
    assert found is not None
    assert (found.kind, found.step, found.low, found.high) == ("induction", 395, 362, 431)
    apart = curve(DEMO, bump(DEMO, 6, 4)), curve(DEMO, 9 + bump(DEMO, 300, 4))
    assert induction(*apart) is None
    shallow = curve(DEMO, bump(DEMO, 390, 0.1)), curve(DEMO, 9 + bump(DEMO, 390, 4))
    assert induction(*shallow) is None


def test_few_checkpoints_are_refused() -> None:
    with pytest.raises(TrajstoreError, match="12"):
        curve(DEMO[:11], np.zeros(11))
    schedule = Schedule.of(DEMO)
    for values in (3 - 0.2 * schedule.places, np.ones(21), 2 + 5 * (1 + DEMO / 30) ** -0.3):
        assert len(find_changes(schedule, values).starts) == 0


LENGTHS = [40] * 60


@pytest.fixture
def trained(store: Store) -> Store:
    """Models a, b that learn repeated tokens at 380 and 640, and c that does not; the second half repeats the first."""
    rng = np.random.default_rng(4)
    dataset = store.add_dataset("d", ragged(LENGTHS, 3))
    position = np.concatenate([np.arange(1, n) for n in LENGTHS])
    context = np.repeat(rng.normal(0, 0.3, len(LENGTHS)), 39)
    for model, step_of in (("a", 380), ("b", 640), ("c", None)):
        for step in DEMO.tolist():
            losses = 9 + context + bump(np.array([step]), 20, 3) + 0.3 * rng.normal(size=dataset.n_losses)
            if step_of is not None:
                losses += np.where(position >= 20, bump(np.array([step]), step_of, 4), 0)
            store.append(model=model, dataset="d", step=step, losses=losses.astype(np.float32))
        for step in DEMO.tolist():
            score = 0.0 if step_of is None else -float(bump(np.array([step]), step_of, 1)[0])
            store.add_measures("prefix", [Measure("prefix", score, layer=1, head=0)], model=model, step=step)
    return store


def test_seeds_are_compared_in_one_table(trained: Store) -> None:
    asked = CurveOptions(
        groups=("second_half",),
        measures=("prefix",),
        induction=Induction("second_half", "position_between(25, 39)", "position_between(5, 15)"),
        selection=Selection(["d"]),
    )
    found = phases(trained, **vars(asked))
    bumps = {event.model: (event.low, event.high) for event in found.events if event.kind == "induction"}
    assert set(bumps) == {"a", "b"}
    assert bumps["a"][0] <= 380 <= bumps["a"][1] <= 512
    assert 512 <= bumps["b"][0] <= 640 <= bumps["b"][1]
    assert found.without == (("c", "d"),)
    falls = {event.model: event for event in found.events if event.kind == "fastest_fall"}
    assert (falls["a"].low, falls["a"].high) == bumps["a"]
    assert falls["c"].high <= 64, "what it learns early"
    rises = [e for e in found.events if e.kind == "fastest_rise" and e.series == "prefix, layer 1, head 0"]
    assert {event.model for event in rises} == {"a", "b"}
    means = trained.matrix("d", "a", "second_half").values.mean(axis=1)
    own = next(each for each in found.curves if (each.series, each.model) == ("second_half", "a"))
    np.testing.assert_allclose(own.values, means, rtol=1e-5)
    assert own.resampled is not None
    assert own.resampled.mean(axis=0) == pytest.approx(means, abs=0.02)
    assert own.resampled[:, -1].std() == pytest.approx(0.3 / np.sqrt(60), rel=0.35)
    found.keep("first")
    rows = trained.sql("SELECT model, kind, step, low, high FROM events WHERE kind = 'induction' ORDER BY 1")
    assert [row[0] for row in rows.fetchall()] == ["a", "b"]
    assert trained.sql("SELECT count(*) FROM events").fetchall() == [(len(found.events),)]
    assert trained.sql("SELECT dataset FROM events WHERE series LIKE 'prefix%' LIMIT 1").fetchall() == [
        (None,)
    ]
    _compare_event_order(trained, found.events)
    assert trained.finding("phases", "first").facts["groups_sha256"].keys() == {"second_half"}
    assert checks.check(trained, deep=True) == []


def _compare_event_order(store: Store, events: tuple[Event, ...]) -> None:
    """Compare the query event_order of the finding with its events taken two by two."""
    orders = set()
    for first, second in (("change", "fastest_rise"), ("fastest_rise", "change"), ("fastest_fall", "change")):
        given = {"first": "second_h%", "second": "%", "first_event": first, "second_event": second}
        table = store.query("event_order", finding="first", **given).pl()
        rows = table.select(
            "model", "first_low", "first_high", "second", "second_low", "second_high", "first_is"
        )
        expected = [
            (a.model, a.low, a.high, b.series, b.low, b.high)
            for a in events
            for b in events
            if (a.series, a.kind, b.kind, a.model) == ("second_half", first, second, b.model)
        ]
        assert sorted(row[:-1] for row in rows.iter_rows()) == sorted(expected)
        for *_, low, high, _, other_low, other_high, order in rows.iter_rows():
            apart = "before" if high <= other_low else "after" if low >= other_high else "cannot tell"
            assert order == apart
            orders.add(order)
    assert orders == {"before", "after", "cannot tell"}


def test_what_is_not_there(trained: Store) -> None:
    with pytest.raises(BadOption, match="measure=NAME"):
        CurveOptions()
    with pytest.raises(UnknownName, match="prefix"):
        phases(trained, measures=("prefixes",))
    with pytest.raises(TrajstoreError, match="checkpoints"):
        phases(trained, "second_half", Selection(steps="0:64"))


def test_the_command(trained: Store, tmp_path: Path) -> None:
    at = ["-s", str(trained.path)]
    run = CliRunner().invoke
    words = ["phases", "second_half", "--minus", "first_half", "-d", "d", "--resamples", "200", "--name", "x"]
    done = run(app, [*words, "--plot", str(tmp_path / "phases.png"), *at])
    assert done.exit_code == 0, done.output
    assert done.stdout == "", "the chart is asked for, not the table"
    assert "at most 10 % of curves have any" in done.stderr
    assert (tmp_path / "phases.png").stat().st_size > 10_000
    again = run(app, [*words, *at])
    assert again.exit_code == 0, "the finding is there, and the same"
    assert "second_half − first_half" in again.stdout
    induced = ["--induction", "second_half", "--late", "position_is(35)", "--early", "position_is(10)"]
    done = run(app, ["phases", *induced, "-d", "d", "--json", *at])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [event["model"] for event in told["events"]] == ["a", "b"]
    assert told["false_alarms"]["share"] == 0.1
    assert "No induction bump in c" in done.stderr
    assert run(app, ["phases", *at]).exit_code == 2


def test_what_has_too_few_checkpoints_is_left_out_and_said(trained: Store) -> None:
    dataset = trained.dataset("d")
    for step in range(1, 4):
        flat = np.full(dataset.n_losses, 5, np.float32)
        trained.append(model="new", dataset="d", step=step, losses=flat)
        trained.add_measures("prefix", [Measure("prefix", 0.5, layer=1, head=0)], model="new", step=step)
        trained.add_measures("suffix", [Measure("suffix", 0.5)], model="new", step=step)
    at = ["-d", "d", "--resamples", "100", "-s", str(trained.path)]
    run = CliRunner().invoke
    done = run(app, ["phases", "second_half", "--measure", "prefix", *at])
    assert done.exit_code == 0, done.output
    assert (
        "takes 12: second_half of new on d (3), prefix, layer 1, head 0 of new (3); left out." in done.stderr
    )
    table = trained.sql("SELECT DISTINCT model FROM events ORDER BY ALL").fetchall()
    assert [model for (model,) in table] == ["a", "b", "c"]
    induced = ["--induction", "second_half", "--late", "position_is(35)", "--early", "position_is(10)"]
    done = run(app, ["phases", *induced, "-m", "a", "-m", "new", *at])
    assert done.exit_code == 0, done.output
    assert "position_is(35) − position_is(10) of new on d (3), second_half of new on d (3)" in done.stderr
    done = run(app, ["phases", "second_half", "-m", "new", *at])
    assert done.exit_code == 1
    assert "Too few checkpoints to tell phases" in done.stderr
    done = run(app, ["phases", "--measure", "prefix,suffix", "-m", "new", *at])
    assert "prefix, layer 1, head 0 of new (3), suffix of new (3)" in done.stderr
    assert len(trained.findings()) == 2
    done = run(app, ["phases", "--induction", "second_half", *at])
    assert done.exit_code == 1, "its contexts have no position 500"
    assert "--late position_is(500) less --early position_is(50)" in done.stderr


def test_changes_and_level_are_as_asked(trained: Store) -> None:
    asked = CurveOptions(groups=("second_half",), selection=Selection(["d"], ["a"]))
    found, none, narrow = (
        phases(trained, **(vars(asked) | other))
        for other in ({}, {"most": 0}, {"interval": Interval(level=0.2)})
    )
    assert of_kind(list(found.events), "change")
    assert of_kind(list(none.events), "change") == []
    widths = [sum(event.high - event.low for event in of.events) for of in (narrow, found)]
    assert widths[0] < widths[1]


def test_charts(trained: Store) -> None:
    """Titles say group, dataset and models; each event stands at its step and value, beside its interval."""
    asked = CurveOptions(
        groups=("second_half",), measures=("prefix",), selection=Selection(["d"], ["a", "b"])
    )
    found = phases(trained, **vars(asked))
    group, measure = phase_charts(found)
    assert group.title == "Phases of second_half on d: a, b"
    assert measure.title == "Phases of prefix, layer 1, head 0: a, b"
    assert group.y_label == "loss (nats a token)"
    assert group.axis().log
    fall = next(event for event in found.events if event.kind == "fastest_fall" and event.model == "a")
    drawn = [
        series
        for series in group.panels[0].series
        if series.note == f"fastest_fall: {fall.low} to {fall.high}"
    ]
    of_a = [series for series in drawn if series.color_key == "a"]
    assert [(series.x, series.faint) for series in of_a] == [
        ((fall.low, fall.high), True),
        ((fall.step,), False),
    ]
    assert of_a[1].y == (fall.value,)
    assert "Square: falls or rises fastest." in group.note
    assert "Dot" not in group.note, "no induction is drawn"
    assert phase_charts(dataclasses.replace(found, events=()))[0].note == "No event was found."
