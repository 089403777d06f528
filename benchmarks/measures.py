"""Measures beside the scoring pass that they come with: python -m benchmarks.measures [--quick] [--out FILE].

Of one random model, on one thread of the CPU: the pass with measures over the pass alone, in one process and in turn;
whole jobs of `trajstore score` likewise; and the memory that measures take above the pass, each in a process of its
own. What is measured is said at once. The full run also writes its section into benchmarks/RESULTS.md; --quick only
prints unless --out is given.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.forward.jobs import measuring_seconds
from benchmarks.forward.passes import ENTRIES, LENGTH, S14M, S70M, VOCABULARY, ModelShape, contexts
from benchmarks.harness import machine, page
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does
from benchmarks.harness.subprocesses import apart, peak, start_peak
from benchmarks.harness.timing import WrongAnswer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trajstore.forward.losses import Ids, Losses

S410M = ModelShape("410m", 1024, 24, 16)
IN_PASS = ("interaction_energy", "kl_unigram", "entropy", "rankme")
ALONE, FOUR, HEADS = "the pass alone", ", ".join(IN_PASS), f"{', '.join(IN_PASS)}, heads"
PASSES = {ALONE: (), **{name: (name,) for name in IN_PASS}, FOUR: IN_PASS}
JOBS = {ALONE: (), FOUR: IN_PASS, HEADS: (*IN_PASS, "heads")}
BARS = {FOUR: 1.1, HEADS: 1.25}
"""The most that the ratio should be."""
MOST_MEGABYTES = 200
"""Above the pass."""
PROBED = "heads on their probe"
SHORT = 2
"""Tokens of contexts of which only there being many matters: what is kept of each stays until the end."""

_INTRO = """\
What measures cost beside the losses, for a random GPT-NeoX on one CPU thread, float32.
"""
_NOTES = """\
Time is the CPU time of the process, since cores that are shared make the clock mean little. Ways take turns, one round
after another; the ratio is the median of the rounds' own ratios to the same work without measures, with their lowest
and highest. The losses are compared to the bit, off the clock. A job is `trajstore score` over one checkpoint: start,
loading, hashing and publishing are in it; heads run on the store's probe of 64 contexts of 100 tokens, whatever the
dataset's size. Memory is the highest resident memory of the pass less that before it, with model and libraries
loaded; above the pass is what it is more than without measures. Most of the contexts are short there, since what is
kept of each context does not depend on its length; and of the probe it is as many contexts as fill two batches, since
next to nothing is kept of each.
"""


@dataclass(frozen=True)
class Effort:
    """The sizes of a run."""

    shape: ModelShape
    contexts: int
    rounds: int
    job_contexts: int
    job_rounds: int
    large: ModelShape
    """The model whose memory is measured …"""
    many: int
    """… on this many contexts, of which two are long."""


FULL = Effort(S70M, 4, 5, 64, 2, S410M, 512)
QUICK = Effort(S14M, 2, 1, 2, 1, S14M, 20)
PROBE = 10
"""Contexts of the probe on which memory is measured: two batches."""


def pass_seconds(shape: ModelShape, n: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of passes over `n` contexts, by way and round; raises `WrongAnswer` where losses differ."""
    import torch

    torch.set_num_threads(1)
    model, ids = shape.model(), list(contexts(n))
    wanted = _pass(model, ids, ())
    seconds: dict[str, list[float]] = {way: [] for way in PASSES}
    for number in range(rounds):
        say(f"passes: round {number + 1} of {rounds}")
        for way, names in PASSES.items():
            start = time.process_time()
            losses = _pass(model, ids, names)
            seconds[way].append(time.process_time() - start)
            if not all(np.array_equal(*pair) for pair in zip(losses, wanted, strict=True)):
                raise WrongAnswer(f"{way}: other losses")
    return seconds


def extra_memory(shape: ModelShape, n: int, names: tuple[str, ...]) -> int:
    """Bytes of memory of a pass with these measures, above those before it."""
    import torch

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    lengths = [LENGTH] * 2 + [SHORT] * (n - 2)
    model, ids = shape.model(), [random.integers(0, ENTRIES, length) for length in lengths]
    _pass(model, [ids[0][:2]], ())
    before = start_peak()
    _pass(model, ids, names)
    return peak() - before


