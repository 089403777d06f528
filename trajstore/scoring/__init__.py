"""Scoring: fixed contexts and checkpoints, and the forward pass that turns both into slices of losses.

The names offered here are loaded when they are first used, so that importing the package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.lazy_imports import on_demand

if TYPE_CHECKING:
    from trajstore.forward.losses import token_losses, token_scores
    from trajstore.scoring.callback import TrajectoryCallback
    from trajstore.scoring.run import score

__all__ = ["TrajectoryCallback", "score", "token_losses", "token_scores"]


_NAMES = {
    "TrajectoryCallback": "trajstore.scoring.callback",
    "score": "trajstore.scoring.run",
    "token_losses": "trajstore.forward.losses",
    "token_scores": "trajstore.forward.losses",
}
on_demand(__name__, _NAMES)
