"""An audit names what was planted in a good suite, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import ragged
from tests.test_imports import loaded
from trajstore.cli import app
from trajstore.errors import UnknownName
from trajstore.pipelines.audit import audit, unseen
from trajstore.store.files.models import ModelFacts
from trajstore.store.files.slices import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.analysis.audit.audit import Anomaly
    from trajstore.store.store import Store

STEPS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 60_001, 2000)]
ORIGIN = Provenance(
    dtype="float32",
    attention="sdpa",
    versions={"torch": "2.9", "transformers": "5.0"},
    device="cpu",
    batch_tokens=1024,
)


class Suite:
    """A run's losses and origins on two datasets, to plant something in before it is stored."""

    def __init__(self, store: Store, model: str = "run", repo: str | None = None, own: int = 0) -> None:
        self.store, self.model = store, model
        store.publish_model(ModelFacts(model, repo=repo))
        self.losses: dict[tuple[str, int], np.ndarray] = {}
        self.origins = {
            (name, step): replace(ORIGIN, weights=f"sha256:{own:08x}{step:056x}")
            for name in "de"
            for step in STEPS
        }
        for seed, name in enumerate("de"):
            if name not in store.dataset_names():
                store.add_dataset(name, ragged([20] * 30, seed))
            n = store.dataset(name).n_losses
            rng = np.random.default_rng(seed + 10 + 100 * own)
            middle, fall = rng.normal(5, 2, n), rng.gamma(2, 2, n)
            for step in STEPS:
                learned = 1 / (1 + np.exp(middle - np.log1p(step)))
                loss = 11 - fall * learned + 0.05 * rng.standard_normal(n)
                self.losses[name, step] = loss.astype(np.float32)

    def write(self) -> Store:
        for (name, step), loss in self.losses.items():
            self.store.append(
                model=self.model,
                dataset=name,
                step=step,
                losses=np.maximum(loss, 0),
                allow_large=True,
                provenance=self.origins[name, step],
            )
        return self.store


def same_weights(suite: Suite) -> None:
    """Step 16 holds the checkpoint of step 9000, scored in other batches."""
    for name in "de":
        suite.origins[name, 16] = replace(
            suite.origins[name, 16], weights=suite.origins[name, 9000].weights, batch_tokens=512
        )
        suite.losses[name, 16] = suite.losses[name, 9000] + np.float32(1e-5)


def equal_losses(suite: Suite) -> None:
    """Step 21000 is step 4 under a file of its own."""
    for name in "de":
        suite.losses[name, 21_000] = suite.losses[name, 4]


def out_of_place(suite: Suite) -> None:
    """Step 41000 is what step 50 would be."""
    for name in "de":
        between = (suite.losses[name, 32] + suite.losses[name, 64]) / 2
        suite.losses[name, 41_000] = between


def known_bad(suite: Suite) -> None:
    """Scoring found step 31000 in the list of bad checkpoints."""
    suite.origins["d", 31_000] = replace(suite.origins["d", 31_000], known_bad="the last one's shard (#1)")


def mixed(suite: Suite) -> None:
    """Two slices of one dataset were made in another dtype with another torch."""
    for step in (1000, 3000):
        suite.origins["e", step] = replace(
            suite.origins["e", step], dtype="bfloat16", versions={"torch": "2.10", "transformers": "5.0"}
        )


PLANTED: dict[Callable[[Suite], None], tuple[str, str, tuple[int, ...], str]] = {
    same_weights: ("same weights", "de", (16, 9000), "; 16 is out of place"),
    equal_losses: ("equal losses", "de", (4, 21_000), "; 21000 is out of place"),
    out_of_place: ("out of place", "de", (41_000,), "from those around step"),
    known_bad: ("known bad", "d", (31_000,), "the last one's shard (#1)"),
    mixed: (
        "mixed origin",
        "e",
        (1000, 3000),
        "dtype bfloat16, torch 2.10 at 1000, 3000; dtype float32, torch 2.9",
    ),
}


def named(findings: list[Anomaly]) -> set[tuple[str, str, tuple[int, ...]]]:
    return {(each.finding, "".join(each.datasets), each.steps) for each in findings}


