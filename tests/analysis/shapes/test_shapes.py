"""Shapes: fits as scipy's curve_fit has them, planted parameters, and how often noise alone is called S-shaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from scipy.linalg import toeplitz
from scipy.optimize import curve_fit
from scipy.stats import f as f_distribution
from scipy.stats import kstest

from tests.analysis.shapes.planted_curves import PYTHIA, SHORT, Curves, planted, sigmoid
from trajstore.analysis.shapes.forms import WIDTH, Bases
from trajstore.analysis.shapes.model_choice import DECIDED, SINGLES, choose
from trajstore.analysis.shapes.shapes import S_SHAPED, Shaper
from trajstore.analysis.shapes.two_changes import COMPOUNDS
from trajstore.analysis.statistics.ar1 import RHOS, NoiseCorrelation, simulate, whiten
from trajstore.analysis.statistics.log_steps import Schedule
from trajstore.errors import TrajstoreError

if TYPE_CHECKING:
    from collections.abc import Callable


# The schedule


def test_places_and_weights_by_hand() -> None:
    steps = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    schedule = Schedule.of(steps)
    np.testing.assert_allclose(schedule.places, np.arange(-1, 10))
    cells = np.array([0.5, *[1.0] * 9, 0.5])
    assert schedule.effective == pytest.approx(10**2 / 9.5)
    np.testing.assert_allclose(schedule.weights, cells * schedule.effective / 10)
    np.testing.assert_allclose(schedule.steps_at(np.array([-1.0, -0.5, 0.0, 3.5])), [0, 0.5, 1, 2**3.5])


def test_many_late_steps_weigh_no_more_than_few_early_ones() -> None:
    """Pythia's 143 steps from 1000 on span 7.2 of 18.2 doublings."""
    schedule = Schedule.of(PYTHIA)
    late = schedule.steps >= 1000
    assert schedule.weights[late].sum() / schedule.effective == pytest.approx(7.65 / 18.13, abs=0.01)
    assert schedule.effective == pytest.approx(26, abs=0.1)


@pytest.mark.parametrize("steps", [range(120_000, 143_001, 1000), range(0, 21_000, 1000), range(5, 500, 45)])
def test_any_range_of_steps(steps: range) -> None:
    """A sigmoid in the middle of few doublings, or of many, is found."""
    schedule = Schedule.of(steps)
    x = schedule.places
    m, width = (x[1] + x[-1]) / 2, schedule.span / 6
    noise = 0.02 * simulate(len(x), 40, 0.3, np.random.default_rng(0))
    losses = (sigmoid(x, 2, 3, m, width) + noise).T
    found = Shaper(schedule, losses).fit(losses)
    assert found["shape"].is_in(S_SHAPED).mean() > 0.7
    np.testing.assert_allclose(np.log2(found["midpoint"].median()), m, atol=0.1 * width)


def test_too_few_checkpoints() -> None:
    with pytest.raises(TrajstoreError, match="9 checkpoints are too few .* steps, or"):
        Schedule.of(range(9))


# The noise


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_whitening_inverts_the_covariance(rho: float) -> None:
    covariance = toeplitz(rho ** np.arange(12)) / (1 - rho**2)
    white = whiten(np.eye(12), rho, np.ones(12))
    np.testing.assert_allclose(white @ white.T, np.linalg.inv(covariance), atol=1e-12)
    noise = simulate(12, 40_000, rho, np.random.default_rng(0))
    np.testing.assert_allclose(noise.T @ noise / 40_000, toeplitz(rho ** np.arange(12)), atol=0.03)


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
def test_rho_is_found_under_curves(rho: float) -> None:
    schedule = Schedule.of(PYTHIA)
    losses, _ = planted(schedule, 300, 3, 0.2, rho)
    bases = Bases(schedule, 0.0, np.ones(len(PYTHIA)))
    noise = NoiseCorrelation.estimate(losses.T, bases.leftover)
    assert noise.rho == pytest.approx(rho, abs=0.15), "what is left of curves adds a little"


