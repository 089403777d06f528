"""The scoring pass beside the loops that one would write: python -m benchmarks.scoring [--quick] [--out FILE].

Each way holds its model in a process of its own, and they take turns; on one thread of the CPU. The full run also
writes its section into benchmarks/RESULTS.md; --quick only prints unless --out is given. For a GPU: benchmarks.gpu_job.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.forward.jobs import COMMAND, IMPORT, LOAD, job, reading_ratios, start_seconds
from benchmarks.forward.passes import (
    BATCHED,
    HARNESS,
    LENGTH,
    OURS,
    PLAIN,
    S14M,
    S70M,
    VOCABULARY,
    ModelShape,
    Waiting,
    by_definition,
    contexts,
    paths,
)
from benchmarks.harness import machine, page
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does
from benchmarks.harness.subprocesses import apart
from benchmarks.harness.timing import WrongAnswer

Say = Callable[[str], None]

_INTRO = """\
Per-token losses of random GPT-NeoX models on one CPU thread, float32: the pass of `trajstore score` beside other ways.
"""

_NOTES = """\
Each way holds its model in a process of its own and they take turns, one round after another: tokens a second are the
median over rounds, the ratio is trajstore's tokens a second over the other's, the median of the rounds' own ratios with
their lowest and highest. Every way's losses are compared with the plain loop's, off the clock. Extra peak memory is
the highest resident memory of a first run less that before it, with model and libraries loaded. The largest difference
is that of a token's loss from the same model's in float64, on the first contexts; lm_eval gives sums only.
The plain loop takes `model(ids).logits` and their cross-entropy. lm_eval gets the same tokens as text.
Of whole jobs each time is set over the least that it could be, measured in turn with it; a start ends where the first
pass would begin. Loading a model is the start of any program that scores one: transformers imports for it what it does
not when it is imported alone.
"""

_START = {
    COMMAND: "`trajstore score`, from command to first pass,",
    LOAD: "a process that loads the model by `from_pretrained`",
    IMPORT: '`python -c "import torch, transformers"`',
}


@dataclass(frozen=True)
class ScoringEffort:
    """The sizes of a run."""

    shapes: tuple[ModelShape, ...]
    contexts: int
    rounds: int
    exact: int
    """Contexts that also run in float64."""
    checkpoints: int
    dataset: int
    """Contexts of the job whose overhead is measured."""


FULL = ScoringEffort((S14M, S70M), contexts=16, rounds=5, exact=2, checkpoints=8, dataset=64)
QUICK = ScoringEffort((S14M,), contexts=2, rounds=1, exact=1, checkpoints=2, dataset=4)


@dataclass(frozen=True)
class Way:
    """The cost of one way on one model."""

    path: str
    seconds: list[float]
    """By round, of all contexts."""
    peak: int
    """Bytes."""
    difference: float | None
    """The largest from float64, nats; None where a way gives sums only."""


def ways(shape: ModelShape, effort: ScoringEffort, say: Say) -> list[Way]:
    """All ways on one model, taking turns; raises `WrongAnswer` where losses differ."""
    ids = contexts(effort.contexts)
    exact = apart(by_definition, shape, ids[: effort.exact])
    with ExitStack() as stack:
        waiting: list[Waiting] = []
        for path in paths():
            say(f"{shape.name}: {path}, first run")
            waiting.append(Waiting(path, shape, ids))
            stack.callback(waiting[-1].end)
        plain = next(way.first.losses for way in waiting if way.path == PLAIN)
        for way in waiting:
            _check(way, plain)
        seconds: dict[str, list[float]] = {way.path: [] for way in waiting}
        for number in range(effort.rounds):
            say(f"{shape.name}: round {number + 1} of {effort.rounds}")
            for way in waiting:
                seconds[way.path].append(way.seconds())
    return [
        Way(way.path, seconds[way.path], way.first.peak, _difference(way.first.losses, exact))
        for way in waiting
    ]


def _check(way: Waiting, plain: list[np.ndarray]) -> None:
    """The sums of the contexts are the plain loop's, within rounding."""
    sums, wanted = ([float(array.sum()) for array in losses] for losses in (way.first.losses, plain))
    if not np.allclose(sums, wanted, rtol=1e-5):
        raise WrongAnswer(f"{way.path}: {sums} and not {wanted}")


def _difference(losses: list[np.ndarray], exact: list[np.ndarray]) -> float | None:
    if losses[0].ndim == 0:
        return None
    return max(float(np.abs(mine - theirs).max()) for mine, theirs in zip(losses, exact, strict=False))


