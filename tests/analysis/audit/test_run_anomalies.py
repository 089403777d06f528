"""Honest runs have nothing odd, simulated and really trained; what spoils a run is named."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.analysis.audit.honest_runs import (
    DENSE,
    HONEST,
    LOG,
    PYTHIA,
    SPOILED,
    Run,
    Spoil,
    bits_from_there_on,
    final_here_and_there,
    final_under_many,
    honest,
    nearly_a_copy,
    other_seed_once,
)
from trajstore.analysis.audit.run_anomalies import Oddities, oddities
from trajstore.analysis.audit.step_summaries import summarise

TWENTY = DENSE[::3]
SUITES = {"pythia": (PYTHIA, 0.95), "dense": (DENSE, 0.95), "twenty": (TWENTY, 0.95)}
"""Steps, and the share of spoiled runs that is named at least."""


def odd(run: Run) -> Oddities:
    return oddities(summarise(run.steps, run.losses), [])


def named(found: Oddities) -> set[int]:
    """All steps of findings but breaks, which are the first of a stretch, and those too."""
    single = (found.bits, found.perplexities, found.shuffled, found.of_the_end, found.unlike, found.breaks)
    return {
        *(step for steps in (*single, *found.copies) for step in steps),
        *(each.step for each in found.placed),
    }


def share_named(spoil: Spoil, steps: tuple[int, ...], runs: int, first: int = 1) -> float:
    """Of runs of all kinds that were spoiled, the share of which nine in ten wrong steps are named."""
    hits = []
    for seed in range(first, first + runs):
        options = HONEST[seed % len(HONEST)]
        run = honest(steps, text=seed, seed=seed, **options)  # type: ignore[arg-type]
        other = honest(steps, text=seed, seed=seed + 1000, **options)  # type: ignore[arg-type]
        wrong = {steps[row] for row in spoil(run, np.random.default_rng(seed), other.losses)}
        hits.append(len(wrong & named(odd(run))) >= 0.9 * len(wrong))
    return float(np.mean(hits))


@pytest.mark.parametrize("steps", [PYTHIA, DENSE, TWENTY, LOG], ids=["pythia", "dense", "twenty", "log"])
def test_honest_runs_have_nothing_odd(steps: tuple[int, ...]) -> None:
    for seed, options in enumerate(HONEST):
        assert odd(honest(steps, text=seed, seed=seed, **options)) == Oddities()  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [PYTHIA, DENSE, TWENTY, LOG], ids=["pythia", "dense", "twenty", "log"])
def test_many_honest_runs_have_nothing_odd(steps: tuple[int, ...]) -> None:
    """Two hundred: constant, cosine, a high rate, loss spikes."""
    false = [
        (seed, options)
        for seed, options in product(range(100, 140), HONEST)
        if odd(honest(steps, text=seed, seed=seed, **options)) != Oddities()  # type: ignore[arg-type]
    ]
    assert len(false) <= 2, false


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda each: each.__name__)
def test_what_spoils_a_run_is_named(spoil: Spoil) -> None:
    assert share_named(spoil, DENSE, 5) == 1


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda each: each.__name__)
def test_what_spoils_a_run_of_21_steps_is_named(spoil: Spoil) -> None:
    assert share_named(spoil, TWENTY, 20, first=301) >= 0.95


def test_a_late_part_in_bits_is_seen_at_a_step_per_octave() -> None:
    """Learning moves tokens farther from step to step there than the unit does."""
    assert share_named(bits_from_there_on, LOG, 20) >= 0.8


@pytest.mark.parametrize("at", [0, 1, 5, 10])
def test_a_run_that_begins_in_bits(at: int) -> None:
    """Up to a step; the guess at the beginning is judged by its vocabulary."""
    run = honest(TWENTY)
    run.losses[: at + 1] /= np.float32(np.log(2))
    assert set(odd(run).bits) == set(TWENTY[1 : at + 1])


def test_a_spike_beside_bits_and_a_spike_in_bits() -> None:
    """Bits before, at and after the spike, each named alone."""
    for seed in range(3, 23, 5):
        run = honest(TWENTY, text=seed, seed=seed, spike=True)
        spike = int(np.diff(run.losses.mean(axis=1)).argmax()) + 1
        for at in (spike - 1, spike, spike + 1):
            spoiled = Run(run.steps, run.losses.copy())
            spoiled.losses[at] /= np.float32(np.log(2))
            assert odd(spoiled).bits == (TWENTY[at],), (seed, at - spike)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("spoil", SPOILED, ids=lambda each: each.__name__)
def test_what_spoils_many_runs_is_named(spoil: Spoil, suite: str) -> None:
    """Forty runs of each kind of steps."""
    steps, least = SUITES[suite]
    assert share_named(spoil, steps, 40) >= least


def test_the_end_under_86_of_154_steps_is_one_set() -> None:
    run = honest(PYTHIA)
    wrong = final_under_many(run, np.random.default_rng(0), run.losses)
    (group,) = odd(run).copies
    assert len(wrong) == 86
    assert set(group) == {PYTHIA[row] for row in wrong} | {143_000}


def test_the_end_under_20_of_154_steps_is_one_set() -> None:
    run = honest(PYTHIA, schedule="cosine")
    wrong = final_here_and_there(run, np.random.default_rng(1), run.losses)
    (group,) = odd(run).copies
    assert len(wrong) == 20
    assert set(group) == {PYTHIA[row] for row in wrong} | {143_000}


def test_late_weights_that_are_no_copies() -> None:
    """A stretch of an early time holds weights of the end's time, each of its own; the run comes back after it."""
    run = honest(LOG, schedule="cosine")
    rng, last = np.random.default_rng(0), run.losses[-1]
    for row in range(4, 10):
        noise = 0.05 * rng.standard_normal(len(last))
        run.losses[row] = np.maximum(last + noise, 0).astype(np.float32)
    assert set(LOG[4:10]) <= named(odd(run))


