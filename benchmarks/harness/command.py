"""Parts that the benchmarks' commands share: talk, how they are called, and where their sections go."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.harness import page
from trajstore.errors import TrajstoreError
from trajstore.output_files import check_target


def say(message: str) -> None:
    """A line of talk."""
    print(message, file=sys.stderr, flush=True)


def line(module: str, arguments: Sequence[str] | None) -> str:
    """The command as it was given."""
    return shlex.join(["python", "-m", module, *(arguments or sys.argv[1:])])


def benchmark_parser(module: str, about: str, small: str, flag: str = "--quick") -> argparse.ArgumentParser:
    """A parser of what all benchmarks take: a `flag` for the `small` form of one, and the file to write into."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    made.add_argument(flag, action="store_true", help=f"{small}; only prints unless --out is given")
    made.add_argument(
        "--out", type=Path, metavar="FILE", help="the .md file to write into (default: benchmarks/RESULTS.md)"
    )
    return made


def publish(out: Path | None, sections: Callable[[], Iterable[str]]) -> int:
    """Print sections and, if `out` is given, put them there, which is made sure of first; returns the exit code."""
    try:
        if out is not None:
            check_target(out, [".md"])
        for section in sections():
            print(section, end="")
            if out is not None:
                page.put(out, section)
    except TrajstoreError as error:
        say(str(error))
        return 1
    return 0
