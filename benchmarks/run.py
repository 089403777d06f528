"""The benchmarks: python -m benchmarks.run [--quick] [--out FILE].

Makes a slice family in a temporary folder, lets the store and its peers take turns on it, and prints one table of
ratios. The full size also writes it into benchmarks/RESULTS.md; --quick only prints unless --out is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.harness import machine, page
from benchmarks.harness.command import benchmark_parser, line, publish, say
from benchmarks.harness.folder import end_as_an_exit_does, working_folder
from benchmarks.harness.peers import THREADS
from benchmarks.harness.synthetic import SUITE, Family, Size, make_family
from benchmarks.harness.timing import Rounds, Row, Say
from benchmarks.store import curves, many, matrices, streams, writing

FULL, QUICK = Size(154, 512, 512), Size(20, 64, 256)
FULL_MODELS, QUICK_MODELS = 170, 10
"""Models of the store of many slices."""

FULL_ROUNDS, QUICK_ROUNDS = Rounds(15, 5, 3, 2), Rounds(5, 3, 1, 1)


def measure(family: Family, models: int, rounds: Rounds, say: Say) -> list[Row]:
    """All rows of the table."""
    return [
        *writing.size_rows(family),
        *writing.append_rows(family, rounds.append, say),
        *matrices.matrix_rows(family, rounds, say),
        *matrices.group_rows(family, rounds, say),
        *curves.trajectory_rows(family, rounds, say),
        *many.many_rows(family.folder / "many", models, family.size.steps, rounds, say),
        *matrices.memory_rows(family, rounds.slow),
        *streams.stream_rows(family, rounds.slowest, say),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print, write; the temporary folder goes whatever happens."""
    parser = benchmark_parser("benchmarks.run", "The store beside its peers.", "a small family")
    parser.add_argument(
        "--size", type=_size, metavar="STEPSxCONTEXTSxTOKENS", help="another size, such as 154x512x512"
    )
    options = parser.parse_args(arguments)
    size: Size = options.size or (QUICK if options.quick else FULL)
    out: Path | None = options.out or (None if options.quick or options.size else page.RESULTS)
    rounds, models = (QUICK_ROUNDS, QUICK_MODELS) if options.quick else (FULL_ROUNDS, FULL_MODELS)

    def sections() -> Iterator[str]:
        pinned = machine.pin_to_cores(THREADS[-1])
        with working_folder() as folder:
            say(f"making {size.rows:,} losses in {folder}")
            family = make_family(size, folder)
            with family.store:
                rows = measure(family, models, rounds, say)
                yield page.peers_section(family, line("benchmarks.run", arguments), pinned, rows)

    return publish(out, sections)


def _size(text: str) -> Size:
    try:
        steps, contexts, tokens = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not STEPSxCONTEXTSxTOKENS, such as 154x512x512"
        ) from None
    if not 1 <= steps <= len(SUITE) or contexts < 1 or tokens < 2:
        raise argparse.ArgumentTypeError(
            f"{text!r}: 1 to {len(SUITE)} steps, 1 context at least, of 2 tokens at least"
        )
    return Size(steps, contexts, tokens)


if __name__ == "__main__":
    end_as_an_exit_does()
    sys.exit(main())
