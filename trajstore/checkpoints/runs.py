"""Finds a training run by what a user calls it: its checkpoints, in order of step, with the tokens before each.

A run is a local folder whose subfolders are steps, a Hub repository whose revisions are, or the name of a published
one (`pythia-70m`); behind a dot may stand a stage of it (`olmo-2-7b.stage2-ingredient1`), else the main line is meant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trajstore.arguments.spelling import as_given, option
from trajstore.arguments.suggestions import nearest
from trajstore.checkpoints import hub
from trajstore.checkpoints.loading import Checkpoint
from trajstore.checkpoints.revisions import (
    STAGE,
    STEP_NAMES,
    Revision,
    likely_pattern,
    parse_revision,
    step_pattern,
    tokens_seen,
)
from trajstore.checkpoints.stages import Stages
from trajstore.checkpoints.suites import KnownRun, known_bad, run_named, suites
from trajstore.errors import CheckpointError, listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_MOST_FOLDERS = 100
"""Of a folder, that are looked into for runs."""


@dataclass(frozen=True)
class CheckpointSource:
    """A training run, or a stage of one, and its checkpoints."""

    name: str
    """In a store, unless another is given: a published run's, else the last part of the folder or repository."""
    repo: str
    """Absolute path of the folder, or the repository."""
    checkpoints: tuple[Checkpoint, ...]
    """In order of step, each step once."""
    stages: Stages
    """The run's stages, this one and the others."""
    stage: str
    """The one that this is; empty where the run's revisions name none."""
    unreachable: str | None = None
    """Why the Hub could not be asked, so that only revisions in the cache are here; None otherwise."""

    @property
    def local(self) -> bool:
        """Return whether it is a folder of this machine."""
        return self.checkpoints[0].local

    @property
    def steps(self) -> list[int]:
        """The checkpoints' steps, in order."""
        return [checkpoint.step for checkpoint in self.checkpoints]

    @property
    def run(self) -> KnownRun | None:
        """Return the published facts of the run, or None."""
        return self.stages.run

    @property
    def parent(self) -> str | None:
        """The model, by its name in a store, whose training this one goes on with; None where that is not known."""
        parent = self.stages.parent(self.stage)
        return None if parent is None else self.stages.name(parent)

    def counted(self, tokens_per_step: int | None) -> CheckpointSource:
        """The same with the tokens seen that follow from the tokens of a step."""
        before = self.stages.tokens_before(self.stage, tokens_per_step)
        names = self.run.stage_names if self.run else ()
        counted = []
        for checkpoint in self.checkpoints:
            named = parse_revision(checkpoint.revision, names) or Revision(checkpoint.stage, checkpoint.step)
            tokens = tokens_seen(named, tokens_per_step, before)
            seen, exact = (None, None) if tokens is None else (tokens.seen, tokens.exact)
            counted.append(replace(checkpoint, tokens_seen=seen, tokens_exact=exact))
        return replace(self, checkpoints=tuple(counted))


def find_checkpoints(model: str, pattern: str | None = None) -> CheckpointSource:
    """The run behind a local folder, a Hub repository or a published run's name; raises `CheckpointError`.

    `pattern` is how its steps are named, with `{step}` for the number, where that is in a way of their own. Tokens seen
    are those of the suite or of the revisions' names; `CheckpointSource.counted` counts them otherwise.
    """
    names = _Names(pattern)
    called, stage = _split(model)
    folder = Path(called).expanduser()
    if folder.is_dir():
        return _local(folder.resolve(), called, stage, names)
    if folder.is_file():
        raise CheckpointError(f"{model} is a file; a run is a folder with a subfolder a step ({names}).")
    run = run_named(called)
    if run is None and hub.names_path(called):
        raise CheckpointError(
            f"There is no folder {model!r}. A run is a folder with a subfolder a step ({names})."
        )
    return _on_hub(called, run, stage, names)


def _split(model: str) -> tuple[str, str | None]:
    """Return a run's name, and the stage behind the last dot, if one is meant."""
    called, _, stage = model.rpartition(".")
    if not called or Path(model).expanduser().exists() or run_named(model) is not None:
        return model, None
    if STAGE.fullmatch(stage) or run_named(called) is not None:
        return called, stage
    return model, None


def _on_hub(called: str, run: KnownRun | None, stage: str | None, names: _Names) -> CheckpointSource:
    """A repository whose revisions are steps."""
    repo = called if run is None else run.repo
    try:
        refs = hub.list_refs(repo)
    except CheckpointError as error:
        if run is None and "/" not in called:
            known = [suite_run.name for suite in suites() for suite_run in suite.runs]
            raise CheckpointError(f"{error}{nearest(called, known)}") from error
        raise
    revisions = _named({name: (repo, commit) for name, commit in refs.commits.items()}, run, names)
    if not revisions:
        raise CheckpointError(
            f"No revision of {repo} is named after a step ({names}); there are: {listed(sorted(refs.commits))}."
            f"{names.hint(refs.commits)}"
        )
    name = repo.rpartition("/")[2] if run is None else run.name
    return _source(revisions, called, stage, name, repo, run, refs.unreachable)


