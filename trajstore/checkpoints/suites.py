"""Published suites of checkpoints: their runs, steps, tokens a step, and what is known to be wrong with some of them.

The data are in suites.toml. A local folder belongs to no suite, whatever its name: only whoever trained it knows its
tokens per step. Nothing here asks the network.
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajstore.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class Stage:
    """A stage after a run's main line of which suites.toml knows more than its name says."""

    name: str
    parent: str
    """The stage that it goes on from."""
    steps_before: int
    """Steps of training before its step 0; 0 where its own steps count on from its parent's."""


@dataclass(frozen=True)
class KnownRun:
    """A training run of a published suite."""

    suite: str
    """The suite's name in suites.toml."""
    repo: str
    """On the Hub."""
    name: str
    """In a store, unless another is given."""
    size: str
    """As the suite writes it, such as `70m`."""
    seed: int | None
    revision: str
    """Name of a step's revision, with `{step}` (and `{tokens}`) in their places."""
    steps: tuple[int, ...] | None
    """The published steps of the main line in order; None where they are not listed."""
    last_step: int | None
    """The last of them, which may be known where the others are not."""
    main: str
    """The stage that is the main line; empty where its revisions name no stage."""
    main_is_last: bool
    """True where the branch `main` holds the last step's weights."""
    stages: tuple[Stage, ...]
    tokens_per_step: int | None
    """Training tokens of one step, exact; None where they are not the same throughout."""
    vocabulary: int | None
    """Rows of the embedding and of the head."""
    config: tuple[tuple[str, object], ...]
    """Settings that the loaded model's configuration must have for its losses to be right."""

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of `stages`."""
        return tuple(stage.name for stage in self.stages)


@dataclass(frozen=True)
class KnownBad:
    """Revisions whose weights are not what their name says."""

    repos: tuple[str, ...]
    stage: str
    """Empty where the revisions name none."""
    steps: tuple[tuple[int, int], ...]
    """Ranges, both ends included."""
    reason: str
    source: str
    """Address of whoever found it."""

    def holds(self, repo: str, stage: str, step: int) -> bool:
        """Return whether a revision is one of these."""
        matches = repo in self.repos and stage == self.stage
        return matches and any(first <= step <= last for first, last in self.steps)


@dataclass(frozen=True)
class Suite:
    """An entry of suites.toml."""

    name: str
    title: str
    source: str
    """Where it is published."""
    runs: tuple[KnownRun, ...]
    known_bad: tuple[KnownBad, ...]


@cache
def suites() -> tuple[Suite, ...]:
    """All suites, in the order of suites.toml."""
    text = (Path(__file__).parent / "suites.toml").read_text(encoding="utf-8")
    return tuple(_suite(name, entry) for name, entry in tomllib.loads(text).items())


def find(name: str) -> tuple[Suite, tuple[KnownRun, ...]]:
    """A suite with its runs, or one of them by its name or repository; raises `UnknownName`."""
    run = run_named(name)
    for suite in suites():
        if suite.name == name:
            return suite, suite.runs
        if run is not None and suite.name == run.suite:
            return suite, (run,)
    raise UnknownName("suite or model", name, [*(suite.name for suite in suites()), *_by("name")])


def known_run(repo: str) -> KnownRun | None:
    """Return the entry of a Hub repository in suites.toml, or None."""
    return _by("repo").get(repo)


def run_named(name: str) -> KnownRun | None:
    """The run that a store's model of that name is by default: `pythia-70m`, `olmo-2-7b`, or a repository; or None."""
    return _by("name").get(name) or known_run(name)


def known_bad(repo: str, step: int, stage: str = "") -> str | None:
    """Return why a revision's weights are known not to be what its name says, with the source, or None."""
    run = known_run(repo)
    if run is None:
        return None
    entries = [entry for entry in find(repo)[0].known_bad if entry.holds(repo, stage, step)]
    return "; ".join(f"{entry.reason} ({entry.source})" for entry in entries) or None


@cache
def _by(field: str) -> dict[str, KnownRun]:
    """All runs by their repository or by their name."""
    return {getattr(run, field): run for suite in suites() for run in suite.runs}


def _suite(name: str, entry: dict[str, Any]) -> Suite:
    runs = tuple(run for run_entry in entry["run"] for run in _runs(name, entry | run_entry))
    known_bad: list[KnownBad] = []
    for bad_entry in entry.get("known_bad", ()):
        known_bad.append(_known_bad(bad_entry, runs, known_bad))
    return Suite(name, entry["title"], entry["source"], runs, tuple(known_bad))


def _runs(suite_name: str, entry: dict[str, Any]) -> Iterator[KnownRun]:
    """A run for each size and seed of an entry."""
    steps = _steps(entry["steps"]) if "steps" in entry else None
    for size, seed in itertools.product(entry["sizes"], entry.get("seeds", [None])):
        repo = entry["repo"].format(size=size, seed=seed)
        yield KnownRun(
            suite=suite_name,
            repo=repo,
            name=entry.get("name", repo.rpartition("/")[2]),
            size=size,
            seed=seed,
            revision=entry["revision"],
            steps=steps,
            last_step=steps[-1] if steps else entry.get("last_step"),
            main=entry.get("main", ""),
            main_is_last=entry.get("main_branch") == "last step",
            stages=tuple(Stage(**stage_entry) for stage_entry in entry.get("stage", ())),
            tokens_per_step=entry.get("tokens_per_step"),
            vocabulary=entry.get("vocabulary", {}).get(size),
            config=tuple(entry.get("config", {}).items()),
        )


def _steps(rules: Iterable[int | dict[str, int]]) -> tuple[int, ...]:
    """The steps that numbers and ranges name, each once, in order."""
    steps: set[int] = set()
    for rule in rules:
        if isinstance(rule, int):
            steps.add(rule)
            continue
        step = rule["from"]
        while step <= rule["to"]:
            steps.add(step)
            step = step * rule["times"] if "times" in rule else step + rule["by"]
    return tuple(sorted(steps))


def _known_bad(entry: dict[str, Any], runs: tuple[KnownRun, ...], before: list[KnownBad]) -> KnownBad:
    """An entry of a suite's list; without repositories it holds for all that have its steps and none `before`."""
    ranges = tuple((span, span) if isinstance(span, int) else tuple(span) for span in entry["steps"])
    stage, first = entry.get("stage", ""), ranges[0][0]
    others = (
        run.repo
        for run in runs
        if first in (run.steps or ()) and not any(earlier.holds(run.repo, stage, first) for earlier in before)
    )
    return KnownBad(tuple(entry.get("repos", others)), stage, ranges, entry["reason"], entry["source"])
