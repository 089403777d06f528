"""`spikes` errs as seldom as it says, on simulated curves and tokens: false spikes, power, recall, corrected shares.

Curves and losses are made here, with numpy alone. Half of each simulation runs by default in a small form; the full
one is slow.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from trajstore.analysis.components.gram import ArrayBlocks
from trajstore.analysis.spikes.spikes import Window, find_spikes, noise, power
from trajstore.analysis.spikes.tokens import Tolerance, classify, shares
from trajstore.analysis.statistics.bootstrap import Draws

PYTHIA = np.array([0, *(2**k for k in range(10)), *range(1000, 143_001, 1000)])
"""154 steps."""
LOG = np.geomspace(1, 1e5, 21)

SHRINKING = 10.0
"""Ratio of noise that shrinks, at the start to at the end."""


def curves(count: int, checkpoints: int, kind: str, rho: float, seed: int) -> np.ndarray:
    """Flat curves of noise, each with e[t] = ρ e[t − 1] + u[t]; t3: u is of Student's t with three degrees."""
    rng = np.random.default_rng(seed)
    burn = 60
    shocks = (
        rng.standard_t(3, (checkpoints + burn, count))
        if kind == "t3"
        else rng.standard_normal((checkpoints + burn, count))
    )
    for t in range(1, len(shocks)):
        shocks[t] += rho * shocks[t - 1]
    made = shocks[burn:].T
    if kind == "shrinking":
        made = made * np.geomspace(SHRINKING, 1, checkpoints)
    return 0.01 * made


def is_above(hits: int, tries: int, rate: float) -> bool:
    """Tell if a count is more than chance makes of this rate."""
    return bool(stats.binomtest(hits, tries, rate, alternative="greater").pvalue < 0.01)


CASES = [
    ("normal", 0.0, 154),
    ("normal", 0.8, 154),
    ("t3", 0.0, 154),
    ("t3", 0.8, 154),
    ("shrinking", 0.0, 154),
    ("shrinking", 0.8, 154),
    ("t3", 0.0, 51),
    ("shrinking", 0.0, 51),
    ("t3", 0.0, 21),
    ("shrinking", 0.0, 21),
]


def false_spikes(kind: str, rho: float, checkpoints: int, count: int) -> int:
    return sum(bool(find_spikes(curve)[0]) for curve in curves(count, checkpoints, kind, rho, 5))


@pytest.mark.parametrize(("kind", "rho", "checkpoints"), CASES)
def test_flat_curves_rarely_have_a_spike(kind: str, rho: float, checkpoints: int) -> None:
    """At most 10 %, and 5 % where noise is normal and of one size, as far as 100 curves tell."""
    assert not is_above(false_spikes(kind, rho, checkpoints, 100), 100, 0.05 if kind == "normal" else 0.1)


@pytest.mark.slow(reason="500 curves of each kind of noise")
@pytest.mark.parametrize("checkpoints", [154, 51, 21])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["normal", "t3", "shrinking"])
def test_false_spikes_in_full(kind: str, rho: float, checkpoints: int) -> None:
    found = false_spikes(kind, rho, checkpoints, 500)
    print(f"false spikes, {kind}, rho {rho}, {checkpoints} checkpoints: {found / 500:.1%}")
    assert not is_above(found, 500, 0.05 if kind == "normal" else 0.1)


def test_falling_curves_rarely_have_a_spike() -> None:
    falling = 2 + 9 * (1 + PYTHIA / 30) ** -0.5
    for kind in ("normal", "t3"):
        made = curves(100, len(PYTHIA), kind, 0.5, 6)
        assert not is_above(sum(bool(find_spikes(falling + curve)[0]) for curve in made), 100, 0.1)