def test_tokens_that_differ_have_their_own_rho() -> None:
    schedule = Schedule.of(PYTHIA)
    rng = np.random.default_rng(4)
    quiet, slow = (simulate(len(PYTHIA), 200, rho, rng) for rho in (0.0, 0.95))
    bases = Bases(schedule, 0.0, np.ones(len(PYTHIA)))
    together = np.concatenate([quiet, slow])
    found = NoiseCorrelation.estimate(together, bases.leftover)
    rhos = RHOS[found.rhos(bases.leftover(together))]
    assert np.median(rhos[:200]) <= 0.2
    assert np.median(rhos[200:]) >= 0.9
    alike = NoiseCorrelation.estimate(slow, bases.leftover)
    assert alike.own < 0.3, "what chance explains is no difference"


# The fits, against scipy


def reference(schedule: Schedule, y: Curves, bases: Bases) -> dict[str, tuple[float, np.ndarray]]:
    """(squares, parameters) of each form by lstsq and curve_fit under the covariance of the noise.

    Parameters are a, d and those of the form (c; log₂ s₀ and c; m and width; a step's m); of a turn h, d/4h, m and
    width.
    """
    x = schedule.places
    mix = np.eye(len(x)) - bases.rho * np.eye(len(x), k=-1)
    mix[0, 0] = np.sqrt(1 - bases.rho**2)
    precision = mix.T @ np.diag(bases.weights) @ mix
    covariance = np.linalg.inv(precision)
    low, high, least = x[1], x[-2], 0.25
    most = WIDTH / 8 * schedule.span

    def squares(curve: Curves) -> float:
        return float((y - curve) @ precision @ (y - curve))

    def linear(*columns: Curves) -> tuple[float, np.ndarray]:
        design = np.stack([np.ones(len(x)), *columns], axis=1)
        found = np.linalg.solve(design.T @ precision @ design, design.T @ precision @ y)
        return squares(design @ found), found

    def nonlinear(
        curve: Callable[..., Curves], starts: list[list[float]], bounds: tuple[list[float], list[float]]
    ) -> tuple[float, np.ndarray]:
        starts = sorted(starts, key=lambda start: squares(curve(x, *start)))[:3]
        best: tuple[float, np.ndarray] = (np.inf, np.empty(0))
        for start in starts:
            found, _ = curve_fit(curve, x, y, start, covariance, bounds=bounds, max_nfev=2000)
            best = min(best, (squares(curve(x, *found)), found), key=lambda each: each[0])
        return best

    def power(x: Curves, a: float, d: float, c: float) -> Curves:
        return a + d * np.exp2(-c * (x - x[0]))

    def turn(x: Curves, a: float, h: float, t: float, m: float, share: float) -> Curves:
        return turning(schedule, x, a, h, t, m, share)

    def law(x: Curves, a: float, d: float, t: float, c: float) -> Curves:
        return a + d * (1 + schedule.steps / 2**t) ** -c

    found = {"constant": linear(), "line": linear(x)}
    jumps = [linear(x < m) for m in (x[2:-1] + x[1:-2]) / 2]
    number = int(np.argmin([jump[0] for jump in jumps]))
    found["step"] = (jumps[number][0], np.append(jumps[number][1], (x[number + 2] + x[number + 1]) / 2))
    starts = [[*linear(np.exp2(-c * (x - x[0])))[1], c] for c in (0.02, 0.1, 0.3, 0.6, 1.2)]
    found["power"] = nonlinear(power, starts, ([-np.inf, -np.inf, 0.01], [np.inf, np.inf, 3]))
    first = float(np.log2(schedule.steps[schedule.steps > 0][0])) - 1
    onsets = [(t, c) for t in np.arange(first, high, 1) for c in (0.03, 0.1, 0.3, 0.6, 0.95)]
    starts = [[*linear(law(x, 0, 1, t, c))[1], t, c] for t, c in onsets]
    found["law"] = nonlinear(law, starts, ([-np.inf, -np.inf, first, 0.02], [np.inf, np.inf, high, 1]))
    widest = min(most, 1.2 * WIDTH)
    places = [(m, w) for w in (0.4, 1, 2, 4, 8) for m in np.arange(low, high, w / 2) if w <= most]
    starts = [[*linear(sigmoid(x, 0, 1, m, w))[1], m, w] for m, w in places if w <= widest]
    found["sigmoid"] = nonlinear(
        sigmoid, starts, ([-np.inf, -np.inf, low, least], [np.inf, np.inf, high, widest])
    )
    starts = []
    for m, _ in places:
        for share in (0.05, 0.3, 0.8):
            s = sigmoid(x, 0, 1, m, turn_width(schedule, m, share))
            a, d, h = linear(s, 4 * s * (1 - s))[1]
            starts.append([a, h, float(np.clip(d / 4 / h, -0.49, 0.49)), m, share])
    found["turn"] = nonlinear(
        turn, starts, ([-np.inf, -np.inf, -0.5, low, 0], [np.inf, np.inf, 0.5, high, 1])
    )
    return found