def _pass(model: PreTrainedModel, ids: Sequence[Ids], names: tuple[str, ...]) -> list[Losses]:
    """The losses of the pass that `score` makes with these measures, computed as well; heads on some of their probe."""
    from trajstore.forward.losses import token_scores
    from trajstore.measures.definitions import find_measures
    from trajstore.measures.in_scoring import MeasuringWatcher
    from trajstore.measures.probes import PERIOD, TIMES
    from trajstore.measures.run import measure

    definitions = find_measures(names)
    on_probe = [definition for definition in definitions if definition.on_probe]
    streams = [known for known in definitions if known.stream is not None and not known.on_probe]
    columns = {need for definition in definitions if definition.stream is None for need in definition.needs}
    watcher = MeasuringWatcher(model, ids, streams) if streams else None
    losses = token_scores(model, ids, columns=sorted(columns), watcher=watcher).loss
    if watcher is not None and (left_out := watcher.finish().left_out):
        raise WrongAnswer(str(left_out))
    if on_probe:
        random = np.random.default_rng(0)
        probe = [np.tile(random.choice(ENTRIES, PERIOD, replace=False), TIMES) for _ in range(PROBE)]
        if left_out := measure(model, probe, on_probe).left_out:
            raise WrongAnswer(str(left_out))
    return losses


def in_pass() -> tuple[str, ...]:
    """The names of all measures that come with the pass."""
    from trajstore.measures.definitions import own

    return tuple(known.name for known in own() if known.cost == "pass" and not known.argument)


def section(effort: Effort, command: str) -> str:
    """The section as Markdown; measures."""
    of_pass = f"Pass of {effort.shape.name}, {effort.contexts} contexts, {effort.rounds} rounds"
    of_job = f"Job of {effort.shape.name}, {effort.job_contexts} contexts, {effort.job_rounds} rounds"
    passes = _said(ratios(of_pass, apart(pass_seconds, effort.shape, effort.contexts, effort.rounds)))
    jobs = apart(measuring_seconds, effort.shape, effort.job_contexts, effort.job_rounds, JOBS)
    tables = "\n".join([passes, _said(ratios(of_job, jobs)), _said(megabytes(effort, _memory(effort)))])
    facts = [
        *machine.facts(Path(tempfile.gettempdir())),
        ("Command", f"`{command}`"),
        ("Data", f"contexts of {LENGTH} random tokens, {VOCABULARY} rows of the head"),
    ]
    return f"## {page.MEASURES}\n\n{_INTRO}\n{page.listed(facts)}\n{tables}\n{_NOTES}"


def _said(table: str) -> str:
    """The table, which is said as well."""
    say(table)
    return table


def _memory(effort: Effort) -> dict[str, int]:
    """Bytes of memory of passes, the first of which is without measures; two at a time, which changes none of it."""
    every = in_pass()
    ways = {
        ALONE: (),
        FOUR: IN_PASS,
        PROBED: ("heads",),
        f"all {len(every)} of the pass, and heads": (*every, "heads"),
    }
    with ThreadPoolExecutor(2) as pool:
        sizes = pool.map(partial(apart, extra_memory, effort.large, effort.many), ways.values())
        memory = dict(zip(ways, sizes, strict=True))
    for way, size in memory.items():
        say(f"memory of {effort.large.name}, {way}: {size / 1e6:,.0f} MB")
    return memory


def ratios(title: str, seconds: dict[str, list[float]]) -> str:
    """A table of ways, the first of which is without measures."""
    alone, *ways = seconds
    rows = [[title, "Ratio", "Spread", "At most"]]
    for way in ways:
        own = [mine / least for mine, least in zip(seconds[way], seconds[alone], strict=True)]
        bar = f"{BARS[way]:g}" if way in BARS else ""
        rows.append([way, f"{statistics.median(own):.3f}", f"{min(own):.3f} to {max(own):.3f}", bar])
    return page.markdown(rows)


def megabytes(effort: Effort, memory: dict[str, int]) -> str:
    """A table of the memory of passes, the first of which is without measures."""
    title = f"Memory of a pass of {effort.large.name}, {effort.many} contexts"
    alone, *ways = memory
    rows = [[title, "Of the pass", "Above the pass alone", "At most"]]
    rows.append([alone, f"{memory[alone] / 1e6:,.0f} MB", "", ""])
    for way in ways:
        above = (memory[way] - memory[alone]) / 1e6
        rows.append([way, f"{memory[way] / 1e6:,.0f} MB", f"{above:,.0f} MB", f"{MOST_MEGABYTES} MB"])
    return page.markdown(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = benchmark_parser(
        "benchmarks.measures", "Measures beside the scoring pass.", "a small model, once"
    )
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    command = line("benchmarks.measures", arguments)

    def sections() -> Iterator[str]:
        yield section(effort, command)

    return publish(options.out or (None if options.quick else page.RESULTS), sections)


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
