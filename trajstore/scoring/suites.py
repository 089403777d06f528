"""What is known of published suites: the steps that their revisions name and the tokens of one step.

A local folder belongs to no suite, whatever its name: only whoever trained it knows its tokens per step.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_REVISION = re.compile(r"(?:step|checkpoint)[-_]?([0-9]{1,18})")


@dataclass(frozen=True)
class KnownRun:
    """A training run of a published suite."""

    suite: str
    """The suite's name in suites.toml."""
    tokens_per_step: int
    """Training tokens of one step, exact."""
    size: str | None
    """As the suite writes it, such as `70m`."""
    seed: int | None
    config: tuple[tuple[str, object], ...]
    """Settings that the loaded model's configuration must have for its losses to be right."""


@dataclass(frozen=True)
class _Suite:
    """An entry of suites.toml."""

    name: str
    repo: re.Pattern[str]
    tokens_per_step: int
    config: tuple[tuple[str, object], ...]


def parse_revision(name: str) -> int | None:
    """The step that a revision or folder names (`stepN`, `step_N`, `step-N`, `checkpoint-N`), or None."""
    match = _REVISION.fullmatch(name)
    return int(match[1]) if match else None


def known_run(repo: str) -> KnownRun | None:
    """What suites.toml says of a Hub repository, or None."""
    for suite in _suites():
        if match := suite.repo.fullmatch(repo):
            found = match.groupdict()
            seed = found.get("seed")
            return KnownRun(
                suite.name,
                suite.tokens_per_step,
                found.get("size"),
                int(seed) if seed else None,
                suite.config,
            )
    return None


@cache
def _suites() -> tuple[_Suite, ...]:
    """The entries of suites.toml, in its order."""
    text = (Path(__file__).parent / "suites.toml").read_text(encoding="utf-8")
    return tuple(
        _Suite(
            name, re.compile(entry["repo"]), entry["tokens_per_step"], tuple(entry.get("config", {}).items())
        )
        for name, entry in tomllib.loads(text).items()
    )