def test_a_copy_is_told_from_a_plateau() -> None:
    """At the end of a cosine the steps lie near each other, and none is a copy."""
    run = honest(DENSE, schedule="cosine")
    assert odd(run).copies == ()
    wrong = nearly_a_copy(run, np.random.default_rng(3), run.losses)
    assert odd(run).copies == (tuple(sorted(DENSE[row] for row in wrong)),)


def test_a_break_is_where_the_other_run_begins() -> None:
    run, other = honest(DENSE), honest(DENSE, seed=9)
    run.losses[30:] = other.losses[30:]
    assert odd(run) == Oddities(breaks=(DENSE[30],))
    run.losses[45:] = honest(DENSE).losses[45:]
    assert odd(run) == Oddities(breaks=(DENSE[30], DENSE[45]))


def test_of_a_few_steps_only_copies_are_named() -> None:
    run = honest(DENSE[:7])
    other_seed_once(run, np.random.default_rng(0), honest(DENSE[:7], seed=2).losses)
    assert odd(run) == Oddities()
    run.losses[5] = run.losses[2] + np.float32(1e-5)
    assert odd(run) == Oddities(copies=((DENSE[2], DENSE[5]),))
    assert oddities(summarise(run.steps, run.losses), [(DENSE[2], DENSE[5])]) == Oddities()
    for count in (0, 1, 2):
        few = honest(DENSE[:3])
        assert oddities(summarise(few.steps[:count], few.losses[:count]), []) == Oddities()


def trained(seed: int, schedule: str) -> Run:
    """A tiny model that learns texts in which each token follows from the one before with a probability of 0.8."""
    import torch

    from tests.helpers.tiny_models import neox
    from trajstore.forward.losses import token_losses

    rng = np.random.default_rng(seed)
    following = rng.permutation(64)
    texts = rng.integers(0, 64, (200, 24))
    for position in range(1, 24):
        known = rng.random(200) < 0.8
        texts[known, position] = following[texts[known, position - 1]]
    model, ids = neox(seed), torch.as_tensor(texts)
    peak = 1e-2 if schedule == "high" else 3e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak)
    steps, rows = [], []
    for step in range(481):
        if step in (0, 1, 2, 4) or step % 8 == 0:
            steps.append(step)
            rows.append(np.concatenate(token_losses(model, texts[:60])))
        rate = peak * min(1, (step + 1) / 20)
        rate *= 0.1 + 0.45 * (1 + np.cos(np.pi * step / 480)) if schedule == "cosine" else 1
        rate *= 10 if schedule == "spike" and 240 <= step < 243 else 1
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = ids[60:][torch.as_tensor(rng.integers(0, 140, 8))]
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        optimizer.step()
    return Run(tuple(steps), np.array(rows, np.float32))


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("schedule", ["constant", "cosine", "high", "spike"])
def test_trained_runs_have_nothing_odd_until_they_are_spoiled(schedule: str) -> None:
    for seed in range(5):
        run = trained(seed, schedule)
        if schedule == "spike":
            # Such a kick moves the weights far off at the same mean, as another run's are, and is named there alone.
            assert named(odd(run)) <= set(range(240, 305))
            continue
        assert odd(run) == Oddities()
        for spoil in SPOILED[:4]:
            spoiled = Run(run.steps, run.losses.copy())
            wrong = spoil(spoiled, np.random.default_rng(seed), run.losses)
            assert {run.steps[row] for row in wrong} <= named(odd(spoiled)), (spoil, seed)
