"""Scoring: fixed contexts and checkpoints, and the forward pass that turns both into slices of losses.

The names offered here are loaded when they are first used, so that importing the package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajstore.lazy import on_demand

if TYPE_CHECKING:
    from trajstore.scoring.callback import TrajectoryCallback
    from trajstore.scoring.job import score
    from trajstore.scoring.losses import token_losses, token_scores

__all__ = ["TrajectoryCallback", "score", "token_losses", "token_scores"]


_NAMES = {
    "TrajectoryCallback": "trajstore.scoring.callback",
    "score": "trajstore.scoring.job",
    "token_losses": "trajstore.scoring.losses",
    "token_scores": "trajstore.scoring.losses",
}
if not TYPE_CHECKING:
    __getattr__ = on_demand(__name__, _NAMES)
