"""Parts that the benchmarks' commands share: talk, how they are called, and where their sections go."""

from __future__ import annotations

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
