"""Unigram latent: how near the output head alone can come to the frequencies of tokens, by one fixed hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajstore.errors import BadMeasures, NotMeasurable
from trajstore.measures.definitions import MeasureDefinition
from trajstore.measures.predictions.divergences import BACKWARD, FORWARD
from trajstore.measures.predictions.token_counts import Table, kept_table, unigram
from trajstore.measures.streams import Stream
from trajstore.store.files.measures import Measure

if TYPE_CHECKING:
    from torch import Tensor

    from trajstore.measures.streams import PassFacts


class UnigramLatent(Stream):
    """The fit, which needs the model's output head and no pass."""

    def __init__(self, rate: float, steps: int, smoothing: float, table: Table | None) -> None:
        if steps < 1 or not rate > 0:
            raise BadMeasures(
                f"unigram_latent takes 1 step or more at a rate above 0, not {steps} at {rate}."
            )
        self.rate, self.steps, self.smoothing, self.table = rate, steps, smoothing, table

    def begin(self, facts: PassFacts) -> None:
        """Fit the hidden state."""
        import torch

        head = facts.model.get_output_embeddings()
        if not isinstance(head, torch.nn.Linear):
            raise NotMeasurable(f"unigram_latent: {type(facts.model).__name__} has no linear output head.")
        counts = unigram(facts.ids, facts.vocabulary, self.smoothing, self.table)
        weight = head.weight.detach()[: facts.vocabulary].float()
        bias = 0.0 if head.bias is None else head.bias.detach()[: facts.vocabulary].float()
        log_f = torch.as_tensor(np.log(counts.probabilities), device="cpu").float().to(weight.device)
        latent = fit(weight, bias, log_f, self.rate, self.steps)
        log_p = (weight @ latent + bias).double().cpu().log_softmax(0)
        log_f = log_f.double().cpu()
        params = {**counts.params, "rate": self.rate, "steps": self.steps}
        self.rows = [
            Measure("unigram_latent", _kl(log_p, log_f), params={**params, "direction": FORWARD}),
            Measure("unigram_latent", _kl(log_f, log_p), params={**params, "direction": BACKWARD}),
            Measure("unigram_latent_distance", (log_p - log_f).norm().item(), params=params),
        ]

    def finish(self) -> list[Measure]:
        """The divergences of the fit, and what it made least."""
        return self.rows


def fit(weight: Tensor, bias: Tensor | float, log_f: Tensor, rate: float, steps: int) -> Tensor:
    """The x after so many steps of Adam from 0 that make ‖log softmax(W x + b) − log f‖₂ small."""
    import torch

    latent = torch.nn.Parameter(torch.zeros(weight.shape[1], device=weight.device), requires_grad=False)
    optimiser = torch.optim.Adam([latent], lr=rate)
    for _ in range(steps):
        log_p = (weight @ latent + bias).log_softmax(0)
        apart = log_p - log_f
        gradient = (apart - log_p.exp() * apart.sum()) / apart.norm().clamp(min=1e-12)
        latent.grad = weight.T @ gradient
        optimiser.step()
    return latent.detach()


def _kl(log_p: Tensor, log_q: Tensor) -> float:
    """Σ p ln(p/q)."""
    return (log_p.exp() * (log_p - log_q)).sum().item()


DEFINITIONS = (
    MeasureDefinition(
        "unigram_latent",
        formula="KL of softmax(W_U x̄) and f, x̄ = argmin ‖log softmax(W_U x) − log f‖₂ by Adam from 0",
        unit="nats",
        stream=UnigramLatent,
        parameters={"rate": 0.01, "steps": 1000, "smoothing": 1.0, "table": None},
        kept_as={"table": kept_table},
        cost="probe",
        source="Chen 2024, GPT2 is unigram-ist (alanchen-1.github.io, 1 June 2024)",
        meaning=(
            "Near 0 where the output head has a direction along which it predicts the frequencies of tokens. It says "
            "that the model could, not that it does: see kl_unigram. _distance is what the fit made least."
        ),
    ),
)
