"""The demo's measures of its checkpoints: some are taken in the pass that scores them, others beside it.

Kept small, so that they take seconds: geometry and divergences on one dataset, heads on their probe, ablation and the
fit to unigrams at few steps, the learning coefficient of the first model from the step on at which anything is learned.
Most other measures are of the first model alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajstore.datasets.build import from_ids
from trajstore.datasets.tokenizers import load_tokenizer
from trajstore.demo.corpus import KINDS
from trajstore.scoring.measuring.run import measure

if TYPE_CHECKING:
    from trajstore.demo.train_model import TrainedModel
    from trajstore.progress import Progress
    from trajstore.store.store import Store

TEXT = "docs"
"""The dataset on which the models' insides are measured."""
REPEATS = "repeats"
"""That of the learning coefficient, and the probe of heads."""
KINDS_PROBE = "probe-kinds"
"""That of the probe of kinds of text: some contexts of each kind."""
_OF_A_KIND = 24
OF_TEXT, OF_HEADS = ("interaction_energy", "rankme", "kl_unigram"), ("heads",)
OF_FIRST = (
    "top_1",
    "rank",
    "entropy",
    "calibration_error",
    "kl_bigram",
    "alpha_req",
    "twonn",
    "participation_ratio",
)
"""Measures on `TEXT` of the first model alone."""
OF_WEIGHTS = ("ov_copying", "composition", "weight_norm", "effective_rank", "weight_distance")
"""Measures of its weights; of composition also the ends of others."""
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
    """Keep what is missing of the demo's measures; those of `with_scoring` are where slices were scored with them."""
    for model in models:
        every, ends = model.recipe.checkpoints, (model.recipe.checkpoints[0], model.recipe.checkpoints[-1])
        first = model is models[0]
        _measure(store, model, (*OF_TEXT, *(OF_FIRST if first else ())), TEXT, every, progress)
        _measure(store, model, OF_HEADS, REPEATS, every, progress, probe=True)
        patterns = ("translational_symmetry", "diagonal_score") if first else ()
        _measure(store, model, ("ablation", *patterns), REPEATS, ends[1:], progress, probe=True)
        _measure(store, model, ("unigram_latent",), TEXT, ends, progress)
        if first:
            _measure(store, model, OF_WEIGHTS, None, every, progress)
            _keep_kinds(store, model)
            _measure(store, model, ("text_type_probe",), KINDS_PROBE, ends, progress)
        elif model.recipe.n_layer > 1:
            _measure(store, model, ("composition",), None, ends, progress)
    if llc:
        late = [step for step in models[0].recipe.checkpoints if step >= LLC_FROM]
        _measure(store, models[0], ("llc",), REPEATS, late, progress, parameters=LLC)


def with_scoring(*, first: bool) -> tuple[str, ...]:
    """The measures that come with the pass that scores a model, the first or another, on `TEXT`."""
    return (*OF_TEXT, *OF_HEADS, *(OF_FIRST if first else ()))


def _keep_kinds(store: Store, model: TrainedModel) -> None:
    """Make the probe of kinds of text where it is not there: the first contexts of each, held out from training."""
    if KINDS_PROBE in store.dataset_names():
        return
    datasets = [store.dataset(kind) for kind in KINDS]
    folder = str(model.folder)
    probe = from_ids(
        [ids for dataset in datasets for ids in dataset.ids()[:_OF_A_KIND]],
        load_tokenizer(folder),
        folder,
        source={"source": "probe", "probe": "kinds"},
        category=[kind for kind in KINDS for _ in range(_OF_A_KIND)],
        document=[name for dataset in datasets for name in dataset.belonging["document"][:_OF_A_KIND]],
    )
    store.add_dataset(KINDS_PROBE, probe)


def _measure(
    store: Store,
    model: TrainedModel,
    names: Sequence[str],
    on: str | None,
    steps: Sequence[int],
    progress: Progress,
    *,
    probe: bool = False,
    parameters: dict[str, float] | None = None,
) -> None:
    """Measure a model on a dataset, the probe of that name or no text, on one thread, as it was scored."""
    measure(
        store,
        str(model.folder),
        names,
        () if probe or on is None else on,
        probe="repeats" if probe else None,
        steps=",".join(map(str, steps)),
        parameters=parameters or {},
        threads=1,
        progress=progress,
    )