def test_spikes_well_above_the_noise_are_found() -> None:
    """Two of twenty times the noise and more, on the checkpoints of Pythia."""
    falling = 2 + 9 * (1 + PYTHIA / 30) ** -0.5
    hits = 0
    for curve in curves(60, len(PYTHIA), "normal", 0.5, 7):
        means = falling + curve
        means[50:53] += 0.2 * np.array([0.5, 1.0, 0.6])
        means[120:123] += 0.4 * np.array([0.5, 1.0, 0.6])
        hits += [spike.window.at for spike in find_spikes(means)[0]] == [51, 121]
    assert hits >= 54


@pytest.mark.parametrize(("checkpoints", "times", "share"), [(154, 10, 0.8), (51, 15, 0.8)])
def test_a_spike_on_a_flat_curve_is_found(checkpoints: int, times: float, share: float) -> None:
    """Of one checkpoint, so many times the noise: at least in this share of curves."""
    rng = np.random.default_rng(8)
    hits = 0
    for curve in curves(60, checkpoints, "normal", 0, 9):
        at = int(rng.integers(3, checkpoints - 3))
        curve[at] += 0.01 * times
        hits += at in [spike.window.at for spike in find_spikes(curve)[0]]
    assert hits >= 60 * share


def test_several_spikes_of_one_size_are_all_found() -> None:
    """None hides another: what must stand out from the rest of the curve is the least of them."""
    (curve,) = curves(1, 154, "normal", 0, 10)
    for at in (20, 60, 100, 140):
        curve[at] += 0.3
    assert [spike.window.at for spike in find_spikes(curve)[0]] == [20, 60, 100, 140]


def test_21_checkpoints_of_a_falling_curve_cannot_tell() -> None:
    """A spike of ten times the noise would be found at hardly any; what is said of it holds on other curves."""
    made = 2 + 9 * (1 + LOG / 30) ** -0.5 + curves(20, len(LOG), "normal", 0, 11)
    told = [power(curve, noise(curve)) for curve in made]
    assert not any(each is None or each.enough for each in told)
    least = [each.least for each in told if each is not None and each.least is not None]
    assert len(least) > 10
    assert np.median(least) > 50 * 0.01


def test_154_checkpoints_of_a_flat_curve_can_tell() -> None:
    """The share that is given as found is that of spikes planted into other curves of such noise."""
    made = curves(12, 154, "normal", 0, 12)
    told = [power(curve, noise(curve)) for curve in made[:4]]
    assert all(each is not None for each in told)
    shown = float(np.mean([each.share for each in told if each is not None]))
    height = float(np.mean([each.height for each in told if each is not None]))
    hits = []
    for curve in made[4:]:
        for at in range(5, 150, 12):
            planted = curve.copy()
            planted[at] += height
            planted[[at - 1, at + 1]] += 0.4 * height
            hits.append(at in [spike.window.at for spike in find_spikes(planted)[0]])
    assert shown == pytest.approx(np.mean(hits), abs=0.15)
    assert np.mean([each.enough for each in told if each is not None]) >= 0.5


def test_curves_without_noise_have_no_power_to_tell() -> None:
    still = np.full(30, 2.0)
    assert power(still, noise(still)) is None


AT = 30
HEIGHTS = np.array([0.5, 1.0, 0.6])
"""Of a spike at the checkpoint before its middle, there, and after it."""


