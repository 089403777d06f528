"""A scoring job: each checkpoint with its own weights, what is there skipped, what goes wrong reported."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXForCausalLM

from tests.helpers.tiny_models import neox, random_dataset, save_run
from tests.scoring.job.conftest import STEPS, damage, files, losses, own_losses
from trajstore.errors import (
    ModelMismatch,
)
from trajstore.scoring import token_losses
from trajstore.scoring.job import publish as publishing
from trajstore.scoring.plan import plan
from trajstore.scoring.run import run, score

if TYPE_CHECKING:
    from pathlib import Path

    from trajstore.store.store import Store


# The main job


def test_every_checkpoint_is_scored_with_its_own_weights(scored: Store, runs: Path) -> None:
    report = score(scored, str(runs / "run"), ["d", "e"])
    assert (report.written, report.skipped, report.failures, report.tokens) == (10, 0, [], 5 * (39 + 14))
    assert scored.steps("run", "d") == scored.steps("run", "e") == STEPS
    for step in STEPS:
        expected = own_losses(runs / "run" / f"step{step}", random_dataset(seed=1))
        np.testing.assert_allclose(losses(scored, step), expected, rtol=0, atol=1e-5)
    assert len({losses(scored, step).tobytes() for step in STEPS}) == len(STEPS)


def test_a_training_loop_of_ones_own_gives_the_same_slices(scored: Store, runs: Path) -> None:
    """As the README shows: token_losses on the dataset's ids, appended."""
    score(scored, str(runs / "run"), ["d"], steps=[2])
    dataset = scored.dataset("d")
    found = token_losses(GPTNeoXForCausalLM.from_pretrained(runs / "run" / "step2"), dataset.ids())
    scored.append(model="my-run", dataset="d", step=2, losses=found)
    np.testing.assert_array_equal(losses(scored, 2, model="my-run"), losses(scored, 2))