def turn_width(schedule: Schedule, m: float, share: float) -> float:
    """The width of a turn at m, a share of the way from the least to the largest."""
    most = min(WIDTH / 8 * schedule.span, 2 * (m - schedule.places[0]), 2 * (schedule.places[-1] - m))
    return float(0.25 + share * max(most - 0.25, 0))


def turning(
    schedule: Schedule, places: Curves, a: float, h: float, t: float, m: float, share: float
) -> Curves:
    """A turn of height h whose way is d = 4·h·t."""
    s = sigmoid(places, 0, 1, m, turn_width(schedule, m, share))
    return a + 4 * h * t * s + 4 * h * s * (1 - s)


def is_hidden(schedule: Schedule, a: float, h: float, t: float, m: float, share: float) -> bool:
    """Tell if the checkpoints show less than half of how far a turn goes beyond its plateaus, or a tenth is below 0."""
    x = schedule.places
    fine = np.linspace(x[0], x[-1], 100_001)
    sign = np.sign(h)
    plateau = a + sign * max(sign * 4 * h * t, 0)
    curve, at_steps = (turning(schedule, places, a, h, t, m, share) for places in (fine, x))
    whole, shown = ((sign * (values - plateau)).max() for values in (curve, at_steps))
    return bool(shown < whole / 2 or curve.min() < -whole / 10)


def chosen(squares: dict[str, float], n: float) -> str:
    """Return the form of one change that is taken, or undecided."""
    k = {"constant": 1, "line": 2, "power": 3, "law": 4, "step": 3, "sigmoid": 4, "turn": 5}
    bic = {
        kind: n * np.log(left / n) + k[kind] * np.log(n) * n / (n - k[kind] - 2)
        for kind, left in squares.items()
    }
    best = min(bic, key=lambda kind: bic[kind])
    special = {
        "constant": set(k),
        "line": {"power", "law"},
        "power": {"law"},
        "law": {"power"},
        "sigmoid": {"step", "turn"},
        "step": {"sigmoid", "turn"},
    }
    rivals = set(k) - special.get(best, set()) - {best}
    return best if all(bic[kind] - bic[best] >= DECIDED for kind in rivals) else "undecided"


def compare_with_scipy(n: int, noise: float, rho: float, seed: int) -> tuple[float, list[float]]:
    """(share of tokens with the same choice, relative errors of the parameters that are told).

    Tokens that one form leaves too much of are passed over: the reference has no compounds.
    """
    schedule = Schedule.of(PYTHIA)
    bases = Bases(schedule, rho)
    losses, truth = planted(schedule, n, seed, noise, rho)
    found = choose(bases, losses.T)
    same, errors = [], []
    one = (found.nearest < len(SINGLES)) & ~found.unfit
    assert one.mean() > 0.8
    for token, kind in enumerate(truth["kind"]):
        if not one[token]:
            continue
        theirs = reference(schedule, losses[:, token], bases)
        ours = {form: float(found.fits[form].squares[token]) for form in SINGLES}
        verdict = chosen({form: each[0] for form, each in theirs.items()}, schedule.effective)
        at_limit = min(abs(theirs["sigmoid"][1][2] - schedule.places[[1, -2]])) < 1e-3
        verdict = "undecided" if verdict == "sigmoid" and at_limit else verdict
        if verdict == "turn" and is_hidden(schedule, *theirs["turn"][1]):
            verdict = "undecided"
        nearest = list(SINGLES)[found.nearest[token]]
        same.append(verdict == (nearest if found.decided[token] else "undecided"))
        for form in ("constant", "line", "step"):
            assert ours[form] == pytest.approx(theirs[form][0], rel=1e-6), form
        if kind in ("power", "sigmoid", "step") and verdict == kind:
            fit = found.fits[kind]
            shape = fit.shape[token] * ([1, WIDTH] if kind == "sigmoid" else 1)
            mine = np.concatenate([fit.linear[token], shape])
            errors += list(np.abs(mine - theirs[kind][1]) / np.abs(theirs[kind][1]))
        elif kind == "turn" and verdict == kind:
            a, d, h = found.fits["turn"].linear[token]
            mine = np.array([a, h, d / 4 / h, found.fits["turn"].shape[token, 0]])
            errors += list(np.abs(mine - theirs["turn"][1][:4]) / np.abs(theirs["turn"][1][:4]))
    return float(np.mean(same)), errors


