"""The time of a scoring job by stage: where it went while passes ran or waited, and what was done beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

_WORDS = {
    "pass": "pass",
    "measure": "measuring",
    "build": "building models",
    "copy": "copying weights",
    "wait_for_weights": "waiting for weights",
    "wait_for_publishing": "publishing",
}
"""The stages of the thread that runs the passes, one at a time, with how they are named to people."""
_REST = "other"


@dataclass
class Profile:
    """The seconds of a job by stage."""

    seconds: float = 0.0
    """Of the job; of each of its processes, where it has several."""
    stages: dict[str, float] = field(default_factory=dict)
    """Of the passes' thread: pass, measure, build (a model by transformers), copy (weights into the model that is
    there), wait_for_weights, wait_for_publishing. Of the threads beside it: download, read, hash, encode, publish."""

    @property
    def shares(self) -> dict[str, float]:
        """The part of the time in each stage of the passes' thread, and in other work; together 1, or none."""
        if not self.seconds:
            return {}
        shares = {name: self.stages.get(name, 0.0) / self.seconds for name in _WORDS}
        return shares | {_REST: 1.0 - sum(shares.values())}

    def __str__(self) -> str:
        """`pass 91 %, waiting for weights 6 %, publishing 3 %`: the stages of the passes' thread, the longest first."""
        shares = sorted(self.shares.items(), key=lambda share: -share[1])
        return ", ".join(
            f"{_WORDS.get(name, name)} {share:.0%}".replace("%", " %")
            for name, share in shares
            if share >= 0.005
        )

    def add(self, part: Profile) -> None:
        """Add the times of a part of the work."""
        self.seconds += part.seconds
        for name, seconds in part.stages.items():
            self.stages[name] = self.stages.get(name, 0.0) + seconds

    def as_json(self) -> dict[str, object]:
        """The object that a file of the profile holds: seconds, stages, shares."""
        return {"seconds": self.seconds, "stages": self.stages, "shares": self.shares}