def test_a_good_suite(store: Store) -> None:
    Suite(store, "one").write()
    Suite(store, "two", own=1).write()
    assert audit(store) == []
    result = CliRunner().invoke(app, ["audit", "-s", str(store.path)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Nothing was found." in result.stderr


@pytest.mark.parametrize("plant", PLANTED, ids=lambda each: each.__name__)
def test_what_is_planted_is_named_and_nothing_else(store: Store, plant: Callable[[Suite], None]) -> None:
    suite = Suite(store)
    plant(suite)
    (found,) = audit(suite.write())
    kind, datasets, steps, said = PLANTED[plant]
    assert (found.finding, found.model, "".join(found.datasets), found.steps) == (
        kind,
        "run",
        datasets,
        steps,
    )
    assert said in found.what


def test_all_at_once(store: Store) -> None:
    suite = Suite(store)
    for plant in PLANTED:
        plant(suite)
    Suite(store, "good", own=1).write()
    suite.write()
    found = audit(store)
    assert named(found) == {(kind, datasets, steps) for kind, datasets, steps, _ in PLANTED.values()}
    assert {each.model for each in found} == {"run"}
    assert audit(store, "good") == []
    assert named(audit(store, "run", "d")) == {
        (kind, "d", steps) for kind, datasets, steps, _ in PLANTED.values() if "d" in datasets
    }


def test_two_models_with_the_same_weights(store: Store) -> None:
    """Beyond their first step, which runs may share by design; found though only one of them was asked for."""
    one, two = Suite(store, "one"), Suite(store, "two", own=1)
    for name in "de":
        for step in (0, 128, 9000):
            two.origins[name, step] = replace(
                two.origins[name, step], weights=one.origins[name, step].weights
            )
            two.losses[name, step] = one.losses[name, step]
    one.write()
    two.write()
    for asked, other in (("one", "two"), ("two", "one")):
        found = [each for each in audit(store, asked) if each.finding == "same weights"]
        assert [(each.model, each.datasets, each.steps) for each in found] == [
            (asked, ("d", "e"), (128, 9000))
        ]
        assert f"the same weights as {other} at the same 2 steps" in found[0].what
        assert "compare the files" in found[0].advice


def test_two_models_with_nearly_the_same_losses(store: Store) -> None:
    one, two = Suite(store, "one").write(), Suite(store, "two", own=1)
    for step in (128, 9000):
        two.losses["d", step] = one.slice_losses("one", "d", step) + np.float32(1e-5)
    two.write()
    shared = [each for each in audit(store) if each.finding == "nearly equal losses"]
    assert [(each.model, each.datasets, each.steps) for each in shared] == [("one", ("d",), (128, 9000))]
    assert "those of two at the same 2 steps" in shared[0].what


def test_copies_of_a_model_under_other_names_are_one_finding(store: Store) -> None:
    """Equal to the bit, as the same files ingested under three names; a fourth is nearly so."""
    one = Suite(store, "one")
    for name in ("one", "two", "three"):
        copy = Suite(store, name, own=0 if name == "one" else len(name))
        copy.losses = one.losses
        copy.write()
    four = Suite(store, "zero", own=9)
    four.losses = {key: losses + np.float32(1e-5) for key, losses in one.losses.items()}
    four.write()
    equal, near = sorted(audit(store), key=lambda each: each.finding)
    assert (equal.finding, equal.model, near.finding) == ("equal losses", "one", "nearly equal losses")
    assert f"equal to the bit to those of three, two at the same {len(STEPS) - 1} steps" in equal.what
    assert "hardly differ from those of three, two, zero" in near.what


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((0, 1, 2), "With fewer than 8 steps only copies are looked for: run."),
        (
            (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            "another seed's weights, at one step or from one on, are mostly",
        ),
        (tuple(range(0, 2000, 100)), ""),
    ],
)
def test_what_steps_are_too_few_to_show_is_said(store: Store, steps: tuple[int, ...], said: str) -> None:
    store.add_dataset("d", ragged([20] * 30))
    for step in steps:
        flat = 11 - np.log1p(step) + np.random.default_rng(step).random(store.dataset("d").n_losses)
        store.append(model="run", dataset="d", step=step, losses=flat.astype(np.float32))
    sentences = unseen(store)
    assert (said in sentences[0]) if said else sentences == []
    result = CliRunner().invoke(app, ["audit", "-s", str(store.path)])
    assert said in result.stderr


def nearly_equal(suite: Suite) -> None:
    for name in "de":
        suite.losses[name, 31_000] = suite.losses[name, 29_000] + np.float32(1e-5)


def shuffled(suite: Suite) -> None:
    rng = np.random.default_rng(0)
    for name in "de":
        suite.losses[name, 31_000] = rng.permutation(suite.losses[name, 31_000])


def bits(suite: Suite) -> None:
    for name in "de":
        suite.losses[name, 31_000] = suite.losses[name, 31_000] / np.float32(np.log(2))


def perplexities(suite: Suite) -> None:
    for name in "de":
        suite.losses[name, 31_000] = np.exp(suite.losses[name, 31_000])


@pytest.mark.parametrize(
    ("plant", "kind", "steps"),
    [
        (nearly_equal, "nearly equal losses", (29_000, 31_000)),
        (shuffled, "another order", (31_000,)),
        (bits, "another unit", (31_000,)),
        (perplexities, "too large", (31_000,)),
    ],
)
def test_what_is_wrong_with_losses_is_named_with_what_to_do(
    store: Store, plant: Callable[[Suite], None], kind: str, steps: tuple[int, ...]
) -> None:
    suite = Suite(store)
    plant(suite)
    (found,) = audit(suite.write())
    assert (found.finding, "".join(found.datasets), found.steps) == (kind, "de", steps)
    assert found.advice


def test_another_run_from_some_step_on(store: Store) -> None:
    """Kept apart by what no other finding needs: tokens that stay where the first run never had them."""
    suite = Suite(store)
    rng = np.random.default_rng(1)
    for name in "de":
        shift = rng.normal(0, 1, store.dataset(name).n_losses).astype(np.float32)
        shift -= shift.mean()
        for step in STEPS[24:]:
            suite.losses[name, step] = suite.losses[name, step] + shift
    (found,) = audit(suite.write())
    assert (found.finding, found.steps) == ("break", tuple(STEPS[24:]))
    assert f"from step {STEPS[24]} on the losses lie elsewhere" in found.what


@pytest.mark.parametrize("fall", [0.0, 2.0])
def test_what_training_learns_at_once_is_no_break(store: Store, fall: float) -> None:
    """One dataset's tokens are rearranged at the step from which on the other's mean loss is lower, or is not."""
    suite = Suite(store)
    shift = np.random.default_rng(1).normal(0, 1, store.dataset("d").n_losses).astype(np.float32)
    shift -= shift.mean()
    for step in STEPS[24:]:
        suite.losses["d", step] = suite.losses["d", step] + shift
        suite.losses["e", step] = suite.losses["e", step] - np.float32(fall)
    assert [each.finding for each in audit(suite.write())] == ([] if fall else ["break"])


def test_a_run_in_bits_is_seen_by_its_first_guess(store: Store) -> None:
    suite = Suite(store)
    guess = np.log2(store.dataset("d").tokenizer.size)
    for step in STEPS:
        fall = suite.losses["d", step] / suite.losses["d", 0].mean()
        suite.losses["d", step] = (guess * fall).astype(np.float32)
    found = [each for each in audit(suite.write(), None, "d") if each.finding == "too large"]
    assert 0 in found[0].steps
    assert "bits, or" in found[0].what


def test_the_command(store: Store) -> None:
    suite = Suite(store)
    same_weights(suite)
    suite.write()
    runner, at = CliRunner(), ["-s", str(store.path)]
    result = runner.invoke(app, ["audit", "--json", *at])
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)
    assert found["steps"] == [16, 9000]
    assert found["datasets"] == ["d", "e"]
    table = runner.invoke(app, ["audit", "-m", "r*", "-d", "e", *at])
    assert table.exit_code == 1
    assert "16, 9000" in table.stdout
    assert "1 finding" in table.stderr
    assert runner.invoke(app, ["audit", "-m", "nobody", *at]).exit_code == 1
    assert runner.invoke(app, ["audit", "--json", "-d", "d", "-m", "run", *at]).stdout != "[]\n"