def test_fits_are_those_of_scipy() -> None:
    same, errors = compare_with_scipy(6, 0.1, 0.6, 0)
    assert same == 1
    assert len(errors) > 12
    assert max(errors) < 0.01


def test_compounds_are_those_of_scipy() -> None:
    """Laws with a late drop, two sigmoids, and a fall and a hump: curve_fit begun at the truth leaves no less."""
    schedule = Schedule.of(PYTHIA)
    x, rng = schedule.places, np.random.default_rng(0)

    def law(places: Curves, a: float, d: float, t: float, c: float, *late: float) -> Curves:
        return a + d * (1 + schedule.steps / 2**t) ** -c + sigmoid(places, 0, *late)

    def two(places: Curves, a: float, *falls: float) -> Curves:
        return sigmoid(places, a, *falls[:3]) + sigmoid(places, 0, *falls[3:])

    def hump(places: Curves, a: float, *parts: float) -> Curves:
        s = sigmoid(places, 0, 1, *parts[4:])
        return sigmoid(places, a, *parts[:3]) + parts[3] * 4 * s * (1 - s)

    cases: list[tuple[Callable[..., Curves], str, list[float]]] = [
        (law, "law_sigmoid", [1, 5, 4, 0.3, 1, 13, 1]),
        (two, "sigmoids", [1, 3, 4, 2, 2, 12, 1.5]),
        (hump, "sigmoid_hump", [1, 4, 5, 2, 1.5, 12, 2]),
    ]
    bases = Bases(schedule, 0.5)
    mix = whiten(np.eye(len(x)), 0.5, bases.weights)
    for curve, kind, truth in cases:
        y = curve(x, *truth) + 0.05 * simulate(len(x), 1, 0.5, rng)[0]
        theirs, _ = curve_fit(curve, x, y, truth, np.linalg.inv(mix @ mix.T))
        left = whiten((y - curve(x, *theirs))[None], 0.5, bases.weights)
        found = choose(bases, y[None])
        assert kind in COMPOUNDS
        assert found.fits[kind].squares[0] <= (1 + 1e-4) * float((left**2).sum()), kind  # type: ignore[index]
        assert found.is_nearest(*COMPOUNDS)[0]
        assert found.late_drop[0] == (kind == "law_sigmoid")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("noise", "rho"), [(0.1, 0.6), (0.3, 0.8)])
def test_fits_are_those_of_scipy_on_many_tokens(noise: float, rho: float) -> None:
    same, errors = compare_with_scipy(252, noise, rho, 1)
    off = np.mean(np.array(errors) >= 0.01)
    print(
        f"noise {noise}, ρ {rho}: same choice {same:.3f}, {len(errors)} parameters, {100 * off:.2g} % off by 1 %"
    )
    assert same >= 0.98
    assert off <= 0.01


@pytest.mark.parametrize(("steps", "rho"), [(PYTHIA, 0.0), (PYTHIA, 0.8), (SHORT, 0.5)])
def test_noise_alone_is_no_misfit(steps: list[int], rho: float) -> None:
    """Its ratio has the F distribution that is said of it, whatever ρ and the steps' weights are."""
    bases = Bases(Schedule.of(steps), rho)
    noise = simulate(len(steps), 4000, rho, np.random.default_rng(0))
    ratio, (smooth, rest) = bases.misfit(whiten(noise, rho, bases.weights))
    assert kstest(ratio, f_distribution(smooth, rest).cdf).pvalue > 0.01
    bent = noise + 2 * np.cos(np.pi * (bases.schedule.places - bases.schedule.places[0]) / 6)
    assert np.median(bases.misfit(whiten(bent, rho, bases.weights))[0]) > np.quantile(ratio, 0.9)


# Noise alone


