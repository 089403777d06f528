"""Recipes of the demo's tiny models: the numbers, the mix of data, and which models make the suite.

**Induction is trained for directly**: at first most training contexts are random tokens that repeat
themselves, which nothing but induction can predict; later most are text. Text alone does not form induction
in the minutes a demo has. So the models show how learning it looks in the losses, not how it comes about
in the wild, and what happens at `mix_change_step` may be the data's doing. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from trajstore.demo.corpus import CONTEXT, VOCABULARY

# Induction forms between 362 and 431, so steps lie close there, and two lie between it and the mix's change.
_CHECKPOINTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 181, 256, 304, 362, 395, 431, 512, 558, 609, 724, 1024, 1448)
_QUICK_CHECKPOINTS = _CHECKPOINTS[: _CHECKPOINTS.index(724) + 1]


@dataclass(frozen=True)
class Mix:
    """The share of training contexts that comes from each source; they sum to 1."""

    repeats: float
    """Random tokens repeated."""
    docs: float
    """Help topics."""
    code: float
    """Standard library sources."""
    arithmetic: float
    """Generated questions."""

    @classmethod
    def repeating(cls, share: float) -> Mix:
        """This share of repeats, the rest one third each of docs, code and arithmetic."""
        return cls(share, *[(1 - share) / 3] * 3)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a model becomes, besides the corpus and the machine.

    Before `mix_change_step`, 88 % of contexts are repeated random tokens: induction is trained for.
    """

    n_layer: int = 2
    """Transformer layers."""
    seed: int = 0
    """Seed of the weights and of the order of the data; the data do not depend on `n_layer`."""
    checkpoints: tuple[int, ...] = _CHECKPOINTS
    """Steps to save at, rising: N is after N updates, 0 before any. The last ends the training."""
    mix_change_step: int = 600
    """Number of updates that see `mix_before`; all later ones see `mix_after`."""
    mix_before: Mix = field(default_factory=lambda: Mix.repeating(0.88))
    """Sources at first."""
    mix_after: Mix = field(default_factory=lambda: Mix.repeating(0.30))
    """Sources after the change."""
    period: tuple[int, int] = (16, 64)
    """Shortest and longest period of the repeats, tokens; drawn evenly."""
    batch: int = 16
    """Contexts a step."""
    context: int = CONTEXT
    """Tokens a context."""
    vocabulary: int = VOCABULARY
    """Tokens of the vocabulary."""
    width: int = 64
    """Width of the residual stream."""
    heads: int = 2
    """Attention heads a layer."""
    position_embedding: Literal["rotary", "learned"] = "rotary"
    """Rotary: a GPT-NeoX; learned, one vector a position: a GPT-2."""
    rotary_pct: float = 0.5
    """Share of a head's dimensions that are rotated by position, where they are rotary."""
    initializer_range: float = 0.079
    """Standard deviation of the initial weights; embedding and unembedding are tied."""
    muon_lr: float = 0.02
    """Learning rate of Muon, on the layers' matrices."""
    muon_momentum: float = 0.95
    """Its momentum."""
    muon_weight_decay: float = 0.1
    """Its weight decay."""
    adamw_lr: float = 3e-3
    """Learning rate of AdamW, on all other weights."""
    adamw_weight_decay: float = 0.01
    """Its weight decay."""
    warmup_steps: int = 20
    """Steps over which both rates rise linearly; constant afterwards."""

    @property
    def name(self) -> str:
        """The model's name, as `tiny-2l-seed0`; another kind of positions than rotary is in it."""
        positions = "" if self.position_embedding == "rotary" else f"{self.position_embedding}-"
        return f"tiny-{positions}{self.n_layer}l-seed{self.seed}"

    @property
    def steps(self) -> int:
        """Updates in all."""
        return self.checkpoints[-1]

    @property
    def tokens_per_step(self) -> int:
        """Tokens seen in one update."""
        return self.batch * self.context

    def mix(self, step: int) -> Mix:
        """The sources of the update that makes step `step` of step `step − 1`."""
        return self.mix_before if step <= self.mix_change_step else self.mix_after

    def as_json(self) -> dict[str, Any]:
        """The recipe as JSON holds it."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts


def suite_recipes(*, quick: bool) -> list[Recipe]:
    """The suite: two seeds of two layers, one layer, learned positions; quick, the first one's first part.

    Quick's steps are the same weights as the full run's, which ends later.
    """
    if quick:
        return [Recipe(checkpoints=_QUICK_CHECKPOINTS)]
    return [Recipe(seed=0), Recipe(seed=1), Recipe(n_layer=1), Recipe(position_embedding="learned")]