def _local(folder: Path, called: str, stage: str | None, names: _Names) -> CheckpointSource:
    """A folder whose subfolders are steps."""
    folders = _subfolders(folder)
    revisions = _named({subfolder.name: (str(subfolder), None) for subfolder in folders}, None, names)
    if not revisions:
        checkpoints = [subfolder.name for subfolder in folders if (subfolder / "config.json").exists()]
        hint = _single_checkpoint(folder) or names.hint(checkpoints) or _runs_below(folder, names)
        raise CheckpointError(f"{folder} has no subfolder named after a step ({names}).{hint}")
    return _source(revisions, called, stage, folder.name, str(folder), None, None)


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in order of name; none where it cannot be read."""
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_dir()]
    except OSError:
        return []


def _runs_below(folder: Path, names: _Names) -> str:
    """The runs that lie in a folder or in its subfolders, as a hint; empty where there are none."""
    near = _subfolders(folder)[:_MOST_FOLDERS]
    far = [inner for outer in near for inner in _subfolders(outer)[:_MOST_FOLDERS]]
    runs = [
        candidate
        for candidate in (*near, *far)
        if any(names.parse(child.name) is not None for child in _subfolders(candidate))
    ]
    if not runs:
        return ""
    what = "a run" if len(runs) == 1 else f"{len(runs)} runs"
    listing = listed(run.relative_to(folder) for run in runs)
    return f" It holds {what}: {listing}. Score one: trajstore score {runs[0]}"


@dataclass(frozen=True)
class _Names:
    """The naming of steps: a pattern, else the usual ways."""

    pattern: str | None

    def __str__(self) -> str:
        return STEP_NAMES if self.pattern is None else option("pattern", self.pattern)

    def parse(self, name: str, stages: Collection[str] = ()) -> Revision | None:
        """Return the parsed name, or None; `stages` as for `parse_revision`. Raises `BadOption` for a bad pattern."""
        if self.pattern is None:
            return parse_revision(name, stages)
        match = step_pattern(self.pattern).fullmatch(name)
        return Revision("", int(match[1])) if match else None

    def hint(self, names: Iterable[str]) -> str:
        """Return advice where names follow a pattern of their own; empty where none is seen."""
        likely = likely_pattern(names)
        return f" If the number in their names is the step: {as_given('pattern', likely)}." if likely else ""


def _named(
    places: dict[str, tuple[str, str | None]], run: KnownRun | None, names: _Names
) -> dict[Checkpoint, Revision]:
    """The checkpoints among names with their location and commit, each with what its name says."""
    revisions = {}
    for name, (location, commit) in places.items():
        if (named := names.parse(name, run.stage_names if run else ())) is not None:
            revisions[Checkpoint(named.step, name, location, commit, named.stage)] = named
    if run and run.main_is_last and run.last_step is not None and "main" in places:
        last = Revision(run.main, run.last_step)
        if last not in revisions.values():
            revisions[Checkpoint(last.step, "main", *places["main"], last.stage)] = last
    return revisions


def _source(
    revisions: dict[Checkpoint, Revision],
    called: str,
    requested_stage: str | None,
    name: str,
    repo: str,
    run: KnownRun | None,
    unreachable: str | None,
) -> CheckpointSource:
    """The stage asked for among all checkpoints of a run."""
    stages = Stages(name, tuple(revisions.values()), run, complete=unreachable is None)
    stage = stages.choose(requested_stage, called)
    checkpoints = [
        replace(checkpoint, known_bad=known_bad(repo, checkpoint.step, stage))
        for checkpoint in revisions
        if checkpoint.stage == stage
    ]
    source = CheckpointSource(
        stages.name(stage), repo, _in_order(checkpoints, repo), stages, stage, unreachable
    )
    return source.counted(run.tokens_per_step if run else None)


def _single_checkpoint(folder: Path) -> str:
    """Return advice for a folder that is one checkpoint and not a run."""
    named = parse_revision(folder.name)
    if not (folder / "config.json").exists():
        return ""
    if named is not None:
        return (
            f" It is a checkpoint itself: score the folder around it with: {folder.parent} "
            f"{option('steps', named.step)}"
        )
    return (
        " It holds config.json itself, so it is a single checkpoint: move it into a folder named after its "
        f"step, as in {folder.name}/step1000, and score {folder.name}."
    )


def _in_order(checkpoints: Iterable[Checkpoint], where: str) -> tuple[Checkpoint, ...]:
    """Checkpoints by step; raises `CheckpointError` where two that are not the same commit name one step."""
    by_step: dict[int, Checkpoint] = {}
    for checkpoint in checkpoints:
        other = by_step.setdefault(checkpoint.step, checkpoint)
        if other is not checkpoint and (checkpoint.local or other.commit != checkpoint.commit):
            raise CheckpointError(
                f"{other.revision} and {checkpoint.revision} of {where} both name step {checkpoint.step}. "
                "Keep one of them there, or score a folder that holds only one."
            )
    return tuple(by_step[step] for step in sorted(by_step))
