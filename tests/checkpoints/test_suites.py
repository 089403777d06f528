"""Published suites, against the rules and names that their authors published."""

from __future__ import annotations

import pytest

from trajstore.checkpoints.suites import KnownRun, find, known_bad, known_run, run_named, suites
from trajstore.errors import UnknownName

PYTHIA_SIZES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")


def run_of(repo: str) -> KnownRun:
    run = known_run(repo)
    assert run is not None
    return run


def test_pythias_154_revisions() -> None:
    # step 0, eleven in all up to 512, and 143 more by the thousand
    published = [0] + [2**k for k in range(10)] + [1000 * k for k in range(1, 144)]
    assert len(published) == 154
    for size in PYTHIA_SIZES:
        run = run_of(f"EleutherAI/pythia-{size}")
        assert list(run.steps or ()) == published
    names = [run.revision.format(step=step) for step in run.steps or ()]
    assert names[:4] + names[10:13] + names[-1:] == [
        *("step0", "step1", "step2", "step4"),
        *("step512", "step1000", "step2000"),
        "step143000",
    ]


def test_the_v0_models_have_143() -> None:
    run = run_of("EleutherAI/pythia-1.4b-deduped-v0")
    assert list(run.steps or ()) == list(range(1000, 143_001, 1000))
    assert len(run.steps or ()) == 143


def test_the_609_revisions_of_the_crfm_models() -> None:
    published = {
        *range(0, 101, 10),
        *range(100, 2001, 50),
        *range(2000, 20_001, 100),
        *range(20_000, 400_001, 1000),
    }
    assert len(published) == 609
    (suite,) = [each for each in suites() if each.name == "crfm-gpt2"]
    assert len(suite.runs) == 10
    for run in suite.runs:
        assert list(run.steps or ()) == sorted(published)
        assert run.revision.format(step=350) == "checkpoint-350"


def test_smollm3s_first_stage_has_86() -> None:
    run = run_named("smollm3-3b")
    assert run is not None
    assert run.steps == tuple(40_000 * k for k in range(1, 87))


def test_pythias_repositories_are_those_published() -> None:
    suite, runs = find("pythia")
    large = PYTHIA_SIZES[2:]
    small = PYTHIA_SIZES[:5]
    expected = [f"pythia-{size}" for size in PYTHIA_SIZES]
    expected += [f"pythia-{size}-deduped" for size in large]
    expected += [f"pythia-{size}-seed{seed}" for size in small for seed in range(1, 10)]
    expected += [f"pythia-160m-{what}-seed{seed}" for what in ("data", "weight") for seed in (1, 2, 3)]
    expected += [f"pythia-{size}{deduped}-v0" for deduped in ("", "-deduped") for size in large]
    assert sorted(run.name for run in runs) == sorted(expected)
    assert all(run.repo == f"EleutherAI/{run.name}" for run in suite.runs)


@pytest.mark.parametrize(
    ("repo", "tokens", "size", "seed", "rows"),
    [
        ("EleutherAI/pythia-70m", 2_097_152, "70m", None, 50_304),
        ("EleutherAI/pythia-1.4b-deduped", 2_097_152, "1.4b", None, 50_304),
        ("EleutherAI/pythia-6.9b-deduped", 2_097_152, "6.9b", None, 50_432),
        ("EleutherAI/pythia-12b-v0", 2_097_152, "12b", None, 50_688),
        ("EleutherAI/pythia-14m-seed9", 2_097_152, "14m", 9, 50_304),
        ("EleutherAI/pythia-160m-data-seed2", 2_097_152, "160m", 2, 50_304),
        ("stanford-crfm/alias-gpt2-small-x21", 524_288, "small", 21, 50_257),
        ("stanford-crfm/battlestar-gpt2-small-x49", 524_288, "small", 49, 50_257),
        ("stanford-crfm/caprica-gpt2-small-x81", 524_288, "small", 81, 50_257),
        ("stanford-crfm/darkmatter-gpt2-small-x343", 524_288, "small", 343, 50_257),
        ("stanford-crfm/expanse-gpt2-small-x777", 524_288, "small", 777, 50_257),
        ("stanford-crfm/arwen-gpt2-medium-x21", 524_288, "medium", 21, 50_257),
        ("stanford-crfm/beren-gpt2-medium-x49", 524_288, "medium", 49, 50_257),
        ("stanford-crfm/celebrimbor-gpt2-medium-x81", 524_288, "medium", 81, 50_257),
        ("stanford-crfm/durin-gpt2-medium-x343", 524_288, "medium", 343, 50_257),
        ("stanford-crfm/eowyn-gpt2-medium-x777", 524_288, "medium", 777, 50_257),
        ("allenai/OLMo-2-1124-13B", 2048 * 4096, "13b", None, 100_352),
        ("HuggingFaceTB/SmolLM3-3B-checkpoints", 2_359_296, "3b", None, 128_256),
    ],
)
def test_runs_of_published_suites(repo: str, tokens: int, size: str, seed: int | None, rows: int) -> None:
    run = run_of(repo)
    assert (run.repo, run.tokens_per_step, run.size, run.seed) == (repo, tokens, size, seed)
    assert run.vocabulary == rows


