"""The stages of a training run: which one is its main line, what each goes on from, and the tokens before it.

A run whose revisions name no stage is one line. Where they do, the first stage is the main line and bears the run's
name; each later one is a model of its own, MODEL.STAGE, with a parent whose tokens it adds to its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from trajstore.arguments.suggestions import nearest
from trajstore.checkpoints.revisions import STAGE, Revision, Tokens, tokens_seen
from trajstore.errors import CheckpointError, listed

if TYPE_CHECKING:
    from trajstore.checkpoints.suites import KnownRun, Stage


@dataclass(frozen=True)
class Stages:
    """The stages of a run, by what its revisions are named after; the empty name is that of revisions without one."""

    model: str
    """The main line's name in a store."""
    revisions: tuple[Revision, ...]
    run: KnownRun | None = None
    """Published facts of the run."""
    complete: bool = True
    """True where these are all revisions that there are, so that the last one of a stage is its end."""

    @cached_property
    def names(self) -> list[str]:
        """The stages that have a revision, in their order."""
        return sorted(
            {revision.stage for revision in self.revisions}, key=lambda stage: (_number(stage), stage)
        )

    @cached_property
    def main(self) -> str | None:
        """The stage that is the main line; None where there is none to be seen."""
        if self.run is not None:
            return self.run.main
        first = [stage for stage in self.names if _number(stage) == _number(self.names[0])]
        return first[0] if len(first) == 1 and _number(first[0]) <= 1 else None

    def choose(self, requested_stage: str | None, argument: str) -> str:
        """The stage asked for, by default the main line; raises `CheckpointError` where it has no revision.

        `argument` is how the run was asked for, to say how its other stages are.
        """
        stage = self.main if requested_stage is None else requested_stage
        if stage is not None and stage in self.names:
            return stage
        what = "the main line" if requested_stage is None else f"the stage {requested_stage}"
        others = [argument if name == self.main else f"{argument}.{name}" for name in self.names]
        raise CheckpointError(
            f"{argument} has no revision of {what}{'' if self.complete else ' on this disk'}. By their stages its "
            f"revisions are those of: {listed(others)}.{nearest(f'{argument}.{requested_stage}', others)}"
        )

    def name(self, stage: str) -> str:
        """A stage's name in a store."""
        return self.model if stage == self.main else f"{self.model}.{stage}"

    def parent(self, stage: str) -> str | None:
        """The stage that another goes on from; None for the main line, and where it is not known."""
        if stage == self.main:
            return None
        if (known := self._known(stage)) is not None:
            return known.parent
        others = {*self.names, *([] if self.main is None else [self.main])}
        before = max((_number(other) for other in others if _number(other) < _number(stage)), default=None)
        candidates = [other for other in others if _number(other) == before]
        gap = (
            before is not None and before < _number(stage) - 1
        )  # which may be a stage that is not on this disk
        return candidates[0] if len(candidates) == 1 and (self.complete or not gap) else None

    def tokens_before(self, stage: str, tokens_per_step: int | None) -> Tokens | None:
        """Tokens of all stages before one; None where they are not known."""
        if stage == self.main:
            return Tokens(0, True)
        if (known := self._known(stage)) is not None:
            return tokens_seen(Revision(stage, known.steps_before), tokens_per_step, Tokens(0, True))
        parent = self.parent(stage)
        if parent is None or (end := self._end(parent)) is None:
            return None
        return tokens_seen(end, tokens_per_step, self.tokens_before(parent, tokens_per_step))

    def _known(self, stage: str) -> Stage | None:
        """Return the published facts of a stage, or None."""
        return next((entry for entry in self.run.stages if entry.name == stage), None) if self.run else None

    def _end(self, stage: str) -> Revision | None:
        """The last revision of a stage; None where it is not known."""
        if self.run is not None and stage == self.run.main and self.run.last_step is not None:
            return Revision(stage, self.run.last_step)
        if not self.complete:
            return None
        revisions = (revision for revision in self.revisions if revision.stage == stage)
        return max(revisions, key=lambda revision: revision.step, default=None)


def _number(stage: str) -> int:
    """Return the place of a stage among the others: the number in its name, else before them."""
    match = STAGE.fullmatch(stage)
    return int(match[1]) if match else 0