def test_json_of_a_good_suite_is_empty(store: Store) -> None:
    Suite(store).write()
    result = CliRunner().invoke(app, ["audit", "--json", "-s", str(store.path)])
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_unknown_names(planted: Store) -> None:
    with pytest.raises(UnknownName, match="model 'c'"):
        audit(planted, "c")
    with pytest.raises(UnknownName, match="dataset 'x'"):
        audit(planted, None, ["d", "x"])


def test_steps_alike_at_the_beginning_are_named_once(store: Store) -> None:
    """Published suites have them: the same weights before the first step of a warm-up."""
    suite = Suite(store)
    for name in "de":
        for step in (1, 2):
            suite.origins[name, step] = suite.origins[name, 0]
            suite.losses[name, step] = suite.losses[name, 0]
    (found,) = audit(suite.write())
    assert (found.finding, found.steps) == ("same weights", (0, 1, 2))
    assert "out of place" not in found.what


@pytest.mark.parametrize(
    ("repo", "steps"),
    [
        ("EleutherAI/pythia-12b", {50_000, 58_000}),
        ("EleutherAI/pythia-410m", set()),
        ("/home/me/pythia-12b", set()),
    ],
)
def test_published_lists_of_bad_checkpoints(store: Store, repo: str, steps: set[int]) -> None:
    """Slices that were made elsewhere are looked up by their model's repository."""
    store.add_dataset("d", ragged([5, 6]))
    for step in (40_000, 50_000, 51_000, 58_000):
        rng = np.random.default_rng(step)
        store.append(model="mine", dataset="d", step=step, losses=rng.random(9, np.float32))
    store.publish_model(ModelFacts("mine", repo=repo))
    assert {step for each in audit(store) for step in each.steps} == steps


