"""Shapes of tokens: python -m benchmarks.shapes [--quick] [--tokens N] [--out FILE].

Fits all forms to simulated trajectories of 154 steps, and beside it lets scipy's curve_fit find one of the forms, the
sigmoid, for a few of the same tokens. The full run (a minute) also writes its section into benchmarks/RESULTS.md;
--quick only prints unless --out is given.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.harness import machine, page
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does
from benchmarks.harness.peers import THREADS
from benchmarks.harness.subprocesses import apart, peak
from benchmarks.harness.synthetic import SUITE
from benchmarks.harness.timing import WrongAnswer, show
from trajstore.analysis.shapes.forms import Bases
from trajstore.analysis.shapes.model_choice import KINDS, choose
from trajstore.analysis.shapes.shapes import SAMPLE, Shaper
from trajstore.analysis.statistics.ar1 import simulate, whiten
from trajstore.analysis.statistics.log_steps import Schedule

RHO, NOISE = 0.7, 0.2
_PEERS = 100
"""Tokens that scipy fits."""
_WORSE = 1e-3
"""By how much what our fit leaves may be above what curve_fit does."""


@dataclass(frozen=True)
class Took:
    """The cost of fits."""

    seconds: float
    tokens: int
    peak: int
    """Bytes: the highest memory of its process, interpreter, libraries and losses included."""


def simulated(tokens: int) -> np.ndarray:
    """Losses float32 (steps, tokens): constants, power laws, sigmoids and turns in equal parts, with AR(1) noise."""
    rng = np.random.default_rng(0)
    x = Schedule.of(SUITE).places
    losses = np.empty((len(x), tokens), dtype=np.float32)
    for first in range(0, tokens, 4096):
        n = min(4096, tokens - first)
        a, d, m = rng.uniform(1, 5, (n, 1)), rng.uniform(2, 6, (n, 1)), rng.uniform(x[3], x[-4], (n, 1))
        s = 1 / (1 + np.exp(np.clip((x - m) / rng.uniform(0.2, 1.5, (n, 1)), -50, 50)))
        curves = np.stack([0 * s, np.exp2(-0.4 * (x - x[0])) + 0 * s, s, s + 4 * s * (1 - s)])
        curve = curves[rng.integers(0, 4, n), np.arange(n)]
        losses[:, first : first + n] = (a + d * curve + NOISE * simulate(len(x), n, RHO, rng)).T
    return losses


def ours(tokens: int) -> Took:
    """All forms of all tokens, chosen and described."""
    losses = simulated(tokens)
    start = time.perf_counter()
    shaper = Shaper(Schedule.of(SUITE), losses[:, :SAMPLE])
    fitted = shaper.fit(losses, threads=THREADS[-1])
    seconds = time.perf_counter() - start
    if fitted.height != tokens:
        raise WrongAnswer(f"{fitted.height} of {tokens} tokens have a shape")
    return Took(seconds, tokens, peak())


def scipys(tokens: int) -> Took:
    """The sigmoid of some tokens by curve_fit, begun where ours ends.

    Raises `WrongAnswer` where ours is not the least, of tokens whose nearest form it is.
    """
    from scipy.optimize import curve_fit

    losses = simulated(tokens)
    bases = Bases(Schedule.of(SUITE), RHO)
    chosen = choose(bases, losses.T.astype(np.float64))
    fits, sigmoids = chosen.fits["sigmoid"], chosen.nearest == list(KINDS).index("sigmoid")
    mix = whiten(np.eye(len(SUITE)), RHO, bases.weights)
    covariance = np.linalg.inv(mix @ mix.T)
    limits = bases.limits
    low = [-np.inf, -np.inf, limits.low, limits.narrowest]
    high = [np.inf, np.inf, limits.high, limits.widest_sigmoid]

    def sigmoid(x: np.ndarray, a: float, d: float, m: float, w: float) -> np.ndarray:
        return a + d / (1 + np.exp(np.clip((x - m) / w, -50, 50)))

    seconds = 0.0
    for token in range(tokens):
        y, begin = losses[:, token].astype(np.float64), [*fits.linear[token], *fits.shape[token]]
        start = time.perf_counter()
        theirs, _ = curve_fit(sigmoid, limits.places, y, begin, covariance, bounds=(low, high))
        seconds += time.perf_counter() - start
        left = whiten((y - sigmoid(limits.places, *theirs))[None], RHO, bases.weights)
        if sigmoids[token] and fits.squares[token] > (1 + _WORSE) * float((left**2).sum()):
            raise WrongAnswer(f"token {token}: curve_fit leaves less, {theirs}")
    return Took(seconds, tokens, peak())


HEADER = ["Way", "Tokens", "Time", "A million tokens", "Peak memory"]

_NOTES = """\
trajstore fits seven forms to each token, and sums of two to those of which one leaves too much, under noise whose
correlation it tells from the losses, chooses one, and gives its midpoint and the other columns of the view `shapes`;
curve_fit fits one form, with the noise's covariance given and begun where trajstore's ends. Each runs in a process of
its own, whose start, imports and simulated losses are not on the clock. Memory is the highest of the whole process.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = benchmark_parser("benchmarks.shapes", "Shapes beside scipy.", "few tokens")
    parser.add_argument("--tokens", type=int, help="tokens [default: 262144, --quick 2048]")
    options = parser.parse_args(arguments)
    tokens = options.tokens or (2048 if options.quick else 1 << 18)
    out: Path | None = options.out or (None if options.quick or options.tokens else page.RESULTS)

    def sections() -> Iterator[str]:
        pinned = machine.pin_to_cores(THREADS[-1])
        rows = []
        for name, work, count in (
            ("trajstore, all forms", ours, tokens),
            ("scipy, curve_fit of the sigmoid", scipys, min(_PEERS, tokens)),
        ):
            say(f"{count:,} tokens: {name}")
            took = apart(work, count)
            per_token = show(took.seconds / took.tokens * 1e6, "seconds")
            rows.append(
                [name, f"{took.tokens:,}", show(took.seconds, "seconds"), per_token, show(took.peak, "bytes")]
            )
        facts = [
            *machine.facts(Path(tempfile.gettempdir())),
            ("Peer", f"scipy {version('scipy')}"),
            ("Threads", str(THREADS[-1]) + ("; the whole run kept to two cores" if pinned else "")),
            ("Command", f"`{line('benchmarks.shapes', arguments)}`"),
            ("Data", f"{len(SUITE)} steps, as Pythia's; AR(1) noise of {NOISE} nats, ρ = {RHO}"),
        ]
        yield f"## {page.SHAPES}\n\n{page.listed(facts)}\n{page.markdown([HEADER, *rows])}\n{_NOTES}"

    return publish(out, sections)


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
