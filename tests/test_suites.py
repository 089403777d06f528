"""Revisions name steps, and published suites have known tokens per step."""

from __future__ import annotations

import pytest

from trajstore.scoring.suites import known_run, parse_revision


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step0", 0),
        ("step143000", 143_000),
        ("step_64", 64),
        ("step-500", 500),
        ("checkpoint-400000", 400_000),
        ("checkpoint_7", 7),
        ("step000100", 100),
        ("step--5", None),
        ("checkpoint--1", None),
        ("main", None),
        ("step", None),
        ("step10x", None),
        ("xstep10", None),
        ("step 10", None),
        ("step10\n", None),
        ("step1.5", None),
        ("STEP10", None),
        ("step٣", None),
        ("step" + "9" * 30, None),
        ("10", None),
        ("", None),
    ],
)
def test_the_step_of_a_revision(name: str, step: int | None) -> None:
    assert parse_revision(name) == step


def test_pythias_154_revisions_have_154_steps() -> None:
    labels = [0] + [2**k for k in range(10)] + [1000 * k for k in range(1, 144)]
    assert len({parse_revision(f"step{n}") for n in labels}) == 154


@pytest.mark.parametrize(
    ("repo", "tokens", "size", "seed"),
    [
        ("EleutherAI/pythia-70m", 2_097_152, "70m", None),
        ("EleutherAI/pythia-1.4b-deduped", 2_097_152, "1.4b", None),
        ("EleutherAI/pythia-70m-deduped-v0", 2_097_152, "70m", None),
        ("EleutherAI/pythia-14m-seed9", 2_097_152, "14m", 9),
        ("EleutherAI/pythia-160m-data-seed2", 2_097_152, "160m", 2),
        ("stanford-crfm/alias-gpt2-small-x21", 524_288, "small", 21),
        ("stanford-crfm/eowyn-gpt2-medium-x777", 524_288, "medium", 777),
    ],
)
def test_runs_of_published_suites(repo: str, tokens: int, size: str, seed: int | None) -> None:
    run = known_run(repo)
    assert run is not None
    assert (run.tokens_per_step, run.size, run.seed) == (tokens, size, seed)


@pytest.mark.parametrize(
    "repo",
    ["someone/pythia-70m", "pythia-70m", "EleutherAI/gpt-neo-125m", "gpt2", "/tmp/EleutherAI/pythia-70m"],
)
def test_other_runs_are_not_guessed_at(repo: str) -> None:
    assert known_run(repo) is None


def test_the_crfm_runs_need_their_attention_settings() -> None:
    run = known_run("stanford-crfm/alias-gpt2-small-x21")
    assert run is not None
    assert dict(run.config) == {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True}
