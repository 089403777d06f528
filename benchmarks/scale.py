"""Time and memory of a growing store: python -m benchmarks.scale [--rows 1e7,1e8,1e9] [--quick] [--out FILE].

Makes a store of each size in a temporary folder (3.3 bytes a row; it goes afterwards, however this ends) and does each
piece of work in a process of its own. The full run also writes its table into benchmarks/RESULTS.md; --quick, or other
numbers of rows, only print unless --out is given.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import machine, page
from benchmarks.harness.bulk import copy_model, copy_names
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does, working_folder
from benchmarks.harness.page import Grown, StoreShape
from benchmarks.harness.peers import THREADS
from benchmarks.harness.subprocesses import Cost, apart
from benchmarks.harness.synthetic import make_family
from benchmarks.harness.works import WORKS, Target, cost

FULL_ROWS, QUICK_ROWS = [10**7, 10**8, 10**9], [10**4, 10**5]
FULL_SLICE, QUICK_SLICE = (512, 512), (16, 64)
"""Contexts, and tokens in each."""

FULL_RUNS, QUICK_RUNS = 3, 1

_BYTES_A_ROW = 4
"""On disk, with a margin."""


def measure(shape: StoreShape, runs: int, say: Callable[[str], None]) -> Grown:
    """Make a store, do all work, remove it; the median of the times, the highest of the peaks."""
    with working_folder(_BYTES_A_ROW * (shape.rows + shape.size.rows)) as folder:
        say(f"making {shape.rows:,} rows in {folder}")
        target = _make(shape, folder)
        costs = []
        for number, work in enumerate(WORKS):
            say(work.name)
            repeats = [apart(cost, number, target) for _ in range(runs)]
            seconds = statistics.median(cost.seconds for cost in repeats)
            costs.append(Cost(seconds, max(cost.peak for cost in repeats)))
    return Grown(shape, costs)


def _make(shape: StoreShape, folder: Path) -> Target:
    family = make_family(shape.size, folder)
    with family.store:
        copy_model(family.store, shape.size.labels, copy_names(shape.models - 1))
    columns = folder / "group_columns.npy"
    np.save(columns, family.small.members)
    last = shape.size.labels[-1]
    return Target(family.store.path, shape.models, family.npy, last, family.small.name, columns)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write."""
    parser = benchmark_parser(
        "benchmarks.scale", "Time and memory of a growing store.", "small slices and few"
    )
    parser.add_argument("--rows", type=number_list, metavar="N,N,…", help="sizes, such as 1e7,1e8,1e9")
    options = parser.parse_args(arguments)
    rows: list[int] = options.rows or (QUICK_ROWS if options.quick else FULL_ROWS)
    out: Path | None = options.out or (None if options.quick or options.rows else page.RESULTS)
    contexts, tokens = QUICK_SLICE if options.quick else FULL_SLICE

    def sections() -> Iterator[str]:
        pinned = machine.pin_to_cores(THREADS[-1])
        runs = QUICK_RUNS if options.quick else FULL_RUNS
        grown = [measure(StoreShape.of(number, contexts, tokens), runs, say) for number in sorted(rows)]
        yield page.scale_section(grown, runs, line("benchmarks.scale", arguments), pinned)

    return publish(out, sections)


def number_list(text: str) -> list[int]:
    """Numbers of rows such as 1e7,1e8."""
    try:
        numbers = [int(float(part)) for part in text.split(",")]
    except (ValueError, OverflowError):
        numbers = [0]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers of rows, such as 1e7,1e8,1e9")
    return numbers


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