def test_a_model_without_facts_is_the_published_one_of_its_name(store: Store) -> None:
    store.add_dataset("d", ragged([5, 6]))
    for step in (50_000, 51_000):
        losses = np.random.default_rng(step).random(9, np.float32)
        store.append(model="pythia-12b", dataset="d", step=step, losses=losses)
    (found,) = audit(store)
    assert (found.finding, found.steps) == ("known bad", (50_000,))
    assert "github.com" in found.what


def test_slices_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    """They are named, and the others are compared all the same."""
    from trajstore.store.store import Store as Opened

    suite = Suite(store)
    out_of_place(suite)
    suite.write()
    slices = store.path / "losses/model=run/dataset=d"
    (slices / "step=8/slice.parquet").write_bytes(b"PAR1")
    with Opened.create(tmp_path / "other") as other:
        other.add_dataset("d", ragged([20] * 30, 7))
        flat = suite.losses["d", 32]
        made = other.append(model="run", dataset="d", step=32, losses=flat, provenance=suite.origins["d", 32])
        (slices / "step=32/slice.parquet").write_bytes(made.read_bytes())
    found = audit(store)
    assert named(found) == {
        ("out of place", "de", (41_000,)),
        ("damaged", "d", (8,)),
        ("damaged", "d", (32,)),
    }
    assert any("other tokens" in each.what for each in found)


def test_partial_slices_have_an_origin_and_no_place(store: Store) -> None:
    suite = Suite(store)
    mixed(suite)
    first = {step: suite.losses.pop(("d", step)) for step in (8, 43_000)}
    suite.write()
    for step, losses in first.items():
        origin = replace(suite.origins["d", step], device="cuda: H200")
        store.append(model="run", dataset="d", step=step, losses=losses[:19], contexts=[0], provenance=origin)
    found = {each.steps: each.what for each in audit(store)}
    assert found.keys() == {(1000, 3000), (8, 43_000)}
    assert found[8, 43_000].startswith("device cuda: H200 at 8, 43000; device cpu at the ")


def test_a_model_without_a_slice_that_can_be_compared(store: Store) -> None:
    """All damaged on one dataset, all partial on the other."""
    store.add_dataset("d", ragged([5, 6]))
    store.add_dataset("e", ragged([5, 6]))
    for step in (1, 2):
        path = store.append(model="run", dataset="d", step=step, losses=np.full(9, step, np.float32))
        path.write_bytes(b"PAR1")
        store.append(model="run", dataset="e", step=step, losses=np.full(4, step, np.float32), contexts=[0])
    assert named(audit(store)) == {("damaged", "d", (1, 2))}


def test_it_loads_no_model_library() -> None:
    assert loaded("import trajstore.pipelines.audit") & {"torch", "transformers", "sklearn"} == set()