def planted(
    seed: int, tokens: int, size: float, sides: tuple[float, float], heavy: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Losses (51 checkpoints, tokens) with noise of 0.2 nats, and each token's side: 1 follows, −1 is inverse."""
    rng = np.random.default_rng(seed)
    side = rng.choice([1, -1, 0], tokens, p=[*sides, 1 - sum(sides)])
    steps = np.array([0, *(2**k for k in range(10)), *range(1000, 40_001, 1000)])
    base = rng.uniform(2, 6, tokens)
    off = rng.standard_t(3, (51, tokens)) if heavy else rng.standard_normal((51, tokens))
    losses = base + (11 - base) * (1 + steps[:, None] / 30) ** -0.8 + 0.2 * off
    losses[AT - 1 : AT + 2] += size * HEIGHTS[:, None] * side
    return losses.astype(np.float32), side


def recall_of(
    seed: int,
    tokens: int,
    size: float,
    sides: tuple[float, float],
    heavy: bool = False,
    tau: float | None = None,
) -> dict[str, tuple[float, float, tuple[float, float, float] | None]]:
    """By class: the share found of those planted, the recall, and the corrected share with its interval."""
    losses, side = planted(seed, tokens, size, sides, heavy)
    units = np.arange(tokens) // 50
    (found,) = classify(ArrayBlocks(losses), units, [Window(AT - 2, AT, AT + 2)], Tolerance(tau))
    table = shares(found, [("d", np.bincount(units))], Draws())
    told = {}
    for name, sign in (("follow", 1), ("inverse", -1)):
        of_class = table.filter(**{"class": name})
        corrected = of_class.filter(kind="corrected").select("share", "low", "high").rows()
        told[name] = (
            float(found.mask(name)[side == sign].mean()) if (side == sign).any() else float("nan"),
            of_class.filter(kind="recall")["share"].item(),
            corrected[0] if corrected else None,
        )
    return told


@pytest.mark.parametrize(
    ("size", "heavy"), [(0.6, False), (0.8, False), (1.0, False), (1.5, False), (0.8, True), (1.5, True)]
)
def test_recall_is_that_of_planted_tokens(size: float, heavy: bool) -> None:
    """3 % inverse and 60 % that follow among 5,000 tokens, by three to eight times their noise."""
    for name, (true, told, corrected) in recall_of(13, 5000, size, (0.6, 0.03), heavy).items():
        assert told == pytest.approx(true, abs=0.18 if name == "inverse" else 0.08), name
        if corrected is None:
            assert told < 0.2
        else:
            planted_share = 0.6 if name == "follow" else 0.03
            assert corrected[0] == pytest.approx(planted_share, rel=0.5 if name == "inverse" else 0.15)
            assert corrected[1] <= corrected[0] <= corrected[2]


def test_the_share_found_is_a_lower_bound_and_the_corrected_one_is_not() -> None:
    """Over ten simulations, at four times the noise: a third is found; the mean corrected share is near the planted."""
    told = [recall_of(seed, 5000, 0.8, (0.3, 0.1))["inverse"] for seed in range(10)]
    corrected = [each[2] for each in told]
    assert np.mean([each[0] for each in told]) < 0.45
    assert np.mean([each[0] for each in corrected if each is not None]) == pytest.approx(0.1, abs=0.02)
    assert sum(each is not None and each[1] <= 0.1 <= each[2] for each in corrected) >= 5


def test_a_given_tau_has_its_own_recall() -> None:
    """A lower τ finds more of the same tokens."""
    for tau in (0.4, 0.7, 1.0):
        true, told, _ = recall_of(14, 5000, 1.0, (0.3, 0.1), tau=tau)["inverse"]
        assert told == pytest.approx(true, abs=0.12), tau


def test_without_planted_tokens_hardly_any_are_said_to_move() -> None:
    for seed in range(5):
        for _, _, corrected in recall_of(seed, 5000, 0.0, (0.0, 0.0)).values():
            assert corrected is None or corrected[0] < 0.005


@pytest.mark.slow(reason="40 simulations of 20,000 tokens")
@pytest.mark.parametrize("size", [0.5, 0.6, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("sides", [(0.6, 0.03), (0.3, 0.1)])
def test_recall_in_full(size: float, sides: tuple[float, float]) -> None:
    told = [recall_of(seed, 20_000, size, sides)["inverse"] for seed in range(8)]
    true, estimated = np.mean([each[:2] for each in told], axis=0)
    corrected = [each[2][0] for each in told if each[2] is not None]
    mean = np.mean(corrected) if corrected else np.nan
    print(f"inverse, {size} nats, {sides}: found {true:.1%}, recall {estimated:.1%}, corrected {mean:.1%}")
    assert estimated == pytest.approx(true, abs=0.12)
    if corrected:
        assert mean == pytest.approx(sides[1], rel=0.3)
