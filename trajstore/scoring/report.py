"""The report of a scoring job, which everything that scores keeps: slices written, skipped, failed, left; its time."""

from __future__ import annotations

from dataclasses import dataclass, field

from trajstore.scoring.profile import Profile


@dataclass
class ScoringReport:
    """Counts of a scoring job, and where its time went."""

    written: int = 0
    """Slices published."""
    skipped: int = 0
    """Slices that were there already, or that another job published meanwhile."""
    failures: list[tuple[int, str]] = field(default_factory=list)
    """(step, reason) of what could not be scored; a dataset that does not fit the model is there once."""
    tokens: int = 0
    """Tokens of the slices written."""
    seconds: float = 0.0
    left: int = 0
    """Slices that were not begun because the budget of time would not have held."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Dataset → why it does not fit the model, as among the failures."""
    unmeasured: list[tuple[int, str]] = field(default_factory=list)
    """(step, reason) of slices that were published, but of which not all could be measured."""
    warnings: list[str] = field(default_factory=list)
    """Remarks on the losses that were written; said when noticed."""
    profile: Profile = field(default_factory=Profile)

    def count_slice(self, tokens: int) -> None:
        """Count a slice that was published."""
        self.written += 1
        self.tokens += tokens

    def add(self, part: ScoringReport) -> None:
        """Add the counts of a part of the work; a warning is kept once, and the seconds are the whole job's own."""
        self.written += part.written
        self.skipped += part.skipped
        self.failures += part.failures
        self.tokens += part.tokens
        self.left += part.left
        self.unfit |= part.unfit
        self.unmeasured += part.unmeasured
        self.warnings += [warning for warning in part.warnings if warning not in self.warnings]
        self.profile.add(part.profile)
