"""Calibration error: how far a model's probability for its first guess is from how often that is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.errors import BadMeasures
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.streams import Stream
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from trajstore.forward.logit_tile import LogitTile
    from trajstore.measures.streams import PassFacts, Predictions


class CalibrationError(Stream):
    """The confidence of every prediction, and whether its first guess was right."""

    highest: Tensor
    """Of the logits of the predictions whose tiles are coming."""
    own: Tensor
    """The logits of the tokens themselves."""

    def __init__(self, bins: int) -> None:
        if bins < 1:
            raise BadMeasures(f"calibration_error takes 1 bin or more, and not {bins}.")
        self.bins = bins

    def begin(self, facts: PassFacts) -> None:
        """Make room for two numbers a prediction."""
        self.start = np.cumsum([0, *(len(ids) - 1 for ids in facts.ids)])
        self.confidence = np.full(self.start[-1], np.nan)
        self.right = np.zeros(self.start[-1], bool)

    def tile(self, tile: LogitTile, predictions: Predictions) -> None:
        """Take the highest logit of a tile where it is above those before, and the logits of tokens in the tile."""
        import torch

        highest = tile.log_shares.amax(1) + tile.log_sums
        self.highest = torch.maximum(self.highest, highest) if tile.rows.start else highest
        column = torch.as_tensor(predictions.target - tile.rows.start, device=highest.device)
        inside = (column >= 0) & (column < tile.log_shares.shape[1])
        own = tile.log_shares.gather(1, torch.where(inside, column, 0)[:, None])[:, 0] + tile.log_sums
        self.own = torch.where(inside, own, self.own if tile.rows.start else own)

    def log_sums(self, log_sums: Tensor, predictions: Predictions) -> None:
        """Keep the confidence of predictions whose tiles have all come."""
        sites = self.start[predictions.context] + predictions.position - 1
        self.confidence[sites] = (self.highest - log_sums).exp().cpu().numpy()
        self.right[sites] = (self.own >= self.highest).cpu().numpy()

    def finish(self) -> list[Measure]:
        """The error over all predictions."""
        value = calibration_error(self.confidence, self.right, self.bins)
        return [Measure("calibration_error", value, params={"bins": self.bins})]


def calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int) -> float:
    """Σ nᵦ/n |share of right guesses − mean confidence| over bins b of equal width of the confidence."""
    number = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(number, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


DEFINITIONS = (
    MeasureDefinition(
        "calibration_error",
        formula="Σ nᵦ/n |share of right first guesses − mean probability of the first guess| over bins of it",
        unit="1",
        stream=CalibrationError,
        needs=("logits",),
        parameters={"bins": 15},
        source="Guo et al. 2017, On calibration of modern neural networks (expected calibration error)",
        meaning=(
            "0 where guesses of probability p are right in a share p of cases. It depends on the number of bins, is "
            "biased upwards in few tokens, and is 0 too for a model that always predicts the frequencies of tokens."
        ),
    ),
)
