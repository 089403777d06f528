"""Kullback-Leibler divergences of predictions from a distribution of token counts, tile by tile of the logits.

With z the logits, p their softmax, L = ln Σ exp z and q the other distribution:
KL(p‖q) = Σ p z − L − Σ p ln q and KL(q‖p) = Σ q ln q − Σ q z + L, so that sums over tiles are all that is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trajstore.measures.context_means import context_measures
from trajstore.measures.predictions.token_counts import Bigram, Table, unigram
from trajstore.measures.streams import Stream

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trajstore.measures.streams import PassFacts, Predictions
    from trajstore.store.files.measures import Measure

FORWARD, BACKWARD = "model||counts", "counts||model"
"""Directions: KL(model‖counts) weighs by what the model predicts, KL(counts‖model) by what was counted."""


class UnigramDivergence(Stream):
    """Both divergences from the distribution of single tokens, the mean over the predictions of each context."""

    name = "kl_unigram"

    def __init__(self, smoothing: float, table: Table | None) -> None:
        self.smoothing, self.table = smoothing, table

    def begin(self, facts: PassFacts) -> None:
        """Count the tokens, and make room for two numbers a prediction."""
        self.unigram = unigram(facts.ids, facts.vocabulary, self.smoothing, self.table)
        self.params: dict[str, Any] = self.unigram.params
        f = self.unigram.probabilities
        self.negative_entropy = np.full(len(f), f @ np.log(f))
        """Σ q ln q of what is compared with predictions after each token."""
        self.start = np.cumsum([0, *(len(ids) - 1 for ids in facts.ids)])
        self.divergences = np.full((2, self.start[-1]), np.nan)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def tile(self, logits: Tensor, rows: slice, predictions: Predictions) -> None:
        """Add a tile to the sums of its predictions."""
        import torch

        if rows.start == 0:
            self.highest = logits[:, 0].clone()
            self.scaled = logits.new_zeros(len(logits))
            """Σ exp(z − highest) (z − ln q)."""
            self.counted = logits.new_zeros(len(logits))
            """Σ q z."""
            self._begin_pairs(predictions, logits.device)
        f, log_f = (each[rows] for each in self._tables(logits.device))
        highest = torch.maximum(self.highest, logits.amax(1))
        self.weights = (logits - highest[:, None]).exp_()
        old = (self.highest - highest).exp()
        self.highest = highest
        self.scaled = old * self.scaled + torch.linalg.vecdot(self.weights, logits) - self.weights @ log_f
        self.counted = self.counted + logits @ f
        self._add(logits, rows)

    def log_sums(self, log_sums: Tensor, predictions: Predictions) -> None:
        """Keep the divergences of predictions whose tiles have all come."""
        forward = self.scaled * (self.highest - log_sums).exp() - log_sums
        both = np.stack([forward.cpu().numpy(), (log_sums - self.counted).cpu().numpy()]).astype(np.float64)
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

    def _add(self, logits: Tensor, rows: slice) -> None:
        """Add what a tile holds for distributions that differ between predictions."""

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The distribution of single tokens and its logarithm, float32."""
        import torch

        if device not in self._on:
            f = torch.as_tensor(self.unigram.probabilities, device="cpu")
            self._on[device] = f.float().to(device), f.log().float().to(device)
        return self._on[device]


class BigramDivergence(UnigramDivergence):
    """Both divergences from the distribution of tokens after the one before, the mean over each context."""

    name = "kl_bigram"
    pairs_counted: Tensor
    """The part of Σ q z that is of pairs."""

    def begin(self, facts: PassFacts) -> None:
        """Count the pairs as well; those of the contexts, whatever table the single tokens are from."""
        super().begin(facts)
        self.bigram = Bigram(facts.ids, self.unigram, self.smoothing)
        self.negative_entropy = self.bigram.negative_entropy

    def _begin_pairs(self, predictions: Predictions, device: torch.device) -> None:
        import torch

        self.row, self.pair = self.bigram.pairs_of(predictions.previous)
        rest = self.bigram.rest[predictions.previous]
        self.rest = torch.as_tensor(rest, device="cpu").float().to(device)
        self.log_rest = torch.as_tensor(np.log(rest), device="cpu").float().to(device)

    def _add(self, logits: Tensor, rows: slice) -> None:
        import torch

        tokens = self.bigram.token[self.pair]
        chosen = slice(*np.searchsorted(tokens, [rows.start, rows.start + logits.shape[1]]))
        device = logits.device
        row = torch.as_tensor(self.row[chosen], device=device)
        column = torch.as_tensor(tokens[chosen] - rows.start, device=device)
        pair = self.pair[chosen]
        gain = torch.as_tensor(self.bigram.log_gain[pair], dtype=torch.float32, device=device)
        share = torch.as_tensor(self.bigram.share[pair], dtype=torch.float32, device=device)
        self.scaled = self.scaled.index_add(0, row, -gain * self.weights[row, column])
        # Σ q z is that of single tokens times `rest`, and that of pairs
        self.pairs_counted = self.pairs_counted if rows.start else torch.zeros_like(self.scaled)
        self.pairs_counted = self.pairs_counted.index_add(0, row, share * logits[row, column])

    def log_sums(self, log_sums: Tensor, predictions: Predictions) -> None:
        """Keep the divergences of predictions whose tiles have all come."""
        self.counted = self.rest * self.counted + self.pairs_counted
        # ln q = ln f + ln rest + gain: the middle part is the same for all of a prediction
        self.scaled = self.scaled - self.log_rest * (log_sums - self.highest).exp()
        super().log_sums(log_sums, predictions)
