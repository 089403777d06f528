"""The demo's measures of its checkpoints: some in the pass that scores them, others beside it; which what shows here.

Kept small, so that they take seconds: geometry and divergences on one dataset, heads on their probe, ablation and the
fit to unigrams at few steps, the learning coefficient of the first model from the step on at which anything is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajstore.scoring.measuring.run import measure

if TYPE_CHECKING:
    from trajstore.demo.train_model import TrainedModel
    from trajstore.progress import Progress
    from trajstore.store.store import Store

TEXT = "docs"
"""The dataset on which the models' insides are measured."""
REPEATS = "repeats"
"""That of the learning coefficient, and the probe of heads."""
OF_TEXT, OF_HEADS = ("interaction_energy", "rankme", "kl_unigram"), ("heads",)
WITH_SCORING = (*OF_TEXT, *OF_HEADS)
"""Measures that come with the pass that scores `TEXT`."""
LLC = {
    "nbeta": 100.0,
    "step_size": 4e-4,
    "gamma": 1000.0,
    "chains": 2,
    "draws": 45,
    "burn_in": 15,
    "batch": 2,
}
"""Settings of the learning coefficient with which chains of these models agree (R̂)."""
LLC_FROM = 128


def measure_suite(store: Store, models: Sequence[TrainedModel], progress: Progress, *, llc: bool) -> None:
    """Keep what is missing of the demo's measures; those of `WITH_SCORING` are where slices were scored with them."""
    for model in models:
        every, ends = model.recipe.checkpoints, (model.recipe.checkpoints[0], model.recipe.checkpoints[-1])
        _measure(store, model, OF_TEXT, TEXT, every, progress)
        _measure(store, model, OF_HEADS, REPEATS, every, progress, probe=True)
        _measure(store, model, ("ablation",), REPEATS, ends[1:], progress, probe=True)
        _measure(store, model, ("unigram_latent",), TEXT, ends, progress)
    if llc:
        late = [step for step in models[0].recipe.checkpoints if step >= LLC_FROM]
        _measure(store, models[0], ("llc",), REPEATS, late, progress, parameters=LLC)


def _measure(
    store: Store,
    model: TrainedModel,
    names: Sequence[str],
    on: str,
    steps: Sequence[int],
    progress: Progress,
    *,
    probe: bool = False,
    parameters: dict[str, float] | None = None,
) -> None:
    """Measure a model on a dataset or on the probe of that name, on one thread, as it was scored."""
    measure(
        store,
        str(model.folder),
        names,
        () if probe else on,
        probe="repeats" if probe else None,
        steps=",".join(map(str, steps)),
        parameters=parameters or {},
        threads=1,
        progress=progress,
    )
