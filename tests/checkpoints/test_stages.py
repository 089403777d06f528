"""A run's main line is told from its other stages, with what these go on from and the tokens that came before."""

from __future__ import annotations

import pytest

from trajstore.checkpoints.revisions import Tokens, parse_revision
from trajstore.checkpoints.stages import Stages
from trajstore.checkpoints.suites import known_run
from trajstore.errors import CheckpointError


def stages(*names: str, complete: bool = True) -> Stages:
    return Stages("run", tuple(named for name in names if (named := parse_revision(name))), complete=complete)


@pytest.mark.parametrize(
    ("names", "main"),
    [
        (("step0", "step8"), ""),
        (("stage1-step1", "stage2-step1"), "stage1"),
        (("step5", "stage1-step1", "stage2-step1"), ""),
        (("stage0-step1", "stage1-step1"), "stage0"),
        (("stage2-step1", "stage3-step1"), None),
        (("stage1-a-step1", "stage1-b-step1"), None),
    ],
)
def test_the_first_stage_is_the_main_line_if_there_is_one_such(
    names: tuple[str, ...], main: str | None
) -> None:
    assert stages(*names).main == main


def test_the_main_line_bears_the_runs_name_and_the_others_their_own() -> None:
    run = stages("stage1-step1", "stage2-ingredient1-step1")
    assert [run.name(stage) for stage in run.names] == ["run", "run.stage2-ingredient1"]
    assert run.choose(None, "org/run") == run.choose("stage1", "org/run") == "stage1"
    assert run.choose("stage2-ingredient1", "org/run") == "stage2-ingredient1"


def test_a_stage_that_is_not_there_is_an_error_that_lists_them() -> None:
    run = stages("stage1-step1", "stage2-ingredient1-step1", "stage2-ingredient2-step1")
    with pytest.raises(CheckpointError) as caught:
        run.choose("stage2-ingredient3", "org/run")
    assert str(caught.value).startswith(
        "org/run has no revision of the stage stage2-ingredient3. By their stages its revisions are those of: "
        "org/run, org/run.stage2-ingredient1, org/run.stage2-ingredient2."
    )
    with pytest.raises(CheckpointError, match="no revision of the main line on this disk.* org/run.stage2"):
        stages("stage2-step1", complete=False).choose(None, "org/run")


def test_a_stage_goes_on_from_the_one_before_it_where_that_is_one() -> None:
    run = stages("step1", "stage1-step1", "stage2-step1", "stage4-a-step1", "stage4-b-step1", "stage5-step1")
    parents = {stage: run.parent(stage) for stage in run.names}
    assert parents == {
        "": None,
        "stage1": "",
        "stage2": "stage1",
        "stage4-a": "stage2",
        "stage4-b": "stage2",
        "stage5": None,  # from a, from b, or from their average
    }


def test_tokens_before_a_stage_are_those_of_its_parents_ends() -> None:
    names = ("step5", "step10", "stage1-step3", "stage1-step4", "stage2-step7", "stage2-step1")
    run = stages(*names)
    assert run.tokens_before("", 100) == Tokens(0, True)
    assert run.tokens_before("stage1", 100) == Tokens(1000, True)
    assert run.tokens_before("stage2", 100) == Tokens(1400, True)
    assert run.tokens_before("stage1", None) is None


def test_tokens_before_may_be_the_rounded_ones_of_a_name() -> None:
    run = stages("stage1-step10-tokens2B", "stage2-step1-tokens1B")
    assert run.tokens_before("stage2", None) == Tokens(2 * 10**9, False)


def test_an_end_that_may_be_missing_on_this_disk_is_not_guessed() -> None:
    assert stages("stage1-step10", "stage2-step1", complete=False).tokens_before("stage2", 100) is None
    assert stages("stage1-step10", "stage2-step1", complete=False).parent("stage2") == "stage1"
    assert stages("stage1-step10", "stage3-step1", complete=False).parent("stage3") is None


def test_a_published_runs_end_is_known_without_its_revisions() -> None:
    run = known_run("allenai/OLMo-2-1124-7B")
    names = (parse_revision("stage2-ingredient1-step1000-tokens5B"),)
    only = Stages("olmo-2-7b", names, run, complete=False)  # type: ignore[arg-type]
    assert only.main == "stage1"
    assert only.parent("stage2-ingredient1") == "stage1"
    assert only.tokens_before("stage2-ingredient1", 1024 * 4096) == Tokens(928_646 * 1024 * 4096, True)


def test_steps_may_go_on_from_one_stage_to_the_next_or_begin_anew() -> None:
    run = known_run("HuggingFaceTB/SmolLM3-3B-checkpoints")
    assert run is not None
    batch = 2_359_296
    names = ("stage1-step-40000", "stage2-step-3480000", "lc-4k-to-32k-step-4000", "lc-32k-to-64k-step-4000")
    found = tuple(named for name in names if (named := parse_revision(name, run.stage_names)))
    three = Stages(run.name, found, run)
    assert len(three.names) == 4
    assert [three.parent(stage) for stage in ("stage1", "stage2", "stage3")] == [None, "stage1", "stage2"]
    assert three.tokens_before("stage2", batch) == three.tokens_before("stage3", batch) == Tokens(0, True)
    assert three.parent("lc-4k-to-32k") == "stage3"
    assert three.tokens_before("lc-4k-to-32k", batch) == Tokens(4_720_000 * batch, True)
    assert three.tokens_before("lc-32k-to-64k", batch) == Tokens((4_720_000 + 20_000) * batch, True)