@dataclass(frozen=True)
class JobFigure:
    """A ratio of a job's time to the least that it could take, by round."""

    work: str
    ratios: list[float]
    bar: float | None
    """The most that it should be."""


def job_figures(effort: ScoringEffort, say: Say) -> list[JobFigure]:
    """The figures of whole jobs on the CPU."""
    say("a whole job")
    whole = apart(job, S14M, effort.checkpoints, effort.dataset)
    say("jobs whose pass costs nothing")
    large = effort.shapes[-1]
    reading = apart(reading_ratios, large, effort.checkpoints, 1, effort.rounds)
    say("the start of a job")
    starts = apart(start_seconds, S14M, effort.rounds)
    begun = [(COMMAND, IMPORT, 2.0), (COMMAND, LOAD, None), (LOAD, IMPORT, None)]
    return [
        JobFigure(
            f"`score`, {effort.checkpoints} checkpoints of {S14M.name} on {effort.dataset} contexts: the whole job, "
            f"{whole.overhead:.1%} of it outside the pass, over its passes alone",
            [whole.ratio],
            1.05,
        ),
        JobFigure(
            f"`score`, {effort.checkpoints} checkpoints of {large.name} in float32 with a pass that costs nothing: a "
            "checkpoint over hashing its file",
            reading,
            1.3,
        ),
        *(
            JobFigure(
                f"{_START[name]} over {_START[other]}",
                [mine / theirs for mine, theirs in zip(starts[name], starts[other], strict=True)],
                bar,
            )
            for name, other, bar in begun
        ),
    ]


def jobs_table(figures: Sequence[JobFigure]) -> str:
    """The figures of whole jobs as Markdown."""
    rows = [
        [
            figure.work,
            f"{statistics.median(figure.ratios):.2f}",
            f"{min(figure.ratios):.2f} to {max(figure.ratios):.2f}",
            "" if figure.bar is None else f"{figure.bar:g}",
        ]
        for figure in figures
    ]
    return page.markdown([["Whole jobs", "Ratio", "Spread", "At most"], *rows])


def section(
    by_shape: dict[str, list[Way]], figures: Sequence[JobFigure], effort: ScoringEffort, command: str
) -> str:
    """The section as Markdown."""
    tokens = effort.contexts * LENGTH
    header = [
        "Model",
        "Way",
        "Tokens/s",
        "trajstore is faster ×",
        "Spread",
        "Extra peak memory",
        "Largest difference",
    ]
    lines = []
    for name, all_ways in by_shape.items():
        mine = next(way for way in all_ways if way.path == OURS)
        for way in all_ways:
            ratios = [theirs / our for our, theirs in zip(mine.seconds, way.seconds, strict=True)]
            lines.append(
                [
                    name,
                    _named(way.path, name, effort),
                    f"{tokens / statistics.median(way.seconds):,.0f}",
                    "" if way is mine else f"{statistics.median(ratios):.3g}",
                    "" if way is mine else f"{min(ratios):.3g} to {max(ratios):.3g}",
                    f"{way.peak / 1e6:,.0f} MB",
                    "–" if way.difference is None else f"{way.difference:.1e}",
                ]
            )
    data = (
        f"{effort.contexts} contexts of {LENGTH} random tokens a round, {VOCABULARY} rows of the head, "
        f"{effort.rounds} rounds"
    )
    facts = [
        *machine.facts(Path(tempfile.gettempdir())),
        ("Libraries", ", ".join(f"{package} {version(package)}" for package in _packages())),
        ("Command", f"`{command}`"),
        ("Data", data),
    ]
    table = page.markdown([header, *lines])
    return f"## {page.SCORING}\n\n{_INTRO}\n{page.listed(facts)}\n{table}\n{jobs_table(figures)}\n{_NOTES}"


def _named(path: str, shape: str, effort: ScoringEffort) -> str:
    if path != BATCHED:
        return path
    return f"{path} of {next(known for known in effort.shapes if known.name == shape).side_by_side}"


def _packages() -> list[str]:
    return ["torch", "transformers", *(["lm_eval"] if HARNESS in paths() else [])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = benchmark_parser(
        "benchmarks.scoring", "The scoring pass beside other ways.", "the smallest model, once"
    )
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    out: Path | None = options.out or (None if options.quick else page.RESULTS)
    command = line("benchmarks.scoring", arguments)

    def sections() -> Iterator[str]:
        if HARNESS not in paths():
            say("lm_eval is not installed and is left out: pip install -e '.[bench]'")
        by_shape = {shape.name: ways(shape, effort, say) for shape in effort.shapes}
        yield section(by_shape, job_figures(effort, say), effort, command)

    return publish(out, sections)


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
