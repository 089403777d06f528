"""Runs are found by folder, repository or short name, with the tokens before each checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.tiny_models import cache_run, neox
from trajstore.checkpoints import hub
from trajstore.checkpoints.runs import find_checkpoints
from trajstore.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.loopback_hub import LoopbackHub


# Folders


@pytest.mark.parametrize("name", ["step{}", "step_{}", "step-{}", "checkpoint-{}"])
def test_subfolders_are_steps_in_numeric_order(tmp_path: Path, name: str) -> None:
    for step in (1000, 0, 8, 64):
        (tmp_path / "my-run" / name.format(step)).mkdir(parents=True)
    (tmp_path / "my-run" / "logs").mkdir()
    (tmp_path / "my-run" / "step12").write_text("a file, not a checkpoint")
    source = find_checkpoints(f"{tmp_path}/my-run/")
    assert (source.name, source.repo, source.local) == ("my-run", str(tmp_path / "my-run"), True)
    assert source.steps == [0, 8, 64, 1000]
    assert [c.revision for c in source.checkpoints] == [name.format(n) for n in source.steps]
    assert source.checkpoints[1].location == str(tmp_path / "my-run" / name.format(8))


def test_a_relative_path_is_kept_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "step1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run")
    assert find_checkpoints(".").name == "run"
    assert find_checkpoints(".").repo == str(tmp_path / "run")


def test_two_folders_of_one_step_are_refused(tmp_path: Path) -> None:
    for name in ("step10", "checkpoint-10", "step20"):
        (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=r"checkpoint-10 and step10 of .* both name step 10"):
        find_checkpoints(str(tmp_path))


def test_a_folder_without_steps_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "final").mkdir()
    with pytest.raises(CheckpointError, match="stepN, step_N, step-N or checkpoint-N") as caught:
        find_checkpoints(str(tmp_path))
    assert "single checkpoint" not in str(caught.value)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match="single checkpoint: move it into a folder named after its step"
    ):
        find_checkpoints(str(tmp_path))
    (tmp_path / "step7").mkdir()
    (tmp_path / "step7" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"score the folder around it with: {tmp_path} steps=7"):
        find_checkpoints(str(tmp_path / "step7"))
    with pytest.raises(CheckpointError, match="is a file"):
        find_checkpoints(str(tmp_path / "config.json"))


def test_a_name_that_is_neither_folder_nor_repository(offline: Path) -> None:
    for name in ("no/such", "nothing"):
        with pytest.raises(CheckpointError, match="is no folder here, and the Hugging Face Hub has no such"):
            find_checkpoints(name)


def test_what_can_only_be_a_path_is_not_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "list_refs", None)
    for name in (
        "/no/such",
        "./nothing",
        "../nothing",
        "~/nothing",
        "a/b/c",
        "nothing/",
        "model.safetensors",
    ):
        with pytest.raises(CheckpointError, match=r"There is no folder .*stepN"):
            find_checkpoints(name)


# Repositories


@pytest.fixture
def org_run(loopback: LoopbackHub) -> LoopbackHub:
    """org/run with the steps 0 and 8, under branches and tags."""
    loopback.add("org/run", "step0", {}, commit="0" * 40)
    loopback.add("org/run", "step8", {}, tag=True, commit="8" * 40)
    repo = loopback.repos["org/run"]
    repo.branches["main"] = repo.tags["step_8"] = "8" * 40
    repo.tags["v1"] = "0" * 40
    return loopback


def test_branches_and_tags_of_the_hub_are_steps(org_run: LoopbackHub) -> None:
    source = find_checkpoints("org/run")
    assert (source.name, source.repo, source.local, source.stage) == ("run", "org/run", False, "")
    assert [(c.step, c.commit) for c in source.checkpoints] == [(0, "0" * 40), (8, "8" * 40)]
    assert source.unreachable is None
    assert {c.tokens_seen for c in source.checkpoints} == {None}
    org_run.repos["org/run"].tags["step_8"] = "0" * 40
    with pytest.raises(CheckpointError, match="both name step 8"):
        find_checkpoints("org/run")
    with pytest.raises(CheckpointError, match="has no such repository"):
        find_checkpoints("org/other")


def test_a_repository_without_steps_lists_its_revisions(offline: Path) -> None:
    cache_run(offline, "org/run", {"main": neox(1)})
    with pytest.raises(
        CheckpointError, match=r"No revision of org/run is named after a step .* there are: main"
    ):
        find_checkpoints("org/run")


def test_tokens_a_step_may_be_told(org_run: LoopbackHub) -> None:
    source = find_checkpoints("org/run").counted(512)
    assert [(c.tokens_seen, c.tokens_exact) for c in source.checkpoints] == [(0, True), (4096, True)]


def test_tokens_in_names_are_taken_as_rounded(loopback: LoopbackHub) -> None:
    for name in ("step1000-tokens4B", "step2000-tokens8B"):
        loopback.add("org/run", name, {})
    source = find_checkpoints("org/run")
    assert [(c.tokens_seen, c.tokens_exact) for c in source.checkpoints] == [
        (4 * 10**9, False),
        (8 * 10**9, False),
    ]
    told = source.counted(2048 * 2048)
    assert [c.tokens_seen for c in told.checkpoints] == [1000 * 2048 * 2048, 2000 * 2048 * 2048]


def test_a_published_model_goes_by_its_short_name(loopback: LoopbackHub) -> None:
    for step in (0, 1, 512, 143_000):
        loopback.add("EleutherAI/pythia-70m", f"step{step}", {})
    loopback.add("EleutherAI/pythia-70m", "main", {})
    short, full = find_checkpoints("pythia-70m"), find_checkpoints("EleutherAI/pythia-70m")
    assert short == full
    assert (short.name, short.repo, short.parent) == ("pythia-70m", "EleutherAI/pythia-70m", None)
    assert short.steps == [0, 1, 512, 143_000]
    assert [c.tokens_seen for c in short.checkpoints] == [n * 1024 * 2048 for n in short.steps]
    assert {c.tokens_exact for c in short.checkpoints} == {True}
    assert [bool(c.known_bad) for c in short.checkpoints] == [False, True, False, False]
    assert short.checkpoints[-1].revision == "step143000"


def test_main_stands_for_the_last_step_where_the_suite_says_so(offline: Path) -> None:
    cache_run(offline, "EleutherAI/pythia-70m", {"main": neox(), "step512": neox()})
    source = find_checkpoints("pythia-70m")
    assert [(c.step, c.revision) for c in source.checkpoints] == [(512, "step512"), (143_000, "main")]
    assert source.checkpoints[-1].tokens_seen == 143_000 * 2_097_152
    cache_run(offline, "stanford-crfm/alias-gpt2-small-x21", {"main": neox(), "checkpoint-10": neox()})
    assert find_checkpoints("alias-gpt2-small-x21").steps == [10]


def test_a_mistyped_short_name_is_told_the_right_one(offline: Path) -> None:
    with pytest.raises(CheckpointError, match="no such repository.*Did you mean pythia-70m"):
        find_checkpoints("pythia70m")


def test_a_folder_comes_before_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pythia-70m" / "step5").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = find_checkpoints("pythia-70m")
    assert (source.local, source.run, source.checkpoints[0].tokens_seen) == (True, None, None)


# Stages

SEVEN_B = "allenai/OLMo-2-1124-7B"
BATCH = 1024 * 4096


@pytest.fixture
def olmo(loopback: LoopbackHub) -> LoopbackHub:
    for name in (
        *("stage1-step101000-tokens424B", "stage1-step102000-tokens428B", "stage1-step928646-tokens3896B"),
        *("stage2-ingredient1-step1000-tokens5B", "stage2-ingredient1-step11931-tokens50B"),
        *("stage2-ingredient2-step1000-tokens5B", "main"),
    ):
        loopback.add(SEVEN_B, name, {})
    return loopback


def test_a_name_without_a_stage_is_the_main_line(olmo: LoopbackHub) -> None:
    source = find_checkpoints("olmo-2-7b")
    assert (source.name, source.repo, source.stage, source.parent) == ("olmo-2-7b", SEVEN_B, "stage1", None)
    assert source.steps == [101_000, 102_000, 928_646]
    assert [(c.tokens_seen, c.tokens_exact) for c in source.checkpoints] == [
        (step * BATCH, True) for step in source.steps
    ]
    assert [bool(c.known_bad) for c in source.checkpoints] == [True, False, False]
    assert find_checkpoints(f"{SEVEN_B}.stage1") == source


def test_a_later_stage_is_a_model_of_its_own(olmo: LoopbackHub) -> None:
    source = find_checkpoints("olmo-2-7b.stage2-ingredient1")
    assert (source.name, source.parent) == ("olmo-2-7b.stage2-ingredient1", "olmo-2-7b")
    assert [(c.step, c.stage) for c in source.checkpoints] == [
        (1000, "stage2-ingredient1"),
        (11_931, "stage2-ingredient1"),
    ]
    assert [c.tokens_seen for c in source.checkpoints] == [
        (928_646 + 1000) * BATCH,
        (928_646 + 11_931) * BATCH,
    ]
    assert {c.tokens_exact for c in source.checkpoints} == {True}
    assert {c.known_bad for c in source.checkpoints} == {None}


def test_an_unknown_stage_lists_those_there_are(olmo: LoopbackHub) -> None:
    with pytest.raises(
        CheckpointError, match=r"no revision of the stage stage2-ingredient9.*olmo-2-7b, olmo-2-7b"
    ):
        find_checkpoints("olmo-2-7b.stage2-ingredient9")
    with pytest.raises(CheckpointError, match=r"no revision of the stage anneal"):
        find_checkpoints("olmo-2-7b.anneal")


def test_stages_of_a_repository_that_no_suite_knows(loopback: LoopbackHub) -> None:
    for name in ("stage1-step1000", "stage1-step-2000", "stage2-step500", "main"):
        loopback.add("org/run-1.5", name, {})
    first = find_checkpoints("org/run-1.5")
    assert (first.name, first.steps, first.parent) == ("run-1.5", [1000, 2000], None)
    second = find_checkpoints("org/run-1.5.stage2")
    assert (second.name, second.steps, second.parent) == ("run-1.5.stage2", [500], "run-1.5")
    assert second.checkpoints[0].tokens_seen is None
    told = second.counted(100).checkpoints[0]
    assert (told.tokens_seen, told.tokens_exact) == (250_000, True)


def test_tokens_before_a_stage_are_not_guessed_from_the_cache(offline: Path) -> None:
    cache_run(offline, "org/run", {"stage1-step1000": neox(), "stage2-step500": neox()})
    assert find_checkpoints("org/run.stage2").counted(100).checkpoints[0].tokens_seen is None
    assert find_checkpoints("org/run").counted(100).checkpoints[0].tokens_seen == 100_000


def test_smollm3s_stages(loopback: LoopbackHub) -> None:
    repo, batch = "HuggingFaceTB/SmolLM3-3B-checkpoints", 2_359_296
    for name in ("stage1-step-40000", "stage2-step-3480000", "lc-4k-to-32k-step-4000", "it-SFT", "main"):
        loopback.add(repo, name, {})
    assert find_checkpoints(repo).name == "smollm3-3b"
    for stage, parent, step, steps_before in (
        ("stage2", "smollm3-3b", 3_480_000, 0),
        ("lc-4k-to-32k", "smollm3-3b.stage3", 4000, 4_720_000),
    ):
        source = find_checkpoints(f"smollm3-3b.{stage}")
        assert (source.parent, source.steps) == (parent, [step])
        assert source.checkpoints[0].tokens_seen == (steps_before + step) * batch


def test_folders_have_stages_too(tmp_path: Path) -> None:
    for name in ("stage1-step10", "stage1-step20", "stage2-checkpoint-5"):
        (tmp_path / "run" / name).mkdir(parents=True)
    assert find_checkpoints(f"{tmp_path}/run").steps == [10, 20]
    second = find_checkpoints(f"{tmp_path}/run.stage2").counted(7)
    assert (second.name, second.repo, second.parent) == ("run.stage2", f"{tmp_path}/run", "run")
    assert second.checkpoints[0].tokens_seen == (20 + 5) * 7
