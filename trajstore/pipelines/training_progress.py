"""Training progress at each step of a trajectory: tokens seen, or floating-point operations.

FLOPs are 6 · n_nonembedding · tokens_seen: two for each parameter outside the embeddings and each token forward, and
twice that backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from trajstore.analysis.trajectories import Comparison, model_label
from trajstore.arguments.choices import X
from trajstore.arguments.spelling import option
from trajstore.errors import BadOption, TrajstoreError
from trajstore.store.matrix.checkpoints import checkpoints
from trajstore.store.matrix.matrix import row_labels
from trajstore.store.matrix.selection import Selection

if TYPE_CHECKING:
    from trajstore.store.store import Store


def check_x(x: str) -> None:
    """Raise `BadOption` unless `x` says where a checkpoint can stand."""
    if x not in ("step", "tokens", "flops"):
        raise BadOption("x", x, "step, tokens or flops")


def require_known(
    store: Store,
    x: X,
    datasets: Sequence[str],
    models: Sequence[str] | None,
    steps: str | None,
    before: Selection | None = None,
) -> None:
    """Raise as `with_training` would where `x` is not known for what is chosen; reads no losses.

    What was asked for `before` is taken in as an update does: its datasets and models too, its steps if there are none.
    """
    check_x(x)
    if x == "step":
        return
    if before is not None:
        datasets = [*(before.datasets or ()), *datasets]
        models = None if before.models is None else [*before.models, *(models or ())]
        steps = steps or before.steps
    rows = checkpoints(store.scored(models), datasets, models, steps or "all")
    frame = row_labels(rows).with_columns(dataset=pl.lit(datasets[0]))
    chosen = Selection(models=list(dict.fromkeys(model for model, _ in rows)))
    with_training(store, frame, x, chosen, Comparison())


def with_training(
    store: Store,
    frame: pl.DataFrame,
    x: X,
    selection: Selection,
    comparison: Comparison,
    steps_of: Mapping[str, set[int]] | None = None,
) -> pl.DataFrame:
    """The trajectories of a selection with `tokens_seen` (Int64) or `flops` (Float64) after step; for step, as it is.

    Of a difference between two models they are those of the first. `steps_of` are the steps that each model has, by
    default those that are scored. Raises `TrajstoreError` where they are not known,
    or not the same for the models of a mean.
    """
    check_x(x)
    if x == "step":
        return frame
    models = [model for model in store.models(selection.models) if model != comparison.minus_model]
    steps, datasets = set(frame["step"]), set(frame["dataset"])
    progress: dict[tuple[str, int], int] = {}
    for model in models:
        label = None if comparison.by == "dataset" else model_label((model,), comparison.minus_model)
        if label is not None:
            shown = label in frame["model"]
        elif steps_of is not None:
            shown = model in steps_of
        else:
            shown = not datasets.isdisjoint(store.scored(model)[model])
        if not shown:
            continue
        own = steps if steps_of is None else steps & steps_of.get(model, set())
        for step, value in _of_model(store, model, x, own, scored=steps_of is None):
            for curve in (label,) if label else frame["model"].unique():
                if progress.setdefault((curve, step), value) != value:
                    raise TrajstoreError(
                        f"At step {step}, {model} was not as far as the others of the mean, so it has no place by "
                        f"{option('x', x)}. Choose models that were, or {option('x', 'step')}."
                    )
    name = "tokens_seen" if x == "tokens" else "flops"
    values = [progress[key] for key in frame.select("model", "step").iter_rows()]
    column = pl.Series(name, values, pl.Int64 if x == "tokens" else pl.Float64, strict=False)
    at = frame.columns.index("step") + 1
    return frame.select(*frame.columns[:at], column, *frame.columns[at:])


def _of_model(store: Store, model: str, x: X, steps: set[int], *, scored: bool) -> Iterator[tuple[int, int]]:
    """(step, tokens seen or FLOPs) at these steps, or at those of them that are scored."""
    facts = store.model(model)
    a_step = facts.tokens_per_step if facts is not None and facts.parent is None else None
    parameters = facts.n_nonembedding if facts is not None else None
    if x == "flops" and parameters is None:
        raise TrajstoreError(
            f"The number of parameters of {model} outside its embeddings is not known, so it has no place by "
            f"{option('x', 'flops')}. trajstore score finds it; for losses computed elsewhere give it: "
            "store.publish_model(ModelFacts(model, n_nonembedding=…, tokens_per_step=…))"
        )
    slices = store.scored(model).get(model, {})
    if scored:
        steps = steps & {step for steps_of in slices.values() for step in steps_of}
    for step in sorted(steps):
        on = [dataset for dataset, steps_of in slices.items() if step in steps_of]
        seen_by = (store.slice_facts(model, dataset, step).provenance.tokens_seen for dataset in on)
        seen = next((tokens for tokens in seen_by if tokens is not None), None)
        if seen is None and a_step is not None:
            seen = step * a_step
        if seen is None:
            raise TrajstoreError(
                f"The tokens that {model} had seen at step {step} are not known, so it has no place by "
                f"{option('x', x)}. Score it with {option('tokens_per_step', 'N')}; for losses computed elsewhere give "
                "them with each slice (Provenance(tokens_seen=…)) or a step: "
                "store.publish_model(ModelFacts(model, tokens_per_step=…))"
            )
        yield step, seen if x == "tokens" else 6 * int(parameters or 0) * seen