def test_the_ends_of_olmo_2s_first_stage_fit_the_tokens_in_their_names() -> None:
    # stage1-step1907359-tokens4001B and so on
    named = {"1b": 4001, "7b": 3896, "13b": 5001, "32b": 6056}
    for run in find("olmo-2")[1]:
        assert run.last_step is not None
        assert run.tokens_per_step is not None
        assert -(-run.last_step * run.tokens_per_step // 10**9) == named[run.size]


def test_a_model_goes_by_its_short_name_or_its_repository() -> None:
    for name, repo in [
        ("pythia-70m", "EleutherAI/pythia-70m"),
        ("alias-gpt2-small-x21", "stanford-crfm/alias-gpt2-small-x21"),
        ("olmo-2-7b", "allenai/OLMo-2-1124-7B"),
    ]:
        assert run_named(name) == run_named(repo) == known_run(repo)
        assert run_of(repo).name == name
    runs = [run for suite in suites() for run in suite.runs]
    assert len({run.name for run in runs}) == len({run.repo for run in runs}) == len(runs)


@pytest.mark.parametrize(
    "repo",
    ["someone/pythia-70m", "pythia-70m", "EleutherAI/gpt-neo-125m", "gpt2", "/tmp/EleutherAI/pythia-70m"],
)
def test_other_runs_are_not_guessed_at(repo: str) -> None:
    assert known_run(repo) is None


def test_the_crfm_runs_need_their_attention_settings() -> None:
    run = run_of("stanford-crfm/alias-gpt2-small-x21")
    assert dict(run.config) == {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}


def test_an_unknown_suite_lists_those_there_are() -> None:
    assert find("crfm-gpt2")[0].name == "crfm-gpt2"
    assert [run.name for run in find("EleutherAI/pythia-70m")[1]] == ["pythia-70m"]
    with pytest.raises(
        UnknownName, match=r"no suite or model 'pythia-70'.*crfm-gpt2.*Did you mean pythia-70m"
    ):
        find("pythia-70")


# Known to be bad


def bad_steps(repo: str, stage: str = "") -> list[int]:
    return [step for step in run_of(repo).steps or () if known_bad(repo, step, stage)]


def test_86_of_154_steps_of_pythia_2_8b_hold_the_end_of_training() -> None:
    bad = bad_steps("EleutherAI/pythia-2.8b")
    # as the report counts them: 76 with the file of main, and 10 with one other
    first = [0, *(2**k for k in range(10)), *range(1000, 53_001, 1000)]
    first += [
        55_000,
        60_000,
        65_000,
        70_000,
        80_000,
        90_000,
        100_000,
        103_000,
        110_000,
        120_000,
        130_000,
        140_000,
    ]
    second = [54_000, 56_000, 57_000, 58_000, 59_000, 61_000, 62_000, 63_000, 64_000, 143_000]
    assert (len(first), len(second)) == (76, 10)
    assert bad == sorted(first + second)
    assert "pythia/issues/205" in (known_bad("EleutherAI/pythia-2.8b", 1) or "")
    assert bad_steps("EleutherAI/pythia-2.8b-deduped") == [1, 2]


@pytest.mark.parametrize(
    ("repo", "steps", "issue"),
    [
        ("EleutherAI/pythia-12b", [1, 2, 50_000, 58_000], 206),
        ("EleutherAI/pythia-410m-seed9", [1, 2, 40_000], 202),
        ("EleutherAI/pythia-410m-seed6", [1, 2, 88_000], 202),
        ("EleutherAI/pythia-410m-seed2", [1, 2, 111_000], 202),
        ("EleutherAI/pythia-70m", [1, 2], 198),
        ("EleutherAI/pythia-70m-v0", [], None),
        ("stanford-crfm/alias-gpt2-small-x21", [], None),
    ],
)
def test_known_bad_steps_with_their_source(repo: str, steps: list[int], issue: int | None) -> None:
    assert bad_steps(repo) == steps
    if steps:
        assert f"https://github.com/EleutherAI/pythia/issues/{issue}" in (known_bad(repo, steps[-1]) or "")


def test_two_weight_seeds_do_not_come_from_their_step_0() -> None:
    for seed, bad in ((1, 153), (2, 153), (3, 2)):
        assert len(bad_steps(f"EleutherAI/pythia-160m-weight-seed{seed}")) == bad
    assert known_bad("EleutherAI/pythia-160m-weight-seed1", 0) is None
    assert "issues/203" in (known_bad("EleutherAI/pythia-160m-weight-seed1", 1) or "")


def test_three_steps_of_olmo_2_7b_are_the_same() -> None:
    repo = "allenai/OLMo-2-1124-7B"
    asked = [101_000, 102_000, 175_000, 300_000, 301_000]
    assert [step for step in asked if known_bad(repo, step, "stage1")] == [101_000, 175_000, 300_000]
    assert known_bad(repo, 101_000, "stage2-ingredient1") is None
    assert "allenai/OLMo/issues/915" in (known_bad(repo, 175_000, "stage1") or "")


def test_nothing_is_known_of_others() -> None:
    assert known_bad("org/run", 1) is None
