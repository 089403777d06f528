"""Every published form of a revision's or folder's name is read, and nothing else; tokens counted or as named."""

from __future__ import annotations

import pytest

from trajstore.checkpoints.revisions import Revision, Tokens, parse_revision, tokens_seen

BILLION = 10**9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step0", Revision("", 0)),
        ("step143000", Revision("", 143_000)),
        ("step_64", Revision("", 64)),
        ("step-500", Revision("", 500)),
        ("checkpoint-400000", Revision("", 400_000)),
        ("checkpoint_7", Revision("", 7)),
        ("step000100", Revision("", 100)),
        ("step1000-tokens4B", Revision("", 1000, 4 * BILLION, BILLION)),
        ("step0-tokens0B", Revision("", 0, 0, BILLION)),
        ("step5-tokens1.5T", Revision("", 5, 1_500 * BILLION, 100 * BILLION)),
        ("step5-tokens250M", Revision("", 5, 250_000_000, 1_000_000)),
        ("stage1-step101000-tokens424B", Revision("stage1", 101_000, 424 * BILLION, BILLION)),
        (
            "stage2-ingredient1-step11931-tokens100B",
            Revision("stage2-ingredient1", 11_931, 100 * BILLION, BILLION),
        ),
        ("stage1-step-40000", Revision("stage1", 40_000)),
        ("stage3-step7000", Revision("stage3", 7000)),
        ("stage12-checkpoint-5", Revision("stage12", 5)),
    ],
)
def test_names_of_steps(name: str, expected: Revision) -> None:
    assert parse_revision(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "step",
        "step--5",
        "checkpoint--1",
        "step10x",
        "xstep10",
        "step 10",
        "step10\n",
        "step1.5",
        "STEP10",
        "step٣",
        "step" + "9" * 30,
        "10",
        "",
        "-step10",
        "stage1step10",
        "stage-step10",
        "stage1-",
        "stage2--step10",
        "stage1\n-step10",
        "ema-step10",
        "lc-4k-to-32k-step-4000",
        "step10-tokens",
        "step10-tokens4",
        "step10-tokensB",
        "step10-tokens4G",
        "step10-tokens4B-hf",
        "it-SFT",
    ],
)
def test_names_of_nothing(name: str) -> None:
    assert parse_revision(name) is None


def test_a_suites_own_stages_are_known_by_name() -> None:
    assert parse_revision("lc-4k-to-32k-step-4000", ("lc-4k-to-32k",)) == Revision("lc-4k-to-32k", 4000)
    assert parse_revision("lc-32k-to-64k-step-4000", ("lc-4k-to-32k",)) is None


def test_a_long_name_is_read_at_once() -> None:
    assert parse_revision("stage1-" + "a-" * 5000 + "step") is None


NOTHING = Tokens(0, True)


def test_tokens_are_counted_where_the_batch_is_known() -> None:
    # 1024 sequences of 2048 tokens
    assert tokens_seen(Revision("", 1000), 1024 * 2048, NOTHING) == Tokens(2_097_152_000, True)
    assert tokens_seen(Revision("", 0), 1024 * 2048, NOTHING) == Tokens(0, True)


@pytest.mark.parametrize(
    ("step", "named"), [(101_000, 424), (175_000, 735), (300_000, 1259), (928_646, 3896), (11_931, 50)]
)
def test_a_rounded_number_in_the_name_confirms_the_count(step: int, named: int) -> None:
    # as the 7B model's revisions are called; batches of 1024 sequences of 4096 tokens
    tokens = tokens_seen(Revision("stage1", step, named * BILLION, BILLION), 1024 * 4096, NOTHING)
    assert tokens == Tokens(step * 1024 * 4096, True)


def test_a_number_that_contradicts_the_batch_is_taken_as_it_is_named() -> None:
    # 738020 × 2048 × 2048 is 3095.5 billion, but the revision says 3094
    tokens = tokens_seen(Revision("", 738_020, 3094 * BILLION, BILLION), 2048 * 2048, NOTHING)
    assert tokens == Tokens(3094 * BILLION, False)


def test_without_a_batch_there_is_the_name_or_nothing() -> None:
    assert tokens_seen(Revision("", 1000, 4 * BILLION, BILLION), None, NOTHING) == Tokens(4 * BILLION, False)
    assert tokens_seen(Revision("", 1000), None, NOTHING) is None


def test_tokens_of_the_stages_before_are_added_and_make_it_no_more_exact() -> None:
    revision = Revision("stage2", 10)
    assert tokens_seen(revision, 7, Tokens(100, True)) == Tokens(170, True)
    assert tokens_seen(revision, 7, Tokens(100, False)) == Tokens(170, False)
    assert tokens_seen(revision, 7, None) is None
