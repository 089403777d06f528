"""Scoring: fixed contexts and checkpoints, and the forward pass that turns both into slices of losses.

The names offered here are loaded when they are first used, so that importing the package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trajstore.scoring.callback import TrajectoryCallback
    from trajstore.scoring.job import score
    from trajstore.scoring.losses import token_losses, token_scores

__all__ = ["TrajectoryCallback", "score", "token_losses", "token_scores"]


def __getattr__(name: str) -> object:
    if name == "score":
        from trajstore.scoring.job import score

        return score
    if name == "token_losses":
        from trajstore.scoring.losses import token_losses

        return token_losses
    if name == "token_scores":
        from trajstore.scoring.losses import token_scores

        return token_scores
    if name == "TrajectoryCallback":
        from trajstore.scoring.callback import TrajectoryCallback

        return TrajectoryCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