def test_the_plan_says_what_is_missing_and_writes_nothing(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0:2")
    before = files(scored)
    todo = plan(scored, str(runs / "run"), ["d", "e", "d"], steps="1:4")
    assert (todo.model, todo.source.repo, todo.present, todo.slices) == ("run", str(runs / "run"), 2, 4)
    assert [(p.checkpoint.step, p.datasets) for p in todo.pending] == [
        (1, ("e",)),
        (2, ("e",)),
        (4, ("d", "e")),
    ]
    assert todo.tokens == 3 * 14 + 39
    assert (todo.downloads, todo.download_bytes) == ((), None)
    assert files(scored) == before


def test_a_second_run_skips_what_is_there_and_adds_nothing(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"])
    before = files(scored)
    again = score(scored, str(runs / "run"), ["d"])
    assert (again.written, again.skipped, again.failures, again.tokens) == (0, 5, [], 0)
    assert files(scored) == before


def test_provenance_and_facts_are_kept(scored: Store, runs: Path) -> None:
    todo = plan(scored, str(runs / "run"), ["d", "e"], tokens_per_step=1000)
    run(scored, todo, dtype="bfloat16", batch_tokens=64, attention="eager", device="cpu")
    facts = [scored.slice_facts("run", name, 4).provenance for name in ("d", "e")]
    first = facts[0]
    assert (first.revision, first.commit, first.tokens_seen, first.tokens_exact) == (
        "step4",
        None,
        4000,
        True,
    )
    assert (first.dtype, first.attention, first.vocab, first.batch_tokens) == (
        "bfloat16",
        "eager",
        "full",
        64,
    )
    assert first.versions["torch"] == torch.__version__
    assert set(first.versions) == {"trajstore", "torch", "transformers"}
    assert first.device == "cpu"
    assert first.run is not None
    assert len(first.run) == 32
    assert first.run == facts[1].run
    assert first.remote_code is False
    assert first.weights is not None
    assert first.weights == facts[1].weights != scored.slice_facts("run", "d", 8).provenance.weights
    known = scored.model("run")
    assert known is not None
    assert (known.repo, known.family, known.n_layer, known.tokens_per_step) == (
        str(runs / "run"),
        "gpt_neox",
        1,
        1000,
    )
    assert known.n_params == sum(p.numel() for p in neox().parameters())


def test_tokens_seen_are_unknown_unless_given_and_never_contradicted(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps=0)
    assert scored.slice_facts("run", "d", 0).provenance.tokens_seen is None
    score(scored, str(runs / "run"), ["d"], steps=1, tokens_per_step=7, name="known")
    score(scored, str(runs / "run"), ["d"], steps=8, name="known")
    assert scored.slice_facts("known", "d", 8).provenance.tokens_seen == 56
    with pytest.raises(ModelMismatch, match="7 tokens a step, not 8"):
        plan(scored, str(runs / "run"), ["d"], tokens_per_step=8, name="known")


def test_progress_counts_the_tokens_and_is_taken_away(scored: Store, runs: Path) -> None:
    class Watch:
        def __init__(self) -> None:
            self.total, self.done, self.unit, self.running, self.said = 0, 0, "", False, list[str]()

        def start(self, label: str, total: int, unit: str) -> None:
            self.total, self.unit, self.running = total, unit, True

        def advance(self, amount: int = 1, note: str = "") -> None:
            assert self.running
            self.done += amount

        def stop(self) -> None:
            self.running = False

        def say(self, message: str) -> None:
            self.said.append(message)

    watch = Watch()
    damage(runs / "run" / "step2")
    score(scored, str(runs / "run"), ["d", "e"], progress=watch)
    assert (watch.total, watch.done, watch.unit, watch.running) == (5 * 53, 4 * 53, "tokens", False)
    assert len(watch.said) == 2
    assert watch.said[0].startswith("run: no tokenizer beside the weights")
    assert "step 2 was not scored: " in watch.said[1]


# What goes wrong with single checkpoints


def test_one_unreadable_checkpoint_is_reported_and_the_others_are_scored(scored: Store, runs: Path) -> None:
    damage(runs / "run" / "step2")
    report = score(scored, str(runs / "run"), ["d", "e"])
    assert report.written == 8
    assert scored.steps("run", "d") == scored.steps("run", "e") == [0, 1, 4, 8]
    ((step, reason),) = report.failures
    assert step == 2
    assert "it is cut off, with " in reason
    assert str(runs / "run" / "step2") in reason
    assert "Download or save that checkpoint again" in reason
    neox(2).save_pretrained(runs / "run" / "step2")
    mended = score(scored, str(runs / "run"), ["d", "e"])
    assert (mended.written, mended.skipped, mended.failures) == (2, 8, [])


def test_a_checkpoint_with_a_missing_tensor_is_not_scored_with_random_weights(
    scored: Store, runs: Path
) -> None:
    file = runs / "run" / "step4" / "model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if "embed_out" in name or "lm_head" in name))
    save_file(tensors, file, metadata={"format": "pt"})
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == [4]
    assert "tensors that the model needs are missing" in report.failures[0][1]
    assert scored.steps("run", "d") == [0, 1, 2, 8]


def test_a_nan_is_a_failure_of_its_slice(scored: Store, runs: Path) -> None:
    broken = neox(1)
    with torch.no_grad():
        broken.lm_head.weight[3, 0] = torch.nan
    broken.save_pretrained(runs / "run" / "step1")
    report = score(scored, str(runs / "run"), ["d"], steps="0,1,2")
    assert [step for step, _ in report.failures] == [1]
    assert "losses cannot be right; the first is nan" in report.failures[0][1]
    assert scored.steps("run", "d") == [0, 2]
    half = score(scored, str(runs / "run"), ["d"], steps=1, dtype="float16", name="half")
    assert "try dtype='float32'" in half.failures[0][1]


def test_a_run_of_broken_checkpoints_leaves_no_model_behind(scored: Store, runs: Path) -> None:
    for step in STEPS:
        (runs / "run" / f"step{step}" / "model.safetensors").write_bytes(b"")
    before = files(scored)
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == STEPS
    assert files(scored) == before


def test_an_interrupt_leaves_what_is_finished_and_nothing_else(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    whole = publishing.token_scores

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(publishing, "token_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(scored, str(runs / "run"), ["d", "e"])
    assert scored.steps("run", "d") == [0, 1]
    assert scored.steps("run", "e") == [0]
    assert list((scored.path / "tmp").iterdir()) == []
    monkeypatch.setattr(publishing, "token_scores", whole)
    assert score(scored, str(runs / "run"), ["d", "e"]).written == 7


def test_slices_that_another_job_publishes_meanwhile_are_left_alone(
    scored: Store, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = plan(scored, str(runs / "run"), ["d"], steps="0:4")
    score(scored, str(runs / "run"), ["d"], steps=0)
    whole = publishing.token_scores

    def overtaken(*args: object, **kwargs: object) -> object:
        found = whole(*args, **kwargs)
        monkeypatch.setattr(publishing, "token_scores", whole)
        score(scored, str(runs / "run"), ["d"], steps=1)
        return found

    monkeypatch.setattr(publishing, "token_scores", overtaken)
    report = run(scored, todo)
    assert (report.written, report.skipped, report.failures) == (2, 2, [])


# Which run a name stands for


def test_a_name_of_another_run_is_refused(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"])
    other = save_run(runs.parent / "others" / "run", STEPS, seed=5)
    before = files(scored)
    with pytest.raises(ModelMismatch, match=r"run in the store is another run: at step 8 .* name=NAME"):
        score(scored, str(other), ["e"])
    assert files(scored) == before
    assert score(scored, str(other), ["e"], name="run2").written == 5
    assert scored.model_names() == ["run", "run2"]


def test_a_shared_step_0_does_not_make_two_runs_one(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0,1")
    other = runs.parent / "others" / "run"
    shutil.copytree(runs / "run" / "step0", other / "step0")
    with pytest.raises(ModelMismatch, match="no step that both have"):
        score(scored, str(other), ["e"])


def test_a_moved_folder_is_the_same_run(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0:2")
    (runs / "run").rename(runs.parent / "run")
    assert score(scored, str(runs.parent / "run"), ["d", "e"]).written == 7
    known = scored.model("run")
    assert known is not None
    assert known.repo == str(runs / "run")


def test_two_new_runs_cannot_take_one_name_at_the_same_time(scored: Store, runs: Path) -> None:
    other = save_run(runs.parent / "others" / "run", [16, 32], seed=5)
    planned = plan(scored, str(other), ["d"])
    score(scored, str(runs / "run"), ["d"])
    report = run(scored, planned)
    assert report.written == 0
    assert [step for step, _ in report.failures] == [16, 32]
    assert "no step that both have" in report.failures[0][1]
    assert scored.steps("run", "d") == STEPS


def test_a_folder_that_was_trained_anew_is_refused(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"], steps="0:4")
    shutil.rmtree(runs / "run")
    save_run(runs / "run", STEPS, seed=3)
    with pytest.raises(ModelMismatch, match="at step 4 it was scored with weights"):
        plan(scored, str(runs / "run"), ["d"])


def test_one_step_with_other_weights_than_before_is_a_failure(scored: Store, runs: Path) -> None:
    score(scored, str(runs / "run"), ["d"])
    neox(99).save_pretrained(runs / "run" / "step2")
    report = score(scored, str(runs / "run"), ["e"])
    assert [step for step, _ in report.failures] == [2]
    assert "on another dataset with other weights" in report.failures[0][1]
    assert scored.steps("run", "e") == [0, 1, 4, 8]


def test_a_checkpoint_of_another_size_is_a_failure(scored: Store, runs: Path) -> None:
    neox(4, layers=2).save_pretrained(runs / "run" / "step4")
    report = score(scored, str(runs / "run"), ["d"])
    assert [step for step, _ in report.failures] == [4]
    assert "of another run" in report.failures[0][1]