def s_shaped(steps: list[int], curve: str, rho: float, tokens: int, seed: int) -> float:
    """The share of simulated tokens that are called S-shaped."""
    schedule = Schedule.of(steps)
    x, rng = schedule.places, np.random.default_rng(seed)
    c = {"flat": 0.0, "slow": 0.1, "middling": 0.3, "quick": 0.6}[curve]
    means = 5 * 2 ** (-c * (x - x[0]))
    losses = (means + 0.2 * simulate(len(x), tokens, rho, rng)).T
    shapes = Shaper(schedule, losses).fit(losses, threads=1)["shape"]
    return float(shapes.is_in(S_SHAPED).mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
@pytest.mark.parametrize("curve", ["flat", "middling"])
def test_noise_is_not_called_s_shaped(curve: str, rho: float) -> None:
    assert s_shaped(PYTHIA, curve, rho, 300, 0) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("steps", [PYTHIA, SHORT], ids=["pythia", "short"])
@pytest.mark.parametrize("rho", [0.0, 0.8, 0.95])
@pytest.mark.parametrize("curve", ["flat", "slow", "middling", "quick"])
def test_noise_is_not_called_s_shaped_on_many_tokens(steps: list[int], curve: str, rho: float) -> None:
    share = s_shaped(steps, curve, rho, 4000, 1)
    print(f"{len(steps)} steps, {curve}, rho {rho}: {100 * share:.2f} % S-shaped")
    assert share <= 0.05


def test_planted_curves_are_told() -> None:
    schedule = Schedule.of(PYTHIA)
    losses, truth = planted(schedule, 300, 7, 0.05, 0.5)
    found = Shaper(schedule, losses).fit(losses)
    names = {"power": "power_law", "turn": "rise_and_fall"}
    right = found["shape"] == truth["kind"].replace(names)
    assert right.mean() > 0.9
    s = found.filter((found["shape"] == "sigmoid") & (truth["kind"] == "sigmoid"))
    t = truth.filter((found["shape"] == "sigmoid") & (truth["kind"] == "sigmoid"))
    np.testing.assert_allclose(np.log2(s["midpoint"].to_numpy()), t["m"].to_numpy(), atol=0.2)
    assert np.median(np.abs(s["width"] / t["width"] - 1)) < 0.05
    assert np.median(np.abs(s["drop"] / t["d"] - 1)) < 0.03
    assert np.median(np.abs(s["noise"] - 0.05)) < 0.01
    p = found.filter(found["shape"] == "power_law")
    np.testing.assert_allclose(p["exponent"], truth.filter(found["shape"] == "power_law")["c"], rtol=0.3)
    step = (found["shape"] == "step") & (truth["kind"] == "step")
    np.testing.assert_allclose(np.log2(found.filter(step)["midpoint"]), truth.filter(step)["m"], atol=1e-9)


def test_a_turn_that_hides_between_checkpoints_is_undecided() -> None:
    """Of steps that rise a little afterwards, many are nearest to a deep dip where no checkpoint is."""
    schedule = Schedule.of(SHORT)
    x, rng = schedule.places, np.random.default_rng(0)
    jump = rng.choice((x[1:] + x[:-1])[3:10] / 2, 200)[:, None]
    noise = 0.1 * simulate(len(x), 200, 0.3, rng)
    losses = (2 + 5 * (x < jump) + 0.3 * np.maximum(x - jump, 0) + noise).T
    shaper = Shaper(schedule, losses)
    found = shaper.fit(losses)
    curves = shaper.curves(losses, np.linspace(x[0], x[-1], 4000))
    hidden = losses.min(axis=0) - curves.min(axis=0) > 1
    assert hidden.sum() > 10
    assert set(found["nearest"].to_numpy()[hidden]) == {"fall_and_rise"}
    assert set(found["shape"].to_numpy()[hidden]) == {"undecided"}


def test_a_dip_below_zero_is_undecided() -> None:
    """The same dip of four nats from 5, from 3.7 and from 3."""
    schedule = Schedule.of(SHORT)
    s = sigmoid(schedule.places, 0, 1, schedule.places[8], 1.2)
    dip = -4 * 4 * s * (1 - s)
    rng = np.random.default_rng(1)
    sample = rng.normal(2, 0.05, (len(dip), 100))
    sample[:, :3] = np.add.outer(dip, [5, 3.7, 3]) + 0.01 * rng.normal(size=(len(dip), 3))
    found = Shaper(schedule, sample).fit(sample[:, :3])
    assert found["nearest"].to_list() == ["fall_and_rise"] * 3
    assert found["shape"].to_list() == ["fall_and_rise", "fall_and_rise", "undecided"]


def test_quantities_by_hand() -> None:
    """Powers of two, no noise: a fall from 5 to 1, and one to 1 that goes back to 3."""
    steps = [0, *(2**n for n in range(15))]
    schedule = Schedule.of(steps)
    x = schedule.places
    s = sigmoid(x, 0, 1, 6, 3)
    dip = 3 + 2 * s - 4 * 2.5 * s * (1 - s)
    law = 1 + 5 * (1 + schedule.steps / 4) ** -0.5
    late = law + 1 / (1 + np.exp(x - 11) ** 8)
    losses = np.stack([1 + 4 * s, dip, np.full(len(x), 2.0), 5 - 0.2 * (x - x[0]), law, late], axis=1)
    rng = np.random.default_rng(0)
    sample = np.concatenate([losses, rng.normal(2, 0.1, (len(x), 100))], axis=1)
    found = Shaper(schedule, sample).fit(losses.astype(np.float32))
    shapes = ["sigmoid", "fall_and_rise", "constant", "line", "power_law", "late_drop"]
    assert found["shape"].to_list() == shapes
    fall, back, flat, line, power, drop = found.iter_rows(named=True)
    assert (power["exponent"], drop["exponent"]) == pytest.approx((0.5, 0.5), rel=0.01)
    assert (power["midpoint"], power["drop"]) == (None, pytest.approx(law[0] - law[-1], abs=1e-3))
    assert (drop["midpoint"], drop["drop"]) == pytest.approx((2**11, 1), rel=0.02)
    assert drop["width"] == pytest.approx(WIDTH / 8, rel=0.1)
    assert fall["midpoint"] == pytest.approx(64, rel=1e-3)
    assert (fall["width"], fall["drop"]) == pytest.approx((3, 4), rel=1e-3)
    assert (fall["start"], fall["final"]) == pytest.approx((5, 1), abs=0.01)
    assert fall["forgetting"] == pytest.approx(0, abs=1e-5)
    assert fall["acquired"] == pytest.approx(64, rel=0.02)
    assert back["midpoint"] is None
    assert back["drop"] == pytest.approx(dip[0] - dip[-1], abs=1e-3)
    assert back["forgetting"] == pytest.approx(dip[-1] - dip.min(), abs=1e-3)
    half = (dip[0] + dip.min()) / 2
    places = np.linspace(0, x[dip.argmin()], 2000)
    first = places[np.argmax(np.interp(places, x, dip) <= half)]
    assert back["acquired"] == pytest.approx(2**first, rel=0.01)
    fine = np.linspace(0, 13, 20_000)
    u = sigmoid(fine, 0, 1, 6, 3)
    assert back["turn"] == pytest.approx(2 ** fine[(3 + 2 * u - 10 * u * (1 - u)).argmin()], rel=0.01)
    assert (flat["acquired"], flat["drop"], flat["width"]) == (None, pytest.approx(0), None)
    assert (line["drop"], line["variability"]) == (pytest.approx(3, rel=1e-4), None), "two steps at the end"


def test_variability_is_of_the_last_doubling() -> None:
    schedule = Schedule.of(PYTHIA)
    rng = np.random.default_rng(0)
    late = schedule.steps >= 71_500
    losses = np.where(late, 0.3, 0.1)[:, None] * rng.normal(size=(len(PYTHIA), 400)) + 2
    found = Shaper(schedule, losses).fit(losses)
    assert found["variability"].mean() == pytest.approx(0.3, rel=0.05)


def test_shapes_do_not_depend_on_neighbours_or_threads() -> None:
    schedule = Schedule.of(SHORT)
    losses, _ = planted(schedule, 60, 2, 0.2, 0.5)
    shaper = Shaper(schedule, losses)
    heard: list[int] = []
    whole = shaper.fit(losses, heard.append, threads=2)
    assert sum(heard) == 60
    alone = pl.concat([shaper.fit(losses[:, n : n + 1]) for n in range(12)])
    assert alone["shape"].to_list() == whole["shape"].to_list()[:12]
    curves = shaper.curves(losses, schedule.places)
    np.testing.assert_allclose(curves[0], whole["start"], rtol=1e-4)
    np.testing.assert_allclose(curves[-1], whole["final"], rtol=1e-4, atol=1e-5)
