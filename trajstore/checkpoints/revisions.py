"""Names of revisions and folders, parsed: the stage of training, the step, and the tokens seen, as far as they say.

Forms: `step1000`, `step_1000`, `step-1000`, `checkpoint-1000`; with the tokens behind them, `step1000-tokens4B`; with a
stage in front, `stage2-ingredient1-step11931-tokens100B`. Tokens in a name are rounded, up or down.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajstore.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

STEP_NAMES = "stepN, step_N, step-N or checkpoint-N"

STAGE = re.compile(r"stage([0-9]{1,3})(?:-[A-Za-z0-9]+)*")
"""A stage as any run may have it; its number says where it comes among the others."""

_NAME = re.compile(
    r"(?:(.+)-)?(?:step|checkpoint)[-_]?([0-9]{1,18})(?:-tokens([0-9]{1,9})(?:\.([0-9]{1,3}))?([KMBT]))?"
)
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Tokens:
    """Training tokens before a checkpoint."""

    seen: int
    exact: bool
    """False where a rounded number was all there was."""


@dataclass(frozen=True)
class Revision:
    """A parsed name of a revision or folder."""

    stage: str
    """Such as `stage2-ingredient1`; empty where the name has only a step."""
    step: int
    tokens: int | None = None
    """As the name has them, rounded; None where it has none."""
    rounded_to: int = 0
    """One unit of the last digit of `tokens`."""


def parse_revision(name: str, stages: Collection[str] = ()) -> Revision | None:
    """Return the parsed name of a revision or folder, or None; `stages` are names of stages other than `stageN…`."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    stage, step, whole, fraction, unit = match.groups(default="")
    if stage and stage not in stages and not STAGE.fullmatch(stage):
        return None
    if not unit:
        return Revision(stage, int(step))
    rounded_to = _UNITS[unit] // 10 ** len(fraction)
    return Revision(stage, int(step), int(whole + fraction) * rounded_to, rounded_to)


def step_pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of names such as `epoch_{step}`, the step as its group; a * stands for any characters.

    Raises `BadOption` where {step} is not in it once.
    """
    before, placeholder, after = text.partition("{step}")
    if not placeholder or "{step}" in after:
        raise BadOption("pattern", text, "a name with {step} in it once, as in epoch_{step} or ckpt-{step}-*")
    one, other = (re.escape(part).replace(r"\*", ".*") for part in (before, after))
    return re.compile(f"{one}([0-9]{{1,18}}){other}")


def likely_pattern(names: Iterable[str]) -> str | None:
    """The pattern that most of the names follow which end in a number, such as `epoch_{step}`; None where none does."""
    numbered = (re.fullmatch(r"(.*?)[0-9]{1,18}", name) for name in names)
    counts = Counter(f"{match[1]}{{step}}" for match in numbered if match)
    return counts.most_common(1)[0][0] if counts else None


def tokens_seen(revision: Revision, tokens_per_step: int | None, before: Tokens | None) -> Tokens | None:
    """Tokens before a checkpoint: step × tokens a step, exact, unless the name contradicts that by a whole unit.

    Else those of the name, rounded; None where there are none. `before` are the tokens of the stages before this one,
    None where they are not known.
    """
    if before is None:
        return None
    named = revision.tokens
    if tokens_per_step is not None:
        counted = revision.step * tokens_per_step
        if named is None or abs(counted - named) < revision.rounded_to:
            return Tokens(before.seen + counted, before.exact)
    return None if named is None else Tokens(before.seen + named, False)
