"""The local learning coefficient from chains of drawn weights, with its error, diagnostics and the losses by site.

    λ̂ = nβ (E[L(w)] − L(w₀))

Chains that were finished are kept in a folder where one is given, so that an estimate that was cut off goes on with the
chains that are missing and comes out the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trajstore.measures.context_means import mean_and_stderr
from trajstore.measures.llc.diagnostics import effective_sample_size, r_hat
from trajstore.measures.llc.sampler import Chain, run_chain
from trajstore.output_files import whole_file

if TYPE_CHECKING:
    import numpy.typing as npt

    from trajstore.measures.llc.sampler import Losses, Objective, Sampling


@dataclass(frozen=True)
class LearningCoefficient:
    """The chains of an objective, and what they say."""

    sampling: Sampling
    traces: npt.NDArray[np.float64]
    """Loss less that of w₀ on the same batch, (chains, draws)."""
    sums: npt.NDArray[np.float64]
    """Number, sum and sum of squares of the same at each site after burn-in, over all chains, (3, sites)."""
    lengths: tuple[int, ...]
    """Sites of each context."""

    @property
    def kept(self) -> npt.NDArray[np.float64]:
        """The traces after burn-in."""
        return self.traces[:, self.sampling.burn_in :]

    @property
    def value(self) -> float:
        """λ̂ without burn-in."""
        return float(self.sampling.nbeta * self.kept.mean())

    @property
    def stderr(self) -> float | None:
        """Over chains; None for one chain."""
        _, error = mean_and_stderr(self.kept.mean(axis=1))
        return None if error is None else self.sampling.nbeta * error

    @property
    def with_burn_in(self) -> float:
        """λ̂ over all draws."""
        return float(self.sampling.nbeta * self.traces.mean())

    @property
    def r_hat(self) -> float:
        """Of the traces after burn-in; NaN where there are too few draws."""
        return r_hat(self.kept)

    @property
    def effective_draws(self) -> float:
        """Independent draws that those after burn-in are worth; NaN where there are too few."""
        return effective_sample_size(self.kept)

    def context_values(self) -> npt.NDArray[np.float64]:
        """λ̂ of each context by itself, without burn-in; NaN where no draw had it."""
        starts = np.cumsum([0, *self.lengths[:-1]])
        numbers, totals = (np.add.reduceat(part, starts) for part in self.sums[:2])
        with np.errstate(invalid="ignore"):
            values: npt.NDArray[np.float64] = self.sampling.nbeta * totals / numbers
        return values

    def site_means(self) -> npt.NDArray[np.float64]:
        """The mean over draws at each site; NaN where no draw had its context. nβ times its mean is a group's λ̂."""
        with np.errstate(invalid="ignore"):
            means: npt.NDArray[np.float64] = self.sums[1] / self.sums[0]
        return means

    def site_variances(self) -> npt.NDArray[np.float64]:
        """The variance over draws at each site."""
        with np.errstate(invalid="ignore"):
            variances: npt.NDArray[np.float64] = self.sums[2] / self.sums[0] - self.site_means() ** 2
        return variances.clip(min=0)


def estimate(
    objective: Objective, sampling: Sampling, folder: Path | None = None, subject: str = ""
) -> LearningCoefficient:
    """Draw the chains that `folder` does not have yet; `subject` tells weights and contexts from others in it.

    Raises `ChainDiverged`, after which the chains that were finished are still there.
    """
    baseline = objective.losses(range(objective.contexts))
    chains = [
        _kept_chain(objective, sampling, number, baseline, folder, subject)
        for number in range(sampling.chains)
    ]
    return LearningCoefficient(
        sampling,
        np.stack([chain.trace for chain in chains]),
        np.sum([chain.sums for chain in chains], axis=0),
        tuple(map(len, baseline)),
    )


def _kept_chain(
    objective: Objective,
    sampling: Sampling,
    number: int,
    baseline: Losses,
    folder: Path | None,
    subject: str,
) -> Chain:
    """A chain from the folder, or drawn and kept there."""
    if folder is None:
        return run_chain(objective, sampling, number, baseline)
    facts = {key: value for key, value in sampling.params.items() if key != "chains"}
    named = json.dumps([subject, number, facts], sort_keys=True).encode()
    path = folder / f"chain-{hashlib.sha256(named).hexdigest()[:32]}.npz"
    if path.exists():
        with np.load(path) as file:
            return Chain(file["trace"], file["sums"])
    chain = run_chain(objective, sampling, number, baseline)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(file, trace=chain.trace, sums=chain.sums)
    return chain
