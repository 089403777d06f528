"""Kullback-Leibler divergences of predictions from a distribution of token counts, tile by tile of the logits.

With p the predictions and q the other distribution, a tile's part of Σ p ln(p/q) is w (−h − Σ share ln q + ln w), where
w is the tile's share of all, h its own entropy; and its part of Σ q ln p is Σ q ln share + ln w Σ q. So a few numbers
a tile and prediction are all that is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trajstore.measures.context_means import context_measures
from trajstore.measures.predictions.token_counts import Bigram, Table, unigram
from trajstore.measures.streams import Stream

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trajstore.forward.logit_tile import LogitTile
    from trajstore.measures.streams import PassFacts, Predictions
    from trajstore.store.files.measures import Measure

FORWARD, BACKWARD = "model||counts", "counts||model"
"""Directions: KL(model‖counts) weighs by what the model predicts, KL(counts‖model) by what was counted."""


class TileSums(NamedTuple):
    """A tile's numbers for each of n predictions, float32 (n,).

    `counted` and `weights` leave out what a linear head gives for the whole vocabulary at once.
    """

    log_sums: Tensor
    """ln Σ exp of its logits."""
    log_q: Tensor
    """Σ share ln q."""
    entropies: Tensor
    """−Σ share ln share."""
    counted: Tensor
    """Σ q ln share."""
    weights: Tensor
    """Σ q."""


class UnigramDivergence(Stream):
    """Both divergences from the distribution of single tokens, the mean over the predictions of each context."""

    name = "kl_unigram"
    rest: Tensor | float = 1.0
    """Weight of the distribution of single tokens in the one that predictions are compared with."""

    def __init__(self, smoothing: float, table: Table | None) -> None:
        self.smoothing, self.table = smoothing, table

    def begin(self, facts: PassFacts) -> None:
        """Count the tokens, and make room for two numbers a prediction."""
        self.unigram = unigram(facts.ids, facts.vocabulary, self.smoothing, self.table)
        self.params: dict[str, Any] = self.unigram.params
        f = self.unigram.probabilities
        log_f = np.log(f)
        self.negative_entropy = np.full(len(f), f @ log_f)
        """Σ q ln q of what is compared with predictions after each token."""
        self._tables = f.astype(np.float32), log_f.astype(np.float32)
        self.start = np.cumsum([0, *(len(ids) - 1 for ids in facts.ids)])
        self.divergences = np.full((2, self.start[-1]), np.nan)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def tile(self, tile: LogitTile, predictions: Predictions) -> None:
        """Keep the sums of a tile."""
        if tile.rows.start == 0:
            self.tiles: list[TileSums] = []
            device = tile.log_sums.device
            self._begin_pairs(predictions, device)
            self.f, self.log_f = self._table(device)
            self.mean = None if tile.mean_logits is None else tile.mean_logits(self.f)
            """Σ f · logit; None where it is summed up tile by tile."""
        f = self.f[tile.rows] if self.mean is None else None
        log_q, counted = tile.log_means(f, self.log_f[tile.rows])
        weights = counted if f is None else f.sum().expand(len(predictions))
        self.tiles.append(TileSums(tile.log_sums, log_q, tile.entropies, counted, weights))

    def log_sums(self, log_sums: Tensor, predictions: Predictions) -> None:
        """Keep the divergences of predictions whose tiles have all come."""
        import torch

        sums, log_q, entropies, counted, weights = map(torch.stack, zip(*self.tiles, strict=True))
        log_w = sums - log_sums
        forward = (log_w.exp() * (log_w - entropies - log_q)).sum(0)
        backward = (counted + log_w * weights).sum(0)
        if self.mean is not None:
            backward += self.rest * (self.mean - log_sums)
        both = torch.stack([forward, -backward]).cpu().numpy().astype(np.float64)
        both[1] += self.negative_entropy[predictions.previous]
        self.divergences[:, self.start[predictions.context] + predictions.position - 1] = both

    def finish(self) -> list[Measure]:
        """The means of each context in both directions, and their means."""
        return [
            row
            for direction, values in zip((FORWARD, BACKWARD), self.divergences, strict=True)
            for row in context_measures(
                self.name,
                [part.mean() for part in np.split(values, self.start[1:-1])],
                params={**self.params, "direction": direction},
            )
        ]

    def _begin_pairs(self, predictions: Predictions, device: torch.device) -> None:
        """Make ready for the tiles of these predictions, where distributions differ between them."""

    def _table(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The distribution of single tokens and its logarithm, float32 (vocabulary,)."""
        import torch

        if device not in self._on:
            f, log_f = (torch.as_tensor(values).to(device) for values in self._tables)
            self._on[device] = f, log_f
        return self._on[device]


class BigramDivergence(UnigramDivergence):
    """Both divergences from the distribution of tokens after the one before, the mean over each context."""

    name = "kl_bigram"

    def begin(self, facts: PassFacts) -> None:
        """Count the pairs as well; those of the contexts, whatever table the single tokens are from."""
        super().begin(facts)
        self.bigram = Bigram(facts.ids, self.unigram, self.smoothing)
        self.negative_entropy = self.bigram.negative_entropy

    def tile(self, tile: LogitTile, predictions: Predictions) -> None:
        """Keep the sums of a tile: q is f times what is left for it, and shares of the pairs that occur."""
        import torch

        super().tile(tile, predictions)
        tokens = self.bigram.token[self.pair]
        chosen = slice(
            *np.searchsorted(tokens, [tile.rows.start, tile.rows.start + tile.log_shares.shape[1]])
        )
        device = tile.log_sums.device
        row = torch.as_tensor(self.row[chosen], device=device)
        column = torch.as_tensor(tokens[chosen] - tile.rows.start, device=device)
        pair = self.pair[chosen]
        gain = torch.as_tensor(self.bigram.log_gain[pair], dtype=torch.float32, device=device)
        share = torch.as_tensor(self.bigram.share[pair], dtype=torch.float32, device=device)
        sums = self.tiles[-1]
        self.tiles[-1] = TileSums(
            sums.log_sums,
            # ln q is ln f, the same for all tokens, and a gain for those of pairs
            (sums.log_q + self.log_rest).index_add(0, row, gain * tile.shares[row, column]),
            sums.entropies,
            (self.rest * sums.counted).index_add(0, row, share * tile.log_shares[row, column]),
            (self.rest * sums.weights).index_add(0, row, share),
        )

    def _begin_pairs(self, predictions: Predictions, device: torch.device) -> None:
        import torch

        self.row, self.pair = self.bigram.pairs_of(predictions.previous)
        rest = torch.as_tensor(self.bigram.rest[predictions.previous], device="cpu")
        self.rest, self.log_rest = rest.float().to(device), rest.log().float().to(device)
